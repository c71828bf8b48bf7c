"""One scripted scene on the simulation's stage: for what a random run has found, told short."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hermes.broker import events as ev
from hermes.broker.batch import single
from hermes.broker.consumers import OpenConsumer
from hermes.broker.core import Settings
from hermes.broker.delivery import Seat
from hermes.broker.dispatch import Assignment
from hermes.broker.event_codec import decode
from hermes.broker.session import Client, Session
from hermes.broker.settling import Settle, Verdict
from hermes.errors import HermesError
from hermes.log.memory import MemoryImage
from tests.support.simulation_consumer import require
from tests.support.simulation_host import SECOND_NS, Epoch, SimulatedClock


class Port:
    """A member's stream that only remembers."""

    def __init__(self) -> None:
        self.got: list[tuple[int, int, int]] = []  # first, last, attempt
        self.ended: HermesError | None = None

    def deliver(self, assignments: Sequence[Assignment]) -> None:
        self.got += [(a.first, a.last, a.attempt) for a in assignments]

    def end(self, error: HermesError) -> None:
        self.ended = error


class Scene:
    """An engine, its log, a clock, and one client."""

    def __init__(self, *, max_attempts: int = 5, inactivity_limit_ns: int = 0) -> None:
        self.clock = SimulatedClock()
        policy = ev.Policy((), 30 * SECOND_NS, max_attempts, 0, 0, inactivity_limit_ns)
        self.settings = Settings(default_policy=policy)
        self._epochs = 0
        self.open(None)

    def open(self, image: MemoryImage | None) -> None:
        """A new life on what is durable; the ring starts empty."""
        self._epochs += 1
        rng = random.Random(0)
        self.epoch = Epoch(self._epochs, image, self.settings, self.clock, rng)
        self.engine = self.epoch.engine
        self.epoch.start()
        self.rest()
        client = Client("", "peer", "scene", "1", str(self._epochs))
        self.session: Session = self.engine.attach(client)

    def rest(self, *, answer: bool = True) -> None:
        """Turns, commits and reads, until nothing is left to do."""
        for _ in range(1_000):
            self.epoch.settle_down()
            if self.epoch.log.commit_all():
                continue
            if not (answer and self.epoch.questions):
                return
            for question in list(self.epoch.questions):
                self.epoch.read(question, 1_000)
                self.epoch.answer(question)
        require(False, "the engine asks for reads without end")

    def crash(self) -> None:
        """Lose what is not committed, and open again."""
        self.open(self.epoch.end(0))

    def publish(self, *subjects: str) -> None:
        batches = [single(subject, b"payload") for subject in subjects]
        self.engine.publish(self.session, batches, lambda _: None)

    def join(
        self, port: Port, *, name: str = "c", filters: tuple[str, ...] = (">",), credit: int = 9
    ) -> Seat:
        command = OpenConsumer(name=name, filters=filters, update=True)
        return self.engine.members.join(self.session, command, credit, 10**9, port).seat

    def say(self, seat: Seat, verdict: Verdict, first: int, last: int, attempt: int = 1) -> None:
        command = Settle(
            member=seat.member,
            session=seat.session,
            verdict=verdict,
            ranges=[(first, last)],
            attempt=attempt,
        )
        self.engine.members.settle(seat, command)

    def after(self, seconds: float) -> None:
        """Time passes; the alarm rings if one is due."""
        self.clock.now_ns += int(seconds * SECOND_NS)
        self.epoch.ring_alarm()
        self.rest()

    def events(self) -> list[ev.Event | None]:
        """Everything durable."""
        records = self.epoch.log.reader().read(1, limit=10**6, limit_bytes=10**9)
        return [decode(record) for record in records]
