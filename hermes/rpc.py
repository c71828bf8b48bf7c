"""The method table: every RPC's path, stream kind and message classes, and metadata keys.

Server and client both build their handlers and calls from this one table instead of
generated stubs. It knows names and classes only: no channel, no server, no behaviour.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec
from google.protobuf.message import Message

from hermes.admin.v1 import admin_pb2 as admin
from hermes.broker.v1 import broker_pb2 as broker

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

BROKER_SERVICE: Final = "hermes.broker.v1.Broker"
ADMIN_SERVICE: Final = "hermes.admin.v1.Admin"

# --- metadata the client sends with every RPC
CLIENT_NAME_KEY: Final = "hermes-client-name"  # chosen by the user, may be empty
CLIENT_VERSION_KEY: Final = "hermes-client-version"  # "python/0.1.0"
CLIENT_ID_KEY: Final = "hermes-client-id"  # random per client object, kept over reconnects

# --- trailing metadata the server sends with an error status; the details are the message.
ERROR_NAME_KEY: Final = "hermes-error"  # name of the class in hermes/errors.py
ERROR_HINT_KEY: Final = "hermes-hint"  # its hint, percent-encoded UTF-8 (urllib.parse.quote)


class Method(msgspec.Struct, Generic[RequestT, ResponseT], frozen=True):
    """One RPC. `service` is the full name, `path` what goes over the wire."""

    service: str
    name: str
    client_streaming: bool
    server_streaming: bool
    request_class: type[RequestT]
    response_class: type[ResponseT]

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


PUBLISH: Final = Method(
    BROKER_SERVICE, "Publish", True, False, broker.EventEnvelope, broker.PublishAck
)
SUBSCRIBE: Final = Method(
    BROKER_SERVICE, "Subscribe", False, True, broker.SubscribeRequest, broker.EventEnvelope
)
PUBLISH_DURABLE: Final = Method(
    BROKER_SERVICE, "PublishDurable", True, False, broker.EventEnvelope, broker.PublishDurableAck
)
SUBSCRIBE_DURABLE: Final = Method(
    BROKER_SERVICE,
    "SubscribeDurable",
    True,
    True,
    broker.DurableClientMessage,
    broker.DurableServerMessage,
)
PUBLISH_BATCHES: Final = Method(
    BROKER_SERVICE,
    "PublishBatches",
    True,
    True,
    broker.PublishBatchesRequest,
    broker.PublishBatchesResponse,
)
CONSUME: Final = Method(
    BROKER_SERVICE, "Consume", True, True, broker.ConsumeRequest, broker.ConsumeResponse
)
SUBSCRIBE_BATCHES: Final = Method(
    BROKER_SERVICE,
    "SubscribeBatches",
    True,
    True,
    broker.SubscribeBatchesRequest,
    broker.SubscribeBatchesResponse,
)
READ: Final = Method(BROKER_SERVICE, "Read", False, True, broker.ReadRequest, broker.ReadResponse)

GET_SERVER: Final = Method(
    ADMIN_SERVICE, "GetServer", False, False, admin.GetServerRequest, admin.ServerInfo
)
LIST_CONSUMERS: Final = Method(
    ADMIN_SERVICE,
    "ListConsumers",
    False,
    False,
    admin.ListConsumersRequest,
    admin.ListConsumersResponse,
)
GET_CONSUMER: Final = Method(
    ADMIN_SERVICE, "GetConsumer", False, False, admin.GetConsumerRequest, admin.ConsumerDetail
)
DELETE_CONSUMER: Final = Method(
    ADMIN_SERVICE,
    "DeleteConsumer",
    False,
    False,
    admin.DeleteConsumerRequest,
    admin.DeleteConsumerResponse,
)
LIST_DEAD_LETTERS: Final = Method(
    ADMIN_SERVICE,
    "ListDeadLetters",
    False,
    False,
    admin.ListDeadLettersRequest,
    admin.ListDeadLettersResponse,
)
GET_DEAD_LETTER: Final = Method(
    ADMIN_SERVICE,
    "GetDeadLetter",
    False,
    False,
    admin.GetDeadLetterRequest,
    admin.DeadLetterDetail,
)
REPLAY_DEAD_LETTERS: Final = Method(
    ADMIN_SERVICE,
    "ReplayDeadLetters",
    False,
    False,
    admin.SelectDeadLetters,
    admin.DeadLetterOutcome,
)
DISCARD_DEAD_LETTERS: Final = Method(
    ADMIN_SERVICE,
    "DiscardDeadLetters",
    False,
    False,
    admin.SelectDeadLetters,
    admin.DeadLetterOutcome,
)
BACKUP: Final = Method(
    ADMIN_SERVICE, "Backup", False, True, admin.BackupRequest, admin.BackupProgress
)
PLAN_GC: Final = Method(ADMIN_SERVICE, "PlanGc", False, True, admin.PlanGcRequest, admin.GcProgress)
RUN_GC: Final = Method(ADMIN_SERVICE, "RunGc", False, True, admin.RunGcRequest, admin.GcProgress)

BROKER_METHODS: Final = (
    PUBLISH,
    SUBSCRIBE,
    PUBLISH_DURABLE,
    SUBSCRIBE_DURABLE,
    PUBLISH_BATCHES,
    CONSUME,
    SUBSCRIBE_BATCHES,
    READ,
)
ADMIN_METHODS: Final = (
    GET_SERVER,
    LIST_CONSUMERS,
    GET_CONSUMER,
    DELETE_CONSUMER,
    LIST_DEAD_LETTERS,
    GET_DEAD_LETTER,
    REPLAY_DEAD_LETTERS,
    DISCARD_DEAD_LETTERS,
    BACKUP,
    PLAN_GC,
    RUN_GC,
)
