"""The drivers and checks against real servers, with a few messages each.

A peer that is not on the machine is skipped by name. What a check must find is shown by
telling it of one message too many.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hermes_bench import floor, kafka_peer, watchers
from hermes_bench.contenders import contenders
from hermes_bench.crew import run_together
from hermes_bench.jobs import Job, Outcome, Role
from hermes_bench.kafka_peer import KafkaSystem
from hermes_bench.port import CheckFailedError, System, UnavailableError
from hermes_bench.scenarios import sample
from hermes_bench.setting import Setting
from hermes_bench.workloads import Workload, select

EVERY = contenders()
MESSAGES = 400


def small(name: str, **changes: Any) -> Workload:
    """A workload of the table, cut down."""
    (workload,) = select([name], full=True)
    changes = {"messages": MESSAGES, "batch": 100, **changes}
    return msgspec.structs.replace(workload, **changes)


def available(name: str) -> None:
    try:
        EVERY[name].system().version()
    except UnavailableError as missing:
        pytest.skip(str(missing))


def run_small(workload: Workload, contender: str, folder: Path, **setting: Any) -> Any:
    whole = msgspec.structs.replace(EVERY[contender], share=1.0)
    found = sample(Setting(workload, whole, folder, False, **setting), 1)
    assert found.error == ""
    assert found.value > 0
    return found


@pytest.mark.parametrize("name", ["hermes", "nats-pull"])
def test_end_to_end(name: str, tmp_path: Path) -> None:
    available(name)
    run_small(small("end-to-end"), name, tmp_path)


@pytest.mark.parametrize("name", ["hermes", "nats", "redis"])
def test_paced(name: str, tmp_path: Path) -> None:
    available(name)
    extras = run_small(small("paced", batch=1, seconds=0.2), name, tmp_path).extras
    assert extras["messages_per_s"] == 2_000
    assert 0 < extras["p50_ms"] <= extras["p99_ms"] <= extras["max_ms"]


def test_awaited(tmp_path: Path) -> None:
    run_small(small("await-64", batch=1), "hermes", tmp_path)


@pytest.mark.parametrize("name", ["hermes-raw", "hermes", "nats"])
def test_fanout(name: str, tmp_path: Path) -> None:
    available(name)
    assert run_small(small("fanout", concurrency=3), name, tmp_path).extras["lost"] == 0


def test_v1_sees_what_native_published(tmp_path: Path) -> None:
    run_small(small("v1-consume", batch=1), "hermes-v1", tmp_path)


def test_watched_tells_of_every_watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: watchers.WATCHERS[name] for name in ("follow", "export")}
    monkeypatch.setattr(watchers, "WATCHERS", few | {"screen": watchers.WATCHERS["screen"]})
    found = run_small(small("watched"), "hermes-raw", tmp_path)
    assert found.extras["follow"] == found.value
    assert all(found.extras[name] > 0 for name in ("export", "screen"))


def test_a_watcher_that_ends_badly_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = {"screen": ("log",), "typo": ("no-such-command",)}
    monkeypatch.setattr(watchers, "WATCHERS", watching)
    found = sample(Setting(small("watched"), EVERY["hermes-raw"], tmp_path, False), 1)
    assert found.error == "hermes-inspect no-such-command ended with 2"


def test_restart_tells_the_size_of_the_store(tmp_path: Path) -> None:
    found = run_small(small("restart"), "hermes-raw", tmp_path)
    assert found.extras["store_gb"] * 1e9 > MESSAGES * 4096


def job(role: Role, address: str, driver: str) -> Job:
    return Job(driver, role, address, MESSAGES, 100, 100)


@pytest.mark.parametrize("name", ["hermes-raw", "nats", "redis"])
def test_a_message_too_many_is_found(name: str, tmp_path: Path) -> None:
    available(name)
    contender = EVERY[name]
    system = contender.system()
    address = system.start(tmp_path)
    try:
        consuming = job(Role.CONSUME, address, contender.driver)
        producing = job(Role.PRODUCE, address, contender.driver)
        consumed, published = run_together(tmp_path, consuming, producing)
        system.check(published, consumed, consuming)
        refused(system, Outcome(messages=MESSAGES + 1), None, consuming)
    finally:
        system.stop()
    system.check_stopped(published, consumed, consuming)
    if name == "hermes-raw":
        with pytest.raises(CheckFailedError, match="offsets in the store"):
            system.check_stopped(Outcome(messages=MESSAGES + 1), None, consuming)
        with pytest.raises(CheckFailedError, match="offsets delivered"):
            system.check_stopped(None, Outcome(messages=MESSAGES + 1), consuming)


def refused(system: System, published: Outcome, consumed: Outcome | None, told: Job) -> None:
    with pytest.raises(CheckFailedError):
        system.check(published, consumed, told)


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    nobody = job(Role.PRODUCE, "127.0.0.1:1", "redis")
    available("redis")
    with pytest.raises(CheckFailedError, match=r"redis could not produce: .*ConnectionError"):
        run_together(tmp_path, nobody)


@pytest.fixture
def kafka_address() -> Iterator[str]:
    """librdkafka's mock of a cluster, in this process."""
    kafka = pytest.importorskip("confluent_kafka")
    admin = pytest.importorskip("confluent_kafka.admin")
    client = admin.AdminClient({"test.mock.num.brokers": 1})
    (broker,) = client.list_topics(timeout=10).brokers.values()
    assert kafka.version()
    yield f"{broker.host}:{broker.port}"
    del client


