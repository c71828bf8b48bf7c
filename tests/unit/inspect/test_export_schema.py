"""The schema only grows: what an auditor's query names today must be there in ten years.

A new column is added at the end of its list in export_schema.json; nothing else changes.
"""

from __future__ import annotations

import json
from pathlib import Path

from hermes_inspect.export_schema import SCHEMAS, describe_schemas

GOLDEN = Path(__file__).with_name("export_schema.json")
# Reserved in PostgreSQL or DuckDB, as far as one might think of them as a column's name.
RESERVED = {
    "all", "as", "at", "by", "case", "check", "column", "desc", "end", "from", "group", "in",
    "limit", "offset", "on", "order", "primary", "select", "table", "to", "user", "when", "where",
}  # fmt: skip


def test_schemas_begin_with_the_golden_ones() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert list(golden) == list(SCHEMAS)
    for table, columns in describe_schemas().items():
        assert columns[: len(golden[table])] == golden[table], f"{table}: columns only grow"
        assert columns == golden[table], f"{table}: add the new columns to {GOLDEN.name}"


def test_no_column_needs_quoting() -> None:
    for schema in SCHEMAS.values():
        for name in schema.names:
            assert name.isidentifier() and name == name.lower() and name not in RESERVED
