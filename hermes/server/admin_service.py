"""The admin RPCs: consumers, dead letters, and the server itself.

What only the state tells is answered on the loop; what needs the log is read beside it,
from arguments taken on the loop. Changes are answered once they are committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hermes import __version__, limits, rpc
from hermes.admin.v1 import admin_pb2
from hermes.broker.consumer import Consumer
from hermes.broker.consumers import find_consumer
from hermes.broker.needs import oldest_pin
from hermes.broker.ranges import Range, count, intersect, normalize, subtract
from hermes.broker.subject import matcher, validate_pattern
from hermes.errors import InvalidArgumentError, NotFoundError, PreconditionError
from hermes.server import dead_letter_reads
from hermes.server.broker_service import GetHost
from hermes.server.endpoint import AnyMethod, Behaviour
from hermes.server.host import Host
from hermes.server.opening import check_consumer_name
from hermes.server.quarantine import SEGMENTS_TOLD_MAX, quarantined_segment, withheld_from
from hermes.server.sessions import Context, client_of

_OFFSETS_TOLD_MAX = 1_000


class AdminService:
    """Every method is one RPC: (request, context) -> response."""

    def __init__(self, get_host: GetHost) -> None:
        self._get_host = get_host

    def handlers(self) -> dict[AnyMethod, Behaviour]:
        """Method -> behaviour."""
        table: dict[AnyMethod, Callable[[Any, Context], Any]] = {
            rpc.GET_SERVER: self.get_server,
            rpc.LIST_CONSUMERS: self.list_consumers,
            rpc.GET_CONSUMER: self.get_consumer,
            rpc.DELETE_CONSUMER: self.delete_consumer,
            rpc.LIST_DEAD_LETTERS: self.list_dead_letters,
            rpc.GET_DEAD_LETTER: self.get_dead_letter,
            rpc.REPLAY_DEAD_LETTERS: self.replay_dead_letters,
            rpc.DISCARD_DEAD_LETTERS: self.discard_dead_letters,
        }
        return table

    async def get_server(
        self, _request: admin_pb2.GetServerRequest, _context: Context
    ) -> admin_pb2.ServerInfo:
        host = self._get_host()
        segments = await host.read(lambda _: host.log.segments(subjects=False))
        host.note_retired(segments)
        state = host.engine.state
        quarantined = host.log.quarantined
        return admin_pb2.ServerInfo(
            version=__version__,
            store_id=host.log.store_id,
            next_lsn=state.next_lsn,
            oldest_offset=host.first_held(0),
            next_offset=state.next_offset,
            started_at_ns=host.started_at_ns,
            consumers=len(state.consumers),
            subscriptions=len(host.engine.fanout.buffers),
            segments=len(segments),
            store_bytes=sum(segment.bytes for segment in segments),
            quarantined=(
                quarantined_segment(damaged, state.consumers.values())
                for damaged in quarantined[:SEGMENTS_TOLD_MAX]
            ),
            quarantined_segments=len(quarantined),
            quarantined_records=sum(q.last_lsn - q.first_lsn + 1 for q in quarantined),
        )

    # -------------------------------------------------------------- consumers

    async def list_consumers(
        self, request: admin_pb2.ListConsumersRequest, _context: Context
    ) -> admin_pb2.ListConsumersResponse:
        host = self._get_host()
        size = _page_size(request.page_size)
        consumers = host.engine.state.consumers
        names = sorted(name for name in consumers if name > request.after)
        page = [consumers[name] for name in names[:size]]
        lags = await _lags(host, page)
        return admin_pb2.ListConsumersResponse(
            consumers=[_describe(host, c, lag) for c, lag in zip(page, lags, strict=True)],
            next=names[size - 1] if len(names) > size else "",
        )

    async def get_consumer(
        self, request: admin_pb2.GetConsumerRequest, _context: Context
    ) -> admin_pb2.ConsumerDetail:
        host = self._get_host()
        check_consumer_name(request.name)
        consumer = find_consumer(host.engine.state, request.name)
        (lag,) = await _lags(host, [consumer])
        detail = admin_pb2.ConsumerDetail(consumer=_describe(host, consumer, lag))
        for lsn, member in consumer.members.items():
            session = host.engine.state.sessions.get(member.session)
            seat = host.engine.deliveries.seats.get(lsn)
            shown = detail.members.add(member=lsn, in_flight=member.in_flight)
            if session is not None:
                shown.peer = session.peer
                shown.client_name = session.client_name
                shown.client_version = session.client_version
            shown.credit.messages = seat.credit_messages if seat else member.credit_messages
            shown.credit.bytes = seat.credit_bytes if seat else member.credit_bytes
        return detail

    async def delete_consumer(
        self, request: admin_pb2.DeleteConsumerRequest, context: Context
    ) -> admin_pb2.DeleteConsumerResponse:
        host = self._get_host()
        check_consumer_name(request.name)
        (lag,) = await _lags(host, [find_consumer(host.engine.state, request.name)])
        unsettled = await _change(
            host, context, lambda session: host.engine.members.delete(session, request.name)
        )
        return admin_pb2.DeleteConsumerResponse(unsettled=unsettled + lag)

    # ----------------------------------------------------------- dead letters

    async def list_dead_letters(
        self, request: admin_pb2.ListDeadLettersRequest, _context: Context
    ) -> admin_pb2.ListDeadLettersResponse:
        host = self._get_host()
        state = host.engine.state
        wanted = _wanted(request.filter)
        after = _parse_token(request.page_token)
        consumers: Iterable[Consumer]
        if request.consumer:
            consumers = [find_consumer(state, check_consumer_name(request.consumer))]
        else:
            consumers = [state.consumers[name] for name in sorted(state.consumers)]
        dead = [
            (c.name, max(first, after[1] + 1) if c.name == after[0] else first, last, entry)
            for c in consumers
            if c.name >= after[0]
            for first, last, entry in c.dead.items()
            if c.name > after[0] or last > after[1]
        ]
        size = _page_size(request.page_size)
        letters, more = await host.read(
            lambda reader: dead_letter_reads.page_of(reader, dead, wanted, size)
        )
        token = "" if more is None else f"{more[1]}@{more[0]}"
        return admin_pb2.ListDeadLettersResponse(dead_letters=letters, next_page_token=token)

    async def get_dead_letter(
        self, request: admin_pb2.GetDeadLetterRequest, _context: Context
    ) -> admin_pb2.DeadLetterDetail:
        host = self._get_host()
        consumer = find_consumer(host.engine.state, check_consumer_name(request.consumer))
        dead = consumer.dead.at(request.offset)
        if dead is None:
            raise NotFoundError(
                f"offset {request.offset} is no dead letter of consumer {request.consumer!r}",
                hint="list them: hermes dead-letters",
            )
        name, offset = consumer.name, request.offset
        return await host.read(
            lambda reader: dead_letter_reads.detail_of(reader, name, offset, dead)
        )

    async def replay_dead_letters(
        self, request: admin_pb2.SelectDeadLetters, context: Context
    ) -> admin_pb2.DeadLetterOutcome:
        host = self._get_host()
        rate = request.messages_per_second
        await host.learn_retired()

        def replay(session: Any, ranges: Sequence[Range]) -> int:
            return host.engine.members.replay(
                session, request.consumer, _still_held(host, request, ranges), rate
            )

        return await _apply(host, context, request, replay)

    async def discard_dead_letters(
        self, request: admin_pb2.SelectDeadLetters, context: Context
    ) -> admin_pb2.DeadLetterOutcome:
        host = self._get_host()
        return await _apply(
            host,
            context,
            request,
            lambda session, ranges: host.engine.members.discard(session, request.consumer, ranges),
        )


async def _change(host: Host, context: Context, command: Callable[[Any], int]) -> int:
    """Run a command in the caller's session and wait for its commit."""
    session = host.engine.attach(client_of(context))
    try:
        result = command(session)
        await host.committed()
        return result
    finally:
        host.engine.detach(session)


