"""What the records of a log mean, told a second time: the checker of the simulation.

The model reads records one group at a time, as they are appended, and keeps one entry per
unsettled message and consumer. It shares no rule with the broker's fold: where the fold
works on ranges, this walks offsets; where the broker decides, this only looks at whether
what was decided was allowed. What is not allowed raises `Violation`.

After a crash or a failed commit a new model reads the durable records from their start.
Subjects are matched with the naive `subject.matches`, not with the trie or the compiled
filters that the broker uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.ranges import Range
from hermes.broker.retention import RetentionPolicy
from hermes.broker.v1 import broker_pb2
from hermes.log.record import Kind, StoredRecord
from tests.support.simulation_consumer import (
    DEAD,
    LEASED,
    WAITING,
    ConsumerModel,
    Line,
    Place,
    matching,
    require,
)
from tests.support.simulation_retention import RetentionModel

UNSEEN = "unseen"

# A record as it was appended and the event in it, decoded once; None for what the log or
# the journal writes for itself.
Entry = tuple[StoredRecord, ev.Event | None]


class Model:
    """Everything the records say."""

    def __init__(
        self,
        credit_of: Callable[[int], int] | None = None,
        broken_streams: frozenset[int] | set[int] | None = None,
        policy: RetentionPolicy | None = None,
    ) -> None:
        self.next_lsn = 1
        self.line = Line()
        self.subjects = self.line.subjects
        self.tokens = self.line.tokens
        self.lsns = self.line.lsns
        self.offset_of: dict[str, list[int]] = {}  # token -> offsets
        self.ids: dict[tuple[str, str], tuple[int, int]] = {}  # -> offset, engine time
        self.sequences: dict[tuple[bytes, int], int] = {}
        self.consumers: dict[str, ConsumerModel] = {}
        self.retention = RetentionModel(self.line, self.consumers, policy)
        self.deleted_lsn: dict[int, int] = {}  # by the consumer's creation lsn
        self.subscriptions: dict[int, ev.SubscriptionOpened] = {}
        self.audiences: dict[int, tuple[int, ...]] = {}
        self.handed: dict[int, int] = {}  # subscription -> messages
        self.dropped: dict[int, int] = {}  # subscription -> messages
        self.engine_time_ns = 0
        self.dedup_window_ns = 0
        self._credit_of = credit_of  # of a member
        self._broken_streams = broken_streams  # members that were lost, if that is known
        self.quiet = False  # reading what was checked before
        self._served: set[tuple[str, int]] = set()  # members that got something in this group
        # Published and not yet handed over: messages, and who is to have them.
        self._for_live: dict[int, tuple[int, dict[int, ev.SubscriptionOpened]]] = {}

    # ------------------------------------------------------------------ groups

    def group(self, entries: Sequence[Entry]) -> None:
        """Read records that are appended together."""
        for record, event in entries:
            require(record.lsn == self.next_lsn, "lsn", record.lsn, "expected", self.next_lsn)
            self.next_lsn += 1
            if event is None:
                require(record.kind in (Kind.SNAPSHOT, Kind.SEGMENT_SEALED), "kind", record.kind)
                continue
            require(event.engine_time_ns >= self.engine_time_ns, "engine time went back")
            self.engine_time_ns = event.engine_time_ns
            self._read(event, record)
        for consumer in self.consumers.values():
            spared = consumer.condemned
            require(not spared, consumer.name, spared, "had to die in this group")
            if consumer.forsaken:
                kept = consumer.forsaken - self.line.retired.keys()
                require(not kept, consumer.name, "gave up what has its payload:", kept)
                consumer.forsaken.clear()
        for lsn, (_, audience) in self._for_live.items():
            require(not audience, "record", lsn, "was handed to nobody")
        self._for_live.clear()
        self._check_credit()
        self._served.clear()

    def _check_credit(self) -> None:
        if self.quiet or self._credit_of is None:
            return
        alone = limits.RELEASES_BEFORE_ALONE
        for name, member in self._served:
            consumer = self.consumers.get(name)
            if consumer is None or member not in consumer.members:
                continue
            place = consumer.members[member]
            held = len(place.holds) + place.overdue
            credit = self._credit_of(member)
            require(held <= max(credit, 1), name, member, "holds", held, "credit", credit)
            lonely = [o for o in place.holds if consumer.messages[o].releases >= alone]
            require(not lonely or len(place.holds) == 1, lonely, "not alone:", place.holds)

    def heard(self, name: str, member: int) -> None:
        """The member has sent something: what expired at it no longer holds its credit."""
        consumer = self.consumers.get(name)
        if consumer is not None and member in consumer.members:
            consumer.members[member].overdue = 0

    def _read(self, event: ev.Event, record: StoredRecord) -> None:
        lsn = record.lsn
        match event:
            case ev.Published():
                self._published(event, lsn)
            case ev.PublishedLive():
                self._for_live[lsn] = len(event.sizes), self._audience(event.subject)
            case ev.SubscriptionOpened():
                self.subscriptions[lsn] = event
            case ev.SubscriptionClosed():
                del self.subscriptions[event.subscription]
            case ev.AudienceFormed():
                self.audiences[lsn] = event.subscriptions
            case ev.DeliveredLive():
                self._handed_over(event)
            case ev.Dropped():
                seen = self.dropped.get(event.subscription, 0)
                self.dropped[event.subscription] = seen + event.messages
            case ev.RangesEvent():
                self._ranges(event, lsn)
            case ev.ConsumerEvent():
                self._consumer(event, lsn)
            case ev.SegmentCompacted():
                self.retention.compacted(event, lsn, record.at_ns)
            case ev.SegmentDropped():
                self.retention.dropped(event, record.at_ns)
            case ev.ServerStarted():
                self.dedup_window_ns = event.dedup_window_ns
                self.subscriptions.clear()
                for consumer in self.consumers.values():
                    consumer.members.clear()
                    consumer.pinned_from = None

    # --------------------------------------------------------------- the line

    def _published(self, event: ev.Published, lsn: int) -> None:
        require(event.first == len(self.tokens), "offset", event.first, "is not the next")
        assert event.content is not None
        tokens = [token_of(p) for p in payloads(event.content)]
        require(len(tokens) == event.last - event.first + 1 == len(event.sizes), "counts differ")
        if event.dead_letter_consumer:
            self._copied(event, tokens)
        else:
            for offset, token in enumerate(tokens, event.first):
                self.offset_of.setdefault(token, []).append(offset)
        for offset, text in enumerate(event.ids, event.first):
            if text:
                self._identified(event, text, offset)
        if event.producer_id:
            key = (event.producer_id, event.producer_sequence)
            require(key not in self.sequences, key, "was published before")
            self.sequences[key] = event.first
        self.tokens += tokens
        self.subjects += [event.subject] * len(tokens)
        self.lsns += [lsn] * len(tokens)
        self._for_live[lsn] = len(tokens), self._audience(event.subject)

    def _identified(self, event: ev.Published, text: str, offset: int) -> None:
        before = self.ids.get((event.subject, text))
        require(
            before is None or before[1] < event.engine_time_ns - self.dedup_window_ns,
            f"id {text} at {before}, and again at {offset}",
        )
        self.ids[event.subject, text] = offset, event.engine_time_ns

    def _copied(self, event: ev.Published, tokens: list[str]) -> None:
        consumer = self.consumers.get(event.dead_letter_consumer)
        require(consumer is not None, "a copy for a consumer that is gone")
        assert consumer is not None
        for offset, token in enumerate(tokens, event.dead_letter_offset):
            message = consumer.messages.get(offset)
            require(message is not None and message.state == DEAD, "copy of", offset, message)
            assert message is not None
            require(not message.copied, "a second copy of", offset)
            require(token == self.tokens[offset], "the copy of", offset, "is another message")
            require(event.subject == "_dead_letter." + self.subjects[offset], event.subject)
            message.copied = True

    # ------------------------------------------------------------------- live

    def _audience(self, subject: str) -> dict[int, ev.SubscriptionOpened]:
        return {
            lsn: opened
            for lsn, opened in self.subscriptions.items()
            if matching(opened.pattern, subject)
        }

    def _handed_over(self, event: ev.DeliveredLive) -> None:
        count, audience = self._for_live.pop(event.published_lsn)
        everyone = {lsn for lsn, opened in audience.items() if not opened.queue_groups}
        named = set(self.audiences[event.audience]) if event.audience else set()
        require(named == everyone, event.subject, "went to", named, "not", everyone)
        groups = {group for opened in audience.values() for group in opened.queue_groups}
        require(len(event.picks) == len(groups), "picks", event.picks, "for", groups)
        reached = {g for pick in event.picks for g in audience[pick].queue_groups}
        require(reached == groups, "groups", groups, "but picked", event.picks)
        for subscription in (*named, *event.picks):
            self.handed[subscription] = self.handed.get(subscription, 0) + count

    # -------------------------------------------------------------- consumers

    def _consumer(self, event: ev.ConsumerEvent, lsn: int) -> None:
        name = event.consumer
        if isinstance(event, ev.ConsumerCreated):
            require(name not in self.consumers, name, "exists")
            self.consumers[name] = ConsumerModel(name, lsn, self.line, event.policy, event.position)
            return
        consumer = self.consumers[name]
        match event:
            case ev.ConsumerUpdated():
                changed = event.policy.filters != consumer.policy.filters
                require(not (changed and consumer.members), "filters changed under members")
                consumer.policy = event.policy
            case ev.ConsumerDeleted():
                idle = event.cause is ev.DeleteCause.FOR_INACTIVITY
                require(not (idle and consumer.members), "deleted under its members", name)
                self.deleted_lsn[consumer.created_lsn] = lsn
                del self.consumers[name]
            case ev.MemberJoined():
                consumer.members[lsn] = Place()
            case ev.MemberLeft():
                place = consumer.members.pop(event.member)
                require(not place.holds, "member", event.member, "left with leases")
                if not consumer.members:
                    consumer.pinned_from = None  # whoever comes looks again

    def _ranges(self, event: ev.RangesEvent, lsn: int) -> None:
        consumer = self.consumers[event.consumer]
        if isinstance(event, ev.Delivered):
            self._served.add((consumer.name, event.member))
        if isinstance(event, ev.Released) and event.failure:
            held = consumer.members[event.member].holds
            require(len(held) == 1, "charged for", held)
            broken = self._broken_streams
            require(broken is None or event.member in broken, "charged for leaving")
        for first, last in event.ranges:
            for offset in range(first, last + 1):
                consumer.step(event, offset, lsn)

    def unsettled(self) -> Iterator[tuple[ConsumerModel, int, str]]:
        """What is not settled or dead, of every consumer: its offset and state."""
        for consumer in self.consumers.values():
            for offset, message in consumer.messages.items():
                if message.state != DEAD:
                    yield consumer, offset, message.state
            for offset in range(
                max(consumer.position, self.line.oldest_offset), len(self.subjects)
            ):
                if consumer.wants(self.subjects[offset]) and offset not in self.line.retired:
                    yield consumer, offset, UNSEEN

    def outstanding(self, left_out: Sequence[Range]) -> Iterator[tuple[ConsumerModel, int, str]]:
        """What is unsettled although no damage holds it back: what lies in damaged ranges
        waits there, and a consumer that is pinned gets nothing from there on; nor does one
        get anything new of which as much is held back as may wait at all."""
        full = {
            consumer.name
            for consumer in (self.consumers.values() if left_out else ())
            if consumer.waiting_in(left_out) >= limits.WAITING_MAX
        }
        for consumer, offset, state in self.unsettled():
            if state == UNSEEN:
                pinned = consumer.pinned_from is not None and offset >= consumer.pinned_from
                held_back = pinned or consumer.name in full
            else:
                held_back = state == WAITING and any(a <= offset <= b for a, b in left_out)
            if not held_back:
                yield consumer, offset, state

    def overlooked(self, now_ns: int, left_out: Sequence[Range]) -> Iterator[tuple[str, int, str]]:
        """What could be delivered at this moment, while a member has nothing to do."""
        for consumer, offset, state in self.outstanding(left_out):
            places = consumer.members.values()
            if state == LEASED:  # its deadline is held elsewhere
                if consumer.messages[offset].member not in consumer.members:
                    yield consumer.name, offset, state
                continue
            if not any(not place.holds and not place.overdue for place in places):
                continue
            waiting = [m for m in consumer.messages.values() if m.state == WAITING]
            if state == WAITING:
                possible = consumer.messages[offset].time_ns <= now_ns
            else:
                possible = len(waiting) < limits.WAITING_MAX
            if possible:
                yield consumer.name, offset, state

    def overdue(self, now_ns: int) -> Iterator[tuple[str, int]]:
        """Leases that should have expired, when the engine has nothing more to do."""
        for consumer in self.consumers.values():
            for offset, message in consumer.messages.items():
                if message.state == LEASED and message.time_ns <= now_ns:
                    yield consumer.name, offset

    def dead_without_copy(self) -> Iterator[tuple[str, int]]:
        """Dead letters that have no copy and should."""
        gone = self.line.is_gone
        for consumer in self.consumers.values():
            for offset, message in consumer.messages.items():
                reserved = self.subjects[offset].startswith("_dead_letter.")
                if message.state == DEAD and not (message.copied or reserved or gone(offset)):
                    yield consumer.name, offset


def payloads(content: bytes) -> Sequence[bytes]:
    return broker_pb2.BatchContent.FromString(content).payloads


def token_of(payload: bytes) -> str:
    """What names a message of the simulation: its payload up to the padding."""
    return payload.split(b"|", 1)[0].decode()
