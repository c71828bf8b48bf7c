"""docs/log-format.md is true: its program, run as it stands, verifies a real store."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from hermes.log import schema
from hermes.log.log import open_log
from hermes.log.record import Kind
from hermes.log.segment import file_name
from tests.contract.records import BIG, Outcomes, event, publish, snapshot


@pytest.fixture
def program(repository: Path, tmp_path: Path) -> Path:
    text = (repository / "docs" / "log-format.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "verify.py"
    path.write_text(code)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    log = open_log(tmp_path / "store", Outcomes())
    log.append([publish(0, 3, "ключ"), event(Kind.DELIVERED, "c", 0, 2), publish(3)], 1)
    log.roll(snapshot(), 4)
    log.append([publish(4, payload=b""), event(Kind.SESSION_OPENED)], 6)
    log.close()
    return tmp_path / "store"


def run(program: Path, store: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-I", program, store], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_program_verifies_a_store(program: Path, store: Path) -> None:
    log = open_log(store, Outcomes())
    chain = log.reader().read(7, limit=1, limit_bytes=BIG)[0].chain
    log.close()
    assert run(program, store) == (0, f"7 records, the last is 7, chain {chain.hex()}\n")


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("UPDATE records SET body = x'01' WHERE lsn = 2", "record 2 was changed"),
        ("UPDATE keys SET text = 'd' WHERE text = 'c'", "record 2 was changed"),
        ("UPDATE records SET payload = zeroblob(30) WHERE lsn = 1", "payload 1 was changed"),
        ("DELETE FROM records WHERE lsn = 2", "is missing"),
        ("DELETE FROM records WHERE lsn = 3", "records 3..3 are missing"),
        ("UPDATE meta SET value = zeroblob(32) WHERE name = 'chain'", "does not follow"),
    ],
)
def test_the_program_finds_a_change(program: Path, store: Path, sql: str, told: str) -> None:
    path = store / file_name(1)
    path.chmod(0o600)
    db = apsw.Connection(str(path))
    db.execute(sql)
    db.close()
    code, output = run(program, store)
    assert code == 1
    assert told in output


def test_a_retired_payload_keeps_the_chain(program: Path, store: Path) -> None:
    path = store / file_name(1)
    path.chmod(0o600)
    db = apsw.Connection(str(path))
    db.execute("UPDATE records SET payload = NULL")
    db.close()
    assert run(program, store)[0] == 0
    log = open_log(store, Outcomes())
    (record,) = log.reader().read(1, limit=1, limit_bytes=BIG)
    assert record.payload is None
    assert record.payload_hash is not None
    log.close()


def test_every_table_column_and_index_is_documented(repository: Path, store: Path) -> None:
    text = (repository / "docs" / "log-format.md").read_text()
    db = apsw.Connection(str(store / file_name(1)), flags=apsw.SQLITE_OPEN_READONLY)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE sql NOT NULL")]
    columns = [row[1] for name in names for row in db.execute(f"PRAGMA table_info({name})")]
    meta = [name for (name,) in db.execute("SELECT name FROM meta")]
    db.close()
    assert [word for word in {*names, *columns, *meta} if word not in text] == []
    assert f"{schema.PAGE_BYTES // 1024} KiB" in text
    assert f"0x{schema.APPLICATION_ID:X}" in text
