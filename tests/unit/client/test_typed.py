"""Typed events: templates, headers, the choice of a class, reasons for people."""

from __future__ import annotations

import enum
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from typing import Any, Union

import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from hermes.client.typed import (
    decode_event,
    encode_event,
    event,
    event_subject_filters,
    is_event,
)
from hermes.errors import DecodeError, InvalidArgumentError


class Region(enum.Enum):
    EU = "eu"
    US = "us"


@event("orders.{region}.created")
@dataclass(frozen=True, slots=True)
class OrderCreated:
    region: Region
    amount: int
    tags: list[str] = field(default_factory=list)


@event("orders.shipped")
class OrderShipped(msgspec.Struct):
    order: uuid.UUID
    weight_kg: float = 1.0


@event("orders.{order_id}.cancelled", name="order-cancelled")
class OrderCancelled(pydantic.BaseModel):
    order_id: int
    reason: str = pydantic.Field(min_length=3)


@event("orders.{region}.refunded")
@pydantic.dataclasses.dataclass
class OrderRefunded:
    region: str
    amount: int


AnyOrder = OrderCreated | OrderShipped | OrderCancelled | OrderRefunded

ORDERS = [
    OrderCreated(Region.EU, 3, ["new"]),
    OrderShipped(uuid.UUID(int=7), 2.5),
    OrderCancelled(order_id=9, reason="changed my mind"),
    OrderRefunded("eu", 3),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: type(order).__name__)
def test_round_trip_of_every_kind_of_class(order: Any) -> None:
    encoded = encode_event(order)
    assert decode_event(AnyOrder, encoded.subject, encoded.payload, encoded.headers) == order
    assert encoded.headers["content-type"] == "application/json"
    msgspec.json.decode(encoded.payload)


def test_fields_become_subject_tokens_and_stay_in_the_payload() -> None:
    encoded = encode_event(ORDERS[0])
    assert encoded.subject == "orders.eu.created"
    assert msgspec.json.decode(encoded.payload) == {"region": "eu", "amount": 3, "tags": ["new"]}
    assert encoded.headers["event-type"] == "OrderCreated"
    assert encode_event(ORDERS[2]).subject == "orders.9.cancelled"
    assert encode_event(ORDERS[2]).headers["event-type"] == "order-cancelled"


def test_headers_of_one_event_are_not_shared_with_the_next() -> None:
    encode_event(ORDERS[0]).headers["trace"] = "1"
    assert "trace" not in encode_event(ORDERS[0]).headers


def test_filters_put_a_star_for_fields_and_keep_order() -> None:
    assert event_subject_filters(OrderCreated) == ("orders.*.created",)
    assert event_subject_filters(OrderCreated | OrderShipped) == (
        "orders.*.created",
        "orders.shipped",
    )
    assert event_subject_filters(Union[OrderShipped, OrderCancelled]) == (  # noqa: UP007 - the older spelling works too
        "orders.shipped",
        "orders.*.cancelled",
    )


def test_a_filter_that_another_covers_is_left_out() -> None:
    @event("stock.{item}")
    @dataclass
    class Moved:
        item: str

    @event("stock.counted")
    @dataclass
    class Counted:
        amount: int

    assert event_subject_filters(Counted | Moved) == ("stock.*",)


def test_is_event() -> None:
    assert is_event(OrderCreated)
    assert is_event(ORDERS[1])
    assert not is_event(OrderCreated | OrderShipped)
    assert not is_event("orders.created")
    assert not is_event(str)


def test_a_subclass_is_not_an_event_until_decorated() -> None:
    class Express(OrderShipped):
        courier: str = ""

    assert not is_event(Express)
    with pytest.raises(InvalidArgumentError, match="Express is not an event"):
        encode_event(Express(uuid.UUID(int=1)))


# ----------------------------------------------------------------- decoration


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "is empty"),
        ("orders..created", "is empty"),
        (".orders", "is empty"),
        ("orders.*", "wildcard"),
        ("orders.>", "wildcard"),
        ("orders.foo*", "wildcard"),
        ("orders.new one", "whitespace"),
        ("orders.\x07", "control"),
        ("orders.eu-{region}", "one whole"),
        ("orders.{region", "one whole"),
        ("orders.{}", "one whole"),
        ("_dead_letter.orders", "reserved"),
        ("orders.{country}.created", "no field 'country'"),
        (".".join("a" * 33), "too long"),
        ("a" * 513, "too long"),
    ],
)
def test_a_wrong_template_is_told_at_decoration(template: str, reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):

        @event(template)
        @dataclass
        class _Order:
            region: str


def test_only_classes_with_fields_can_be_events() -> None:
    with pytest.raises(InvalidArgumentError, match=r"put @hermes\.event above"):

        @dataclass
        @event("orders.created")
        class _Order:
            region: str

    with pytest.raises(InvalidArgumentError, match="cannot be an event's name"):
        event("orders.created", name="two\nlines")(OrderShipped)


# ----------------------------------------------------------------- publishing


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        ("", "is empty"),
        ("e.u", "has a dot"),
        ("*", "wildcard"),
        ("e u", "whitespace"),
        ("e\x1bu", "control"),
        (None, "is None"),
        ("r" * 600, "too long"),
    ],
)
def test_a_field_that_is_no_token_is_refused(region: Any, reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):
        encode_event(OrderCreated(region, 1))