async def _apply(
    host: Host,
    context: Context,
    request: admin_pb2.SelectDeadLetters,
    command: Callable[[Any, Sequence[Range]], int],
) -> admin_pb2.DeadLetterOutcome:
    """Select dead letters and, unless it is a dry run, change them."""
    consumer = find_consumer(host.engine.state, check_consumer_name(request.consumer))
    wanted = _wanted(request.filter)
    dead = normalize((first, last) for first, last, _ in consumer.dead.items())
    if request.offsets:
        dead = intersect(dead, normalize((offset, offset) for offset in request.offsets))
    ranges = await host.read(lambda reader: dead_letter_reads.matching(reader, dead, wanted))
    changed = 0
    if ranges and not request.dry_run:
        changed = await _change(host, context, lambda session: command(session, ranges))
    return admin_pb2.DeadLetterOutcome(
        matched=count(ranges), changed=changed, offsets=_first_offsets(ranges)
    )


def _still_held(
    host: Host, request: admin_pb2.SelectDeadLetters, ranges: Sequence[Range]
) -> list[Range]:
    """The part that can be delivered again. Raises PreconditionError for an offset that was
    named and cannot."""
    gone = host.retired_in(ranges)
    if gone and request.offsets:
        raise PreconditionError(
            f"offset {gone[0][0]} cannot be replayed: its payload is retired",
            hint=f"give it up: hermes dead-letters discard {request.consumer} {gone[0][0]}",
            offset=gone[0][0],
        )
    return subtract(ranges, gone)


