"""Fire-and-forget: bounded buffers of live subscriptions, and who gets a batch.

Everyone without a queue group gets every message; of each group one member does, round
robin, skipping full ones. Nobody is waited for: a full buffer loses its oldest messages,
which is counted, logged (Dropped) and told to the client.

With a store every hand-over is an event: an Audience names a set of subscriptions once,
DeliveredLive refers to it and names the groups' picks.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.batch import LiveBatch
from hermes.broker.journal import Journal
from hermes.broker.router import Route
from hermes.errors import HermesError


class LivePort(Protocol):
    """The stream behind a subscription."""

    def wake(self) -> None:
        """Its buffer has something; never blocks."""
        ...

    def end(self, error: HermesError) -> None:
        """The broker ends the subscription."""
        ...


class LiveBuffer:
    """Batches for one subscription, oldest first; bounded in messages and bytes."""

    __slots__ = (
        "_batches",
        "_bytes",
        "_capacity",
        "dropped",
        "dropped_first_lsn",
        "dropped_last_lsn",
        "dropped_unlogged",
        "dropped_untold",
        "messages",
        "port",
        "session",
    )

    def __init__(self, session: int, port: LivePort, capacity: int) -> None:
        self.session = session
        self.port = port
        self.messages = 0
        self.dropped = 0  # in all
        self.dropped_untold = 0  # not yet told to the client
        self.dropped_unlogged = 0
        self.dropped_first_lsn = 0
        self.dropped_last_lsn = 0
        self._capacity = capacity
        self._bytes = 0
        self._batches: deque[LiveBatch] = deque()

    @property
    def full(self) -> bool:
        return self.messages >= self._capacity or self._bytes >= limits.LIVE_BUFFER_BYTES_MAX

    def push(self, batch: LiveBatch) -> bool:
        """Add the newest batch; True if older ones had to go."""
        lost = False
        while self._batches and (
            self.messages + batch.count > self._capacity
            or self._bytes + batch.bytes > limits.LIVE_BUFFER_BYTES_MAX
        ):
            self._drop_oldest()
            lost = True
        self._batches.append(batch)
        self.messages += batch.count
        self._bytes += batch.bytes
        self.port.wake()
        return lost

    def _drop_oldest(self) -> None:
        batch = self.pop()
        assert batch is not None
        if not self.dropped_unlogged:
            self.dropped_first_lsn = batch.published_lsn
        self.dropped_last_lsn = batch.published_lsn
        self.dropped += batch.count
        self.dropped_untold += batch.count
        self.dropped_unlogged += batch.count

    def pop(self) -> LiveBatch | None:
        """The oldest batch; None when empty."""
        if not self._batches:
            return None
        batch = self._batches.popleft()
        self.messages -= batch.count
        self._bytes -= batch.bytes
        return batch

    def take_dropped(self) -> int:
        """Messages lost since the last call, for the client."""
        dropped, self.dropped_untold = self.dropped_untold, 0
        return dropped


class Fanout:
    """The live subscriptions of this process."""

    def __init__(self, journal: Journal, capacity: int) -> None:
        self.buffers: dict[int, LiveBuffer] = {}
        self.dropped = 0  # messages, by all buffers there ever were, until the last turn
        self._journal = journal
        self._capacity = capacity
        self._turns: dict[str, int] = {}  # round robin, by group
        self._audiences: dict[tuple[int, ...], int] = {}
        self._lossy: set[int] = set()  # subscriptions that dropped since the last turn

    def open(self, subscription: int, session: int, port: LivePort) -> LiveBuffer:
        buffer = LiveBuffer(session, port, self._capacity)
        self.buffers[subscription] = buffer
        return buffer

    def close(self, subscription: int) -> LiveBuffer | None:
        self._lossy.discard(subscription)
        buffer = self.buffers.pop(subscription, None)
        if buffer is not None:
            self.dropped += buffer.dropped_unlogged
        return buffer

    def pick(self, route: Route) -> tuple[int, ...]:
        """One member of each queue group, the next in turn that is not full."""
        picks = []
        for group, members in route.groups:
            if len(self._turns) >= limits.GROUP_TURNS_MAX:
                self._turns.clear()  # everyone begins anew with the first member
            turn = self._turns.get(group, 0)
            self._turns[group] = turn + 1
            chosen = members[turn % len(members)]
            if self.buffers[chosen].full:
                rotated = (members[(turn + i) % len(members)] for i in range(len(members)))
                chosen = next((m for m in rotated if not self.buffers[m].full), chosen)
            picks.append(chosen)
        return tuple(picks)

    def record(
        self,
        route: Route,
        picks: tuple[int, ...],
        subject: str,
        published_lsn: int,
        now_ns: int,
        offsets: tuple[int, int] | None = None,
    ) -> None:
        """Log that a batch is handed to `route.subscriptions` and the picks."""
        if not self._journal.log.durable:
            return
        first, last = offsets or (None, None)
        self._journal.record(
            ev.DeliveredLive(
                engine_time_ns=now_ns,
                subject=subject,
                published_lsn=published_lsn,
                audience=self._audience(route.subscriptions, now_ns),
                picks=picks,
                first=first,
                last=last,
            )
        )

    def _audience(self, subscriptions: tuple[int, ...], now_ns: int) -> int:
        if not subscriptions:
            return 0
        lsn = self._audiences.get(subscriptions)
        if lsn is None:
            if len(self._audiences) >= limits.AUDIENCES_MAX:
                self._audiences.clear()
            event = ev.AudienceFormed(engine_time_ns=now_ns, subscriptions=subscriptions)
            lsn = self._audiences[subscriptions] = self._journal.record(event)
        return lsn

    @property
    def lossy(self) -> bool:
        """Whether anybody lost something that is not logged yet."""
        return bool(self._lossy)

    def forget_audiences(self) -> None:
        """After a roll: every segment names its audiences itself."""
        self._audiences.clear()

    def push(self, route: Route, picks: tuple[int, ...], batch: LiveBatch) -> None:
        """Hand a batch over. Subscriptions closed meanwhile are passed over."""
        for subscription in (*route.subscriptions, *picks):
            buffer = self.buffers.get(subscription)
            if buffer is not None and buffer.push(batch):
                self._lossy.add(subscription)

    def record_drops(self, now_ns: int) -> list[tuple[int, int]]:
        """Log what was dropped since the last call: (subscription, messages)."""
        drops = []
        for subscription in self._lossy:
            buffer = self.buffers[subscription]
            drops.append((subscription, buffer.dropped_unlogged))
            self._journal.record(
                ev.Dropped(
                    engine_time_ns=now_ns,
                    session=buffer.session,
                    subscription=subscription,
                    messages=buffer.dropped_unlogged,
                    first_published_lsn=buffer.dropped_first_lsn,
                    last_published_lsn=buffer.dropped_last_lsn,
                )
            )
            self.dropped += buffer.dropped_unlogged
            buffer.dropped_unlogged = 0
        self._lossy.clear()
        return drops