def test_a_first_token_from_a_field_cannot_reach_reserved_subjects() -> None:
    @event("{tenant}.created")
    @dataclass
    class Created:
        tenant: str

    assert encode_event(Created("a_b")).subject == "a_b.created"
    with pytest.raises(InvalidArgumentError, match="reserved"):
        encode_event(Created("_dead_letter"))


def test_what_json_cannot_carry_is_refused_when_publishing() -> None:
    @event("things")
    @dataclass
    class Thing:
        content: Any

    with pytest.raises(InvalidArgumentError, match="Thing cannot be encoded as JSON"):
        encode_event(Thing(object()))


def test_not_an_event() -> None:
    for wrong in (str, OrderCreated | None, [OrderCreated], "orders.created", int | str):
        with pytest.raises(InvalidArgumentError, match="is not an event"):
            event_subject_filters(wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------ receiving


def test_without_event_type_the_subject_decides() -> None:
    got = decode_event(AnyOrder, "orders.us.created", b'{"region":"us","amount":1}', {})
    assert got == OrderCreated(Region.US, 1)


def test_event_type_wins_over_the_subject() -> None:
    headers = {"event-type": "OrderRefunded"}
    got = decode_event(AnyOrder, "orders.us.created", b'{"region":"us","amount":1}', headers)
    assert got == OrderRefunded("us", 1)


@pytest.mark.parametrize(
    ("subject", "payload", "headers", "reason"),
    [
        ("orders.eu.created", b"{", {}, "OrderCreated on orders.eu.created is not valid JSON"),
        ("orders.eu.created", b"\xff\xfe", {}, "not valid JSON"),
        ("orders.eu.created", b'{"region":"eu"}', {}, "missing required field `amount`"),
        ("orders.eu.created", b'{"region":"xx","amount":1}', {}, r"\$.region"),
        ("orders.9.cancelled", b'{"order_id":9,"reason":""}', {}, "reason: String should have"),
        ("orders.eu.refunded", b'{"region":"eu","amount":"x"}', {}, "amount: Input should be"),
        ("orders.lost", b"{}", {}, "its subject fits no expected event; expected OrderCreated or"),
        ("orders.shipped", b"{}", {"event-type": "Lost"}, "has event-type 'Lost'; expected"),
        (
            "orders.shipped",
            b"{}",
            {"content-type": "text/plain"},
            "content-type 'text/plain', expected 'application/json'",
        ),
    ],
)
def test_a_wrong_payload_is_told_in_one_line(
    subject: str, payload: bytes, headers: dict[str, str], reason: str
) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        decode_event(AnyOrder, subject, payload, headers)
    assert "\n" not in str(caught.value)
    assert caught.value.fields["subject"] == subject


def test_an_ambiguous_subject_needs_the_header() -> None:
    @event("a.{x}")
    @dataclass
    class One:
        x: str

    @event("a.{y}")
    @dataclass
    class Two:
        y: str

    with pytest.raises(DecodeError, match="fits One and Two"):
        decode_event(One | Two, "a.b", b'{"x":"b"}', {})
    assert decode_event(One | Two, "a.b", b'{"y":"b"}', {"event-type": "Two"}) == Two("b")


def test_content_type_parameters_and_unknown_fields_are_tolerated() -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    payload = b'{"region":"eu","amount":1,"added_later":true}'
    assert decode_event(OrderCreated, "orders.eu.created", payload, headers).amount == 1


def test_two_classes_with_one_event_type() -> None:
    @event("orders.other", name="OrderShipped")
    @dataclass
    class Other:
        order: str

    with pytest.raises(InvalidArgumentError, match="same event-type 'OrderShipped'"):
        event_subject_filters(OrderShipped | Other)
    with pytest.raises(InvalidArgumentError, match="same event-type"):
        decode_event(OrderShipped | Other, "orders.other", b"{}", {})


def test_a_class_that_can_never_be_decoded_is_told_before_the_first_message() -> None:
    @event("things")
    @dataclass
    class Thing:
        content: dict[str, int] | list[int] | OrderCreated | OrderShipped

    with pytest.raises(InvalidArgumentError, match="Thing cannot be decoded from JSON"):
        event_subject_filters(Thing)


def test_another_codec() -> None:
    class MessagePack:
        name = "MessagePack"
        content_type = "application/msgpack"

        def encode(self, value: Any) -> bytes:
            return msgspec.msgpack.encode(value)

        def decode(self, payload: bytes, kind: type[Any]) -> Any:
            return msgspec.msgpack.decode(payload, type=kind)

    @event("packed", codec=MessagePack())
    @dataclass
    class Packed:
        amount: int

    encoded = encode_event(Packed(5))
    assert encoded.headers["content-type"] == "application/msgpack"
    assert msgspec.msgpack.decode(encoded.payload) == {"amount": 5}
    assert decode_event(Packed, "packed", encoded.payload, encoded.headers) == Packed(5)
    with pytest.raises(DecodeError, match="not valid MessagePack"):
        decode_event(Packed, "packed", b"\xc1", {})
    with pytest.raises(DecodeError, match="content-type"):
        decode_event(Packed, "packed", b"{}", {"content-type": "application/json"})


def test_pydantic_is_not_imported_for_other_classes() -> None:
    program = """
import sys
from dataclasses import dataclass
from hermes.client.typed import encode_event, decode_event, event

@event("a")
@dataclass
class A:
    x: int

encoded = encode_event(A(1))
assert decode_event(A, "a", encoded.payload, encoded.headers) == A(1)
assert not any(name.partition(".")[0] == "pydantic" for name in sys.modules), "imported"
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
