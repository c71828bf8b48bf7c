"""Custody ops on disk, sorted into windows of the message line.

One file per window, in the order in which ops came. Ops that cross a border between
windows are cut there. Memory is bounded by `BUFFERED_OPS_MAX`; the disk holds about
40 bytes per op, under the export's work folder, until the export is done.

A file is a row of chunks: 4 bytes of length, then a msgpack list of ops. `lengths` and
`cut_back` let an interrupted export go on from a moment that it remembers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from hermes_inspect.custody import PUBLISH, WINDOW_OFFSETS, Op

BUFFERED_OPS_MAX: Final = 50_000  # an id counts as one, too

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(
    list[tuple[int, int, int, int, int, object, object]]
).decode


class Spill:
    """Ops of one pass over the log. One writer; read after `flush`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._buffers: dict[int, list[Op]] = {}
        self._buffered = 0
        self._lengths: dict[int, int] = {}

    def add(self, ops: Iterable[Op]) -> None:
        for op in ops:
            first, last = op[3], op[4]
            window = first // WINDOW_OFFSETS
            if first == last:
                self._put(window, op)
                continue
            if last // WINDOW_OFFSETS == window:
                self._put(window, op)
            else:
                for piece in cut(op):
                    self._put(piece[3] // WINDOW_OFFSETS, piece)
        if self._buffered > BUFFERED_OPS_MAX:
            self.flush()

    def _put(self, window: int, op: Op) -> None:
        self._buffers.setdefault(window, []).append(op)
        self._buffered += 1 if op[0] != PUBLISH or not op[6] else 1 + len(op[6])

    def flush(self, *, sync: bool = False) -> None:
        """Write what is buffered."""
        for window, ops in self._buffers.items():
            data = _encode(ops)
            with self._path(window).open("ab") as file:
                file.write(len(data).to_bytes(4, "big") + data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            self._lengths[window] = self._lengths.get(window, 0) + 4 + len(data)
        self._buffers.clear()
        self._buffered = 0

    @property
    def lengths(self) -> dict[int, int]:
        """Bytes of each window's file, as flushed."""
        return dict(self._lengths)

    def cut_back(self, lengths: Mapping[int, int]) -> None:
        """Forget what was written after these lengths were taken."""
        for path in self._folder.iterdir():
            length = lengths.get(int(path.name), 0)
            if path.stat().st_size < length:
                raise ValueError(f"{path} is shorter than it was")
            os.truncate(path, length)
        self._lengths = dict(lengths)

    def windows(self) -> set[int]:
        return set(self._lengths)

    def read(self, window: int) -> Iterator[Op]:
        """The ops of a window, in order; none for one that has none."""
        if window not in self._lengths:
            return
        with self._path(window).open("rb") as file:
            while size := file.read(4):
                yield from _decode(file.read(int.from_bytes(size, "big")))

    def _path(self, window: int) -> Path:
        return self._folder / f"{window:012d}"


def cut(op: Op) -> Iterator[Op]:
    """An op in pieces, none of which crosses a border between windows."""
    what, lsn, at_ns, first, last, whose, extra = op
    at = first
    while at <= last:
        end = min(last, (at // WINDOW_OFFSETS + 1) * WINDOW_OFFSETS - 1)
        part = extra[at - first : end - first + 1] if what == PUBLISH and extra else extra
        yield (what, lsn, at_ns, at, end, whose, part)
        at = end + 1
