"""How records and payloads look, and that nothing from outside reaches a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from hermes.broker import events as ev
from hermes.broker.event_codec import LAYOUTS, encode
from hermes.log.record import Kind, StoredRecord
from hermes_inspect.fields import record_fields
from hermes_inspect.model import Message, kind_name, messages_of, view_of
from hermes_inspect.payloads import PAYLOAD_BYTES_SHOWN, message_lines, payload_lines
from hermes_inspect.times import Clockface
from hermes_inspect.views import LineStyle, client_text, folded, ranges_text, record_line
from tests.support.event_strategies import EVENTS

NARROW = LineStyle(Clockface(), 80)
WIDE = LineStyle(Clockface(), None)


def nobody(_: int) -> None:
    return None


def stored(event: ev.Event) -> StoredRecord:
    record = encode(event, 1_795_617_962_927_210_965)
    return StoredRecord(
        7, record.at_ns, record.kind, record.key, record.first, record.last, record.body,
        record.payload, None, bytes(32),
    )  # fmt: skip


@given(st.one_of(*EVENTS.values()))
def test_every_event_has_a_line_and_an_object(event: ev.Event) -> None:
    view = view_of(stored(event))
    assert view.broken == ""
    line = record_line(view, nobody, WIDE).plain
    assert line.isprintable()
    assert kind_name(view.kind).replace("_", " ") in line
    assert all(piece.isprintable() for piece in record_line(view, nobody, NARROW).plain.split("\n"))
    fields = record_fields(view, nobody, None)
    assert (fields["lsn"], fields["kind"]) == (7, kind_name(view.kind))
    assert fields["at"] == "2026-11-25T14:46:02.927210965Z"
    if isinstance(event, ev.RangesEvent):
        assert fields["ranges"] == [list(pair) for pair in event.ranges]


def test_every_kind_is_viewed() -> None:
    """Those without an event too; an empty body is a body."""
    events = {layout.kind for layout in LAYOUTS}
    for kind in Kind:
        view = view_of(StoredRecord(1, 2, kind, "k", 3, 4, b"", None, None, bytes(32)))
        assert view.name == kind.name.lower()
        assert kind in events or not view.broken
    unknown = view_of(StoredRecord(1, 2, 77, None, None, None, b"", None, None, bytes(32)))
    assert (unknown.name, unknown.broken) == ("kind_77", "")


def test_a_body_that_cannot_be_parsed_is_told() -> None:
    record = StoredRecord(1, 2, Kind.ACKED, "c", 0, 0, b"\xff\xff", None, None, bytes(32))
    view = view_of(record)
    assert view.broken.startswith("cannot be parsed")
    assert "cannot be parsed" in record_line(view, nobody, WIDE).plain
    assert messages_of(view) == []


# -------------------------------------------------------------------------- folding


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=300))
def test_folding_keeps_everything_and_fits(text: str) -> None:
    front = Text("12345 ")
    lines = folded(front, Text(text), 40).plain.split("\n")
    assert all(Text(line).cell_len <= 40 for line in lines)
    rest = [lines[0][6:], *(line[6:] for line in lines[1:])]
    assert "".join(rest).replace(" ", "") == text.replace(" ", "")


def test_ranges_are_cut_short() -> None:
    assert ranges_text(((5, 5),)) == "@5"
    assert ranges_text(((5, 9), (11, 11))) == "@5..9,11"
    assert ranges_text(tuple((n, n) for n in range(0, 20, 2))) == "@0,2,4,6,… to 18"


def test_who() -> None:
    assert client_text(0, None) == "the broker"
    assert client_text(12, None) == "session 12"


# ------------------------------------------------------------------------- payloads


@pytest.mark.parametrize(
    ("payload", "mode", "lines"),
    [
        (b"", "auto", []),
        (b'{"a": [1]}', "auto", ["{", '  "a": [', "    1", "  ]", "}"]),
        (b'{"a": [1]}', "text", ['{"a": [1]}']),
        (b"12", "auto", ["12"]),
        (b"{broken", "json", ["{broken"]),
        (b"a\tb\n\x1b[31m\n", "auto", ["a       b", "\\x1b[31m"]),
        (b"\xff\x00A", "auto", ["00000000  ff 00 41" + " " * 39 + "  ..A"]),
        (b"\xffA", "text", ["\\xffA"]),
        (b"A", "hex", ["00000000  41" + " " * 45 + "  A"]),
    ],
)
def test_payloads(payload: bytes, mode: str, lines: list[str]) -> None:
    assert [line.rstrip() for line in payload_lines(payload, mode)] == lines


def test_deep_json_is_text() -> None:
    """Deeper than json goes, whatever the recursion limit is."""
    assert payload_lines(b"[" * 30_000 + b"]" * 30_000)[0].startswith("[[[")


def test_a_long_payload_is_cut() -> None:
    lines = payload_lines(b"x" * (PAYLOAD_BYTES_SHOWN + 2048))
    assert lines[-1] == "… 2.0 KiB more"


def test_a_message_beneath_its_record() -> None:
    message = Message(0, 812, "id\x1b", b"hi", {"k": "v\n"}, 0)
    assert [line.plain for line in message_lines(message)] == [
        *("812 id id\\x1b 2 B", "  k: v\\n", "  hi")
    ]