def test_kafka_at_an_address(
    kafka_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The mock does not create topics on request, but when somebody asks for one.
    monkeypatch.setattr(KafkaSystem, "_create", lambda _self, _topic: None)
    system = KafkaSystem(kafka_address)
    assert kafka_address in system.version()
    address = system.start(tmp_path)
    consuming, producing = (job(role, address, "kafka") for role in (Role.CONSUME, Role.PRODUCE))
    consumed, published = run_together(tmp_path, consuming, producing)
    assert (consumed.messages, consumed.bytes) == (MESSAGES, MESSAGES * 100)
    system.check(published, consumed, consuming)
    refused(system, Outcome(messages=MESSAGES + 1), None, consuming)


async def test_kafkas_news_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    # Found by a run in which the topic was not known to the consumer at once: librdkafka
    # says so in place of a message, and it was counted as one, so that a message was missing.
    unknown = 3
    said = [FakeMessage(code=unknown), *[FakeMessage(b"12345678")] * 3]
    consumer = FakeConsumer([said[:1], said[1:2], said[:3], said])
    errors = SimpleNamespace(KafkaError=SimpleNamespace(UNKNOWN_TOPIC_OR_PART=unknown))
    monkeypatch.setattr(kafka_peer, "_kafka", lambda: errors)
    driver = kafka_peer.KafkaDriver()
    driver._consumer = consumer
    outcome = Outcome()
    await driver.consume_all(Job("kafka", Role.CONSUME, "", 6, 8, 100), outcome)
    assert (outcome.messages, outcome.bytes) == (6, 48)
    assert all(message.code is None for message in consumer.stored)
    consumer.answers = [[FakeMessage(code=unknown + 1)]]
    with pytest.raises(CheckFailedError):
        await driver.consume_all(Job("kafka", Role.CONSUME, "", 7, 8, 100), outcome)


class FakeMessage:
    """A message, or with a code what librdkafka says in place of one."""

    def __init__(self, value: bytes | None = None, code: int | None = None) -> None:
        self._value = value
        self.code = code

    def value(self) -> bytes | None:
        return self._value

    def error(self) -> Any:
        return None if self.code is None else SimpleNamespace(code=lambda: self.code)


class FakeConsumer:
    """Gives what it was told to, in its order."""

    def __init__(self, answers: list[list[FakeMessage]]) -> None:
        self.answers = answers
        self.stored: list[FakeMessage] = []

    def consume(self, count: int, timeout: float) -> list[FakeMessage]:
        assert count > 0 and timeout > 0
        return self.answers.pop(0)

    def store_offsets(self, message: FakeMessage) -> None:
        self.stored.append(message)

    def commit(self, *, asynchronous: bool) -> None:
        pass


def test_kafka_without_an_address_is_named() -> None:
    with pytest.raises(UnavailableError, match="no address given"):
        KafkaSystem().version()


def test_the_floor_has_every_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "SECONDS", 0.02)
    rates = floor.measure(tmp_path)
    assert set(rates) == {
        *(floor.FSYNC, floor.ROWS_1, floor.ROWS_1000),
        *(floor.BLOB, floor.FRAMES, floor.FRAMES_256K),
    }
    assert min(rates.values()) > 0
