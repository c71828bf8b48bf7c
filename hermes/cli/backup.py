"""`hermes backup`: copy a store into a folder, by its server or from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.filesize import decimal

from hermes.cli.copying import copying
from hermes.cli.groups import single
from hermes.cli.options import DEFAULT_SERVER, Json, Server, UsageError
from hermes.cli.output import Printer
from hermes.cli.text import counted, printable
from hermes.client.admin_types import BackupInfo


def backup(
    directory: Annotated[
        str,
        typer.Argument(metavar="DIR", help="Folder of the backup: a new one, or one to renew."),
    ],
    server: Server = DEFAULT_SERVER,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", metavar="PATH", help="Read this store's folder instead of asking a server."
        ),
    ] = None,
    link: Annotated[
        bool,
        typer.Option("--link", help="Link sealed segments instead of copying: same disk only."),
    ] = False,
    with_key: Annotated[
        bool, typer.Option("--with-key", help="Copy the key that signs checkpoints too.")
    ] = False,
    json: Json = False,
) -> None:
    """Copy the store into a folder, while it runs; what is there already is not copied again.

    DIR is on the server's machine, below its --backup-dir; a relative one is taken from there.
    With --store it is on this machine, wherever you like, whether a server runs or not.
    """
    if not directory:
        raise UsageError("DIR is empty")
    printer = Printer(json=json)
    if store is None:
        done = _by_server(server, directory, link=link, with_key=with_key)
    else:
        done = _by_folder(store, Path(directory), link=link, with_key=with_key)
    if json:
        printer.fields(msgspec.structs.asdict(done))
    else:
        printer.line(
            f"{printable(done.path)} holds records {done.first_lsn}..{done.last_lsn} of store "
            f"{done.store_id}: {counted(done.segments, 'segment')}, {decimal(done.bytes)}"
        )
        printer.line(
            f"copied now: {counted(done.copied_segments, 'segment')}, {decimal(done.copied_bytes)}"
        )
    printer.flush()


def _by_server(server: str, directory: str, *, link: bool, with_key: bool) -> BackupInfo:
    from hermes.client.admin import AdminClient

    with AdminClient(server, name="hermes backup") as admin, copying("backing up") as told:
        return admin.backup(
            directory,
            link=link,
            with_key=with_key,
            told=lambda progress: told(progress.copied_bytes, progress.total_bytes),
        )


def _by_folder(store: Path, folder: Path, *, link: bool, with_key: bool) -> BackupInfo:
    from hermes.clock import SystemClock
    from hermes.log.backup import take_backup
    from hermes.server.checkpoint_key import files_to_carry

    with copying("backing up") as told:
        report = take_backup(
            store,
            folder,
            taken_at_ns=SystemClock().wall_ns(),
            link=link,
            carry=files_to_carry(store, with_key=with_key),
            told=lambda progress: told(progress.copied_bytes, progress.total_bytes),
        )
    manifest = report.manifest
    return BackupInfo(
        path=str(folder.absolute()),
        store_id=manifest.store_id,
        first_lsn=manifest.first_lsn,
        last_lsn=manifest.last_lsn,
        next_offset=manifest.next_offset,
        chain=manifest.chain,
        segments=len(manifest.segments),
        bytes=manifest.bytes,
        copied_segments=report.copied_segments,
        copied_bytes=report.copied_bytes,
    )


app = single(backup)
