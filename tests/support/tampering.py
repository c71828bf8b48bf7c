"""What somebody who owns the folder can do to a store at rest, expertly.

`rewrite` changes records and makes everything fit again: hashes, links, seals, meta tables
and HEAD, and the checkpoints in the log when the store's key is at hand. A verifier that
sees the folder alone cannot tell. `truncate` cuts the log off and makes HEAD agree.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hermes.log.catalog import list_segments
from hermes.log.chain import hash_payload, link
from hermes.log.facts import Mark
from hermes.log.head import FILE_NAME, create_head, read_head
from hermes.log.record import Kind
from hermes.log.v1 import log_pb2
from hermes.server.checkpoint_key import Signer

COLUMNS = (
    "lsn",
    "at_ns",
    "kind",
    "key",
    "first",
    "last",
    "body",
    "payload",
    "payload_hash",
    "chain",
)
Edit = Callable[[dict[str, Any]], None]


@contextmanager
def segment(path: Path) -> Iterator[sqlite3.Connection]:
    """A segment file, writable; committed and closed at the end."""
    path.chmod(0o600)
    with closing(sqlite3.connect(path)) as db:
        yield db
        db.commit()


def segments(folder: Path) -> list[Path]:
    return [path for _, path in list_segments(folder)]


def rows(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Every record of a segment; `key` is its text."""
    found = db.execute(
        "SELECT lsn, at_ns, kind, (SELECT text FROM keys WHERE id = records.key), first, last,"
        " body, payload, payload_hash, chain FROM records ORDER BY lsn"
    )
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def all_rows(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in segments(folder):
        with segment(path) as db:
            found += rows(db)
    return found


def rewrite(folder: Path, edit: Edit, signer: Signer | None = None) -> None:
    """Let `edit` change rows in place, then make the whole store consistent again."""
    chain, chains, mark = None, {0: b""}, Mark(0, 0, b"")
    for path in segments(folder):
        with segment(path) as db:
            if chain is None:
                (chain,) = db.execute("SELECT value FROM meta WHERE name = 'chain'").fetchone()
            db.execute("UPDATE meta SET value = ? WHERE name = 'chain'", (chain,))
            for row in rows(db):
                edit(row)
                if row["payload"] is not None:
                    row["payload_hash"] = hash_payload(row["payload"])
                _mend_body(row, chain, chains, signer)
                chain = chains[row["lsn"]] = _link(chain, row)
                db.execute(
                    "UPDATE records SET at_ns=?, first=?, last=?, body=?, payload=?,"
                    " payload_hash=?, chain=? WHERE lsn=?",
                    (
                        *(row[n] for n in ("at_ns", "first", "last", "body", "payload")),
                        *(row["payload_hash"], chain, row["lsn"]),
                    ),
                )
                mark = _after(row, chain, mark)
    _write_head(folder, mark)


def _link(chain: bytes, row: dict[str, Any]) -> bytes:
    return link(
        chain, **{name: row[name] for name in COLUMNS[:7]}, payload_hash=row["payload_hash"]
    )


def _mend_body(
    row: dict[str, Any], chain: bytes, chains: dict[int, bytes], signer: Signer | None
) -> None:
    if row["kind"] == Kind.SEGMENT_SEALED:
        seal = log_pb2.SegmentSealed.FromString(row["body"])
        seal.chain = chain
        row["body"] = seal.SerializeToString()
    if row["kind"] == Kind.CHECKPOINT and signer is not None:
        body = log_pb2.Checkpoint.FromString(row["body"])
        body.chain = chains[body.lsn]
        body.note = signer.sign(body.lsn, body.chain, body.at_ns)
        row["body"] = body.SerializeToString()


def _after(row: dict[str, Any], chain: bytes, before: Mark) -> Mark:
    published = row["kind"] == Kind.PUBLISHED
    return Mark(row["lsn"], row["last"] + 1 if published else before.next_offset, chain)


def _write_head(folder: Path, mark: Mark) -> None:
    head = read_head(folder / FILE_NAME)
    assert head is not None
    create_head(folder / FILE_NAME, head.store_id, mark)


def truncate(folder: Path, last_lsn: int) -> None:
    """Cut off everything after a record, and make HEAD agree."""
    mark = Mark(0, 0, b"")
    for path in segments(folder):
        with segment(path) as db:
            db.execute("DELETE FROM records WHERE lsn > ?", (last_lsn,))
            db.execute("DELETE FROM terms WHERE lsn > ?", (last_lsn,))
            kept = rows(db)
        if not kept:
            path.unlink()
        for row in kept:
            mark = _after(row, row["chain"], mark)
    _write_head(folder, mark)
