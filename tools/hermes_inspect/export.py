"""An export from start to end: range, walk, custody, manifest.

    plan ──▶ records/ and events/, step by step ──▶ history ──▶ custody/ ──▶ manifest.json

The manifest is written last: a folder without one is no export yet. What an interruption
leaves is in the work folder, and the same call goes on from there.

This is what the command calls, and what others may call. It prints nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hermes.broker.state import State
from hermes.errors import StoreDamagedError
from hermes.log.record import Kind
from hermes_inspect.directory import Directory, Person
from hermes_inspect.export_custody import CustodyWriter, History, state_before
from hermes_inspect.export_folder import OutputFolder, earlier_path
from hermes_inspect.export_manifest import (
    FORMAT,
    SCHEMA_VERSION,
    Earlier,
    FileEntry,
    Manifest,
    Range,
    checkpoint_entry,
    key_id,
)
from hermes_inspect.export_options import ExportError, Options
from hermes_inspect.export_pass import LogPass
from hermes_inspect.export_plan import NoWatcher, Plan, Progress, Watcher, choose_range
from hermes_inspect.export_schema import SCHEMAS
from hermes_inspect.export_source import Source

TOOL = f"hermes-inspect {version('hermes-broker')}"


class Request(msgspec.Struct, frozen=True):
    """What is asked for. lsns are included, None: where the log begins, or ends now."""

    store: Path
    out: Path
    options: Options = Options()
    from_lsn: int | None = None
    to_lsn: int | None = None
    incremental: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """`manifest` is what the folder holds now; `added` is False when nothing was new."""

    manifest: Manifest
    added: bool
    resumed: bool


def export(
    request: Request, key: Ed25519PrivateKey | None = None, watcher: Watcher | None = None
) -> Outcome:
    """Write or continue an export. `key` signs the manifest.

    Raises ExportError when it cannot be made as asked, StoreError when the store cannot be
    read; then the folder is as it was, or can be continued by the same request.
    """
    request.options.check()
    source = Source(request.store)
    try:
        folder = OutputFolder(request.out, request.store)
        try:
            with _no_collector():
                return _export(request, source, folder, key, watcher or NoWatcher())
        finally:
            folder.close()
    finally:
        source.close()


@contextmanager
def _no_collector() -> Iterator[None]:
    """Let the garbage collector rest: a row group is a million objects without a cycle, which
    it would look at again and again, for a quarter of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _export(
    request: Request,
    source: Source,
    folder: OutputFolder,
    key: Ed25519PrivateKey | None,
    watcher: Watcher,
) -> Outcome:
    earlier = folder.manifest
    resumed = folder.interrupted
    plan = _resume(request, source, folder) if resumed else _plan(request, source, folder)
    if plan is None:
        assert earlier is not None  # only then can nothing be new
        return Outcome(earlier, added=False, resumed=False)
    state = state_before(source, plan.first_lsn)
    progress = _progress(folder, plan, state)
    directory = Directory(source.record_at, source.publishes_from)
    if state is not None:
        directory.seed(
            (lsn, Person(who.principal or None, who.peer or None))
            for lsn, who in state.sessions.items()
        )
    walk = LogPass(folder, source, plan, progress, directory)
    if progress.next_lsn <= plan.last_lsn:
        walk.run(watcher)
    history = History(folder, source, plan, progress.tracker)
    if state is not None:
        history.run(state, watcher)
    last = source.record_at(plan.last_lsn)
    if last is None or last.chain.hex() != progress.chain_last:
        raise StoreDamagedError(f"record {plan.last_lsn} changed while it was exported")
    custody = CustodyWriter(folder, plan, progress, history.spill, walk.spill)
    try:
        custody.run(last.at_ns, watcher)
    finally:
        custody.abandon()
    manifest = _manifest(plan, progress, source, folder, key)
    data = manifest.encode()
    folder.finish(data, None if key is None else key.sign(data))
    return Outcome(manifest, added=True, resumed=resumed)


def _plan(request: Request, source: Source, folder: OutputFolder) -> Plan | None:
    """Fix the range and remember it; None when an incremental export has nothing new."""
    earlier = folder.manifest
    if earlier is not None and earlier.store_id != source.store_id:
        raise ExportError(
            f"{request.out} is an export of store {earlier.store_id}, not of {source.store_id}",
            hint="name another folder",
        )
    chosen = choose_range(
        held=(source.first_lsn, source.last_lsn),
        asked=(request.from_lsn, request.to_lsn),
        earlier=earlier,
        incremental=request.incremental,
    )
    if chosen is None:
        return None
    first, last = chosen
    before = source.chain_before(first).hex()
    if earlier is not None:
        if earlier.options != request.options:
            raise ExportError(
                f"{request.out} was made with other filters or columns",
                hint="go on with the same, or name another folder",
            )
        if earlier.chain_last != before:
            raise ExportError(
                f"record {earlier.last_lsn} of the store is not the one that was exported",
                hint="the log was rewritten, or replaced by an older copy: run verify",
            )
    plan = Plan(
        source.store_id,
        first,
        last,
        before,
        earlier is None and first == source.first_lsn,
        request.options,
        request.incremental,
        TOOL,
    )
    folder.write_plan(msgspec.json.encode(plan))
    return plan


