"""Metrics of a real server, scraped over HTTP while clients work."""

from __future__ import annotations

import asyncio
import socket
import threading
import urllib.error
from pathlib import Path
from typing import Any

import pytest

import hermes
from hermes import limits
from hermes.log.log import SqliteLog, open_log
from hermes.server import Server, serving
from hermes.server.endpoint import AddressError
from tests.e2e.rpc_calls import batch, config, opening, peer_of, request, results_of, subscribed
from tests.support.scraping import Scraped, scrape, scraped_until

ANY_PORT = "127.0.0.1:0"


def address_of(server: Server) -> str:
    assert server.metrics_address is not None
    return server.metrics_address


async def test_what_clients_do_is_seen(tmp_path: Path) -> None:
    settings = config(tmp_path, metrics_addr=ANY_PORT)
    async with serving(settings) as server, hermes.AsyncClient(server.address) as client:
        address = address_of(server)
        fresh = await scrape(address)
        assert (fresh["serving"], fresh["log_next_offset"], fresh["consumers"]) == (1, 0, 0)
        assert fresh.of("store_info") == {server.host().log.store_id: 1}
        assert ("process_resident_memory_bytes", "") in fresh.samples
        async with client.consume("billing", "orders.>", max_in_flight=2) as messages:
            for number in range(5):
                await client.publish(f"orders.{number}", b"x" * 1000)
            await client.publish("other", b"x")
            first = await anext(messages)
            busy = await scraped_until(
                address, lambda s: s.of("consumer_in_flight_messages") == {"billing": 2}
            )
            assert busy.of("consumer_lag_messages") == {"billing": 3}
            assert busy.of("consumer_members") == {"billing": 1}
            assert (busy["log_next_offset"], busy["in_flight_messages"]) == (6, 2)
            assert busy["log_last_lsn"] > fresh["log_last_lsn"]
            assert busy["log_commits_total"] > fresh["log_commits_total"]
            assert busy["log_bytes"] > 5000 and busy["log_segments"] == 1
            assert busy["streams"] >= 1
            await first.ack(wait=True)
            async for message in messages:
                await message.ack(wait=True)
                if message.subject == "orders.4":
                    break
            done = await scrape(address)
            assert done.of("consumer_in_flight_messages") == {"billing": 0}
            assert done.of("consumer_lag_messages") == {"billing": 0}
        # Nobody works for it any more: its lag is counted from the log, under its filter.
        await client.publish("orders.late", b"x")
        await client.publish("other", b"x")
        left = await scraped_until(address, lambda s: s.of("consumer_members") == {"billing": 0})
        assert left.of("consumer_lag_messages") == {"billing": 1}


async def test_dead_letters_and_what_waits(tmp_path: Path) -> None:
    settings = config(tmp_path, metrics_addr=ANY_PORT)
    async with serving(settings) as server, hermes.AsyncClient(server.address) as client:
        for subject in ("work.bad", "work.later"):
            await client.publish(subject, b"x")
        async with client.consume("workers", "work.>", backoff=(600, 600)) as messages:
            (await anext(messages)).reject("unreadable")
            (await anext(messages)).nack()
            found = await scraped_until(
                address_of(server),
                lambda s: s["dead_messages"] == 1 and s["waiting_messages"] == 1,
            )
        assert found.of("consumer_dead_messages") == {"workers": 1}
        assert found.of("consumer_waiting_messages") == {"workers": 1}


async def test_live_messages_that_were_lost() -> None:
    settings = config(None, metrics_addr=ANY_PORT, subscriber_channel_capacity=1)
    async with serving(settings) as server, peer_of(server) as peer:
        subscription = await subscribed(peer, b"prices")
        three = [batch("prices", b"x") for _ in range(3)]
        await results_of(peer, opening(), request(1, *three, live=True))
        lossy = await scraped_until(
            address_of(server), lambda s: s["live_dropped_messages_total"] > 0
        )
        assert (lossy["live_dropped_messages_total"], lossy["subscriptions"]) == (2, 1)
        assert not lossy.of("log_free_bytes"), "there is no disk to tell of"
        subscription.cancel()
        left = await scraped_until(address_of(server), lambda s: s["subscriptions"] == 0)
        assert left["live_dropped_messages_total"] == 2, "it does not go with the subscription"


