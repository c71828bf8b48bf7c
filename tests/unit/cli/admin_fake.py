"""A broker of three consumers and a few dead letters, as the Admin service shows it.

Serves the real RPC table over real gRPC, with pages of two, so that clients must page.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from hermes import rpc
from hermes.admin.v1 import admin_pb2 as pb
from hermes.broker.v1 import broker_pb2

AT_NS = 1_767_225_600_000_000_000
PAGE = 2


class FakeAdmin:
    """State and handlers. `calls` keeps every request that changed something."""

    def __init__(self) -> None:
        self.consumers = {
            name: pb.Consumer(
                name=name,
                filters=["orders.>"],
                position=10,
                lag=1_200,
                in_flight=2,
                waiting=1,
                dead=3,
                members=1,
                created_at_ns=AT_NS,
                ack_timeout_ns=30_000_000_000,
                max_attempts=5,
                backoff=broker_pb2.Backoff(initial_ns=10**9, max_ns=300 * 10**9),
                oldest_unacked_offset=4,
                withheld=[
                    pb.Withheld(
                        first_lsn=9, first_offset=20, last_offset=39, unread=20, unsettled=1
                    )
                ][: name == "billing"],
                pin=pb.GcPin(consumer=name, offset=4, what="waiting"),
            )
            for name in ("billing", "evil\x1b[31m", "shipping")
        }
        self.dead = {
            offset: pb.DeadLetter(
                consumer="billing",
                offset=offset,
                subject="orders.created",
                message_id=f"id-{offset}",
                attempts=6,
                failures=5,
                reason="ValueError: no\x1b such order",
                dead_at_ns=AT_NS,
            )
            for offset in (0, 4, 9)
        }
        self.changes: list[pb.SelectDeadLetters] = []

    def handlers(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "GetServer": lambda _: pb.ServerInfo(version="9.9", next_offset=12),
            "ListConsumers": self.list_consumers,
            "GetConsumer": self.get_consumer,
            "DeleteConsumer": self.delete_consumer,
            "ListDeadLetters": self.list_dead_letters,
            "GetDeadLetter": self.get_dead_letter,
            "ReplayDeadLetters": self.settle,
            "DiscardDeadLetters": self.settle,
        }

    def list_consumers(self, request: pb.ListConsumersRequest) -> pb.ListConsumersResponse:
        names = sorted(name for name in self.consumers if name > request.after)
        more = names[PAGE - 1] if len(names) > PAGE else ""
        page = [self.consumers[name] for name in names[:PAGE]]
        return pb.ListConsumersResponse(consumers=page, next=more)

    def get_consumer(self, request: pb.GetConsumerRequest) -> pb.ConsumerDetail:
        member = pb.Member(
            member=3,
            peer="ipv4:127.0.0.1:5",
            client_name="worker",
            client_version="python/1",
            in_flight=2,
            credit=broker_pb2.Credit(messages=1_000, bytes=2**20),
        )
        return pb.ConsumerDetail(consumer=self._known(request.name), members=[member])

    def delete_consumer(self, request: pb.DeleteConsumerRequest) -> pb.DeleteConsumerResponse:
        self._known(request.name)
        del self.consumers[request.name]
        return pb.DeleteConsumerResponse(unsettled=1_206)

    def list_dead_letters(self, request: pb.ListDeadLettersRequest) -> pb.ListDeadLettersResponse:
        begin = int(request.page_token or 0)
        chosen = [dead for dead in self.dead.values() if request.consumer in ("", dead.consumer)]
        more = str(begin + PAGE) if len(chosen) > begin + PAGE else ""
        return pb.ListDeadLettersResponse(
            dead_letters=chosen[begin : begin + PAGE], next_page_token=more
        )

    def get_dead_letter(self, request: pb.GetDeadLetterRequest) -> pb.DeadLetterDetail:
        if request.consumer != "billing" or request.offset not in self.dead:
            raise KeyError(f"no dead letter {request.offset} of {request.consumer}")
        content = broker_pb2.BatchContent(
            payloads=[b"first", b"sec\x1bond"],
            headers=[broker_pb2.Headers(), broker_pb2.Headers(entries={"k": "v"})],
        )
        batch = broker_pb2.Batch(subject="orders.created", content=content.SerializeToString())
        return pb.DeadLetterDetail(
            dead_letter=self.dead[request.offset],
            message=broker_pb2.Delivery(
                base_offset=request.offset - 1, batch=batch, published_at_ns=AT_NS
            ),
            attempts=[
                pb.Attempt(lsn=2, at_ns=AT_NS, kind="delivered", attempt=1, member=3),
                pb.Attempt(lsn=3, at_ns=AT_NS, kind="nacked", attempt=1, reason="no"),
            ],
        )

    def settle(self, request: pb.SelectDeadLetters) -> pb.DeadLetterOutcome:
        self._known(request.consumer)
        matched = [o for o in self.dead if o in request.offsets or not request.offsets]
        if not request.dry_run:
            self.changes.append(request)
        changed = 0 if request.dry_run else len(matched)
        return pb.DeadLetterOutcome(matched=len(matched), changed=changed, offsets=matched)

    def _known(self, name: str) -> pb.Consumer:
        if name not in self.consumers:
            raise KeyError(f"no consumer {name}")
        return self.consumers[name]


@contextmanager
def serving(fake: FakeAdmin) -> Iterator[str]:
    """The address at which `fake` answers."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    methods = {
        method.name: grpc.unary_unary_rpc_method_handler(
            _answer(fake.handlers()[method.name]),
            request_deserializer=method.request_class.FromString,
            response_serializer=method.response_class.SerializeToString,
        )
        for method in rpc.ADMIN_METHODS
        if not method.server_streaming
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(rpc.ADMIN_SERVICE, methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def _answer(handler: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return handler(request)
        except KeyError as missing:
            context.set_trailing_metadata(
                ((rpc.ERROR_NAME_KEY, "NotFoundError"), (rpc.ERROR_HINT_KEY, "look%20again"))
            )
            context.abort(grpc.StatusCode.NOT_FOUND, str(missing.args[0]))

    return answer
