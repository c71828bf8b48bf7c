"""Reading an export back, plainly: rows as dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def rows_of(out: Path, table: str) -> list[dict[str, Any]]:
    """Every row of a table, file after file by name."""
    files = sorted((out / table).rglob("*.parquet"), key=lambda path: path.name)
    return [row for path in files for row in pq.ParquetFile(path).read().to_pylist()]


def outcomes_of(out: Path) -> dict[tuple[int, str], str]:
    """The newest outcome by message offset and consumer; namesakes are not told apart."""
    rows = sorted(rows_of(out, "custody"), key=lambda row: (row["as_of_lsn"], row["consumer_lsn"]))
    return {(row["message_offset"], row["consumer"]): row["outcome"] for row in rows}


def files_of(out: Path) -> dict[str, bytes]:
    """Path to content of everything but the lock."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".hermes-export.lock"
    }
