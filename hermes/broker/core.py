"""What every part of the engine shares: state, journal, time, and whether it has failed."""

from __future__ import annotations

import msgspec

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.engine_time import EngineTime
from hermes.broker.journal import Journal
from hermes.broker.ports import Host
from hermes.broker.state import State
from hermes.clock import Clock
from hermes.errors import HermesError, UnavailableError
from hermes.log.port import Log


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What of the configuration the engine needs."""

    default_policy: ev.Policy
    subscriber_channel_capacity: int = 8_192
    redelivery_batch_size: int = 100
    snapshot_interval_records: int = 50_000
    segment_bytes_max: int = 256 * limits.MIB
    dedup_window_ns: int = 120 * 10**9
    dedup_ids_max: int = limits.DEDUP_IDS_MAX
    dead_letter_retention_ns: int | None = None
    consumer_inactivity_ns: int = 0  # limit of consumers that have none of their own; 0: none
    store_bytes_max: int | None = None


class Core:
    """One epoch of the broker: from the opening of a log to its closing or failure."""

    def __init__(
        self, log: Log, state: State, settings: Settings, clock: Clock, time: EngineTime, host: Host
    ) -> None:
        self.log = log
        self.state = state
        self.settings = settings
        self.host = host
        self.journal = Journal(state, log)
        self.time = time
        self.failure: HermesError | None = None
        self.stopped = False  # ServerStopped is recorded: nothing may follow it
        self._clock = clock

    def now_ns(self) -> int:
        """Engine time; also stamps the wall clock on what is recorded next."""
        self.journal.wall_ns = self._clock.wall_ns()
        return self.time.at(self._clock.monotonic_ns())

    def wall_step_ns(self) -> int:
        """How far the wall clock stepped since the last call (see EngineTime.step)."""
        return self.time.step(self._clock.monotonic_ns(), self._clock.wall_ns())

    def begin(self) -> int:
        """Every command begins here: refuse after the end, wake the host, read the time.

        Raises UnavailableError.
        """
        if self.failure is not None:
            raise UnavailableError("the broker is reopening its log", hint="try again shortly")
        if self.stopped:
            raise UnavailableError("the broker has stopped", hint="try again shortly")
        self.host.wake()
        return self.now_ns()

    def fail(self, error: HermesError) -> None:
        """Fail stop: nothing of this epoch is released any more. Idempotent."""
        if self.failure is None:
            self.failure = error
            self.journal.abandon()
