"""[P] Counting what the log says: per subject and per consumer, in bounded memory.

Events go in, in order. Latencies are taken from engine time, per message:

- publish → deliver: from the publish to the first attempt;
- deliver → ack: from the latest delivery to the ack;
- publish → ack: the whole way.

A delivery finds its publish among the newest `PUBLISHES_KEPT` batches, an ack its delivery
among at most `DELIVERIES_KEPT` ranges per consumer. What is older is counted and not
measured: `measured` beside the counts tells how many were.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Any, Final

from hermes.broker import events as ev
from hermes.broker.ranges import RangeMap, count
from hermes_inspect.histogram import Histogram

PUBLISHES_KEPT: Final = 1_000_000
DELIVERIES_KEPT: Final = 100_000
# Subjects counted each by itself; the rest is counted together.
SUBJECTS_MAX: Final = 10_000
OTHERS: Final = "(other subjects)"


class SubjectTally:
    """What was published on one subject."""

    __slots__ = ("batches", "bytes", "live_bytes", "live_messages", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.batches = 0
        self.bytes = 0
        self.live_messages = 0
        self.live_bytes = 0


class ConsumerTally:
    """What one consumer did. Counts are of messages."""

    def __init__(self) -> None:
        self.delivered = 0  # every attempt
        self.redelivered = 0
        self.acked = 0
        self.nacked = 0
        self.rejected = 0
        self.expired = 0
        self.released = 0
        self.dead = 0
        self.replayed = 0
        self.bytes = 0
        self.publish_to_deliver = Histogram()
        self.deliver_to_ack = Histogram()
        self.publish_to_ack = Histogram()
        self.open: RangeMap[int] = RangeMap()  # offsets -> engine time of the delivery


class Tally:
    """All of it. `first_at_ns` and `last_at_ns` are Unix times of what was counted."""

    def __init__(self) -> None:
        self.records = 0
        self.first_at_ns = 0
        self.last_at_ns = 0
        self.first_lsn = 0
        self.last_lsn = 0
        self.kinds: dict[int, int] = {}
        self.subjects: dict[str, SubjectTally] = {}
        self.consumers: dict[str, ConsumerTally] = {}
        self._firsts = array("q")
        self._times_ns = array("q")

    @property
    def span_ns(self) -> int:
        return max(0, self.last_at_ns - self.first_at_ns)

    def add(self, lsn: int, at_ns: int, kind: int, event: ev.Event | None) -> None:
        """Count the next record."""
        if not self.records:
            self.first_at_ns, self.first_lsn = at_ns, lsn
        self.records += 1
        self.last_at_ns, self.last_lsn = at_ns, lsn
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        match event:
            case ev.Published():
                self._published(event)
            case ev.PublishedLive():
                tally = self._subject(event.subject)
                tally.live_messages += len(event.sizes)
                tally.live_bytes += sum(event.sizes)
            case ev.RangesEvent():
                self._ranges(event)
            case ev.ConsumerSought() | ev.ConsumerDeleted():
                if event.consumer in self.consumers:
                    self.consumers[event.consumer].open.clear()

    def _subject(self, subject: str) -> SubjectTally:
        tally = self.subjects.get(subject)
        if tally is None:
            if len(self.subjects) >= SUBJECTS_MAX:
                subject = OTHERS
            tally = self.subjects.setdefault(subject, SubjectTally())
        return tally

    def _published(self, event: ev.Published) -> None:
        tally = self._subject(event.subject)
        tally.messages += event.last - event.first + 1
        tally.batches += 1
        tally.bytes += sum(event.sizes)
        self._firsts.append(event.first)
        self._times_ns.append(event.engine_time_ns)
        if len(self._firsts) >= 2 * PUBLISHES_KEPT:
            del self._firsts[:PUBLISHES_KEPT], self._times_ns[:PUBLISHES_KEPT]

    def _ranges(self, event: ev.RangesEvent) -> None:
        tally = self.consumers.get(event.consumer)
        if tally is None:
            tally = self.consumers[event.consumer] = ConsumerTally()
        messages = count(event.ranges)
        match event:
            case ev.Delivered():
                self._delivered(tally, event, messages)
            case ev.Acked():
                tally.acked += messages
                self._acked(tally, event)
            case ev.Nacked():
                tally.nacked += messages
            case ev.Rejected():
                tally.rejected += messages
            case ev.Expired():
                tally.expired += messages
            case ev.Released():
                tally.released += messages
            case ev.DeadLettered():
                tally.dead += messages
                for first, last in event.ranges:
                    tally.open.remove(first, last)
            case ev.Replayed():
                tally.replayed += messages

    def _delivered(self, tally: ConsumerTally, event: ev.Delivered, messages: int) -> None:
        tally.delivered += messages
        tally.bytes += messages * event.mean_bytes
        if event.attempt > 1:
            tally.redelivered += messages
        for first, last in event.ranges:
            tally.open.remove(first, last)
            if len(tally.open) < DELIVERIES_KEPT:
                tally.open.add(first, last, event.engine_time_ns)
            if event.attempt == 1:
                self._since_publish(tally.publish_to_deliver, first, last, event.engine_time_ns)

    def _acked(self, tally: ConsumerTally, event: ev.Acked) -> None:
        for first, last in event.ranges:
            for a, b, delivered_ns in tally.open.remove(first, last):
                tally.deliver_to_ack.add(event.engine_time_ns - delivered_ns, b - a + 1)
            self._since_publish(tally.publish_to_ack, first, last, event.engine_time_ns)

    def _since_publish(self, into: Histogram, first: int, last: int, now_ns: int) -> None:
        """Count the time since the publish of each of first..last that is still known."""
        firsts = self._firsts
        at = bisect_right(firsts, first) - 1
        if at < 0:
            if not firsts or firsts[0] > last:
                return
            at, first = 0, firsts[0]
        while first <= last:
            end = firsts[at + 1] - 1 if at + 1 < len(firsts) else last
            upto = min(last, end)
            into.add(now_ns - self._times_ns[at], upto - first + 1)
            first, at = upto + 1, at + 1


# --------------------------------------------------------------------------- as objects

PERCENTILES: Final = (50, 90, 99, 100)


def latency_fields(histogram: Histogram) -> dict[str, Any]:
    """Percentiles in nanoseconds, and of how many messages."""
    names = {100: "max"}
    fields: dict[str, Any] = {"measured": histogram.count}
    if histogram.count:
        fields["mean_ns"] = histogram.mean_ns
        for percent in PERCENTILES:
            name = names.get(percent, f"p{percent}")
            fields[f"{name}_ns"] = histogram.percentile(percent)
    return fields


def rate(number: int, span_ns: int) -> float:
    """How many per second; 0 when no time passed."""
    return round(number * 1e9 / span_ns, 3) if span_ns else 0.0


def subject_fields(name: str, tally: SubjectTally, span_ns: int) -> dict[str, Any]:
    return {
        "subject": name,
        "messages": tally.messages,
        "batches": tally.batches,
        "bytes": tally.bytes,
        "live_messages": tally.live_messages,
        "live_bytes": tally.live_bytes,
        "messages_per_second": rate(tally.messages + tally.live_messages, span_ns),
    }


def consumer_fields(name: str, tally: ConsumerTally, span_ns: int) -> dict[str, Any]:
    counts = ("delivered", "redelivered", "acked", "nacked", "rejected", "expired", "released")
    fields: dict[str, Any] = {"consumer": name}
    for count_name in (*counts, "dead", "replayed", "bytes"):
        fields[count_name] = getattr(tally, count_name)
    fields["acked_per_second"] = rate(tally.acked, span_ns)
    for latency in ("publish_to_deliver", "deliver_to_ack", "publish_to_ack"):
        fields[latency] = latency_fields(getattr(tally, latency))
    return fields
