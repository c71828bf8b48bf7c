"""What kind of run a seed makes: how often each action is drawn, and how small the bounds are."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Any

from hermes import limits
from hermes.broker import delivery, dispatch
from hermes.broker import events as ev
from hermes.broker.consumer import Consumer
from hermes.broker.consumers import OpenConsumer
from hermes.broker.core import Settings
from hermes.broker.retention import RetentionPolicy, StoreFull
from hermes.broker.state import State
from tests.support.simulation_host import HOUR_NS, SECOND_NS
from tests.support.simulation_members import GOOD, MIXED, POISONED, STALLED

SUBJECTS = ("a.b", "a.c", "a.b.c", "d", "d.e", "f.g.h")
FILTERS = (("a.>",), (">",), ("a.b",), ("a.*", "d"), ("*.e", "f.>"), ("_dead_letter.>",))
CONSUMERS = ("one", "two", "three", "four")

# Action: how often, against the others.
WEIGHTS = {
    "publish": 15,
    "publish_live": 3,
    "work": 40,
    "join": 6,
    "depart": 1.5,
    "delete": 0.3,
    "work_of_former": 1,
    "replay_or_discard": 1.5,
    "subscribe": 1,
    "unsubscribe": 0.7,
    "read_live": 3,
    "turn": 15,
    "commit": 30,
    "read": 15,
    "answer": 15,
    "time_passes": 10,
    "wall_jumps": 0.4,
    "tick": 1,
    "roll": 0.6,
    "checkpoint": 0.5,
    "collect_garbage": 3,
    "damage": 0.1,
    "crash": 0.2,
    "fail": 0.2,
    "restart": 0.2,
}
# Without these nothing would happen.
ALWAYS = {"publish", "work", "join", "turn", "commit", "time_passes"}


class Plan:
    """The kind of one run."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        weights = {
            name: weight * rng.choice((0.3, 1, 1, 3) if name in ALWAYS else (0, 0.3, 1, 3))
            for name, weight in WEIGHTS.items()
        }
        self.actions = list(weights)
        self.weights = list(accumulate(weights[name] for name in self.actions))
        self.promptness = rng.choice((0.2, 0.7, 1.0))
        self.gentle = rng.random() < 0.25  # nobody fails: nothing may die
        self.folds_all = rng.random() < 0.5
        self.ring_bytes = rng.choice((0, 500, 5_000, 1 << 20))
        everyone = (GOOD, MIXED, MIXED, MIXED, STALLED, POISONED)
        self.tempers = (GOOD,) if self.gentle else everyone
        timeout = HOUR_NS if self.gentle else rng.choice((2, 10, 60)) * SECOND_NS
        self.max_attempts = rng.choice((1, 2, 3, 5))
        self.settings = Settings(
            default_policy=ev.Policy(
                filters=(),
                ack_timeout_ns=timeout,
                max_attempts=self.max_attempts,
                backoff_initial_ns=rng.choice((0, SECOND_NS)),
                backoff_max_ns=30 * SECOND_NS,
                inactivity_limit_ns=rng.choice((0, 0, 60 * SECOND_NS)),
            ),
            subscriber_channel_capacity=rng.choice((3, 30, 1_000)),
            redelivery_batch_size=rng.choice((1, 3, 100)),
            snapshot_interval_records=rng.choice((20, 200, 10_000)),
            segment_bytes_max=rng.choice((3_000, 20_000, 1 << 20)),
            dedup_window_ns=rng.choice((5, 1_000_000)) * SECOND_NS,
            dead_letter_retention_ns=rng.choice((None, None, 60 * SECOND_NS)),
        )
        self.retention = self._retention()
        # Where many are, one of them is always behind, and its needs hide those of the others.
        self.consumers = CONSUMERS[: rng.choice((1, 2, 4, 4))]
        self.mending = rng.choice((0.2, 0.8))
        small = rng.random() < 0.6
        window = rng.choice((2, 3, 8))
        self.bounds: list[tuple[Any, str, int]] = (
            [
                (limits, "WINDOW_BATCHES_MAX", window),
                (delivery, "READ_AHEAD_BATCHES", max(1, window // 2)),
                (dispatch, "ASSIGNMENTS_MAX", rng.choice((1, 2, 256))),
                (limits, "WAITING_MAX", rng.choice((10, 1_000))),
                (limits, "RELEASES_BEFORE_ALONE", rng.choice((1, 2, 3))),
            ]
            if small
            else []
        )

    def _retention(self) -> RetentionPolicy:
        """What garbage collection may do: nothing young is kept for its age alone, for a plan
        is only of interest where something goes."""
        rng = self.rng
        retention_ns = rng.choice((0, 0, SECOND_NS, 60 * SECOND_NS, 1 << 62))
        loses = not self.gentle and retention_ns <= SECOND_NS and rng.random() < 0.3
        return RetentionPolicy(
            retention_ns=retention_ns,
            audit_retention_ns=rng.choice((None, 0, 0, 60 * SECOND_NS)),
            dead_letter_retention_ns=self.settings.dead_letter_retention_ns,
            max_unacked_retention_ns=rng.choice((1, 10, 100)) * SECOND_NS if loses else None,
            store_bytes_max=rng.choice((None, None, 10_000)),
            store_full=StoreFull.DROP_OLDEST_SETTLED,
        )

    def draw(self) -> str:
        """The next action."""
        return self.rng.choices(self.actions, cum_weights=self.weights)[0]

    def step_ns(self) -> int:
        """How much time passes at once."""
        rng = self.rng
        if self.gentle:
            return rng.choice((0, 1, 10**6, SECOND_NS))
        return rng.choice((0, 1, 10**6, 10**8, SECOND_NS, SECOND_NS, 10 * SECOND_NS))

    def open_command(self, name: str, there: Consumer | None, state: State) -> OpenConsumer:
        """What somebody asks of a consumer that is, or is not, there."""
        rng = self.rng
        if there is not None and rng.random() < 0.7:
            return OpenConsumer(name=name)
        span = range(state.oldest_offset, state.next_offset + 1)
        return OpenConsumer(
            name=name,
            filters=rng.choice(FILTERS),
            position=rng.choice((span[0], span[0], span[-1], rng.choice(span))),
            max_attempts=rng.choice((None, self.max_attempts, 4)),
            update=rng.random() < 0.5,
            update_when_idle=rng.random() < 0.3,
        )
