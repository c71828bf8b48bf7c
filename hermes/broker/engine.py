"""The engine: commands in, events to the log, effects out at commit.

Theory: one thread calls every method; each command is decided against the state, its
events are folded at once and hang in the journal until the turn ends. `turn()` lets
deliveries follow from what happened, then hands everything to the log as one group. So
a publish and the deliveries it causes share one transaction.

Rules
- No awaits, no locks, no I/O. The host wakes the engine, reads for it, tells it what is
  committed, and calls `turn()`.
- When the log fails the engine fails stop: it refuses every command, releases nothing,
  and a new engine is made from the reopened log.

Publishing lives in intake.py, deliveries in delivery.py, live buffers in live.py; the
decisions in the pure modules beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.batch import IncomingBatch
from hermes.broker.collecting import Collecting
from hermes.broker.consumers import decide_restart
from hermes.broker.copying import Copying
from hermes.broker.core import Core, Settings
from hermes.broker.dead_letters import decide_retention
from hermes.broker.delivery import Deliveries
from hermes.broker.engine_time import EngineTime
from hermes.broker.intake import Intake, Reply
from hermes.broker.journal import Effect
from hermes.broker.live import Fanout, LiveBuffer, LivePort
from hermes.broker.membership import Membership
from hermes.broker.ports import Fetched, FetchRanges, Host
from hermes.broker.ring import Ring
from hermes.broker.router import Router
from hermes.broker.session import Client, Session, Sessions
from hermes.broker.state import State
from hermes.broker.store_size import StoreSize
from hermes.clock import Clock
from hermes.errors import HermesError, LimitExceededError
from hermes.log.port import Committed, Log, SegmentInfo

# A stop with so many records since the last snapshot makes one more. Fewer are folded in
# less time than it takes to write it.
STOP_SNAPSHOT_RECORDS: Final = 1_000


class Engine:
    """One epoch of the broker: from the opening of a log to its closing or failure."""

    def __init__(
        self,
        log: Log,
        state: State,
        settings: Settings,
        clock: Clock,
        time: EngineTime,
        host: Host,
        *,
        folded_records: int = 0,
    ) -> None:
        """`folded_records`: how many recovery had to fold after the newest snapshot."""
        self.core = core = Core(log, state, settings, clock, time, host)
        self.state = state
        self.settings = settings
        self.journal = core.journal
        self.journal.records_since_snapshot = folded_records
        self.router = Router()
        self.fanout = Fanout(self.journal, settings.subscriber_channel_capacity)
        self.sessions = Sessions(self.journal)
        ring = Ring()
        self.deliveries = Deliveries(self.journal, ring, host, settings.redelivery_batch_size)
        self.store_size = StoreSize(settings.store_bytes_max)
        self.intake = Intake(
            self.journal, self.router, ring, self.deliveries, self.fanout, self.store_size
        )
        self.collecting = Collecting(core)
        self.copying = Copying(self.journal, ring, host, self.intake)
        self.members = Membership(core, self.router, self.sessions, self.deliveries, self.copying)
        self._segment_bytes = 0
        self._rolled_at_lsn = 0
        for consumer in state.consumers.values():
            self.router.add_consumer(consumer.name, consumer.policy.filters)

    @property
    def failure(self) -> HermesError | None:
        """Why this engine has stopped; None while it works."""
        return self.core.failure

    def next_alarm_monotonic_ns(self) -> int | None:
        """Monotonic time at which `turn()` has something to do; None when never."""
        due_ns = self.deliveries.next_alarm_ns()
        return None if due_ns is None else self.core.time.monotonic_at(due_ns)

    # ------------------------------------------------------- start and stop

    def start(self, started: Callable[[int], ev.ServerStarted], on_ready: Effect) -> None:
        """Record ServerStarted and release what the run before held; `on_ready` at commit."""
        now_ns = self.core.begin()
        self.journal.record(started(now_ns))
        for event in decide_restart(self.state, now_ns):
            self.journal.record(event)
        self.copying.resume()
        self.journal.after_commit(on_ready)

    def stop(self, reason: str, on_stopped: Effect) -> None:
        """Release every lease, close what is open, record ServerStopped."""
        now_ns = self.core.begin()
        for seat in list(self.deliveries.seats.values()):
            self.members.leave(
                seat, lost=False, cause=ev.ReleaseCause.SERVER_DRAINED, reason=reason
            )
        for subscription in list(self.fanout.buffers):
            self.unsubscribe(subscription)
        self._snapshot_for_next_start()
        self.journal.record(ev.ServerStopped(engine_time_ns=now_ns, reason=reason))
        self.core.stopped = True
        self.journal.after_commit(on_stopped)

    def _snapshot_for_next_start(self) -> None:
        log = self.core.log
        if log.durable and not log.low_space:
            self.journal.flush()
            if self.journal.records_since_snapshot >= STOP_SNAPSHOT_RECORDS:
                self.journal.snapshot()

    # --------------------------------------------------------------- sessions

    def attach(self, client: Client) -> Session:
        """A stream of this client begins."""
        return self.sessions.attach(client)

    def detach(self, session: Session) -> None:
        """A stream has ended."""
        self.sessions.detach(session, self.core.now_ns())

    # --------------------------------------------------------------- publish

    def publish(
        self,
        session: Session,
        batches: Sequence[IncomingBatch | HermesError],
        reply: Reply,
        *,
        producer_id: bytes = b"",
        first_sequence: int = 0,
    ) -> None:
        """Publish durably (see Intake.publish): `reply` gets the results at commit."""
        now_ns = self.core.begin()
        self.intake.publish(
            batches,
            session=self.sessions.lsn(session, now_ns),
            now_ns=now_ns,
            reply=reply,
            producer_id=producer_id,
            first_sequence=first_sequence,
        )

    def publish_live(
        self, session: Session, batches: Sequence[IncomingBatch | HermesError], reply: Reply
    ) -> None:
        """Forward at once; `reply` is called before this returns."""
        now_ns = self.core.begin()
        session_lsn = self.sessions.lsn(session, now_ns)
        self.intake.publish_live(batches, session=session_lsn, now_ns=now_ns, reply=reply)

    # ------------------------------------------------------------------- live

    def subscribe(
        self, session: Session, pattern: str, queue_groups: tuple[str, ...], port: LivePort
    ) -> tuple[int, LiveBuffer]:
        """Register a live subscription: it sees what is published from now on.

        The pattern and group names are valid. Returns its identity and its buffer.
        """
        now_ns = self.core.begin()
        if len(self.fanout.buffers) >= limits.SUBSCRIPTIONS_MAX:
            raise LimitExceededError(
                f"the broker has {limits.SUBSCRIPTIONS_MAX:,} live subscriptions, its limit"
            )
        session_lsn = self.sessions.lsn(session, now_ns)
        subscription = self.journal.record(
            ev.SubscriptionOpened(
                engine_time_ns=now_ns,
                session=session_lsn,
                pattern=pattern,
                queue_groups=queue_groups,
            )
        )
        self.router.add_subscription(subscription, pattern, queue_groups)
        return subscription, self.fanout.open(subscription, session_lsn, port)

    def unsubscribe(self, subscription: int) -> None:
        """Idempotent."""
        buffer = self.fanout.close(subscription)
        if buffer is None or self.failure is not None:
            return
        now_ns = self.core.begin()
        self.router.remove_subscription(subscription)
        self.journal.record(
            ev.SubscriptionClosed(
                engine_time_ns=now_ns,
                session=buffer.session,
                pattern=self.state.subscriptions[subscription].pattern,
                subscription=subscription,
                dropped=buffer.dropped,
            )
        )

    # ------------------------------------------------------------------ turns

    def turn(self) -> None:
        """Let deliveries follow, then append all that was decided as one group."""
        if self.failure is not None:
            return
        now_ns = self.core.now_ns()
        self.copying.run(now_ns)
        self.deliveries.run(now_ns, self.journal.wall_ns)
        for consumer, ranges in self.deliveries.died:
            self.copying.add(consumer, ranges)
        self.deliveries.died.clear()
        self.fanout.record_drops(now_ns)
        self.journal.flush()
        if self.core.log.durable and not self.core.stopped:
            self._keep_log_short()

    def _keep_log_short(self) -> None:
        # A segment begins with a snapshot; where that is large, more than it is to follow.
        full_bytes = max(self.settings.segment_bytes_max, 2 * self.journal.snapshot_bytes)
        if self._segment_bytes >= full_bytes and not self.core.log.low_space:
            # A new file is what a full disk has no room for; acks still fit the old one.
            self.roll()
        elif self.journal.records_since_snapshot >= self.settings.snapshot_interval_records:
            self.journal.snapshot()

    def roll(self) -> None:
        """Begin a new segment. Call between turns."""
        self.journal.roll()
        self.fanout.forget_audiences()
        self._rolled_at_lsn = self.state.next_lsn - 1
        self._segment_bytes = 0
        self.store_size.rolled()

    def drop_segment(self, segment: SegmentInfo, chain: bytes = b"") -> None:
        """Drop the oldest segment: the event first, the file once that is committed."""
        self.collecting.drop(segment, chain)

    @property
    def rolled_at_lsn(self) -> int:
        """The lsn of the last roll's SegmentSealed; 0 before the first of this run."""
        return self._rolled_at_lsn - 1 if self._rolled_at_lsn else 0

    def record_checkpoint(self, lsn: int, chain: bytes, at_ns: int, note: str) -> int:
        """Keep a signed checkpoint of a committed record in the log; returns its own lsn.

        Raises UnavailableError.
        """
        now_ns = self.core.begin()
        return self.journal.record(
            ev.CheckpointTaken(engine_time_ns=now_ns, lsn=lsn, chain=chain, at_ns=at_ns, note=note)
        )

    def hold_expiry(self, for_ns: int) -> None:
        """The process stood still: give what members sent meanwhile time to be read."""
        self.deliveries.hold_expiry(self.core.now_ns() + for_ns)

    def tick(self) -> None:
        """Once in a while: idle sessions, inactive consumers, old dead letters, clock steps."""
        if self.core.stopped:
            return
        now_ns = self.core.begin()
        step_ns = self.core.wall_step_ns()
        if step_ns:
            self.journal.record(ev.ClockStepped(engine_time_ns=now_ns, step_ns=step_ns))
        self.sessions.close_idle(now_ns)
        self.members.delete_inactive(now_ns)
        retention_ns = self.settings.dead_letter_retention_ns
        if retention_ns is not None:
            for event in decide_retention(
                self.state, now_ns=now_ns, at_ns=self.journal.wall_ns, retention_ns=retention_ns
            ):
                self.journal.record(event)

    # --------------------------------------------------------- from the host

    def committed(self, outcome: Committed) -> None:
        """The log has committed; release what hangs on it."""
        if self.failure is not None:
            return
        if outcome.last_lsn > self._rolled_at_lsn:
            self._segment_bytes = self.store_size.active_bytes = outcome.segment_bytes
        self.journal.committed(outcome.last_lsn)
        if self.fanout.lossy:
            self.core.host.wake()  # somebody's buffer ran over just now, and is to be logged

    def failed(self, error: HermesError) -> None:
        """The log has failed: fail stop. Idempotent."""
        self.core.fail(error)

    def fetched(self, answer: Fetched) -> None:
        """The host has read what was asked for."""
        if self.failure is not None:
            return
        request = answer.request
        if isinstance(request, FetchRanges) and request.for_copies:
            self.copying.fetched(request, answer)
        else:
            self.deliveries.fetched(answer)
        self.core.host.wake()

    @property
    def publish_blocked(self) -> bool:
        """The log cannot keep up: do not read publish streams for now."""
        return self.journal.uncommitted_bytes >= limits.QUEUE_PUBLISH_BYTES_MAX
