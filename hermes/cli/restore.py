"""`hermes restore`: make a store of a backup, on this machine, without a server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from hermes.cli.copying import copying
from hermes.cli.groups import single
from hermes.cli.options import Json
from hermes.cli.output import Printer
from hermes.cli.serve import DEFAULT_STORE
from hermes.cli.text import counted, printable
from hermes.log.backup import Progress
from hermes.log.backup_check import check_backup
from hermes.log.backup_manifest import Manifest
from hermes.log.restore import restore_backup


def restore(
    backup: Annotated[
        Path, typer.Argument(metavar="BACKUP", help="Folder that `hermes backup` has filled.")
    ],
    store: Annotated[
        Path,
        typer.Option(
            "--store",
            envvar="HERMES_STORE_PATH",
            metavar="PATH",
            help="Folder of the new store: empty, or not there yet.",
        ),
    ] = DEFAULT_STORE,
    check: Annotated[
        bool, typer.Option("--check", help="Only check that the backup is whole; write nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a store of a backup; everything is checked before it becomes one.

    It has the id of the original and goes on with its numbers: never serve both.
    """
    printer = Printer(json=json)
    work = check_backup if check else partial(_restored, store)
    with copying("checking" if check else "restoring") as told:
        manifest = work(
            backup, told=lambda progress: told(progress.copied_bytes, progress.total_bytes)
        )
    place = backup if check else store
    if json:
        printer.fields(
            {
                "path": str(place.absolute()),
                "store_id": manifest.store_id,
                "taken_at_ns": manifest.taken_at_ns,
                "first_lsn": manifest.first_lsn,
                "last_lsn": manifest.last_lsn,
                "next_offset": manifest.next_offset,
                "chain": manifest.chain,
                "segments": len(manifest.segments),
                "bytes": manifest.bytes,
            }
        )
    else:
        printer.line(
            f"{printable(str(place))} holds records {manifest.first_lsn}..{manifest.last_lsn} of "
            f"store {manifest.store_id}, as of {manifest.taken_at}: "
            f"{counted(len(manifest.segments), 'segment')}, {decimal(manifest.bytes)}"
        )
        if check:
            printer.line("every file has the content of the manifest")
        else:
            printer.line(f"check it: hermes-inspect verify {printable(str(store))}")
    printer.flush()


def _restored(store: Path, backup: Path, *, told: Callable[[Progress], None]) -> Manifest:
    return restore_backup(backup, store, told=told).manifest


app = single(restore)