async def test_consumers_beyond_the_limit_are_counted_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "METRICS_CONSUMERS_MAX", 2)
    settings = config(tmp_path, metrics_addr=ANY_PORT)
    async with serving(settings) as server, hermes.AsyncClient(server.address) as client:
        for number in range(4):
            await client.publish(f"n.{number}", b"x")
            async with client.consume(f"c{number}", "n.>", start="new"):
                pass
        found = await scraped_until(
            address_of(server), lambda s: sum(s.of("consumer_members").values()) == 0
        )
        assert found.of("consumer_lag_messages") == {"c0": 3, "c1": 2}
        assert (found["consumers"], found["consumers_left_out"]) == (4, 2)
        monkeypatch.setattr("hermes.server.metrics_reading.COUNT_SECS", -1.0)
        hurried = await scrape(address_of(server))
        assert hurried["consumers_uncounted"] == 3, "c3 is known to have caught up"
        assert set(hurried.of("consumer_lag_messages")) <= {"c3"}


async def test_a_sink_that_fails_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes.server.checkpoint_sinks.RETRY_SECS", 0.0)
    settings = config(
        tmp_path,
        metrics_addr=ANY_PORT,
        checkpoint_interval_secs=0.05,
        checkpoint_file=tmp_path / "checkpoints",
        checkpoint_command="false",
    )
    async with serving(settings) as server, hermes.AsyncClient(server.address) as client:
        await client.publish("a", b"x")

        def told(s: Scraped) -> bool:
            return (
                s.of("checkpoints_failed_total").get("command", 0) > 0
                and s.of("checkpoints_delivered_total").get("file", 0) > 0
            )

        found = await scraped_until(address_of(server), told)
        assert found.of("checkpoints_failed_total")["file"] == 0
        assert found.of("checkpoints_delivered_total")["command"] == 0


async def test_it_answers_while_the_log_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(*arguments: Any, **options: Any) -> SqliteLog:
        assert go_on.wait(10)
        return open_log(*arguments, **options)

    settings = config(tmp_path, metrics_addr=ANY_PORT)
    async with serving(settings) as server, hermes.AsyncClient(server.address) as client:
        address = address_of(server)
        await client.publish("a", b"x")
        monkeypatch.setattr("hermes.server.starting.open_log", slow)
        server.host().fail(OSError("broken"))
        away = await scraped_until(address, lambda s: s["log_failures_total"] == 1)
        assert away["serving"] == 0 and not away.of("log_next_offset")
        go_on.set()
        again = await scraped_until(address, lambda s: s["serving"] == 1)
        assert (again["log_reopenings_total"], again["log_next_offset"]) == (1, 1)
        assert again["log_last_outage_seconds"] > 0
        await client.publish("a", b"x")
        assert (await scrape(address))["log_next_offset"] == 2, "read through the new log"


async def test_a_loop_that_does_not_answer_fails_the_scrape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("hermes.server.metrics_endpoint.READ_SECS", 0.05)
    async with serving(config(tmp_path, metrics_addr=ANY_PORT)) as server:
        monkeypatch.setattr("hermes.server.metrics_reading._consumers", never)
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            await scrape(address_of(server))
        caught.value.close()


async def test_a_bug_is_a_status_and_not_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hermes.server.metrics_reading._consumers", None)
    async with serving(config(tmp_path, metrics_addr=ANY_PORT)) as server:
        with pytest.raises(urllib.error.HTTPError, match="500") as caught:
            await scrape(address_of(server))
        assert caught.value.read().startswith(b"internal error ")
        caught.value.close()


async def test_idle_connections_take_no_more_than_their_share(tmp_path: Path) -> None:
    async with serving(config(tmp_path, metrics_addr=ANY_PORT)) as server:
        address = address_of(server)
        host, _, port = address.rpartition(":")
        idle = [
            socket.create_connection((host, int(port))) for _ in range(limits.METRICS_REQUESTS_MAX)
        ]
        with socket.create_connection((host, int(port)), timeout=10) as one_more:
            assert await asyncio.to_thread(one_more.recv, 1) == b"", "turned away at once"
        for connection in idle:
            connection.close()
        await asyncio.to_thread(_first_answer, host, int(port))


def _first_answer(host: str, port: int) -> None:
    """Until a connection is let in again."""
    for _ in range(1000):
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            try:
                if connection.recv(8) == b"HTTP/1.0":
                    return
            except ConnectionResetError:
                continue
    raise AssertionError("nobody is let in any more")


async def test_the_address_is_given_back(tmp_path: Path) -> None:
    async with serving(config(tmp_path, metrics_addr=ANY_PORT)) as server:
        address = address_of(server)
        with pytest.raises(AddressError, match="for metrics: Address already in use"):
            async with serving(config(None, metrics_addr=address)):
                pass
    async with serving(config(tmp_path, metrics_addr=address)) as server:
        assert (await scrape(address))["serving"] == 1
    async with serving(config(tmp_path)) as server:
        assert server.metrics_address is None
        with pytest.raises(AddressError, match="--listen"):
            async with serving(config(None, listen_addr=server.address, metrics_addr=address)):
                pass
    async with serving(config(tmp_path, metrics_addr=address, listen_addr="[::1]:0")):
        pass
