"""A disk as a list of what was done to it, and what a power loss may leave of that.

`Disk` notes every write, truncation, sync and change of a name, in order, together with
what people were told in between (`Told`). An image is the state of a folder after a power
loss at one point of that list: what was synced is there, of the rest a `Policy` decides.

The model
- A write lasts when a sync that began after it has returned. Until then each of its
  512-byte sectors lasts or not, in any order; a sector itself is never torn, except by
  the policy TORN, which cuts the last write at any byte.
- After a sync that failed, what it should have written may never reach the disk, though
  a later sync of the same file succeeds: so Linux does it.
- Names (create, rename, unlink, mode) last when their folder was synced. Until then they
  last in the order they were given: of a journalled file system any prefix survives. A
  folder's sync that failed leaves them to a later one: a journal that cannot be written
  makes its file system read-only, rather than let a later sync succeed without it.

No I/O here but `write_image`; `recording.py` feeds it from SQLite and from `os`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from enum import Enum, auto
from pathlib import Path
from typing import Final

import msgspec

SECTOR_BYTES: Final = 512


class Write(msgspec.Struct, frozen=True):
    inode: int
    offset: int
    data: bytes


class Truncate(msgspec.Struct, frozen=True):
    inode: int
    size: int


class Sync(msgspec.Struct, frozen=True):
    """Of a file, or of the folder (inode 0); covers what came before number `began`."""

    inode: int
    began: int
    failed: bool = False


class Name(msgspec.Struct, frozen=True):
    """A name now means this inode, or nothing (0)."""

    name: str
    inode: int
    mode: int = 0o600


class Told(msgspec.Struct, frozen=True):
    """A listener was told that everything up to this lsn is committed."""

    lsn: int


class Said(msgspec.Struct, frozen=True):
    """The announcement of a drop was handed over: segments up to this lsn may go."""

    dropped_lsn: int


Step = Write | Truncate | Sync | Name | Told | Said
FOLDER: Final = 0


class Policy(Enum):
    """What becomes of the steps that no sync covers."""

    LOST = auto()  # nothing of them
    KEPT = auto()  # all: a kill, not a power loss
    SCATTERED = auto()  # any sectors, in any order
    TORN = auto()  # all, but the last write stops in the middle
    EARLY = auto()  # only the last write of each file: it overtook all others


class Disk:
    """The list of steps. Not thread-safe; its owner locks."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.names: dict[str, int] = {}
        self.begins = 0  # steps before it are what `adopt` found
        self._inodes = 0

    def adopt(self, folder: Path, keep: Callable[[str], bool]) -> None:
        """Begin with the files of a folder that nobody has open, all of it synced."""
        for path in sorted(folder.iterdir()):
            if keep(path.name):
                inode = self.create(path.name, path.stat().st_mode & 0o777)
                self.steps.append(Write(inode, 0, path.read_bytes()))
                self.steps.append(Sync(inode, len(self.steps)))
        self.steps.append(Sync(FOLDER, len(self.steps)))
        self.begins = len(self.steps)

    def create(self, name: str, mode: int = 0o600) -> int:
        """The inode of a name; a new one if there was none."""
        inode = self.names.get(name)
        if inode is None:
            self._inodes += 1
            inode = self.names[name] = self._inodes
            self.steps.append(Name(name, inode, mode))
        return inode

    def rename(self, old: str, new: str) -> None:
        inode = self.names[new] = self.names.pop(old)
        # One step for the file system: two names are changed together.
        self.steps += [Name(new, inode), Name(old, 0)]

    def unlink(self, name: str) -> None:
        if self.names.pop(name, None) is not None:
            self.steps.append(Name(name, 0))

    def told_before(self, cut: int) -> int:
        """The last lsn that was told before a step; 0 for none."""
        return max((s.lsn for s in self.steps[:cut] if isinstance(s, Told)), default=0)

    def dropped_before(self, cut: int) -> int:
        """The last lsn of the segments whose drop was announced before a step."""
        return max((s.dropped_lsn for s in self.steps[:cut] if isinstance(s, Said)), default=0)

    def image(self, cut: int, policy: Policy, rng: random.Random) -> dict[str, tuple[int, bytes]]:
        """What a power loss after `cut` steps leaves: name -> (mode, content)."""
        durable = self._durable(cut)
        files: dict[int, bytearray] = {}
        names: dict[str, Name] = {}
        last = self._last_writes(cut, durable)
        keep_names = self._names_kept(cut, durable, policy, rng)
        chance = rng.choice((0.1, 0.5, 0.9))
        for number, step in enumerate(self.steps[:cut]):
            if isinstance(step, Name):
                if number in durable or number < keep_names:
                    names[step.name] = step
            elif isinstance(step, (Write, Truncate)):
                content = files.setdefault(step.inode, bytearray())
                if number in durable:
                    _apply(content, step)
                else:
                    for part in _parts(step, policy, rng, chance, last=number in last):
                        _apply(content, part)
        return {
            name: (found.mode, bytes(files.get(found.inode, b"")))
            for name, found in names.items()
            if found.inode
        }

    def _durable(self, cut: int) -> set[int]:
        """Numbers of the steps that a sync has made last."""
        durable: set[int] = set()
        open_steps: dict[int, list[int]] = {}
        for number, step in enumerate(self.steps[:cut]):
            if isinstance(step, (Write, Truncate)):
                open_steps.setdefault(step.inode, []).append(number)
            elif isinstance(step, Name):
                open_steps.setdefault(FOLDER, []).append(number)
            elif isinstance(step, Sync):
                waiting = open_steps.get(step.inode, [])
                if step.failed and step.inode == FOLDER:
                    continue
                if not step.failed:
                    durable.update(n for n in waiting if n < step.began)
                open_steps[step.inode] = [n for n in waiting if n >= step.began]
        return durable

    def _last_writes(self, cut: int, durable: set[int]) -> set[int]:
        """The last write of each file that nothing has synced."""
        last: dict[int, int] = {}
        for number, step in enumerate(self.steps[:cut]):
            if isinstance(step, Write) and number not in durable:
                last[step.inode] = number
        return set(last.values())

    def _names_kept(self, cut: int, durable: set[int], policy: Policy, rng: random.Random) -> int:
        """Changes of names before this step last, synced or not."""
        if policy in (Policy.KEPT, Policy.TORN):
            return cut
        if policy is Policy.LOST:
            return 0
        steps = self.steps
        waiting = [n for n in range(cut) if isinstance(steps[n], Name) and n not in durable]
        # Not between the two halves of a rename.
        borders = [n for n in waiting if not _second_half(steps, n)]
        return rng.choice([*borders, cut])


