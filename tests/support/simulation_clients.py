"""The clients of the simulation: publishers that retry and live subscribers that tire.

Each holds the broker to what it was told: a reply must speak of records that are durable
at that moment, and nothing may be told after the end of an epoch.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from hermes.broker.batch import IncomingBatch, LiveBatch, check_batch
from hermes.broker.live import LiveBuffer
from hermes.broker.publishing import PublishResult
from hermes.broker.session import Client, Session
from hermes.broker.subject import matches
from hermes.broker.v1 import broker_pb2
from hermes.errors import HermesError
from tests.support.simulation_consumer import require
from tests.support.simulation_host import Epoch
from tests.support.simulation_model import Model, payloads, token_of

if TYPE_CHECKING:
    from tests.support.simulation import World

MESSAGE_BYTES_MAX = 1 << 20
PLAIN, IDS, PRODUCER = "plain", "ids", "producer"


@dataclass
class Sent:
    """A batch that nothing was heard of yet."""

    subject: str
    tokens: list[str]
    sequence: int = 0


def incoming(rng: random.Random, sent: Sent, *, ids: bool) -> IncomingBatch:
    """What the publisher puts on the wire."""
    count = len(sent.tokens)
    head = broker_pb2.BatchHead(count=count, ids=sent.tokens if ids else ())
    body = broker_pb2.BatchContent(
        payloads=[f"{t}|{'x' * rng.choice((0, 5, 200))}".encode() for t in sent.tokens]
    )
    return check_batch(
        sent.subject, head.SerializeToString(), body.SerializeToString(), MESSAGE_BYTES_MAX
    )


class Publisher:
    """Publishes durably. All but the plain kind send again what they were not told of."""

    def __init__(self, world: World, number: int, kind: str) -> None:
        self.world = world
        self.kind = kind
        self.name = f"{kind}{number}"
        self.unknown: list[Sent] = []  # to be sent again
        self.pending: list[Sent] = []
        self._made = 0
        self._sequence = 0
        self._session: Session | None = None

    def act(self) -> None:
        """Send something: what is unknown first, or something new."""
        rng = self.world.rng
        if self.pending and self.kind != PLAIN and rng.random() < 0.1:
            self._give_up_waiting()
        if self.unknown:
            again, self.unknown = self.unknown, []
            if self.kind == IDS:
                again = self._regroup(again)
            self.send(again)
        else:
            self.send([self._new() for _ in range(rng.choice((1, 1, 1, 2, 4)))])

    def _new(self) -> Sent:
        rng = self.world.rng
        tokens = []
        for _ in range(rng.choice((1, 1, 2, 3, 8, 20))):
            self._made += 1
            tokens.append(f"{self.name}.{self._made}")
        if self.kind == IDS and rng.random() < 0.1:
            tokens.append(tokens[0])  # the same id twice in one batch
        sent = Sent(rng.choice(self.world.subjects), tokens)
        if self.kind == PRODUCER:
            self._sequence += 1
            sent.sequence = self._sequence
        return sent

    def _regroup(self, again: list[Sent]) -> list[Sent]:
        """Other batches of the same messages, one of them new."""
        extra = self._new()
        again.append(extra)
        by_subject: dict[str, list[str]] = {}
        for sent in again:
            by_subject.setdefault(sent.subject, []).extend(sent.tokens)
        for tokens in by_subject.values():
            self.world.rng.shuffle(tokens)
        return [Sent(subject, tokens) for subject, tokens in by_subject.items()]

    def _give_up_waiting(self) -> None:
        self.unknown = self.pending + self.unknown
        self.pending = []
        if self.kind == PRODUCER:
            self.unknown.sort(key=lambda sent: sent.sequence)

    def send(self, batches: list[Sent]) -> None:
        epoch, rng = self.world.epoch, self.world.rng
        if self._session is None:
            client = Client("", "peer", self.name, "1", str(epoch.number))
            self._session = epoch.engine.attach(client)
        self.pending += batches
        epoch.engine.publish(
            self._session,
            [incoming(rng, sent, ids=self.kind == IDS) for sent in batches],
            partial(self._told, epoch, batches),
            producer_id=self.name.encode() if self.kind == PRODUCER else b"",
            first_sequence=batches[0].sequence,
        )

    def _told(self, epoch: Epoch, batches: list[Sent], results: list[PublishResult]) -> None:
        require(epoch.alive, self.name, "was told something after the end")
        for sent, result in zip(batches, results, strict=True):
            require(result.refusal is None, "refused:", result.refusal)
            self.pending = [other for other in self.pending if other is not sent]
            self.unknown = [other for other in self.unknown if other is not sent]
            if result.duplicate:
                require(result.count == len(sent.tokens), "another batch:", result)
            known = dict(result.duplicates)
            base = result.base_offset
            for i, token in enumerate(sent.tokens):
                if i in known:
                    offset = known[i]
                else:
                    require(base is not None, "no offset for", token)
                    assert base is not None
                    offset, base = base, base + 1
                self.world.promise_published(token, sent.subject, offset)

    def epoch_ended(self) -> None:
        """The stream broke: nothing is known of what was under way."""
        self._session = None
        if self.kind == PLAIN:
            self.pending = []
        else:
            self._give_up_waiting()


@dataclass
class Subscriber:
    """A live subscription and what came out of it."""

    world: World
    pattern: str
    groups: tuple[str, ...]
    epoch: Epoch
    session: Session
    id: int = 0
    buffer: LiveBuffer = field(init=False)
    got: list[tuple[int, int]] = field(default_factory=list)  # published lsn, messages
    told_dropped: int = 0
    _newest: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})

    def wake(self) -> None:
        require(self.epoch.alive, "woken after the end")

    def end(self, error: HermesError) -> None:
        require(False, "ended:", error)

    def read(self, batches: int) -> None:
        """Take some batches out of the buffer."""
        self.told_dropped += self.buffer.take_dropped()
        for _ in range(batches):
            batch = self.buffer.pop()
            if batch is None:
                return
            self._check(batch)

    def _check(self, batch: LiveBatch) -> None:
        require(matches(self.pattern, batch.subject), self.pattern, "got", batch.subject)
        require(batch.published_lsn > self.id, "from before the subscription")
        if batch.base_offset is not None:
            durable = batch.published_lsn <= self.epoch.log.durable_lsn
            require(durable, "live before it was durable")
            tokens = [token_of(payload) for payload in payloads(batch.content)]
            base = batch.base_offset
            line = self.world.model.tokens[base : base + batch.count]
            require(tokens == line, "not what is in the line at", base)
        kind = batch.base_offset is not None
        require(self._newest[kind] <= batch.published_lsn, "out of order")
        self._newest[kind] = batch.published_lsn
        self.got.append((batch.published_lsn, batch.count))

    def check_whole(self, model: Model) -> None:
        """Everything is committed and read: nothing is missing, nothing came twice."""
        self.read(10**9)
        require(self.told_dropped == self.buffer.dropped, "lag told", self.told_dropped)
        logged = model.dropped.get(self.id, 0)
        require(logged == self.buffer.dropped, "lag logged", logged, self.buffer.dropped)
        seen = sum(count for _, count in self.got) + self.buffer.dropped
        handed = model.handed.get(self.id, 0)
        require(seen == handed, self.pattern, "saw", seen, "of", handed)