def _first_offsets(ranges: Iterable[Range]) -> list[int]:
    told: list[int] = []
    for first, last in ranges:
        told += range(first, min(last + 1, first + _OFFSETS_TOLD_MAX - len(told)))
        if len(told) >= _OFFSETS_TOLD_MAX:
            break
    return told


async def _lags(host: Host, consumers: Sequence[Consumer]) -> list[int]:
    """Matching messages at or after each consumer's position."""
    # What has lost its payload will be skipped.
    await host.learn_retired()
    asked = [(host.first_held(c.position), matcher(c.policy.filters)) for c in consumers]
    return await host.read(lambda reader: reader.count_each(asked))


def _describe(host: Host, consumer: Consumer, lag: int) -> admin_pb2.Consumer:
    policy = consumer.policy
    shown = admin_pb2.Consumer(
        name=consumer.name,
        filters=policy.filters,
        position=consumer.position,
        lag=lag,
        in_flight=consumer.leases.count,
        waiting=consumer.waiting.count,
        dead=consumer.dead.count,
        members=len(consumer.members),
        created_at_ns=consumer.created_at_ns,
        ack_timeout_ns=policy.ack_timeout_ns,
        max_attempts=policy.max_attempts,
        inactivity_limit_ns=policy.inactivity_limit_ns,
    )
    shown.backoff.initial_ns = policy.backoff_initial_ns
    shown.backoff.max_ns = policy.backoff_max_ns
    if consumer.oldest_unsettled is not None:
        shown.oldest_unacked_offset = consumer.oldest_unsettled
    shown.withheld.extend(withheld_from(consumer, host.log.quarantined))
    pin = oldest_pin(consumer, lag=lag)
    if pin is not None:
        shown.pin.consumer, shown.pin.offset, shown.pin.what = pin.consumer, pin.offset, pin.what
    return shown


def _page_size(asked: int) -> int:
    if asked > limits.ADMIN_PAGE_MAX:
        raise InvalidArgumentError(
            f"page_size is {asked}, expected at most {limits.ADMIN_PAGE_MAX}; 0 for the default"
        )
    return asked or limits.ADMIN_PAGE_DEFAULT


def _wanted(pattern: str) -> Callable[[str], bool] | None:
    if not pattern:
        return None
    validate_pattern(pattern)
    return matcher((pattern,))


def _parse_token(token: str) -> tuple[str, int]:
    """(consumer, offset) of the last dead letter looked at."""
    if not token:
        return "", -1
    offset, at, consumer = token.partition("@")
    if not at or not offset.isascii() or not offset.isdigit():
        raise InvalidArgumentError(
            f"page_token {token[:80]!r} is not one", hint="pass next_page_token as it was given"
        )
    return consumer, int(offset)
