"""Rates, sparklines, columns that fit, rows of one line, details."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from hermes.broker.state import Session
from hermes.log.record import Kind, StoredRecord
from hermes_inspect.model import Gap, Message, RecordView
from hermes_inspect.tables import CONSUMER_COLUMNS, ConsumerRow, SegmentRow, consumer_cells
from hermes_inspect.times import SECOND_NS, Clockface
from hermes_inspect.tui.columns import PADDING_COLUMNS, cell, fit
from hermes_inspect.tui.details import (
    LINES_SHOWN,
    MESSAGES_SHOWN,
    consumer_lines,
    messages_lines,
    segment_lines,
)
from hermes_inspect.tui.rates import Rates, rate_text, rates, rates_line, sparkline
from hermes_inspect.tui.rows import MARK, Row, light, row_text

NOW_NS = 1_000 * SECOND_NS
BOB = Session("", "ipv4:127.0.0.1:5", "bob", "", "")


def view(kind: Kind, at_ns: int = NOW_NS, **fields: Any) -> RecordView:
    record = StoredRecord(7, at_ns, kind, None, None, None, b"b", b"p", bytes(32), bytes(32))
    return RecordView(record, kind.name.lower(), **fields)


def per_second(found: Rates) -> dict[str, float]:
    return {name: rate for name, _, rate in found.per_second}


# ------------------------------------------------------------------------------ rates


def test_rates_count_messages_of_the_last_ten_seconds() -> None:
    rows = [Row(view(Kind.PUBLISHED, NOW_NS - i * SECOND_NS, messages=20)) for i in range(30)]
    rows.insert(3, Row(Gap(1, 2, "gone")))
    found = per_second(rates(rows, NOW_NS))
    assert found == {"published": 20.0, "delivered": 0.0, "acked": 0.0, "failed": 0.0}


def test_rates_of_less_than_ten_seconds_are_those_of_what_is_held() -> None:
    rows = [Row(view(Kind.ACKED, NOW_NS - i * SECOND_NS // 2, messages=1)) for i in range(5)]
    assert per_second(rates(rows, NOW_NS))["acked"] == 2.5
    assert per_second(rates(rows[:1], NOW_NS))["acked"] == 1.0
    assert per_second(rates([], NOW_NS))["acked"] == 0.0


def test_old_records_have_no_rate_now() -> None:
    rows = [Row(view(Kind.NACKED, NOW_NS - 60 * SECOND_NS))]
    assert per_second(rates(rows, NOW_NS))["failed"] == 0.0


def test_sparkline() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([0, 1, 350, 700]) == "▁▂▅█"


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0"), (0.44, "0.4"), (12.3, "12"), (1_234, "1.2k"), (3.4e6, "3.4M")]
)
def test_rate_text(rate: float, text: str) -> None:
    assert rate_text(rate) == text


def test_rates_line_fits_a_narrow_terminal() -> None:
    rows = [Row(view(kind, messages=99)) for kind in (Kind.PUBLISHED, Kind.ACKED, Kind.EXPIRED)]
    line = rates_line([0] * 19 + [999], rates(rows, NOW_NS), "")
    assert "999 rec/s" in line.plain and "99 acked" in line.plain
    assert line.cell_len <= 80
    held = rates_line([0] * 19 + [999], rates(rows, NOW_NS), "", paused=True)
    assert (line.plain[0], held.plain[0]) == (" ", "‖")
    assert held.plain[1:] == line.plain[1:]
    (figure,) = [one for one in held.spans if held.plain[one.start : one.end].strip() == "999"]
    assert figure.style == "dim"


# ------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("columns", [20, 79, 159])
def test_a_row_is_one_line_and_exactly_as_wide(columns: int) -> None:
    told = view(Kind.ACKED, consumer="ビリング", ranges=((5, 9),), messages=5, session=3)
    for item in (told, Gap(3, 9, "torn " * 50)):
        for selected in (True, False):
            text = row_text(Row(item, BOB), Clockface(), columns, selected=selected)
            assert cell_len(text.plain) == columns
            assert "\n" not in text.plain
            assert text.plain.startswith(MARK) == selected
    assert ("bob" in row_text(Row(told, BOB), Clockface(), 159).plain) is True


def test_a_light_view_holds_no_body_and_says_the_same() -> None:
    heavy = view(Kind.PUBLISHED, subject="a.b", ids=("x",), messages=1, payload_bytes=1)
    kept = light(heavy)
    assert (kept.record.body, kept.record.payload) == (b"", None)
    face = Clockface()
    assert row_text(Row(kept), face, 79).plain == row_text(Row(heavy), face, 79).plain
    assert light(view(Kind.PUBLISHED, ids=("x", "y"), messages=2)).ids == ()


# ---------------------------------------------------------------------------- columns


def consumer(name: str = "billing", **more: Any) -> ConsumerRow:
    fields: dict[str, Any] = {
        "filters": ("orders.eu.>", "orders.us.>", "orders.asia.>"),
        "position": 123_456_789,
        "lag": 10_000_000,
        "in_flight": 1,
        "waiting": 2,
        "dead": 3,
        "members": ((4, 1, BOB),),
        "paused": False,
        "oldest_offset": 5,
        "oldest_age_ns": 90 * SECOND_NS,
        "leases": ((5, 5, 4, 1), (6, 9, 4, 2)),
    }
    return ConsumerRow(name=name, **(fields | more))


@pytest.mark.parametrize("room", [60, 79, 100, 200])
def test_columns_fit_and_numbers_are_never_cut(room: int) -> None:
    rows = [consumer_cells(consumer("a" * 30)), consumer_cells(consumer())]
    columns = fit(CONSUMER_COLUMNS, rows, room, ["FILTER"])
    titles = [column.title for column in columns]
    if room >= 79:
        assert sum(column.width + PADDING_COLUMNS for column in columns) <= room
    assert ("FILTER" in titles) == (room >= 100)
    (lag,) = [column for column in columns if column.title == "LAG"]
    assert cell(rows[0][lag.index], lag).plain.strip() == "10,000,000"


def test_cells_are_cut_aligned_and_escaped() -> None:
    (wide, number) = fit(["~NAME", "#N"], [["evil\x1b[31m" + "x" * 20, "7"]], 15)
    shown = cell("evil\x1b[31m" + "x" * 20, wide).plain
    assert shown == "evil\\x1b[…"
    assert len(shown) == wide.width == 15 - number.width - 2 * PADDING_COLUMNS
    assert cell("7", number).plain == "7".rjust(number.width)


# ---------------------------------------------------------------------------- details


def message(payload: bytes, index: int = 0) -> Message:
    return Message(index, index, "", payload, {}, 0)


def test_a_batch_is_shown_in_part_and_says_so() -> None:
    lines = messages_lines([message(b"x", i) for i in range(MESSAGES_SHOWN + 7)], "auto")
    assert lines[-1].plain == "… and 7 more: Enter chooses one"
    lines = messages_lines([message(b"\n" * 3 * LINES_SHOWN)], "text")
    assert len(lines) == LINES_SHOWN + 1


def test_a_text_chooses_the_messages_that_hold_it() -> None:
    both = [message(b"needle", 0), message(b"hay", 1)]
    assert "hay" not in "".join(line.plain for line in messages_lines(both, "auto", text="NEEDLE"))
    assert "hay" in "".join(line.plain for line in messages_lines(both, "auto", text="nothing"))


def test_a_consumer_in_full() -> None:
    told = "\n".join(line.plain for line in consumer_lines(consumer(paused=True)))
    assert "billing  filter orders.eu.> orders.us.> orders.asia.>  paused" in told
    assert "oldest unacked @5, published 1m 30s ago" in told
    assert "member 4  bob 127.0.0.1:5, 1 in flight" in told
    assert "in flight @6..9 with member 4, attempt 2" in told
    assert "no members" in [line.plain for line in consumer_lines(consumer(members=()))]


def test_a_segment_in_full() -> None:
    row = SegmentRow(1, 75, 75, 4096, 0, 9, SECOND_NS, 2 * SECOND_NS, True, 4, "consumer 'x' …")
    told = "\n".join(line.plain for line in segment_lines(row, Clockface()))
    assert "records 1..75  sealed  4.0 KiB" in told
    assert "messages @0..9" in told
    assert "payloads retired: 4" in told
    assert "kept: consumer 'x' …" in told
    torn = SegmentRow(1, 0, 0, 10, None, None, 0, 0, False, 0, "", damage="torn \x1b page")
    assert [line.plain for line in segment_lines(torn, Clockface())][1] == "torn \\x1b page"