def _resume(request: Request, source: Source, folder: OutputFolder) -> Plan:
    """The plan of an interrupted export. Raises ExportError when this is another wish."""
    data = folder.plan()
    assert data is not None
    plan = msgspec.json.decode(data, type=Plan)
    other = (
        plan.store_id != source.store_id
        or plan.options != request.options
        or plan.incremental != request.incremental
        or plan.tool != TOOL
        or (request.from_lsn is not None and request.from_lsn != plan.first_lsn)
        or (request.to_lsn is not None and request.to_lsn < plan.last_lsn)
    )
    if other:
        raise ExportError(
            f"{request.out} holds an interrupted export with other options",
            hint=f"finish it with the same, or remove {folder.work}",
        )
    return plan


def _progress(folder: OutputFolder, plan: Plan, state: State | None) -> Progress:
    """Where to go on."""
    lines = list(folder.journal())
    if lines:
        return msgspec.json.decode(lines[-1], type=Progress)
    progress = Progress(plan.first_lsn, chain_last=plan.chain_before)
    for table in SCHEMAS:
        progress.count(table, 0)
    if state is not None:
        progress.tracker.seed(state)
    return progress


class _Done(msgspec.Struct):
    """Of a line of the journal: the files it names."""

    files: tuple[FileEntry, ...]


def _files(folder: OutputFolder) -> tuple[FileEntry, ...]:
    """Every file that the journal names."""
    lines = [msgspec.json.decode(line, type=_Done) for line in folder.journal()]
    return tuple(entry for line in lines for entry in line.files)


def _manifest(
    plan: Plan,
    progress: Progress,
    source: Source,
    folder: OutputFolder,
    key: Ed25519PrivateKey | None,
) -> Manifest:
    earlier = folder.manifest
    started = source.reader.latest(Kind.SERVER_STARTED, at_or_before_lsn=plan.last_lsn)
    stopped = source.reader.latest(Kind.SERVER_STOPPED, at_or_before_lsn=plan.last_lsn)
    manifest = Manifest(
        format=FORMAT,
        schema_version=SCHEMA_VERSION,
        tool=plan.tool,
        store_id=plan.store_id,
        first_lsn=plan.first_lsn,
        last_lsn=plan.last_lsn,
        chain_before=plan.chain_before,
        chain_last=progress.chain_last,
        options=plan.options,
        runs=(Range(plan.first_lsn, plan.last_lsn),),
        rows=progress.rows,
        rows_omitted=progress.omitted,
        headers_dropped=dict(sorted(progress.headers_dropped.items())),
        unclean_stops=tuple(progress.unclean_stops),
        open_end=started is not None and (stopped is None or stopped.lsn < started.lsn),
        damage=(*source.damage, *map(_is_changed, progress.changed)),
        checkpoint=checkpoint_entry(
            source.reader.latest(Kind.CHECKPOINT, at_or_before_lsn=plan.last_lsn)
        ),
        signed_by=None if key is None else key_id(key.public_key()),
        earlier=None,
        files=_files(folder),
    )
    if earlier is None:
        return manifest
    assert folder.manifest_bytes is not None
    return msgspec.structs.replace(
        manifest,
        first_lsn=earlier.first_lsn,
        chain_before=earlier.chain_before,
        runs=(*earlier.runs, *manifest.runs),
        rows=_added(earlier.rows, manifest.rows),
        rows_omitted=_added(earlier.rows_omitted, manifest.rows_omitted),
        headers_dropped=_added(earlier.headers_dropped, manifest.headers_dropped),
        unclean_stops=(*earlier.unclean_stops, *manifest.unclean_stops),
        damage=tuple(dict.fromkeys((*earlier.damage, *manifest.damage))),
        earlier=Earlier(earlier_path(earlier), sha256(folder.manifest_bytes).hexdigest()),
        files=(*earlier.files, *manifest.files),
    )


def _is_changed(lsn: int) -> str:
    return f"record {lsn} is not what was committed"


def _added(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    names = list(left) + [name for name in sorted(right) if name not in left]
    return {name: left.get(name, 0) + right.get(name, 0) for name in names}
