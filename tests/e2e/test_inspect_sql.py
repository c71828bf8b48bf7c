"""`hermes-inspect sql` on the store of a real broker: at rest, beside it, on a terminal."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from broker_process import BrokerProcess

import hermes
from tests.e2e.inspecting import PROGRAM, following, inspect, inspect_well, on_terminal
from tests.e2e.inspecting import without_escapes as plain

WAIT_SECS = 20.0
ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------------------- answers


def test_the_story_of_a_message(scene: Path) -> None:
    found = inspect_well(
        "sql",
        "SELECT kind, consumer, attempt FROM events WHERE message_offset = 1 ORDER BY lsn",
        *("--store", scene, "--json"),
    ).objects
    assert found[0] == {"kind": "published", "consumer": None, "attempt": None}
    assert [row["kind"] for row in found if row["consumer"] == "billing"] == [
        *("delivered", "nacked", "delivered", "nacked"),
        *("dead_lettered", "replayed", "delivered", "acked"),
    ]


def test_as_many_records_as_the_log_command_shows(scene: Path) -> None:
    (row,) = inspect_well("sql", "SELECT count(*) n FROM records", "-s", scene, "--json").objects
    assert row["n"] == len(inspect_well("log", scene, "--json").objects)


def test_the_statement_may_come_on_stdin(scene: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "sql", "-", "--csv", "--store", str(scene)],
        input="SELECT message_id, headers ->> 'region' AS region\n"
        "FROM events WHERE message_id = 'order-1' AND kind = 'published';\n",
        capture_output=True,
        text=True,
        timeout=WAIT_SECS,
        check=True,
    )
    assert list(csv.reader(StringIO(done.stdout))) == [["message_id", "region"], ["order-1", "eu"]]


def test_payloads_only_when_asked(scene: Path) -> None:
    statement = "SELECT CAST(payload AS TEXT) AS text FROM events WHERE message_id = 'order-3'"
    refused = inspect("sql", statement, "--store", scene)
    assert (refused.code, refused.out) == (1, "")
    assert "no such column: payload" in refused.err and "--payloads" in refused.err
    rows = inspect_well("sql", statement, "--payloads", "--json", "-s", scene).objects
    assert rows[0] == {"text": "{}"}


def test_without_a_statement_the_tables_are_told(tmp_path: Path) -> None:
    told = inspect_well("sql", "--store", tmp_path / "none").out
    for name in ("events:", "records:", "consumers:", "segments:", "message_offset", "lsn_at("):
        assert name in told
    objects = inspect_well("sql", "--json").objects
    assert {"table": "events", "column": "subject", "type": "TEXT", "about": "of the message"} in (
        objects
    )


def test_the_queries_of_the_documentation(scene: Path, repository: Path) -> None:
    text = (repository / "docs" / "inspect.md").read_text()
    statements = re.findall(r"^```sql\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(statements) == 5
    story, again, why, spans, never = (
        inspect_well("sql", statement, "--json", "--store", scene).objects
        for statement in statements
    )
    assert (story[0]["kind"], story[-1]["kind"]) == ("published", "acked")
    assert [(row["consumer"], row["message_offset"], row["attempts"]) for row in again] == [
        ("sleepy", 0, 2),
        ("billing", 1, 2),
    ]
    assert {row["reason"] for row in why} >= {"cannot be parsed", "no such customer"}
    assert {row["subject"]: row["acked"] for row in spans} == {"orders.eu.created": 2}
    assert all(row["max_ms"] >= row["median_ms"] >= 0 for row in spans)
    assert [row["message_id"] for row in never] == ["order-3"]


# ------------------------------------------------------------------------ how it looks


def test_a_table_on_a_terminal(scene: Path) -> None:
    code, out = on_terminal(
        "sql", "SELECT consumer, position FROM consumers ORDER BY 1", "-s", str(scene), columns=80
    )
    assert code == 0
    assert "\x1b[1m" in out  # the head is bold
    lines = [line.split() for line in plain(out).splitlines()]
    assert lines[0] == ["consumer", "position"]
    assert [line[0] for line in lines[1:]] == ["audit", "billing", "sleepy", "slow"]


def test_what_is_too_wide_stands_upright(scene: Path) -> None:
    code, out = on_terminal(
        "sql", "SELECT * FROM events WHERE message_offset = 0 LIMIT 2", "-s", str(scene), columns=80
    )
    assert code == 0
    assert all(len(line) <= 80 for line in plain(out).splitlines() if "payload_hash" not in line)
    assert re.search(r"^message_id +order-1$", plain(out), re.MULTILINE)


def test_a_limit_tells_that_there_is_more(scene: Path) -> None:
    ran = inspect("sql", "SELECT lsn FROM records", "--limit", "2", "--store", scene)
    assert (ran.code, ran.lines) == (0, ["lsn", "  1", "  2"])
    assert ran.err == "hermes-inspect: there are more rows than 2: --limit N shows more\n"


# ------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["DELETE FROM events"], "may not be modified"),
        (["CREATE TABLE t (a)"], "only reads"),
        (["ATTACH 'other.db' AS other"], "ATTACH"),
        (["SELEC"], 'near "SELEC": syntax error'),
        (["SELECT * FROM event"], "no such table: event (hermes-inspect sql lists"),
        (["SELECT lsn_at('noon')"], "'noon' is no moment"),
        ([ENDLESS + " LIMIT 1 OFFSET 100000000", "--timeout", "0.3"], "out of time"),
    ],
)
def test_one_line_and_an_exit_code(scene: Path, arguments: list[str], complaint: str) -> None:
    before = contents(scene)
    ran = inspect("sql", *arguments, "--csv", "--store", scene)
    assert (ran.code, ran.out) == (1, "")
    assert complaint in ran.err and ran.err.count("\n") == 1
    assert contents(scene) == before


def test_wrong_invocations(scene: Path, tmp_path: Path) -> None:
    assert inspect("sql", "SELECT 1", "--csv", "--json", "--store", scene).code == 2
    assert inspect("sql", "SELECT 1", "--store", tmp_path / "none").code == 3


def test_ctrl_c_ends_it_without_a_word(scene: Path) -> None:
    endless = ENDLESS + " WHERE n < 2 OR n > 1e15"
    with following("sql", endless, "--json", "--store", scene) as process:
        assert process.stdout is not None and process.stderr is not None
        os.set_blocking(process.stdout.fileno(), True)
        # Its first row may wait in a buffer; that it runs is seen by the processor it takes.
        stat = Path(f"/proc/{process.pid}/stat")
        while int(stat.read_text().rsplit(")", 1)[1].split()[11]) < 100:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECS) == 130
        assert process.stderr.read() == b""


# ------------------------------------------------------------------ beside a live server


def test_beside_a_live_server(tmp_path: Path) -> None:
    store = tmp_path / "store"
    count = ("sql", "SELECT count(*) n FROM events WHERE subject = 'a.b'", "--json", "-s", store)
    with (
        BrokerProcess(store, tmp_path / "broker.log") as broker,
        hermes.Client(broker.addr, name="shop") as shop,
    ):
        for number in range(1, 4):
            shop.publish("a.b", b"x", id=f"m{number}")
            assert inspect_well(*count).objects == [{"n": number}]
        with shop.consume("worker", "a.>") as member:
            for message in member.fetch(3, timeout=WAIT_SECS):
                message.ack(wait=True).result(WAIT_SECS)
        assert inspect_well(*count).objects == [{"n": 9}]
        acks = "SELECT message_id FROM events WHERE consumer = 'worker' AND kind = 'acked'"
        assert inspect_well("sql", acks, "--csv", "-s", store).lines == ["message_id"] + [
            f"m{number}" for number in (1, 2, 3)
        ]
        shop.publish("a.b", b"goes on")


def test_a_damaged_log_is_answered_as_far_as_it_can_be_read(damaged: Path, scene: Path) -> None:
    whole = inspect_well("sql", "SELECT lsn FROM records", "--json", "--store", scene).objects
    for order in ("ASC", "DESC"):
        ran = inspect(
            "sql", f"SELECT lsn FROM records ORDER BY lsn {order}", "--json", "-s", damaged
        )
        assert ran.code == 5
        (told,) = re.findall(r"damaged: records (\d+)\.\.(\d+): ", ran.err)
        missing = range(int(told[0]), int(told[1]) + 1)
        assert 1 <= len(missing) < 20
        shown = sorted(row["lsn"] for row in ran.objects)
        assert sorted([*shown, *missing]) == [row["lsn"] for row in whole]
    assert inspect("sql", "SELECT count(*) FROM events", "--csv", "-s", damaged).code == 5
