"""The export of the packages example: it reconciles to the last message, four readers agree
on it, and the SQL of docs/audit.md answers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from apt_index import SAMPLE, read_packages

from hermes_inspect.export import Request, export
from hermes_inspect.export_manifest import Manifest, decode_manifest
from hermes_inspect.export_verify import verify_export


@pytest.fixture(scope="module")
def audit(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's `packages-store` and its export `audit`."""
    folder = tmp_path_factory.mktemp("audit")
    done = subprocess.run(
        [
            sys.executable,
            "examples/packages.py",
            "--source",
            str(SAMPLE),
            "--store",
            str(folder / "packages-store"),
        ],
        cwd=repository,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    export(Request(folder / "packages-store", folder / "audit"))
    return folder


@pytest.fixture
def manifest(audit: Path) -> Manifest:
    path = audit / "audit/manifest.json"
    return decode_manifest(path.read_bytes(), path)


@pytest.fixture
def questions(repository: Path) -> list[str]:
    """The SQL blocks of docs/audit.md: the views, then one per question."""
    text = (repository / "docs/audit.md").read_text()
    return re.findall(r"```sql\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def auditor(
    audit: Path, questions: list[str], monkeypatch: pytest.MonkeyPatch
) -> duckdb.DuckDBPyConnection:
    """DuckDB with the page's views, run where the page says."""
    monkeypatch.chdir(audit)
    connection = duckdb.connect()
    connection.execute(questions[0])
    return connection


def test_it_verifies_without_the_store(audit: Path, manifest: Manifest) -> None:
    found = verify_export(audit / "audit")
    assert found.ok, found.breaks
    assert found.records == manifest.last_lsn


def test_it_reconciles_to_the_last_message(auditor: duckdb.DuckDBPyConnection) -> None:
    packages = list(read_packages(SAMPLE))
    python = sum(package.subject.startswith("packages.python.") for package in packages)
    counted = auditor.execute(
        "SELECT consumer, outcome, count(*), count(DISTINCT message_offset) FROM custody_latest"
        " GROUP BY ALL ORDER BY consumer"
    ).fetchall()
    every = len(packages)
    assert counted == [
        ("archive", "acked", every, every),
        ("indexers", "acked", every, every),
        ("python", "acked", python, python),
    ]
    ids = auditor.execute(
        "SELECT message_id, subject FROM custody WHERE consumer = 'archive' ORDER BY ALL"
    ).fetchall()
    assert ids == sorted((package.id, package.subject) for package in packages)


def test_it_names_the_kills(manifest: Manifest) -> None:
    assert len(manifest.unclean_stops) == 2
    assert not manifest.open_end


def test_each_question_is_answered(
    auditor: duckdb.DuckDBPyConnection, questions: list[str]
) -> None:
    assert len(questions) == 6
    every = len(list(read_packages(SAMPLE)))
    answers = [auditor.sql(sql).to_arrow_table().to_pylist() for sql in questions[1:]]
    reached, story, again, times, sums = answers
    assert {row["outcome"] for row in reached} == {"acked"}
    assert [row["kind"] for row in story].count("acked") == 2
    repeats = auditor.execute("SELECT sum(attempts - 1) FROM custody_latest").fetchone()
    assert repeats == (len(again),)
    assert {row["reason"] for row in again} <= {"server restarted", "member gone"}
    assert all(row["delivered_us"][0] <= row["acked_us"][0] for row in times)
    assert sums == [
        {
            "published": every,
            "acked_by_all": every,
            "open": 0,
            "of_no_consumer": 0,
            "dense": True,
        }
    ]


def test_four_readers_read_the_same(audit: Path, manifest: Manifest) -> None:
    for table in ("records", "events", "custody"):
        folder = audit / "audit" / table
        arrow = pq.read_table(folder)
        duck = duckdb.read_parquet(
            f"{folder}/**/*.parquet", hive_partitioning=True
        ).to_arrow_table()
        pandas = pd.read_parquet(folder)
        polars = pl.read_parquet(folder / "**/*.parquet", hive_partitioning=True)
        rows = manifest.rows[table]
        assert len(arrow) == len(duck) == len(pandas) == len(polars) == rows > 0
        names = set(arrow.column_names)
        assert names == set(duck.column_names) == set(pandas.columns) == set(polars.columns)
        assert "date" in names
        key = "lsn" if table != "custody" else "message_offset"
        total = sum(arrow[key].to_pylist())
        assert total == sum(duck[key].to_pylist()) == pandas[key].sum() == polars[key].sum()


def test_times_and_headers_keep_their_types(audit: Path) -> None:
    events = pl.read_parquet(audit / "audit/events/**/*.parquet")
    assert events.schema["recorded_at"] == pl.Datetime("us", "UTC")
    relation = duckdb.read_parquet(f"{audit}/audit/events/**/*.parquet", hive_partitioning=True)
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    assert types["recorded_at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["headers"] == "MAP(VARCHAR, VARCHAR)"
    assert types["payload_hash"] == "BLOB"
    assert types["date"] == "DATE"
