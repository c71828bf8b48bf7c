"""The columns of an export: what an auditor's tools see.

Rules
- The schemas only grow: columns are added at the end, never renamed, retyped or moved.
  tests/unit/inspect/test_export_schema.py holds them against a golden file.
- No column needs quoting in DuckDB or PostgreSQL.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

TIME: Final = pa.timestamp("us", tz="UTC")
WORD: Final = pa.dictionary(pa.int32(), pa.string())  # text that repeats
DIGEST: Final = pa.binary(32)

RECORDS: Final = pa.schema(
    [
        pa.field("lsn", pa.int64(), nullable=False),
        pa.field("at_ns", pa.int64(), nullable=False),
        pa.field("kind", pa.int32(), nullable=False),
        pa.field("key", WORD),
        pa.field("first", pa.int64()),
        pa.field("last", pa.int64()),
        pa.field("body", pa.binary(), nullable=False),
        pa.field("payload_hash", DIGEST),
        pa.field("chain", DIGEST, nullable=False),
    ]
)
EVENTS: Final = pa.schema(
    [
        pa.field("lsn", pa.int64(), nullable=False),
        pa.field("recorded_at", TIME, nullable=False),
        pa.field("recorded_at_ns", pa.int64(), nullable=False),
        pa.field("kind", WORD, nullable=False),
        pa.field("message_offset", pa.int64()),
        pa.field("message_id", pa.string()),
        pa.field("subject", WORD),
        pa.field("consumer", WORD),
        pa.field("member", pa.int64()),
        pa.field("peer", WORD),
        pa.field("principal", WORD),
        pa.field("attempt", pa.int32()),
        pa.field("reason", WORD),
        pa.field("headers", pa.map_(pa.string(), pa.string())),
        pa.field("payload", pa.binary()),
        pa.field("payload_bytes", pa.int64()),
        pa.field("payload_hash", DIGEST),
    ]
)
CUSTODY: Final = pa.schema(
    [
        pa.field("message_offset", pa.int64(), nullable=False),
        pa.field("message_id", pa.string()),
        pa.field("subject", WORD),
        pa.field("consumer", WORD, nullable=False),
        pa.field("consumer_lsn", pa.int64(), nullable=False),
        pa.field("published_at", TIME),
        pa.field("first_delivered_at", TIME),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("settled_at", TIME),
        pa.field("outcome", WORD, nullable=False),
        pa.field("as_of_lsn", pa.int64(), nullable=False),
    ]
)
SCHEMAS: Final = {"records": RECORDS, "events": EVENTS, "custody": CUSTODY}


def describe_schemas() -> dict[str, list[str]]:
    """`name type` of each column, per table: what the golden file holds."""
    return {
        table: [f"{field.name} {_plain_type(field.type)}" for field in schema]
        for table, schema in SCHEMAS.items()
    }


def _plain_type(kind: Any) -> str:
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind)
