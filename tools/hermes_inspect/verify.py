"""`hermes-inspect verify`: the command, its progress bar, and what it says.

Exit codes: 0 sound, 1 broken, and for what cannot be verified those of every command
(store.py): 2 wrongly asked, 3 no store, 4 newer, 6 empty, 7 unreadable. Damage is what is
looked for: it is an answer, 1, and never 5, so that a script has one code to wake somebody.

Works beside a live server and with read permission only; changes nothing. What is checked is
in the modules `verify_*.py`; here it is asked for and told.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from hermes.checkpoint import format_time
from hermes.cli.groups import single
from hermes.cli.running import EXIT_INTERRUPTED, EXIT_USAGE
from hermes.clock import SystemClock
from hermes.errors import HermesError, StoreDamagedError
from hermes.log.chain_walk import Break
from hermes_inspect.export_options import ExportError, NewerExportError, NoExportError
from hermes_inspect.store import (
    EXIT_NEWER,
    EXIT_NO_STORE,
    StoreArgument,
    StoreOption,
    code_of,
    nothing_in,
    store_path,
)
from hermes_inspect.verify_notes import Claims, Keys, UsageError, claims_of, keys_of, read_notes
from hermes_inspect.verify_store import Looked, OnBytes, Verdict, check_indexes, look, verify_store
from hermes_inspect.yielding import yield_to

EXIT_BROKEN: Final = 1
# Breaks that are shown to a person; --json tells all that were kept.
SHOWN_MAX: Final = 10
NS_PER_SEC: Final = 1_000_000_000
MB: Final = 1_000_000


def verify(
    store: StoreArgument = None,
    store_option: StoreOption = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            "--checkpoints",
            metavar="FILE",
            help="Checkpoints kept elsewhere: the history must be the one that they sign.",
        ),
    ] = None,
    pubkey: Annotated[
        list[str] | None,
        typer.Option(
            "--pubkey",
            metavar="KEY",
            help="Public key of the store as `hermes key` prints it, or a file of such lines; "
            "may be repeated. Without it the store's own is used, and that is said.",
        ),
    ] = None,
    indexes: Annotated[
        bool,
        typer.Option("--indexes", help="Also compare the indexes, which no hash covers. Slow."),
    ] = False,
    exported: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="OUT",
            help="Check an export instead, without the store; --pubkey is a PEM file then.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Recompute the hash chain and check every digest, seal and checkpoint.

    Exits with 0 when the log is sound and 1 when it is broken (the first break is named
    exactly); with another code when there was nothing to verify. A server may be running.
    """
    try:
        if exported is not None:
            raise typer.Exit(_check_export(exported, pubkey or []))
        folder = store_path(store_option, store)
        code = _run(folder, checkpoints, pubkey or [], indexes=indexes, as_json=as_json)
    except HermesError as error:
        typer.echo(f"hermes-inspect verify: {error}", err=True)
        code = _code_of(error)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    raise typer.Exit(code)


def _code_of(error: HermesError) -> int:
    if isinstance(error, UsageError):
        return EXIT_USAGE
    if isinstance(error, NoExportError):
        return EXIT_NO_STORE
    if isinstance(error, NewerExportError):
        return EXIT_NEWER
    return EXIT_BROKEN if isinstance(error, StoreDamagedError) else code_of(error)


def _run(
    folder: Path, checkpoints: Path | None, pubkey: list[str], *, indexes: bool, as_json: bool
) -> int:
    clock = SystemClock()
    started_ns = clock.monotonic_ns()
    # What is signed by now is committed by now: read before the end of the log is looked at.
    notes = None if checkpoints is None else read_notes(checkpoints)
    looked = look(folder)
    keys = keys_of(pubkey, folder)
    outside = Claims()
    if checkpoints is not None and notes is not None:
        if not keys.keys:
            raise UsageError(
                "--checkpoints needs a key to check them with",
                hint="name it with --pubkey; `hermes key` printed it",
            )
        outside = claims_of(checkpoints, notes, keys, looked.store_id)
    yield_to(folder)
    with _progress(looked) as on_bytes:
        verdict = verify_store(looked, keys, outside, on_bytes)
    if indexes:
        verdict.breaks += check_indexes(looked)
    if verdict.sound and not verdict.walked.records:
        raise nothing_in(folder)
    secs = (clock.monotonic_ns() - started_ns) / NS_PER_SEC
    if as_json:
        typer.echo(json.dumps(_object(verdict, keys, secs), ensure_ascii=False))
    else:
        for line in _lines(folder, verdict, keys, secs):
            typer.echo(line)
    return 0 if verdict.sound else EXIT_BROKEN


