"""`hermes key`: the public half of the key that signs a store's checkpoints.

Read from the store's folder; needs no server, and never opens the private key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hermes.cli.groups import single
from hermes.cli.serve import DEFAULT_STORE
from hermes.errors import StoreError
from hermes.server.checkpoint_key import PUBLIC_NAME, read_public_keys


def show_key(
    store: Annotated[
        Path,
        typer.Option(
            "--store", envvar="HERMES_STORE_PATH", metavar="PATH", help="Folder of the store."
        ),
    ] = DEFAULT_STORE,
) -> None:
    """Show the public key that signs the store's checkpoints.

    One line per key that has signed in this store, the one in use last. Keep it where the
    store's owner cannot change it: `hermes-inspect verify --pubkey` takes it.
    """
    if not store.is_dir():
        raise StoreError(f"{store} is not a folder", hint="name the store with --store PATH")
    keys = read_public_keys(store)
    if not keys:
        raise StoreError(
            f"{store} has no {PUBLIC_NAME}",
            hint="a server makes it when it first opens the store with checkpoints on",
        )
    for key in keys:
        typer.echo(key)


app = single(show_key)
