"""Hypothesis strategies for every event of the broker, as the codec must carry it."""

from __future__ import annotations

from typing import Any, get_type_hints

from hypothesis import strategies as st

from hermes.broker import events as ev
from hermes.broker.event_codec import LAYOUTS
from hermes.broker.ranges import normalize
from hermes.broker.v1 import broker_pb2

U64 = st.integers(0, 2**63 - 1)
U32 = st.integers(0, 2**32 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
OFFSETS = st.integers(0, 50_000)
RANGES = (
    st.lists(st.tuples(OFFSETS, st.integers(0, 9)), min_size=1, max_size=8)
    .map(lambda pairs: normalize((first, first + more) for first, more in pairs))
    .map(tuple)
)
POLICIES = st.builds(
    ev.Policy,
    filters=st.lists(TEXT, max_size=3).map(tuple),
    ack_timeout_ns=U64,
    max_attempts=U32,
    backoff_initial_ns=U64,
    backoff_max_ns=U64,
    inactivity_limit_ns=U64,
)
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "ranges": RANGES,
    "policy": POLICIES,
    "failure": st.booleans(),
    "clean_stop": st.booleans(),
    "step_ns": st.integers(-(2**63), 2**63 - 1),
    "at_ns": st.integers(0, 2**62),
    "subscriptions": st.lists(U64, max_size=4).map(tuple),
    "picks": st.lists(U64, max_size=4).map(tuple),
    "queue_groups": st.lists(TEXT, max_size=3).map(tuple),
    "config_digest": st.binary(max_size=8),
    "chain": st.binary(max_size=32),
    "ids": st.lists(TEXT, max_size=3).map(tuple),
    "sizes": st.lists(U32, max_size=4).map(tuple),
    "producer_id": st.binary(max_size=8),
    "content": st.binary(max_size=30),
}
U32_FIELDS = {"attempt", "attempts", "failures", "mean_bytes", "credit_messages"}
CAUSES: dict[type[ev.Event], Any] = {
    ev.Released: ev.ReleaseCause,
    ev.DeadLettered: ev.DeadCause,
    ev.ConsumerDeleted: ev.DeleteCause,
}


def _field(event: type[ev.Event], name: str) -> st.SearchStrategy[Any]:
    if name == "cause":
        return st.sampled_from(list(CAUSES[event]))
    if name in BY_NAME:
        return BY_NAME[name]
    if name in U32_FIELDS:
        return U32
    return TEXT if get_type_hints(event)[name] is str else U64


def _of(event: type[ev.Event]) -> st.SearchStrategy[ev.Event]:
    names = [name for name in event.__struct_fields__ if name not in {"first", "last"}]
    return st.builds(event, **{name: _field(event, name) for name in names})


@st.composite
def _batches(draw: st.DrawFn, event: type[ev.Published | ev.PublishedLive]) -> ev.Event:
    count = draw(st.integers(1, 5))
    ids = draw(st.one_of(st.just(()), st.tuples(*[TEXT] * count)))
    head = broker_pb2.BatchHead(count=count, ids=ids).SerializeToString()
    values = {
        name: draw(_field(event, name))
        for name in event.__struct_fields__
        if name not in {"first", "last", "head", "ids"}
    }
    if event is ev.Published:
        values["first"] = draw(OFFSETS)
        values["last"] = values["first"] + count - 1
    return event(head=head, ids=ids, **values)


@st.composite
def _live_deliveries(draw: st.DrawFn) -> ev.DeliveredLive:
    first = draw(st.one_of(st.none(), OFFSETS))
    last = None if first is None else first + draw(st.integers(0, 9))
    names = set(ev.DeliveredLive.__struct_fields__) - {"first", "last"}
    values = {name: draw(_field(ev.DeliveredLive, name)) for name in sorted(names)}
    return ev.DeliveredLive(first=first, last=last, **values)


SEGMENTS_DROPPED = st.builds(
    ev.SegmentDropped,
    engine_time_ns=U64,
    first_lsn=U64,
    last_lsn=U64,
    first_offset=st.one_of(st.none(), U64),
    last_offset=st.one_of(st.none(), U64),
    chain=st.binary(max_size=32),
)
SEGMENTS_COMPACTED = st.builds(
    ev.SegmentCompacted,
    engine_time_ns=U64,
    first_lsn=U64,
    last_lsn=U64,
    ranges=st.one_of(st.just(()), RANGES),
)
LOST = st.builds(
    ev.Lost, engine_time_ns=U64, first_lsn=U64, last_lsn=U64, first_offset=U64, next_offset=U64
)
EVENTS: dict[type[ev.Event], st.SearchStrategy[ev.Event]] = {
    **{layout.event: _of(layout.event) for layout in LAYOUTS},
    ev.DeliveredLive: _live_deliveries(),
    ev.Published: _batches(ev.Published),
    ev.PublishedLive: _batches(ev.PublishedLive),
    ev.SegmentCompacted: SEGMENTS_COMPACTED,
    ev.SegmentDropped: SEGMENTS_DROPPED,
    ev.Lost: LOST,
}
