"""Forks: old clients and new AsyncClients say no at once, a new Client works.

Each case runs in a process of its own, so that the forks meet threads of this client
only. The broker is a third process: it must outlive both sides of the fork.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_BROKER = """
import asyncio
from hermes.broker.v1 import broker_pb2 as pb
from tests.unit.client.fake_broker import fake_broker, consume_opened, delivery, publish_opened

async def publishers(broker):
    while True:
        stream = await broker._queue("PublishBatches").get()
        asyncio.create_task(answer(stream))

async def answer(stream):
    while (request := await stream._requests.get()) is not None:
        if request.HasField("open"):
            await stream.send(publish_opened())
        for index in range(len(request.batches)):
            result = pb.PublishResult(sequence=request.sequence + index, batches=1, base_offset=7)
            await stream.send(pb.PublishBatchesResponse(results=[result]))
    stream.end()

async def members(broker):
    while True:
        stream = await broker._queue("Consume").get()
        await stream.send(consume_opened())
        await stream.send(pb.ConsumeResponse(deliveries=[delivery(3, b"x")]))

async def main():
    async with fake_broker() as broker:
        print(broker.address, flush=True)
        await asyncio.gather(publishers(broker), members(broker))

asyncio.run(main())
"""

_PRELUDE = """
import asyncio, multiprocessing, os, sys, threading, time
import hermes
from hermes.errors import ForkedProcessError

addr = sys.argv[1]

def in_child(work):
    def child():
        threading.Timer(8, os._exit, (9,)).start()  # a hang fails the test, not the run
        started = time.monotonic()
        work()
        os._exit(0 if time.monotonic() - started < limit else 7)
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return process.exitcode

limit = 1.0

def raises(call):
    try:
        call()
    except ForkedProcessError as error:
        assert "fork" in str(error)
    else:
        os._exit(5)
"""

_INHERITED_SYNC = """
with hermes.Client(addr, close_timeout=0.2) as client:
    assert client.publish("a", b"x").offset == 7
    with client.consume("c", ">") as messages, client.consume("d", ">") as others:
        message = next(messages)
        publisher = client.publisher()
        receipt = publisher.send("a", b"x")
        assert receipt.result().offset == 7
        def work():
            raises(lambda: client.publish("a", b"x"))
            raises(lambda: publisher.send("a", b"x"))
            raises(publisher.flush)
            raises(client.publisher)
            raises(lambda: next(messages.batches()))
            raises(lambda: client.subscribe("a"))
            raises(lambda: next(messages))
            raises(lambda: messages.fetch(1))
            raises(lambda: others.run(lambda m: None))
            raises(message.ack)
            messages.close()  # leaves the parent's lease alone
            client.close()
        assert in_child(work) == 0
        message.ack()
    assert client.publish("a", b"x").offset == 7  # the parent goes on
"""

_NEW_SYNC_AFTER_SYNC = """
limit = 6.0
with hermes.Client(addr, close_timeout=0.2) as client:
    assert client.publish("a", b"x").offset == 7
    def work():
        with hermes.Client(addr, close_timeout=0.2) as mine:
            assert mine.publish("a", b"x").offset == 7
            with mine.consume("c", ">") as messages:
                assert next(messages).payload == b"x"
    for _ in range(3):
        assert in_child(work) == 0
    assert client.publish("a", b"x").offset == 7
"""

# Of such children one in three died before the poller had a stack of its own size.
_NEW_SYNC_AFTER_ASYNCIO = """
limit = 6.0
async def main():
    async with hermes.AsyncClient(addr, close_timeout=0.2) as client:
        assert (await client.publish("a", b"x")).offset == 7
        def work():
            with hermes.Client(addr, close_timeout=0.2) as mine:
                assert mine.publish("a", b"x").offset == 7
        for _ in range(10):
            assert in_child(work) == 0
        assert (await client.publish("a", b"x")).offset == 7
asyncio.run(main())
"""

_INHERITED_AND_NEW_ASYNCIO = """
async def main():
    async with hermes.AsyncClient(addr, close_timeout=0.2) as client:
        assert (await client.publish("a", b"x")).offset == 7
        async with client.consume("c", ">") as messages:
            message = await anext(messages)
            def drive(coroutine):
                try:
                    coroutine.send(None)
                except StopIteration:
                    return
                coroutine.close()
                os._exit(6)  # it waits for something that cannot come
            publisher = client.publisher()
            assert (await (await publisher.send("a", b"x"))).offset == 7
            await publisher.send("a", b"x")  # a batch that may be added to
            def work():
                raises(lambda: drive(client.publish("a", b"x")))
                raises(lambda: drive(publisher.send("a", b"x")))
                raises(lambda: drive(publisher.flush()))
                raises(lambda: drive(messages.__anext__()))
                raises(lambda: drive(messages.batches().__anext__()))
                raises(lambda: drive(messages.fetch(1)))
                raises(message.ack)
                raises(lambda: client.read("a"))
                raises(lambda: hermes.AsyncClient(addr))
                drive(messages.aclose())
                drive(client.aclose())
            assert in_child(work) == 0
            assert (await client.publish("a", b"x")).offset == 7
asyncio.run(main())
"""

_NEW_ASYNCIO_AFTER_SYNC = """
with hermes.Client(addr, close_timeout=0.2) as client:
    assert in_child(lambda: raises(lambda: hermes.AsyncClient(addr))) == 0
"""

_ASYNCIO_IN_A_CHILD_OF_A_PARENT_THAT_ONLY_IMPORTED = """
limit = 6.0
hermes.AsyncClient
def work():
    async def main():
        async with hermes.AsyncClient(addr, close_timeout=0.2) as client:
            assert (await client.publish("a", b"x")).offset == 7
    asyncio.run(main())
assert in_child(work) == 0
"""


@pytest.fixture(scope="module")
def addr() -> Iterator[str]:
    root = Path(__file__).resolve().parents[3]
    broker = subprocess.Popen(
        [sys.executable, "-c", _BROKER], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert broker.stdout is not None
    yield broker.stdout.readline().strip()
    broker.kill()
    broker.wait()
    broker.stdout.close()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(_INHERITED_SYNC, id="inherited Client"),
        pytest.param(_NEW_SYNC_AFTER_SYNC, id="new Client after Client"),
        pytest.param(_NEW_SYNC_AFTER_ASYNCIO, id="new Client after AsyncClient"),
        pytest.param(_INHERITED_AND_NEW_ASYNCIO, id="inherited and new AsyncClient"),
        pytest.param(_NEW_ASYNCIO_AFTER_SYNC, id="new AsyncClient after Client"),
        pytest.param(_ASYNCIO_IN_A_CHILD_OF_A_PARENT_THAT_ONLY_IMPORTED, id="only imported"),
    ],
)
def test_fork(addr: str, case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PRELUDE + case, addr],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
