"""Rounds of garbage collection: what they do, what stops them, what they remember."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hermes.broker.batch import single
from hermes.broker.consumers import OpenConsumer
from hermes.broker.core import Settings
from hermes.broker.recovery import recover
from hermes.broker.retention import Action, RetentionPolicy, StoreFull
from hermes.broker.session import Client
from hermes.broker.settling import Settle, Verdict
from hermes.clock import SystemClock
from hermes.log.memory import MemoryLog
from hermes.log.port import Outcome
from hermes.server import collector
from hermes.server.collector import Collector
from hermes.server.host import Host
from tests.support.world import POLICY, RecordingPort

HOUR_NS = 3_600 * 10**9
KEEP_TRAIL = RetentionPolicy(retention_ns=60 * 10**9)
DROP_TRAIL = RetentionPolicy(retention_ns=60 * 10**9, audit_retention_ns=60 * 10**9)


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What was logged since, as fields."""
    entries = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    caplog.clear()
    return entries


class LateClock(SystemClock):
    """Everything that is in the log is an hour old."""

    def wall_ns(self) -> int:
        return super().wall_ns() + HOUR_NS


class Scene:
    """A host over a log in memory, and what tests do to it."""

    def __init__(self, settings: Settings) -> None:
        self.hosts: list[Host] = []
        self.log = MemoryLog(self._listen)
        self.host = Host(self.log, recover(self.log.reader()), settings, SystemClock())
        self.hosts.append(self.host)
        self.session = self.host.engine.attach(Client("", "peer", "test", "1", ""))

    def _listen(self, outcome: Outcome) -> None:
        asyncio.get_running_loop().call_soon(self.hosts[0].on_outcome, outcome)

    async def publish(self, *payloads: bytes, subject: str = "a") -> None:
        batches = [single(subject, payload) for payload in payloads]
        self.host.engine.publish(self.session, batches, lambda _: None)
        await self.host.committed()

    async def roll(self) -> None:
        self.host.roll()
        await self.host.committed()

    def join(self, name: str = "c", pattern: str = "a") -> tuple[RecordingPort, Any]:
        port = RecordingPort()
        command = OpenConsumer(name=name, filters=(pattern,), position=0)
        joined = self.host.engine.members.join(self.session, command, 10, 10**6, port)
        return port, joined.seat

    def payloads(self) -> list[bytes | None]:
        records, _ = self.log.reader().publishes(0, limit=1_000, limit_bytes=10**9)
        return [record.payload for record in records]

    def collector(self, policy: RetentionPolicy, **options: Any) -> Collector:
        return Collector(self.host, policy, LateClock(), **options)


@asynccontextmanager
async def scene(**settings: Any) -> AsyncIterator[Scene]:
    made = Scene(Settings(default_policy=POLICY, **settings))
    try:
        yield made
    finally:
        await made.host.close()


async def test_payloads_first_then_segments() -> None:
    async with scene() as s:
        await s.publish(b"x")
        await s.roll()
        await s.publish(b"y")
        survey = await s.collector(KEEP_TRAIL).run()
        assert [plan.action for plan in survey.plans] == [Action.KEEP, Action.KEEP]
        payloads = s.payloads()
        assert payloads[0] is None
        assert payloads[1] is not None
        assert s.host.first_held(0) == 1
        assert s.host.engine.state.oldest_offset == 0
        await s.collector(DROP_TRAIL).run()
        assert len(s.log.segments()) == 1
        assert s.host.engine.state.oldest_offset == 1


async def test_what_a_new_consumer_begins_with_is_not_dropped_under_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Found by it: whoever came between the plan and the drop lost what it was to be sent.
    async with scene() as s:
        await s.publish(b"x")
        await s.roll()
        port = RecordingPort()
        reads = 0
        read = s.host.read

        async def read_and_join(function: Callable[..., Any]) -> Any:
            nonlocal reads, port
            reads += 1
            answer = await read(function)
            if reads == 3:  # the last read before the drop
                port, _ = s.join("late")
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(s.host, "read", read_and_join)
            await s.collector(DROP_TRAIL).run()
        await s.host.committed()
        assert reads >= 3
        assert port.offsets() == [0]
        assert len(s.log.segments()) == 2


async def test_what_is_done_and_what_is_not_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with scene() as s:
        for payload in (b"x", b"y"):
            await s.publish(payload)
            await s.roll()
        s.log.no_room_to_compact = True
        told: list[tuple[int, str]] = []
        collecting = s.collector(KEEP_TRAIL)
        await collecting.run(lambda o: told.append((o.plan.segment.first_lsn, o.problem)))
        assert [problem for _, problem in told] == [
            "the disk has no room for the copy that a compaction needs"
        ] * 2
        assert {entry["event"] for entry in logged(caplog)} == {"segment not compacted"}
        assert None not in s.payloads()
        s.log.no_room_to_compact = False
        told.clear()
        await collecting.run(lambda o: told.append((o.plan.segment.first_lsn, o.problem)))
        assert [problem for _, problem in told] == ["", ""]
        assert s.payloads() == [None, None]


