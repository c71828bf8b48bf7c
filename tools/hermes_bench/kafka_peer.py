"""Kafka by confluent-kafka, only where an address is given: the bench starts none.

The broker decides what is synced when; the figure says so by being labelled with the
address. Producing is idempotent with acks from all replicas; consuming commits its
position after each batch, or stores it per message and commits at the end of each
batch, as Kafka acks positions and not messages.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any, Final

from hermes.clock import SystemClock
from hermes_bench.jobs import Job, Outcome
from hermes_bench.payloads import RING
from hermes_bench.port import BaseDriver, CheckFailedError, UnavailableError

_TIMEOUT_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 30.0

_CLOCK: Final = SystemClock()


def _kafka() -> Any:
    try:
        import confluent_kafka
        import confluent_kafka.admin
    except ImportError as error:
        raise UnavailableError(
            "confluent-kafka is not installed (the extra `bench` has it)"
        ) from error
    return confluent_kafka


def _is_news(error: Any) -> bool:
    """A topic just made may be unknown to the consumer for a moment: no message, no failure.

    Raises CheckFailedError for every other error.
    """
    if error is None:
        return False
    if error.code() != _kafka().KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise CheckFailedError(str(error))
    return True


class KafkaSystem:
    """A Kafka cluster that runs already. Each start makes a topic of its own."""

    def __init__(self, servers: str = "") -> None:
        """`servers` is HOST:PORT, or several joined by commas."""
        self._servers = servers
        self._topic = ""

    def version(self) -> str:
        if not self._servers:
            raise UnavailableError("no address given (--kafka HOST:PORT)")
        return f"Kafka at {self._servers}, confluent-kafka {_kafka().version()[0]}"

    def start(self, folder: Path) -> str:  # noqa: ARG002
        """The address is HOST:PORT/TOPIC."""
        topic = f"bench-{secrets.token_hex(4)}"
        self._create(topic)
        self._topic = topic
        return f"{self._servers}/{topic}"

    def _create(self, topic: str) -> None:
        kafka = _kafka()
        admin = kafka.admin.AdminClient({"bootstrap.servers": self._servers})
        created = admin.create_topics([kafka.admin.NewTopic(topic, 1, 1)])
        try:
            created[topic].result(_TIMEOUT_SECONDS)
        except Exception as error:
            raise UnavailableError(f"Kafka at {self._servers}: {error}") from error

    def rss_bytes(self) -> int:
        return 0

    def check(self, published: Outcome | None, consumed: Outcome | None, job: Job) -> None:
        kafka = _kafka()
        consumer = kafka.Consumer({"bootstrap.servers": self._servers, "group.id": job.consumer})
        try:
            numbers = consumer.list_topics(self._topic, timeout=_TIMEOUT_SECONDS)
            parts = [
                kafka.TopicPartition(self._topic, number)
                for number in numbers.topics[self._topic].partitions
            ]
            ends = [
                consumer.get_watermark_offsets(part, timeout=_TIMEOUT_SECONDS) for part in parts
            ]
            held = sum(high - low for low, high in ends)
            if published is not None and held != published.messages:
                raise CheckFailedError(f"the topic holds {held} of {published.messages}")
            if consumed is not None:
                places = consumer.committed(parts, timeout=_TIMEOUT_SECONDS)
                acked = sum(max(0, place.offset) for place in places)
                if acked != consumed.messages:
                    raise CheckFailedError(f"committed {acked} of {consumed.messages}")
        finally:
            consumer.close()

    def stop(self) -> None:
        """Drop the topic; the cluster is not ours."""
        if self._topic:
            admin = _kafka().admin.AdminClient({"bootstrap.servers": self._servers})
            admin.delete_topics([self._topic])[self._topic].result(_TIMEOUT_SECONDS)
            self._topic = ""

    def check_stopped(self, published: Outcome | None, consumed: Outcome | None, job: Job) -> None:
        """Nothing: the cluster was asked while it ran."""


class KafkaDriver(BaseDriver):
    """One producer or one consumer of a topic with one partition."""

    def __init__(self) -> None:
        self._producer: Any = None
        self._consumer: Any = None
        self._polling: asyncio.Task[None] | None = None

    async def open(self, job: Job) -> None:
        servers, self._topic = job.address.split("/")
        kafka = _kafka()
        if job.role == "consume":
            self._consumer = kafka.Consumer(
                {
                    "bootstrap.servers": servers,
                    "group.id": job.consumer,
                    "auto.offset.reset": "earliest",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                }
            )
            self._consumer.subscribe([self._topic])
        else:
            self._producer = kafka.Producer(
                {
                    "bootstrap.servers": servers,
                    "enable.idempotence": True,
                    "queue.buffering.max.messages": 1_000_000,
                    # Awaited one by one, lingering would be all that is measured.
                    "linger.ms": 5 if job.role == "produce" else 0,
                }
            )
            # Metadata is fetched before the start.
            self._producer.list_topics(self._topic, timeout=_TIMEOUT_SECONDS)

    async def publish_all(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        def on_delivery(error: object, message: object) -> None:  # noqa: ARG001
            if error is None:
                outcome.messages += 1

        producer = self._producer
        outcome.started_ns = _CLOCK.monotonic_ns()
        for number in range(job.messages):
            while True:
                try:
                    producer.produce(self._topic, payloads[number % RING], on_delivery=on_delivery)
                    break
                except BufferError:
                    producer.poll(0.1)
            if number % 1_000 == 0:
                producer.poll(0)
        producer.flush()
        outcome.ended_ns = _CLOCK.monotonic_ns()

    async def consume_all(self, job: Job, outcome: Outcome) -> None:
        consumer = self._consumer
        while outcome.messages < job.messages:
            fetched = consumer.consume(job.batch, timeout=_SILENCE_SECONDS)
            if not fetched:
                raise CheckFailedError(f"nothing came after {outcome.messages} messages")
            got = [message for message in fetched if not _is_news(message.error())]
            if not got:
                continue
            outcome.bytes += sum(len(message.value()) for message in got)
            outcome.messages += len(got)
            if job.by_message:
                for message in got:
                    consumer.store_offsets(message)
            else:
                consumer.store_offsets(got[-1])
            done = outcome.messages >= job.messages
            consumer.commit(asynchronous=not done)
        outcome.ended_ns = _CLOCK.monotonic_ns()

    async def publish_one(self, subject: str, payload: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self._polling is None:
            self._polling = loop.create_task(self._poll())
        answered: asyncio.Future[None] = loop.create_future()

        def on_delivery(error: object, message: object) -> None:  # noqa: ARG001
            if error is None:
                answered.set_result(None)
            else:
                answered.set_exception(CheckFailedError(str(error)))

        self._producer.produce(self._topic, payload, key=subject, on_delivery=on_delivery)
        await answered

    async def _poll(self) -> None:
        """Deliver callbacks on the loop. librdkafka sends by itself."""
        while True:
            self._producer.poll(0)
            await asyncio.sleep(0)

    async def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
        if self._consumer is not None:
            self._consumer.close()
