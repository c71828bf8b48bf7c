"""Records to rows: hashed, linked, and put into as few statements as possible.

Theory: SQLite works without the interpreter's lock, and has to get it back after every
step of a statement, from an event loop that may keep it for milliseconds. So what a
transaction costs beside a busy loop is its number of steps, hardly that of its rows. Rows
go in by the hundreds per statement, and what is one statement needs no BEGIN and COMMIT.

`plan_insert` hashes on the caller's thread, the writer's: SHA-256 of anything over 2 KiB
runs without the lock too. It changes nothing but the memory of keys; `Insertion.execute`
is all that touches the database.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import chain as concatenated
from typing import Any

import apsw
import msgspec

from hermes import limits
from hermes.log import schema
from hermes.log.chain import SALT_BYTES, hash_payload, link
from hermes.log.facts import Mark
from hermes.log.record import Record
from hermes.log.schema import PUBLISHED

Statement = tuple[str, Sequence[Any]]


class Insertion(msgspec.Struct, frozen=True):
    """What is to be executed, and the mark after it."""

    statements: list[Statement]
    end: Mark

    def execute(self, db: apsw.Connection) -> None:
        """Insert everything, durable when it returns; nothing of it after an exception.

        In a transaction of the caller's it is only a part of that. Raises apsw.Error.
        """
        if len(self.statements) == 1 or db.in_transaction:
            self._execute_all(db)
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            self._execute_all(db)
            db.execute("COMMIT")
        except apsw.Error:
            _roll_back(db)
            raise

    def _execute_all(self, db: apsw.Connection) -> None:
        for sql, values in self.statements:
            db.execute(sql, values)


def _roll_back(db: apsw.Connection) -> None:
    """End the transaction, unless SQLite did so itself, as on some errors."""
    if db.in_transaction:
        db.execute("ROLLBACK")


class KeyIds:
    """The dictionary of one segment's keys, as far as the writer remembers it.

    Ids are given out here, in the order of the records: the segment has one writer.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._next_id = 0  # 0: not asked yet
        self._complete = False  # whether the file has no key that is not in `_ids`

    def resolve(
        self, db: apsw.Connection, records: Iterable[Record]
    ) -> tuple[dict[str, int], list[int | str]]:
        """Ids of all keys of the records; and (id, text, id, text, ...) of those that are new."""
        ids = self._ids
        missing = [k for k in dict.fromkeys([r.key for r in records]) if k is not None]
        wanted, missing = missing, [key for key in missing if key not in ids]
        if not missing:
            return ids, []
        if len(ids) + len(missing) > limits.KEYS_CACHED_MAX:
            ids.clear()
            self._complete = False
            missing = wanted
        if not self._complete:
            missing = self._look_up(db, missing)
        new: list[int | str] = []
        for text in missing:
            ids[text] = self._next_id
            new += (self._next_id, text)
            self._next_id += 1
        return ids, new

    def _look_up(self, db: apsw.Connection, texts: Sequence[str]) -> list[str]:
        """Remember those that the file has; returns the others."""
        if not self._next_id:
            last = db.execute(schema.LAST_KEY, (0,)).fetchone()
            self._next_id = 1 if last is None else last[0] + 1
            self._complete = last is None
        ids = self._ids
        for sql, values in schema.in_statements(schema.known_keys, texts, 1):
            ids.update(db.execute(sql, values))
        return [text for text in texts if text not in ids]

    def forget(self) -> None:
        """After a rollback: the ids may name nothing."""
        self.__init__()  # type: ignore[misc]


def plan_insert(
    db: apsw.Connection, keys: KeyIds, records: Sequence[Record], after: Mark
) -> Insertion:
    """Salt and hash payloads, link the chain, and lay out the rows behind a mark."""
    ids, new_keys = keys.resolve(db, records)
    salts = os.urandom(SALT_BYTES * len(records))
    salted = 0
    lsn, next_offset, chain = after.lsn, after.next_offset, after.chain
    rows: list[Any] = []
    terms: list[int] = []
    for record in records:
        lsn += 1
        at_ns, kind, key = record.at_ns, record.kind, record.key
        first, last, body, payload = record.first, record.last, record.body, record.payload
        payload_hash = None
        if payload is not None:
            payload = salts[salted : salted + SALT_BYTES] + payload
            payload_hash = hash_payload(payload)
            salted += SALT_BYTES
        chain = link(chain, lsn, at_ns, kind, key, first, last, body, payload_hash)
        key_id = None if key is None else ids[key]
        rows += (lsn, at_ns, kind, key_id, first, last, payload_hash, chain, body, payload)
        if record.terms:
            terms += concatenated.from_iterable((term, lsn) for term in record.terms)
        if kind == PUBLISHED and last is not None:
            next_offset = last + 1
    return Insertion(
        [
            *schema.in_statements(schema.insert_keys, new_keys, 2),
            *schema.in_statements(schema.insert_records, rows, schema.RECORD_COLUMNS),
            *schema.in_statements(schema.insert_terms, terms, 2),
        ],
        Mark(lsn, next_offset, chain),
    )
