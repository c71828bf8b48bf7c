"""`hermes-inspect export OUT`: options in, one line out. The work is in export.py.

stdout: one line that says what was written. stderr: what an auditor must know of it
(an unclean stop, damage), and the progress bar. Exit codes are those of every command
(store.py); what cannot be exported as asked is 1.
"""

from __future__ import annotations

import gc
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from hermes.cli.groups import single
from hermes.cli.running import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from hermes.errors import HermesError
from hermes_inspect.store import EXIT_DAMAGED, StoreOption, code_of, store_path
from hermes_inspect.yielding import yield_to

GC_ALLOCATIONS = 200_000

_Many = list[str] | None
_Text = str | None

Out = Annotated[Path, typer.Argument(help="Folder to write to: new, or an export.")]
Subject = Annotated[_Many, typer.Option(metavar="PATTERN", help="Only these subjects.")]
Consumer = Annotated[_Many, typer.Option(metavar="NAME", help="Only these consumers.")]
Kind = Annotated[_Many, typer.Option(metavar="KIND", help="Only these events: acked, …")]
Since = Annotated[_Text, typer.Option(metavar="TIME", help="From a time on: 2026-01-31T12:00Z.")]
Until = Annotated[_Text, typer.Option(metavar="TIME", help="Before a time; UTC unless it says.")]
FromLsn = Annotated[int | None, typer.Option(min=1, help="First record.")]
ToLsn = Annotated[int | None, typer.Option(min=1, help="Last record.")]
Payloads = Annotated[bool, typer.Option("--payloads", help="Payloads too.")]
DropHeader = Annotated[
    _Many,
    typer.Option(
        metavar="NAME", help="Leave this header out, as authorization and cookie always are."
    ),
]
Incremental = Annotated[
    bool, typer.Option("--incremental", help="Go on from where the last export ended.")
]
Sign = Annotated[Path | None, typer.Option(metavar="KEY", help="Sign the manifest: Ed25519, PEM.")]


def export(
    out: Out,
    store: StoreOption = None,
    subject: Subject = None,
    consumer: Consumer = None,
    kind: Kind = None,
    since: Since = None,
    until: Until = None,
    from_lsn: FromLsn = None,
    to_lsn: ToLsn = None,
    payloads: Payloads = False,
    drop_header: DropHeader = None,
    incremental: Incremental = False,
    sign: Sign = None,
) -> None:
    """Write records, events and custody to Parquet, for audits.

    `hermes-inspect verify --export OUT` checks what was written, without the store.
    """
    if from_lsn is not None and to_lsn is not None and from_lsn > to_lsn:
        _fail(f"--from-lsn {from_lsn} is after --to-lsn {to_lsn}", EXIT_USAGE)
    times = {name: _time(name, text) for name, text in (("since", since), ("until", until))}
    try:
        from hermes_inspect.export import Request
        from hermes_inspect.export_options import HEADERS_DROPPED, Options

        dropped = {name.lower() for name in drop_header or ()} | set(HEADERS_DROPPED)
        options = Options(
            subjects=tuple(subject or ()),
            consumers=tuple(consumer or ()),
            kinds=tuple(kind or ()),
            since_ns=times["since"],
            until_ns=times["until"],
            payloads=payloads,
            dropped_headers=tuple(sorted(dropped)),
        )
        request = Request(store_path(store), out, options, from_lsn, to_lsn, incremental)
        yield_to(request.store)
        _run(request, sign)
    except HermesError as error:
        _fail(str(error), code_of(error))
    except OSError as error:
        _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from here", EXIT_INTERRUPTED)


def _run(request: object, sign: Path | None) -> None:
    from hermes_inspect.export import Request
    from hermes_inspect.export import export as write_export
    from hermes_inspect.export_manifest import Manifest, load_key
    from hermes_inspect.export_progress import Bar

    assert isinstance(request, Request)
    key = None if sign is None else load_key(sign)
    # Rows make no cycles. Looking for some costs a third of the time of small batches.
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    with Bar() as bar:
        outcome = write_export(request, key, bar)
    manifest: Manifest = outcome.manifest
    if not outcome.added:
        typer.echo(f"nothing new since record {manifest.last_lsn}")
        return
    added = manifest.runs[-1]
    if outcome.resumed:
        _note("went on with an export that was interrupted")
    for lsn in manifest.unclean_stops:
        if added.first_lsn <= lsn <= added.last_lsn:
            _note(
                f"the server did not stop cleanly before record {lsn}: "
                "live deliveries may be missing before it"
            )
    if manifest.open_end:
        _note(
            "the records end without a clean stop (the server runs, or was killed): "
            "the newest live deliveries may be missing"
        )
    rows = ", ".join(f"{count:,} rows of {table}" for table, count in manifest.rows.items())
    typer.echo(f"records {manifest.first_lsn}..{manifest.last_lsn}: {rows}")
    for text in manifest.damage:
        _note(f"the store is damaged: {text}")
    if manifest.damage:
        raise typer.Exit(EXIT_DAMAGED)


def _time(name: str, text: str | None) -> int | None:
    """Unix nanoseconds of an ISO 8601 time; one without a zone is UTC."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        _fail(f"--{name} {text!r}: expected a time such as 2026-01-31T12:00:00Z", EXIT_USAGE)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    whole = when.replace(microsecond=0)
    return int(whole.timestamp()) * 10**9 + when.microsecond * 1_000


def _note(text: str) -> None:
    sys.stderr.write(f"hermes-inspect export: {text}\n")


def _fail(text: str, code: int) -> NoReturn:
    """Says why, in one line, and leaves."""
    _note(" ".join(text.split()))
    raise typer.Exit(code)


app = single(export)
