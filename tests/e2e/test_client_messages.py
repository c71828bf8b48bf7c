"""AsyncClient against a real broker: publish, consume, subscribe, read, and its promises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import hermes
from hermes.server import Server, ServerConfig, serving


@hermes.event("orders.{region}.created")
@dataclass
class OrderCreated:
    region: str
    amount: int


@hermes.event("orders.{region}.shipped")
@dataclass
class OrderShipped:
    region: str
    parcel: str


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    config = ServerConfig(listen_addr="127.0.0.1:0", store_path=tmp_path / "store")
    async with serving(config) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[hermes.AsyncClient]:
    async with hermes.AsyncClient(server.address, name="tests") as client:
        yield client


# ------------------------------------------------------------------ publishing


async def test_a_message_arrives_as_it_was_published(client: hermes.AsyncClient) -> None:
    before = datetime.now(UTC)
    ack = await client.publish("a.b", b"\x00\xff", headers={"k": "v", "ü": "ö"}, id="order-1")
    assert ack == hermes.PublishAck(offset=0, duplicate=False)
    async with client.consume("c", "a.>") as messages:
        assert messages.info.created
        message = await anext(messages)
        assert message.subject == "a.b"
        assert message.payload == b"\x00\xff"
        assert message.headers == {"k": "v", "ü": "ö"}
        assert (message.id, message.offset, message.attempt) == ("order-1", 0, 1)
        assert before - timedelta(seconds=1) < message.published_at < datetime.now(UTC)
        assert message.event is None
        await message.ack(wait=True)
    async with client.consume("c", "a.>") as messages:
        assert not messages.info.created
        assert messages.info.position == 1
        assert await messages.fetch(1, timeout=0.1) == []


async def test_publishing_with_an_id_retries_safely(client: hermes.AsyncClient) -> None:
    first = await client.publish("a", b"x", id="1")
    again = await client.publish("a", b"x", id="1")
    other = await client.publish("b", b"x", id="1")
    assert (first.offset, first.duplicate) == (0, False)
    assert (again.offset, again.duplicate) == (0, True)
    assert (other.offset, other.duplicate) == (1, False)


async def test_many_publishers_get_each_their_own_offset_in_order(
    client: hermes.AsyncClient,
) -> None:
    acks = await asyncio.gather(*(client.publish("a", str(n).encode()) for n in range(2_000)))
    assert [ack.offset for ack in acks] == list(range(2_000))
    async with client.read("a") as messages:
        assert [int(message.payload) async for message in messages] == list(range(2_000))


@pytest.mark.parametrize("subject", ["", "a..b", "a b", "a.*", "_reserved.a"])
async def test_a_bad_subject_is_refused_and_the_others_go_on(
    client: hermes.AsyncClient, subject: str
) -> None:
    refused, taken = await asyncio.gather(
        client.publish(subject, b"x"), client.publish("ok", b"x"), return_exceptions=True
    )
    assert isinstance(refused, hermes.InvalidArgumentError)
    assert taken == hermes.PublishAck(offset=0)


async def test_a_message_beyond_the_limit_is_refused_naming_it(
    client: hermes.AsyncClient,
) -> None:
    too_large = bytes(1 << 20) + b"x"
    for _ in range(2):  # before the client knows the limit, and after
        with pytest.raises(hermes.LimitExceededError, match=r"1,?048,?576"):
            await client.publish("a", too_large)
    assert (await client.publish("a", too_large[:-200])).offset == 0


async def test_without_a_store_durable_is_refused_and_live_works() -> None:
    config = ServerConfig(listen_addr="127.0.0.1:0")
    async with serving(config) as server, hermes.AsyncClient(server.address) as client:
        for _ in range(2):
            with pytest.raises(hermes.PreconditionError, match="HERMES_STORE_PATH"):
                await client.publish("a", b"x")
        with pytest.raises(hermes.PreconditionError, match="HERMES_STORE_PATH"):
            async with client.consume("c", "a"):
                raise AssertionError("consumed without a store")
        async with client.subscribe("a") as messages:
            assert await client.publish("a", b"x", durable=False) == hermes.PublishAck(None)
            assert (await anext(messages)).payload == b"x"


# ------------------------------------------------------------------- consuming


async def test_nack_delivers_again_after_the_delay_with_the_next_attempt(
    client: hermes.AsyncClient,
) -> None:
    await client.publish("a", b"x")
    async with client.consume("c", "a") as messages:
        first = await anext(messages)
        started = time.monotonic()
        first.nack(delay=0.3, reason="not yet")
        second = await anext(messages)
        assert time.monotonic() - started >= 0.3
        assert (second.offset, second.attempt) == (0, 2)
        with pytest.raises(hermes.StaleError):
            await first.nack(wait=True)
        second.ack()
        await messages.flush()


async def test_a_rejected_message_is_a_dead_letter(client: hermes.AsyncClient) -> None:
    await client.publish("a.b", b"poison")
    async with client.consume("c", "a.b") as messages:
        await (await anext(messages)).reject("cannot be parsed", wait=True)
        assert await messages.fetch(1, timeout=0.2) == []
    async with client.read("_dead_letter.a.b") as dead:
        (letter,) = [message async for message in dead]
    assert letter.payload == b"poison"
    assert "cannot be parsed" in letter.headers.values()


async def test_failures_up_to_max_attempts_make_a_dead_letter(client: hermes.AsyncClient) -> None:
    await client.publish("a", b"poison")
    async with client.consume("c", "a", max_attempts=3, backoff=0.01) as messages:
        for attempt in (1, 2, 3):
            message = await anext(messages)
            assert message.attempt == attempt
            await message.nack(reason="no", wait=True)
        assert await messages.fetch(1, timeout=0.2) == []
    async with client.read("_dead_letter.a") as dead:
        assert [message.payload async for message in dead] == [b"poison"]


async def test_options_belong_to_the_consumer(client: hermes.AsyncClient) -> None:
    async with client.consume("c", "a", ack_timeout=5, max_attempts=3):
        pass
    with pytest.raises(hermes.HermesError, match="ack_timeout"):
        async with client.consume("c", "a", ack_timeout=6):
            raise AssertionError("opened with other options")
    async with client.consume("c", ["a", "b"], ack_timeout=timedelta(seconds=6), update=True) as m:
        assert m.info.ack_timeout_ns == 6_000_000_000
        assert set(m.info.filters) == {"a", "b"}
        assert m.info.max_attempts == 3
    async with client.consume("c", ["b", "a"]) as messages:
        assert messages.info.ack_timeout_ns == 6_000_000_000


async def test_where_a_new_consumer_starts(client: hermes.AsyncClient) -> None:
    for n in range(3):
        await client.publish("a", str(n).encode())
    moment = datetime.now(UTC) + timedelta(milliseconds=1)
    await asyncio.sleep(0.01)  # the broker's clock must pass the moment
    await client.publish("a", b"3")
    for name, start, first in (("x", "all", 0), ("y", 2, 2), ("z", moment, 3)):
        async with client.consume(name, "a", start=start) as messages:
            assert (await anext(messages)).offset == first
    async with client.consume("new", "a", start="new") as messages:
        await client.publish("a", b"4")
        assert (await anext(messages)).offset == 4


async def test_members_of_one_consumer_share_its_messages(server: Server) -> None:
    async with (
        hermes.AsyncClient(server.address) as one,
        hermes.AsyncClient(server.address) as two,
        one.consume("c", "a", max_in_flight=10) as first,
        two.consume("c", "a", max_in_flight=10) as second,
    ):
        await asyncio.gather(*(one.publish("a", str(n).encode()) for n in range(200)))
        seen: list[bytes] = []

        async def work(messages: hermes.client.aio_receivers.AsyncConsumer[None]) -> int:
            count = 0
            while batch := await messages.fetch(10, timeout=1):
                for message in batch:
                    seen.append(message.payload)
                    message.ack()
                    count += 1
            return count

        counts = await asyncio.gather(work(first), work(second))
    assert sorted(map(int, seen)) == list(range(200))
    assert all(counts)


async def test_a_lease_is_kept_alive_while_its_handler_runs(client: hermes.AsyncClient) -> None:
    await client.publish("a", b"slow")
    done = asyncio.Event()

    async def handle(message: hermes.Message[None]) -> None:
        await asyncio.sleep(1.2)  # three times the ack timeout
        assert message.attempt == 1
        done.set()

    async with client.consume("c", "a", ack_timeout=0.4) as messages:
        running = asyncio.create_task(messages.run(handle))
        await asyncio.wait_for(done.wait(), 10)
        await asyncio.sleep(0)
        await messages.flush()
        running.cancel()
    async with client.consume("c", "a") as messages:
        assert await messages.fetch(1, timeout=0.2) == []


async def test_a_lease_runs_out_after_max_lease_and_is_reported(
    client: hermes.AsyncClient,
) -> None:
    lost: asyncio.Queue[int | None] = asyncio.Queue()
    await client.publish("a", b"x")
    async with client.consume(
        "c", "a", ack_timeout=0.3, max_lease=0.4, on_lease_lost=lambda m: lost.put_nowait(m.offset)
    ) as messages:
        message = await anext(messages)
        assert await asyncio.wait_for(lost.get(), 5) == 0
        again = await anext(messages)
        assert again.attempt == 2
        with pytest.raises(hermes.StaleError):
            await message.nack(wait=True)
        await message.ack(wait=True)  # a late ack counts from whoever held the message


async def test_leaving_releases_what_is_unsettled_at_once_and_for_free(
    client: hermes.AsyncClient,
) -> None:
    for _ in range(5):
        await client.publish("a", b"x")
    taken: list[hermes.Message[None]] = []
    for attempt in (1, 2, 3):
        async with client.consume("c", "a", max_attempts=2) as messages:
            taken = await messages.fetch(5, timeout=5)
            assert [message.attempt for message in taken] == [attempt] * 5
    with pytest.raises(hermes.ClosedError):
        taken[0].ack()


async def test_cancelling_fetches_and_iterations_costs_no_message(
    client: hermes.AsyncClient,
) -> None:
    async with client.consume("c", "a") as messages:
        publishing = asyncio.create_task(_publish_slowly(client, 100))
        seen: list[int] = []
        while len(seen) < 100:
            try:
                async with asyncio.timeout(0.003):
                    message = await anext(messages)
            except TimeoutError:
                continue
            seen.append(int(message.payload))
            message.ack()
        await publishing
        assert seen == list(range(100))
        await messages.flush()


async def _publish_slowly(client: hermes.AsyncClient, count: int) -> None:
    for n in range(count):
        await client.publish("a", str(n).encode())


async def test_run_handles_with_bounded_concurrency(client: hermes.AsyncClient) -> None:
    running = most = 0
    handled: list[int] = []
    everything = asyncio.Event()

    async def handle(message: hermes.Message[None]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        if int(message.payload) == 7 and message.attempt == 1:
            raise ValueError("first time fails")
        handled.append(int(message.payload))
        if len(handled) == 50:
            everything.set()

    await asyncio.gather(*(client.publish("a", str(n).encode()) for n in range(50)))
    async with client.consume("c", "a", backoff=0.01) as messages:
        working = asyncio.create_task(messages.run(handle, concurrency=4))
        await asyncio.wait_for(everything.wait(), 20)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert sorted(handled) == list(range(50))
    assert most == 4


async def test_run_ends_when_the_consumer_is_left(client: hermes.AsyncClient) -> None:
    messages = client.consume("c", "a")
    async with messages:
        working = asyncio.create_task(messages.run(lambda _message: None))
        await asyncio.sleep(0)
    await asyncio.wait_for(working, 5)


# ---------------------------------------------------------------- typed events


async def test_typed_events_of_a_union(client: hermes.AsyncClient) -> None:
    await client.publish(OrderCreated("eu", 5))
    await client.publish("orders.eu.created", b"no json at all")
    await client.publish(OrderShipped("us", "P-1"), headers={"trace": "7"}, id="x")
    async with client.consume("billing", OrderCreated | OrderShipped) as messages:
        created, shipped = await messages.fetch(2, timeout=5)
        assert created.event == OrderCreated("eu", 5)
        assert shipped.event == OrderShipped("us", "P-1")
        assert (shipped.headers["trace"], shipped.id) == ("7", "x")
        created.ack()
        shipped.ack()
        await messages.flush()
    async with client.read("_dead_letter.>") as dead:
        (letter,) = [message async for message in dead]
    assert letter.payload == b"no json at all"
    assert any("OrderCreated" in value for value in letter.headers.values())


async def test_typed_live_events(client: hermes.AsyncClient) -> None:
    async with client.subscribe(OrderCreated) as messages:
        await client.publish("orders.eu.created", b"skip me", durable=False)
        await client.publish(OrderCreated("eu", 1), durable=False)
        await client.publish(OrderCreated("us", 2))
        # Order holds among live and among durable messages, not between the two.
        events = [(await anext(messages)).event for _ in range(2)]
    assert sorted(event.amount for event in events) == [1, 2]


# ------------------------------------------------------------ live and reading


async def test_a_subscription_sees_what_is_published_once_it_is_entered(
    client: hermes.AsyncClient,
) -> None:
    async with client.subscribe("a.>") as everything, client.subscribe("a.*") as one_level:
        for n in range(100):
            await client.publish("a.b", str(n).encode(), durable=False)
        await client.publish("a.b.c", b"deep", durable=False)
        got = [(await anext(everything)).payload for _ in range(101)]
        assert got == [*(str(n).encode() for n in range(100)), b"deep"]
        assert [(await anext(one_level)).payload for _ in range(100)] == got[:100]
    assert [message async for message in everything] == []


async def test_queue_groups_share(server: Server) -> None:
    async with (
        hermes.AsyncClient(server.address) as client,
        client.subscribe("a", queue_group="g") as first,
        client.subscribe("a", queue_group="g") as second,
        client.subscribe("a") as audit,
    ):
        for n in range(40):
            await client.publish("a", str(n).encode(), durable=False)
        assert len(await audit.fetch(40, timeout=5)) == 40
        shares = [await each.fetch(40, timeout=0.3) for each in (first, second)]
    assert all(shares)
    payloads = [int(message.payload) for share in shares for message in share]
    assert sorted(payloads) == list(range(40))


async def test_a_bad_pattern_is_refused_at_entering(client: hermes.AsyncClient) -> None:
    async with client.subscribe("ok") as fine:
        with pytest.raises(hermes.InvalidArgumentError):
            async with client.subscribe("a.>.b"):
                raise AssertionError("entered with a bad pattern")
        await client.publish("ok", b"x", durable=False)
        assert (await anext(fine)).payload == b"x"


async def test_reading_leaves_no_trace_and_ends(client: hermes.AsyncClient) -> None:
    for n in range(10):
        await client.publish("a" if n % 2 else "b", str(n).encode())
    async with client.read("a", start=3) as messages:
        assert [int(message.payload) async for message in messages] == [3, 5, 7, 9]
    async with client.read(limit=4) as messages:
        assert [message.offset async for message in messages] == [0, 1, 2, 3]
    async with client.read("nothing.here") as messages:
        assert await messages.fetch(5) == []


async def test_reading_can_follow(client: hermes.AsyncClient) -> None:
    await client.publish("a", b"0")
    async with client.read("a", follow=True) as messages:
        assert (await anext(messages)).payload == b"0"
        await client.publish("a", b"1")
        assert (await anext(messages)).payload == b"1"
