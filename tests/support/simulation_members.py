"""The members of consumers in the simulation: they work, stall, lie, leave and come back.

A member keeps what it was sent and answers as its temper and the random numbers say. It
holds the broker to its word: what it is sent is leased to it in a durable record and is
the message the line has there; what was confirmed as acked is settled in a durable record.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from hermes.broker.batch import part
from hermes.broker.delivery import Seat
from hermes.broker.dispatch import Assignment
from hermes.broker.ranges import Range, normalize
from hermes.broker.session import Session
from hermes.broker.settling import Settle, Verdict
from hermes.errors import HermesError, InvalidArgumentError, NotFoundError
from tests.support.simulation_consumer import require
from tests.support.simulation_host import SECOND_NS, Epoch
from tests.support.simulation_model import payloads, token_of

if TYPE_CHECKING:
    from tests.support.simulation import World

GOOD, MIXED, STALLED, POISONED = "good", "mixed", "stalled", "poisoned"


class Member:
    """One stream that works for a consumer."""

    seat: Seat

    def __init__(self, world: World, epoch: Epoch, session: Session, temper: str) -> None:
        self.world = world
        self.epoch = epoch
        self.session = session
        self.temper = temper
        self.held: dict[int, int] = {}  # offset -> attempt: received and not answered
        self.past: list[tuple[int, int]] = []  # answered, or lost on the way
        self.ended: HermesError | None = None
        self.gone = False

    # ------------------------------------------------------------ from the broker

    def deliver(self, assignments: Sequence[Assignment]) -> None:
        require(self.epoch.alive, "a delivery after the end")
        for a in assignments:
            require(a.member == self.seat.member, "for another member:", a.member)
            batch, selection = part(a.batch, [(a.first, a.last)])
            selected = selection or ((0, batch.count - 1),)
            sent = [i for first, last in selected for i in range(first, last + 1)]
            content = payloads(batch.content)
            require([batch.first + i for i in sent] == list(range(a.first, a.last + 1)), a)
            for i in sent:
                self._received(batch.first + i, a.attempt, token_of(content[i]))

    def _received(self, offset: int, attempt: int, token: str) -> None:
        model = self.world.model
        require(model.tokens[offset] == token, "another message at", offset)
        consumer = model.consumers.get(self.seat.consumer)
        if consumer is not None and consumer.created_lsn == self.seat.created_lsn:
            lsn = consumer.delivered_lsn.get((self.seat.member, offset, attempt))
            durable = lsn is not None and lsn <= self.epoch.log.durable_lsn
            require(durable, "sent before it was durable:", offset, attempt, lsn)
        if not self.gone:
            self.held[offset] = attempt

    def end(self, error: HermesError) -> None:
        require(self.epoch.alive, "an end after the end")
        deleted = self.world.model.deleted_lsn.get(self.seat.created_lsn)
        durable = deleted is not None and deleted <= self.epoch.log.durable_lsn
        require(durable, "ended before the deletion was durable")
        self.ended = error

    # -------------------------------------------------------------- to the broker

    def act(self) -> None:
        """Answer something, or nothing."""
        rng = self.world.rng
        if self.temper == STALLED and rng.random() < 0.95:
            return
        roll = rng.random()
        if roll < 0.04:
            self.lie()
        elif roll < 0.08:
            self._late()
        elif roll < 0.11:
            self.heartbeat()
        elif roll < 0.14:
            self.credit(rng.choice((1, 2, 5, 30)), rng.choice((100, 10**6)))
        elif self.held:
            self._answer()

    def _answer(self) -> None:
        rng = self.world.rng
        some = sorted(rng.sample(sorted(self.held), rng.randint(1, len(self.held))))
        if rng.random() < 0.6:  # in order, as most workers do
            some = sorted(self.held)[: len(some)]
        if self.temper == GOOD:
            self.ack(some)
            return
        if self.temper == POISONED:
            self.world.leave(self, lost=True)
            return
        attempt = self.held[some[0]]
        same = [offset for offset in some if self.held[offset] == attempt]
        roll = rng.random()
        if roll < 0.5:
            self.ack(some)
        elif roll < 0.7:
            delay_ns = rng.choice((None, None, 0, SECOND_NS, 40 * SECOND_NS))
            self.say(Verdict.NACK, same, attempt, delay_ns)
        elif roll < 0.75:
            self.say(Verdict.REJECT, same, attempt)
        elif roll < 0.85:
            self.say(Verdict.EXTEND, same, attempt)
        else:
            self.say(Verdict.RELEASE, same, attempt)

    def ack(self, offsets: list[int]) -> None:
        """Ack, and remember the confirmation."""
        self.say(Verdict.ACK, offsets, 0)

    def say(
        self, verdict: Verdict, offsets: list[int], attempt: int, delay_ns: int | None = None
    ) -> list[Range] | None:
        """Send one verdict; returns the stale ranges, None when the consumer is gone."""
        ranges = normalize((offset, offset) for offset in offsets)
        command = Settle(
            member=self.seat.member,
            session=self.seat.session,
            verdict=verdict,
            ranges=ranges,
            attempt=attempt,
            delay_ns=delay_ns,
            reason="said so",
        )
        engine = self.epoch.engine
        there = engine.state.consumers.get(self.seat.consumer)
        bound = there is not None and there.created_lsn == self.seat.created_lsn
        try:
            stale = engine.members.settle(self.seat, command)
        except NotFoundError:
            require(not bound, "not found, but there")
            self.held.clear()
            return None
        require(bound, "a verdict for a consumer that was deleted")
        self.world.model.heard(self.seat.consumer, self.seat.member)
        if verdict is not Verdict.EXTEND:
            for offset in offsets:
                known = self.held.get(offset, attempt)
                self.past.append((offset, known if verdict is Verdict.ACK else attempt))
                if verdict is Verdict.ACK or known == attempt:
                    self.held.pop(offset, None)
        if verdict is Verdict.ACK:
            counted = [o for o in offsets if not any(a <= o <= b for a, b in stale)]
            engine.journal.after_commit(partial(self._confirmed, counted))
        return stale

    def _confirmed(self, offsets: list[int]) -> None:
        require(self.epoch.alive, "an ack confirmed after the end")
        consumer = self.world.model.consumers.get(self.seat.consumer)
        if consumer is None or consumer.created_lsn != self.seat.created_lsn:
            return
        for offset in offsets:
            require(consumer.is_settled(offset), "acked, not settled:", offset)
            lsn = consumer.settled_lsn.get(offset, 0)
            require(lsn <= self.epoch.log.durable_lsn, "confirmed before it was durable")
            self.world.acked.add((consumer.created_lsn, consumer.name, offset))

    def lie(self) -> None:
        """Ack what was never sent, or to somebody else; nack with an attempt that is not."""
        rng = self.world.rng
        state = self.epoch.engine.state.consumers.get(self.seat.consumer)
        if state is None or state.created_lsn != self.seat.created_lsn:
            return
        beyond = state.position + rng.randint(0, 3)
        try:
            self.say(Verdict.ACK, [beyond], 0)
        except InvalidArgumentError:
            pass
        else:
            require(False, "acked an offset that was never delivered")
        if self.held:
            offset, attempt = rng.choice(sorted(self.held.items()))
            stale = self.say(Verdict.NACK, [offset], attempt + 7)
            require(stale == [(offset, offset)], "a nack of another attempt counted")
            self.past.pop()  # nobody ever had it
        others = [m for m in self.world.members if m.seat.created_lsn == self.seat.created_lsn]
        strange = sorted(rng.choice(others).held) if others else []
        if strange and rng.random() < 0.3:
            self.ack(strange[:1])  # it settles the message, and its holder may say so again

    def _late(self) -> None:
        """Answer again, or for what another member had."""
        rng = self.world.rng
        others = [m for m in self.world.members if m.seat.created_lsn == self.seat.created_lsn]
        past = rng.choice(others).past if others else self.past
        if not past:
            return
        offset, attempt = rng.choice(past)
        if rng.random() < 0.5 or attempt == 0:
            self.ack([offset])
        else:
            self.say(Verdict.NACK, [offset], attempt)

    def heartbeat(self) -> None:
        self.epoch.engine.members.heard(self.seat)
        self.world.model.heard(self.seat.consumer, self.seat.member)

    def credit(self, messages: int, bytes_: int) -> None:
        self.epoch.engine.members.credit(self.seat, messages, bytes_)
        self.world.model.heard(self.seat.consumer, self.seat.member)
