"""Publishing: from a checked batch to the line, the live subscriptions, the consumers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from hermes.broker import events as ev
from hermes.broker.batch import IncomingBatch, LineBatch, LiveBatch
from hermes.broker.delivery import Deliveries
from hermes.broker.journal import Journal
from hermes.broker.live import Fanout
from hermes.broker.publishing import Producer, PublishResult, decide_publish
from hermes.broker.ring import Ring
from hermes.broker.router import Route, Router
from hermes.broker.store_size import StoreSize
from hermes.errors import HermesError, LimitExceededError, PreconditionError

Reply = Callable[[list[PublishResult]], None]
Push = tuple[Route, tuple[int, ...], LiveBatch]


class Intake:
    """Takes batches in, for the engine."""

    def __init__(
        self,
        journal: Journal,
        router: Router,
        ring: Ring,
        deliveries: Deliveries,
        fanout: Fanout,
        store_size: StoreSize,
    ) -> None:
        self._journal = journal
        self._router = router
        self._ring = ring
        self._deliveries = deliveries
        self._fanout = fanout
        self._store_size = store_size

    def publish(
        self,
        batches: Sequence[IncomingBatch | HermesError],
        *,
        session: int,
        now_ns: int,
        reply: Reply,
        producer_id: bytes = b"",
        first_sequence: int = 0,
    ) -> None:
        """Publish durably, in order; `reply` gets one result per batch once committed.

        A batch that was refused on its way in (an error in its place) or is refused here
        takes nothing with it but its own sequence.
        """
        results: list[PublishResult] = []
        state = self._journal.state
        closed = self._refusal(durable=True)
        for i, batch in enumerate(batches):
            if closed is not None or isinstance(batch, HermesError):
                refusal = batch if isinstance(batch, HermesError) else closed
                results.append(PublishResult(0, refusal=refusal))
                continue
            producer = Producer(producer_id, first_sequence + i) if producer_id else None
            try:
                event, result = decide_publish(
                    state, batch, session=session, now_ns=now_ns, producer=producer
                )
            except HermesError as error:
                results.append(PublishResult(0, refusal=error))
                continue
            if event is not None:
                self.enter(event)
            results.append(result)
        self._journal.after_commit(partial(reply, results))

    def publish_live(
        self,
        batches: Sequence[IncomingBatch | HermesError],
        *,
        session: int,
        now_ns: int,
        reply: Reply,
    ) -> None:
        """Forward at once, log behind; `reply` is called before this returns."""
        results: list[PublishResult] = []
        closed = self._refusal(durable=False)
        for batch in batches:
            if closed is not None or isinstance(batch, HermesError):
                refusal = batch if isinstance(batch, HermesError) else closed
                results.append(PublishResult(0, refusal=refusal))
                continue
            self._forward(batch, session, now_ns)
            results.append(PublishResult(batch.count))
        reply(results)

    def _refusal(self, *, durable: bool) -> HermesError | None:
        """Why nothing is taken at the moment."""
        log = self._journal.log
        if durable and not log.durable:
            return PreconditionError(
                "this broker has no store, so nothing can be published durably",
                hint="start it with --store or HERMES_STORE_PATH, or publish live",
            )
        if log.low_space:
            return LimitExceededError(
                "the disk is nearly full: publishing is refused until space returns",
                hint="acks and reads go on; free space on the broker's disk",
            )
        if self._store_size.full:
            return self._store_size.refusal()
        return None

    def enter(self, event: ev.Published) -> None:
        """Record a batch and hand it to the ring, the consumers and the live subscriptions."""
        lsn = self._journal.record(event)
        assert event.content is not None
        at_ns = self._journal.wall_ns
        batch = LineBatch(
            event.first, event.last, event.subject, event.head, event.content, at_ns, lsn
        )
        self._ring.append(batch)
        route = self._router.match(event.subject)
        self._deliveries.published(route, batch)
        if route.subscriptions or route.groups:
            picks = self._fanout.pick(route)
            live = LiveBatch(
                event.subject, event.head, event.content, batch.count, event.first, at_ns, lsn
            )
            self._fanout.record(
                route, picks, event.subject, lsn, event.engine_time_ns, (event.first, event.last)
            )
            self._journal.after_commit(partial(self._fanout.push, route, picks, live))

    def enter_copy(self, event: ev.Published, now_ns: int) -> None:
        """Enter a batch that the broker publishes itself, at the end of the line."""
        first = self._journal.state.next_offset
        self.enter(
            msgspec.structs.replace(
                event, engine_time_ns=now_ns, first=first, last=first + event.last
            )
        )

    def _forward(self, batch: IncomingBatch, session: int, now_ns: int) -> None:
        journal = self._journal
        lsn = journal.record(
            ev.PublishedLive(
                engine_time_ns=now_ns,
                subject=batch.subject,
                head=batch.head,
                content=batch.content,
                sizes=batch.sizes,
                ids=batch.ids,
                session=session,
            )
        )
        route = self._router.match(batch.subject)
        if not (route.subscriptions or route.groups):
            return
        picks = self._fanout.pick(route)
        self._fanout.record(route, picks, batch.subject, lsn, now_ns)
        live = LiveBatch(
            batch.subject, batch.head, batch.content, batch.count, None, journal.wall_ns, lsn
        )
        self._fanout.push(route, picks, live)
