"""Who takes part: each name with its server, its client driver and its share of the work.

The share keeps rounds about equally long: a contender's message counts are the
workload's times its share. Rates do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from hermes_bench.hermes_client import HermesClient
from hermes_bench.hermes_idle import HermesIdle
from hermes_bench.hermes_live import HermesLive
from hermes_bench.hermes_system import HermesSystem
from hermes_bench.hermes_v1 import HermesV1
from hermes_bench.kafka_peer import KafkaDriver, KafkaSystem
from hermes_bench.nats_peer import NatsDriver, NatsSystem
from hermes_bench.port import Driver, System
from hermes_bench.redis_peer import RedisDriver, RedisSystem


class Contender(msgspec.Struct, frozen=True):
    """A server and a client. `system` makes a fresh one each time."""

    name: str
    title: str
    driver: str  # a key of DRIVERS
    system: Callable[[], System]
    share: float = 1.0


DRIVERS: Final[dict[str, Callable[[], Driver]]] = {
    "hermes-raw": HermesLive,
    "hermes": HermesClient,
    "hermes-v1": HermesV1,
    "hermes-idle": HermesIdle,
    "nats": NatsDriver,
    "nats-pull": lambda: NatsDriver(pull=True),
    "redis": RedisDriver,
    "kafka": KafkaDriver,
}


def contenders(kafka: str = "") -> dict[str, Contender]:
    """All of them by name, in the order of the table. `kafka` is its address, if any."""
    every = (
        Contender("hermes-raw", "Hermes, raw native RPCs", "hermes-raw", HermesSystem),
        Contender("hermes", "Hermes, AsyncClient", "hermes", HermesSystem),
        Contender("hermes-v1", "Hermes, v1 RPCs", "hermes-v1", HermesSystem),
        Contender("nats", "NATS JetStream, push", "nats", NatsSystem, 0.1),
        Contender("nats-pull", "NATS JetStream, fetch", "nats-pull", NatsSystem, 0.05),
        Contender(
            "nats-sync",
            "NATS JetStream, sync always",
            "nats",
            lambda: NatsSystem(sync_always=True),
            0.05,
        ),
        Contender("redis", "Redis Streams, fsync always", "redis", RedisSystem, 0.2),
        Contender("kafka", "Kafka", "kafka", lambda: KafkaSystem(kafka), 0.2),
    )
    return {contender.name: contender for contender in every}
