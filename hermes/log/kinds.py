"""Which kinds of records a segment holds, by hops over its indexes.

A hop is one look-up for each kind that is there, however many records there are of it.
Inside a transaction of the caller (`reader.py`). Raises apsw.Error.
"""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from hermes.log import schema
from hermes.log.rows import first_numbers


def kinds_with_offsets(db: apsw.Connection) -> Iterator[int]:
    """Kinds of records with offsets, ascending."""
    row = first_numbers(db, schema.NEXT_KIND, (0,))
    while row is not None:
        yield row[0]
        row = first_numbers(db, schema.NEXT_KIND, row)


def kinds_of_key(db: apsw.Connection, key_id: int) -> Iterator[int]:
    """Kinds of records of one key, ascending."""
    row = first_numbers(db, schema.NEXT_KIND_OF_KEY, (key_id, 0))
    while row is not None:
        yield row[0]
        row = first_numbers(db, schema.NEXT_KIND_OF_KEY, (key_id, row[0]))