def _second_half(steps: list[Step], number: int) -> bool:
    step, before = steps[number], steps[number - 1]
    return (
        isinstance(step, Name)
        and not step.inode
        and isinstance(before, Name)
        and before.name + ".new" == step.name
    )


def _parts(
    step: Write | Truncate, policy: Policy, rng: random.Random, chance: float, *, last: bool
) -> Iterator[Write | Truncate]:
    """What lasts of a step that no sync covers."""
    if policy is Policy.KEPT:
        yield step
    elif policy is Policy.TORN:
        if last and isinstance(step, Write):
            yield Write(step.inode, step.offset, step.data[: rng.randrange(len(step.data) + 1)])
        else:
            yield step
    elif policy is Policy.EARLY:
        if last:
            yield step
    elif policy is Policy.SCATTERED:
        if isinstance(step, Truncate):
            if rng.random() < chance:
                yield step
            return
        at = 0
        while at < len(step.data):
            until = at + SECTOR_BYTES - (step.offset + at) % SECTOR_BYTES
            if rng.random() < chance:
                yield Write(step.inode, step.offset + at, step.data[at:until])
            at = until


def _apply(content: bytearray, step: Write | Truncate) -> None:
    if isinstance(step, Truncate):
        del content[step.size :]
        content.extend(bytes(step.size - len(content)))
        return
    content.extend(bytes(max(0, step.offset - len(content))))
    content[step.offset : step.offset + len(step.data)] = step.data


def write_image(image: dict[str, tuple[int, bytes]], folder: Path) -> None:
    """Put an image into a new folder."""
    folder.mkdir()
    for name, (mode, content) in image.items():
        path = folder / name
        path.write_bytes(content)
        path.chmod(mode)
