"""What garbage collection may take, told a second time: part of the simulation's checker.

A payload is needed while a consumer has not settled its message: not considered yet and
wanted, leased, waiting, or dead and within the retention of dead letters. What is needed
is never announced as retired or dropped; nor is anything of a segment in quarantine. Only
where unsettled messages may be lost by age does what nobody has considered go, and what
waits, the latter by its own event.

What is left out as damaged is held against what the simulation has damaged.

Every offset is asked about by itself, consumer by consumer; nothing is shared with
needs.py and retention.py.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence

from hermes.broker import events as ev
from hermes.broker.ranges import Range, normalize
from hermes.broker.retention import RetentionPolicy
from hermes.log.port import Quarantined, SegmentInfo
from tests.support.simulation_consumer import DEAD, ConsumerModel, Line, Message, require


def _nothing() -> frozenset[int]:
    return frozenset()


class RetentionModel:
    """What was taken so far."""

    def __init__(
        self,
        line: Line,
        consumers: Mapping[str, ConsumerModel],
        policy: RetentionPolicy | None,
    ) -> None:
        self.quarantined: Callable[[], set[int] | frozenset[int]] = _nothing  # first lsns
        self._line = line
        self._consumers = consumers
        self._policy = policy
        self._oldest_lsn = 1
        self._ranges: dict[int, list[Range]] = {}  # retired, by their segment's first lsn

    def compacted(self, event: ev.SegmentCompacted, lsn: int, at_ns: int) -> None:
        """Payloads are announced as retired."""
        line = self._line
        self._check_segment(event.first_lsn)
        loses = self._policy is not None and self._policy.max_unacked_retention_ns is not None
        for first, last in event.ranges:
            self._check_batches(event, first, last)
            self._check_unneeded(first, last, at_ns, loses=loses)
            for offset in range(first, last + 1):
                line.retired.setdefault(offset, lsn)
        self._ranges.setdefault(event.first_lsn, []).extend(event.ranges)

    def dropped(self, event: ev.SegmentDropped, at_ns: int) -> None:
        """A whole segment is announced as gone."""
        line = self._line
        self._check_segment(event.first_lsn)
        require(event.first_lsn == self._oldest_lsn, "dropped", event.first_lsn, "out of turn")
        self._oldest_lsn = event.last_lsn + 1
        if event.last_offset is not None:
            self._check_unneeded(line.oldest_offset, event.last_offset, at_ns, loses=False)
            line.oldest_offset = event.last_offset + 1

    def _check_segment(self, first_lsn: int) -> None:
        require(first_lsn not in self.quarantined(), "took of what is in quarantine:", first_lsn)

    def _check_batches(self, event: ev.SegmentCompacted, first: int, last: int) -> None:
        """Whole batches of that segment."""
        lsns = self._line.lsns
        inside = event.first_lsn <= lsns[first] <= lsns[last] <= event.last_lsn
        require(inside, "retired", first, last, "of another segment")
        whole = (first == 0 or lsns[first - 1] != lsns[first]) and (
            last + 1 == len(lsns) or lsns[last + 1] != lsns[last]
        )
        require(whole, "retired a part of a batch:", first, last)

    def _check_unneeded(self, first: int, last: int, at_ns: int, *, loses: bool) -> None:
        retired, subjects = self._line.retired, self._line.subjects
        for consumer in self._consumers.values():
            for offset, message in consumer.messages.items():
                if first <= offset <= last and offset not in retired:
                    free = self._is_given_up(message, at_ns)
                    require(free, consumer.name, "still needs", offset, message)
            for offset in range(max(consumer.position, first), 0 if loses else last + 1):
                unread = consumer.wants(subjects[offset]) and offset not in retired
                require(not unread, consumer.name, "has not read", offset, "that is to go")

    def _is_given_up(self, message: Message, at_ns: int) -> bool:
        """Whether a dead letter is past its retention, or died of the very loss."""
        if message.state != DEAD:
            return False
        retention_ns = None if self._policy is None else self._policy.dead_letter_retention_ns
        if retention_ns is not None and message.time_ns < at_ns - retention_ns:
            return True
        return message.forsaken

    def check_custody(self, quarantined: Sequence[Quarantined], damaged: Mapping[int, int]) -> None:
        """Only what was damaged is left out, and it is told with exactly what it holds.

        `damaged`: last lsns of what the simulation has damaged, by first lsn.
        """
        lsns = self._line.lsns
        for told in quarantined:
            last_lsn = damaged.get(told.first_lsn)
            require(told.last_lsn == last_lsn, "left out", told, "damaged", damaged)
            first = bisect_left(lsns, told.first_lsn)
            last = bisect_right(lsns, told.last_lsn) - 1
            expected = (first, last) if first <= last else (None, None)
            held = (told.first_offset, told.last_offset)
            require(held == expected, "left out", told, "it holds", expected)

    def check_opened(self, segments: Sequence[SegmentInfo], stuck: set[int]) -> None:
        """What was announced is done, whole segments included, but where damage forbids it."""
        first_lsn = segments[0].first_lsn
        require(first_lsn == self._oldest_lsn, "the oldest segment is", first_lsn)
        for segment in segments:
            if segment.first_lsn not in stuck:
                announced = tuple(normalize(self._ranges.get(segment.first_lsn, ())))
                same = segment.retired == announced
                require(same, "retired", segment.retired, "announced", announced)
