"""[P] The whole state as one record, and back. decode(encode(state)) == state."""

from __future__ import annotations

from typing import Any

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer, Dead, Lease, Member, Waiting
from hermes.broker.dedup import Stored
from hermes.broker.event_codec import decode_policy, encode_policy
from hermes.broker.state import Session, State, Subscription
from hermes.log.record import Kind, Record
from hermes.log.v1 import log_pb2


def encode_snapshot(state: State, at_ns: int) -> Record:
    """A Snapshot record of the state as of the record before it."""
    body = log_pb2.Snapshot(
        engine_time_ns=state.engine_time_ns,
        next_offset=state.next_offset,
        oldest_offset=state.oldest_offset,
        clean_stop=state.clean_stop,
        dedup_window_ns=state.ids.window_ns,
        dedup_ids_max=state.ids.ids_max,
    )
    add_id = body.ids.add
    for subject, text, offset, at in state.ids.items():
        seen = add_id()  # there may be many; keywords would cost half as much again
        seen.subject, seen.id, seen.offset, seen.engine_time_ns = subject, text, offset, at
    for producer_id, stored in state.producers.items():
        body.producers.add(
            id=producer_id,
            sequences=[s.sequence for s in stored],
            offsets=[s.offset for s in stored],
            counts=[s.count for s in stored],
        )
    for consumer in state.consumers.values():
        _encode_consumer(consumer, body.consumers.add())
    for lsn, session in state.sessions.items():
        body.sessions.add(
            session=lsn,
            principal=session.principal,
            peer=session.peer,
            client_name=session.client_name,
            client_version=session.client_version,
            client_id=session.client_id,
        )
    for lsn, subscription in state.subscriptions.items():
        body.subscriptions.add(
            subscription=lsn,
            pattern=subscription.pattern,
            queue_groups=subscription.queue_groups,
            session=subscription.session,
        )
    return Record(at_ns, Kind.SNAPSHOT, body=body.SerializeToString())


def _encode_consumer(consumer: Consumer, out: log_pb2.SnapshotConsumer) -> None:
    out.name = consumer.name
    out.created_lsn = consumer.created_lsn
    out.created_at_ns = consumer.created_at_ns
    out.policy.CopyFrom(encode_policy(consumer.policy))
    out.position = consumer.position
    out.last_active_ns = consumer.last_active_ns
    out.paused = consumer.paused
    for lsn, member in consumer.members.items():
        out.members.add(
            member=lsn,
            session=member.session,
            credit_messages=member.credit_messages,
            credit_bytes=member.credit_bytes,
        )
    for first, last, lease in consumer.leases.items():
        out.leases.add(
            first=first,
            last=last,
            member=lease.member,
            attempt=lease.attempt,
            failures=lease.failures,
            releases=lease.releases,
            deadline_ns=lease.deadline_ns,
            mean_bytes=lease.mean_bytes,
        )
    for first, last, waiting in consumer.waiting.items():
        out.waiting.add(
            first=first,
            last=last,
            attempt=waiting.attempt,
            failures=waiting.failures,
            releases=waiting.releases,
            due_ns=waiting.due_ns,
        )
    for first, last, dead in consumer.dead.items():
        out.dead.add(
            first=first,
            last=last,
            attempts=dead.attempts,
            failures=dead.failures,
            cause=dead.cause,
            reason=dead.reason,
            at_ns=dead.at_ns,
            copy_offset=None if dead.copy_shift is None else first + dead.copy_shift,
        )


def decode_snapshot(body: bytes, lsn: int) -> State:
    """The state right after the Snapshot record `lsn`."""
    snapshot = log_pb2.Snapshot.FromString(body)
    state = State()
    state.next_lsn = lsn + 1
    state.next_offset = snapshot.next_offset
    state.oldest_offset = snapshot.oldest_offset
    state.engine_time_ns = snapshot.engine_time_ns
    state.clean_stop = snapshot.clean_stop
    state.ids.window_ns = snapshot.dedup_window_ns
    state.ids.ids_max = snapshot.dedup_ids_max
    for seen in snapshot.ids:
        state.ids.remember(seen.subject, (seen.id,), seen.offset, seen.engine_time_ns)
    for producer in snapshot.producers:
        for stored in zip(producer.sequences, producer.offsets, producer.counts, strict=True):
            state.producers.remember(producer.id, Stored(*stored))
    for entry in snapshot.consumers:
        state.consumers[entry.name] = _decode_consumer(entry)
    for session in snapshot.sessions:
        state.sessions[session.session] = Session(
            session.principal,
            session.peer,
            session.client_name,
            session.client_version,
            session.client_id,
        )
    for subscription in snapshot.subscriptions:
        state.subscriptions[subscription.subscription] = Subscription(
            subscription.session, subscription.pattern, tuple(subscription.queue_groups)
        )
    return state


def _decode_consumer(entry: Any) -> Consumer:
    consumer = Consumer(
        entry.name,
        entry.created_lsn,
        entry.created_at_ns,
        decode_policy(entry.policy),
        entry.position,
    )
    consumer.last_active_ns = entry.last_active_ns
    consumer.paused = entry.paused
    for m in entry.members:
        consumer.members[m.member] = Member(m.session, m.credit_messages, m.credit_bytes)
    for w in entry.leases:
        lease = Lease(w.member, w.attempt, w.failures, w.releases, w.deadline_ns, w.mean_bytes)
        consumer.restore_lease(w.first, w.last, lease)
    for w in entry.waiting:
        waiting = Waiting(w.attempt, w.failures, w.releases, w.due_ns)
        consumer.restore_waiting(w.first, w.last, waiting)
    for d in entry.dead:
        shift = d.copy_offset - d.first if d.HasField("copy_offset") else None
        dead = Dead(d.attempts, d.failures, ev.DeadCause(d.cause), d.reason, d.at_ns, shift)
        consumer.dead.add(d.first, d.last, dead)
    return consumer


def canonical(state: State) -> bytes:
    """Equal for equal states: what the fold laws compare."""
    return encode_snapshot(state, 0).body