def _check_export(out: Path, pubkey: list[str]) -> int:
    """Check the files of an export, its chain and its signature."""
    from hermes_inspect.export_manifest import load_public_key
    from hermes_inspect.export_progress import Bar
    from hermes_inspect.export_verify import verify_export

    try:
        key = load_public_key(Path(pubkey[0])) if pubkey else None
    except ExportError as error:
        raise UsageError(f"--pubkey: {error.message}", hint=error.hint) from error
    with Bar() as bar:
        found = verify_export(out, key, bar)
    for text in found.breaks:
        typer.echo(f"hermes-inspect verify: {' '.join(text.split())}", err=True)
    if not found.ok:
        return EXIT_BROKEN
    signed = ", signature holds" if found.signed else ""
    typer.echo(
        f"records {found.first_lsn}..{found.last_lsn} of store {found.store_id}: "
        f"chain holds{signed}, the last link is {found.chain_last}"
    )
    return 0


@contextmanager
def _progress(looked: Looked) -> Iterator[OnBytes]:
    """A bar with rate and time left on stderr, when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _bytes: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("verifying"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("verifying", total=looked.bytes)
        yield lambda count: progress.advance(task, count)


# ------------------------------------------------------------------- for people


def _lines(folder: Path, verdict: Verdict, keys: Keys, secs: float) -> Iterator[str]:
    end, walked = verdict.end, verdict.walked
    yield f"store        {folder}, {verdict.store_id}"
    if end is not None:
        yield (
            f"records      {verdict.first_lsn}..{end.lsn} in {_count(verdict.segments, 'segment')},"
            f" offsets up to {end.next_offset - 1}"
        )
        yield f"chain        {end.chain.hex()}"
    yield f"payloads     {walked.payloads:,} hashed, {walked.retired:,} retired"
    for first, last in verdict.whole.losses:
        yield f"lost         records {first}..{last}: an operator accepted that"
    if verdict.dropped:
        yield f"dropped      {_count(verdict.dropped, 'segment')} while this ran"
    yield from _of_checkpoints(verdict, keys)
    rate = verdict.bytes / MB / secs if secs else 0.0
    yield f"read         {verdict.bytes / MB:,.0f} MB in {secs:.1f} s, {rate:,.0f} MB/s"
    if verdict.sound:
        yield "sound"
        return
    for found in verdict.breaks[:SHOWN_MAX]:
        yield from _of_break(found)
    more = len(verdict.breaks) + walked.more_breaks - SHOWN_MAX
    if more > 0:
        yield f"             and {more:,} more"
    yield f"broken: {verdict.breaks[0].text if verdict.breaks else 'see above'}"


def _of_checkpoints(verdict: Verdict, keys: Keys) -> Iterator[str]:
    trust = _trust(keys)
    if verdict.log_checkpoints:
        yield f"checkpoints  {verdict.log_checkpoints:,} in the log, {trust}"
    if verdict.newest_outside is not None:
        newest = verdict.newest_outside
        yield (
            f"             {verdict.file_checkpoints:,} from outside, {trust}; the newest is"
            f" of record {newest.lsn}, {format_time(newest.at_ns)}"
        )
        if verdict.too_old:
            yield f"             {verdict.too_old:,} of records that are no longer held"


def _trust(keys: Keys) -> str:
    if not keys.keys:
        return "signatures NOT checked: no key is given and the store has no checkpoint.pub"
    names = ", ".join(keys.lines)
    if keys.given:
        return f"signed by the given key {names}"
    return f"signed by the store's own key {names}, which the folder's owner can replace"


def _of_break(found: Break) -> Iterator[str]:
    yield f"BREAK        {found.segment or folder_wide(found)}: {found.text}"
    if found.expected is not None:
        yield f"  expected   {found.expected}"
    if found.found is not None:
        yield f"  found      {found.found}"


def folder_wide(found: Break) -> str:
    """Where a break is that no segment holds."""
    return "HEAD" if found.what == "head" else "the log"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


# ----------------------------------------------------------------- for programs


def _object(verdict: Verdict, keys: Keys, secs: float) -> dict[str, Any]:
    end, walked = verdict.end, verdict.walked
    outside = verdict.newest_outside
    newest = verdict.newest
    return {
        "sound": verdict.sound,
        "store_id": verdict.store_id,
        "segments": verdict.segments,
        "first_lsn": verdict.first_lsn,
        "last_lsn": end.lsn if end else 0,
        "next_offset": end.next_offset if end else 0,
        "chain": end.chain.hex() if end else None,
        "head_lsn": verdict.head.lsn if verdict.head else None,
        "records": walked.records,
        "payloads": walked.payloads,
        "payloads_retired": walked.retired,
        "seals": verdict.whole.seals,
        "losses": [{"first_lsn": first, "last_lsn": last} for first, last in verdict.whole.losses],
        "segments_dropped_meanwhile": verdict.dropped,
        "checkpoints": {
            "keys": list(keys.lines),
            "keys_given": keys.given,
            "in_log": verdict.log_checkpoints,
            "newest_in_log_lsn": newest.lsn if newest else None,
            "from_outside": verdict.file_checkpoints,
            "newest_from_outside_lsn": outside.lsn if outside else None,
            "no_longer_held": verdict.too_old,
        },
        "bytes": verdict.bytes,
        "seconds": round(secs, 3),
        "breaks": [msgspec.to_builtins(found) for found in verdict.breaks],
        "more_breaks": walked.more_breaks,
    }


app = single(verify)