async def test_a_segment_is_looked_into_again_only_when_needs_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scene() as s:
        await s.publish(bytes(1_000), bytes(1_000))
        await s.roll()
        port, seat = s.join()
        await s.host.committed()
        collecting = s.collector(KEEP_TRAIL)
        looks = 0
        examine = collector.examine

        def counting(*arguments: Any, **named: Any) -> Any:
            nonlocal looks
            looks += 1
            return examine(*arguments, **named)

        monkeypatch.setattr(collector, "examine", counting)
        await collecting.run()
        await collecting.run()
        assert looks == 1
        assert port.offsets() == [0, 1]
        s.host.engine.members.settle(seat, Settle(seat.member, 0, Verdict.ACK, [(0, 0)]))
        await collecting.run()
        # Once for the plan, once more after it was carried out.
        assert s.payloads()[0] is None
        assert s.payloads()[1] is not None
        assert looks == 3


async def test_an_abandoned_consumer_is_told_once_and_can_end_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scene(consumer_inactivity_ns=1) as s:
        await s.publish(b"x")
        await s.roll()
        _, seat = s.join("gone")
        _, there = s.join("there")
        s.host.engine.members.leave(seat, lost=False)
        await s.host.committed()
        policy = RetentionPolicy(retention_ns=1)
        collecting = s.collector(policy)
        survey = await collecting.run()
        await collecting.run()
        (warning,) = [entry for entry in logged(caplog) if entry["level"] == "warning"]
        assert (warning["consumer"], warning["segments"]) == ("gone", 1)
        assert "hermes consumers delete gone" in warning["hint"]
        pinning = {one.name: one for one in collecting.abandoned.pinning(survey.plans)}
        assert pinning["gone"].abandoned
        assert not pinning["there"].abandoned
        assert pinning["there"].members == 1
        s.host.tick()
        await s.host.committed()
        assert list(s.host.engine.state.consumers) == ["there"]
        s.host.engine.members.leave(there, lost=False)


async def test_messages_past_the_longest_retention_are_lost_by_an_event() -> None:
    async with scene() as s:
        await s.publish(b"x", b"y", b"z")
        _, seat = s.join()
        await s.host.committed()
        await s.roll()
        settle = s.host.engine.members.settle
        settle(seat, Settle(seat.member, 0, Verdict.NACK, [(0, 0)], attempt=1, delay_ns=HOUR_NS))
        settle(seat, Settle(seat.member, 0, Verdict.ACK, [(1, 1)]))
        policy = RetentionPolicy(retention_ns=1, max_unacked_retention_ns=1)
        await s.collector(policy).run()
        payloads = s.payloads()
        assert payloads[:2] == [None, None]
        assert payloads[2] is not None  # a member has it
        consumer = s.host.engine.state.consumers["c"]
        dead = consumer.dead.at(0)
        assert dead is not None
        assert "payload retired undelivered" in dead.reason
        assert consumer.waiting.count == 0


async def test_a_full_store_refuses_or_frees_itself() -> None:
    for mode in StoreFull:
        async with scene(store_bytes_max=3_000) as s:
            policy = RetentionPolicy(
                retention_ns=100 * HOUR_NS, store_bytes_max=3_000, store_full=mode
            )
            collecting = s.collector(policy)
            results: list[Any] = []
            for _ in range(3):
                await s.publish(bytes(1_000))
                await s.roll()
            await collecting.run()
            s.host.engine.publish(s.session, [single("a", b"more")], results.extend)
            await s.host.committed()
            if mode is StoreFull.REFUSE:
                assert s.host.engine.store_size.full
                assert "HERMES_MAX_STORE_BYTES" in results[0].refusal.hint
                assert results[0].refusal.code == "RESOURCE_EXHAUSTED"
            else:
                assert results[0].refusal is None
                assert s.payloads()[0] is None


def is_full(s: Scene) -> bool:
    return s.host.engine.store_size.full


async def test_a_full_store_of_needed_messages_refuses_and_loses_nothing() -> None:
    async with scene(store_bytes_max=3_000) as s:
        _, seat = s.join()
        for _ in range(3):
            await s.publish(bytes(1_000))
            await s.roll()
        policy = RetentionPolicy(
            retention_ns=100 * HOUR_NS,
            store_bytes_max=3_000,
            store_full=StoreFull.DROP_OLDEST_SETTLED,
        )
        collecting = s.collector(policy, slack_bytes=10**6)
        assert not is_full(s)  # it may still free itself
        await collecting.run()
        assert is_full(s)
        assert None not in s.payloads()
        s.host.engine.members.settle(seat, Settle(seat.member, 0, Verdict.ACK, [(0, 2)]))
        await collecting.run()
        assert not is_full(s)
