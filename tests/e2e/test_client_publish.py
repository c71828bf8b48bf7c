"""Publishing through AsyncClient to a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import hermes
from hermes.server import Server, ServerConfig, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    config = ServerConfig(listen_addr="127.0.0.1:0", store_path=tmp_path / "store")
    async with serving(config) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[hermes.AsyncClient]:
    async with hermes.AsyncClient(server.address, name="tests") as client:
        yield client


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
