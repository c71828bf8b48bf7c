"""One stream each: who calls, what wakes its writer, and how the broker ends it.

A stream has one reader (a task that takes requests) and one writer loop (the handler
itself). Whatever becomes ready, by a commit, a delivery or the reader, wakes the writer;
it merges all of it into the next frame. So frames grow with load and stay immediate when
idle, and no message costs a task.

A stream ends in one of three ways: the client is done (half-close), the client or its
connection is gone (grpc cancels the handler), or the broker ends it (`end`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message

from hermes import limits, rpc
from hermes.broker.engine import Engine
from hermes.broker.session import Client, Session
from hermes.broker.v1 import broker_pb2
from hermes.errors import HermesError, UnavailableError

Context = grpc.aio.ServicerContext[Any, Any]

# When a connection breaks, grpc tells of the end of requests first and cancels the
# handler right after. Only a stream that is still whole then was closed on purpose.
_CANCEL_LAG_SECS: Final = 0.02


class Stream:
    """An RPC that lasts. Made by `Streams.opened`."""

    def __init__(self, context: Context, session: Session, *, told_of_drain: bool) -> None:
        self.context = context
        self.session = session
        self.error: HermesError | None = None  # why the broker ends it
        self._told_of_drain = told_of_drain
        self._drain: broker_pb2.Drain | None = None
        self._registered = False  # initial metadata is due
        self._ready = asyncio.Event()
        self._task = asyncio.current_task()
        self._blocked = False  # in an await that only a cancellation ends

    # ------------------------------------------------------- from the broker

    def wake(self) -> None:
        """Something is ready for the writer. Never blocks."""
        self._ready.set()

    def end(self, error: HermesError) -> None:
        """The broker ends the stream with this error, at once. The first reason counts."""
        if self.error is not None:
            return
        self.error = error
        self._ready.set()
        if self._blocked and self._task is not None:
            self._task.cancel()  # the client does not go on; do not wait for it

    def drain(self, reason: str, grace_ms: int) -> None:
        """Ask the client to leave; end the stream if it cannot be asked."""
        if self._told_of_drain:
            self._drain = broker_pb2.Drain(reason=reason, grace_ms=grace_ms)
            self._ready.set()
        else:
            self.end(stopping_error())

    def take_drain(self) -> broker_pb2.Drain | None:
        """The drain notice that is to be sent, once."""
        drain, self._drain = self._drain, None
        return drain

    # ----------------------------------------------------------- the handler

    def registered(self) -> None:
        """Tell the client so, by initial metadata. For readers: only the writer may send."""
        self._registered = True
        self._ready.set()

    async def pump(
        self,
        read: Coroutine[Any, Any, None],
        take: Callable[[], Message | None],
        busy: Callable[[], bool],
    ) -> None:
        """Read and write until the client is done, or the broker ends the stream.

        `take` merges what is ready into one frame (None: nothing); `busy` says whether
        answers are still to come. Raises what `read` raised, after they have been sent,
        or what the broker ended the stream with, at once.
        """
        reader = asyncio.create_task(read)
        reader.add_done_callback(lambda _: self.wake())
        try:
            while True:
                self._ready.clear()
                self.raise_if_ended()
                if self._registered:
                    self._registered = False
                    await self.context.send_initial_metadata(())
                frame = take()
                if frame is not None:
                    await self.write(frame)
                elif reader.done() and not busy():
                    reader.result()
                    await asyncio.sleep(_CANCEL_LAG_SECS)
                    return
                else:
                    await self._ready.wait()
        finally:
            reader.cancel()
            if reader.done() and not reader.cancelled():
                reader.exception()  # seen: what ended the stream counts more

    async def write(self, frame: Message) -> None:
        """Send one frame; waits while the client does not read. Raises as `wait` does."""
        with self.interruptible():
            await self.context.write(frame)

    async def wait(self) -> None:
        """Until something wakes the writer. Raises what the broker ended the stream with."""
        self.raise_if_ended()
        await self._ready.wait()
        self._ready.clear()
        self.raise_if_ended()

    def raise_if_ended(self) -> None:
        """Raise what the broker ended the stream with, if it did."""
        if self.error is not None:
            raise self.error

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What is awaited inside is cut short, with its error, when the broker ends the stream.

        In the handler's own task only.
        """
        self.raise_if_ended()
        self._blocked = True
        try:
            yield
        except asyncio.CancelledError:
            self._blocked = False
            if self._task is not None and self.error is not None:
                self._task.uncancel()
            self.raise_if_ended()
            raise
        finally:
            self._blocked = False


class Streams:
    """The streams of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams: set[Stream] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._streams)

    @asynccontextmanager
    async def opened(self, context: Context, *, told_of_drain: bool) -> AsyncIterator[Stream]:
        """A stream of the calling client, for as long as the handler runs."""
        session = self._engine.attach(client_of(context))
        stream = Stream(context, session, told_of_drain=told_of_drain)
        self._streams.add(stream)
        self._empty.clear()
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            self._engine.detach(session)
            if not self._streams:
                self._empty.set()

    def drain(self, reason: str, grace_ms: int) -> None:
        """Ask every client to leave."""
        for stream in list(self._streams):
            stream.drain(reason, grace_ms)

    def end(self, error: HermesError) -> None:
        """End every stream with this error."""
        for stream in list(self._streams):
            stream.end(error)

    async def gone(self, timeout_secs: float) -> bool:
        """Wait until no stream is left, but not longer; answers whether that is so."""
        try:
            async with asyncio.timeout(timeout_secs):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True


def stopping_error() -> UnavailableError:
    """What callers are told while the server stops."""
    return UnavailableError("the server is draining", hint="connect again in a moment")


def client_of(context: Context) -> Client:
    """Who calls, as the metadata and the connection say."""
    metadata: dict[str, str | bytes] = dict(context.invocation_metadata() or ())
    agent = _text(metadata.get("user-agent"))
    return Client(
        principal="",
        peer=unquote(context.peer()),
        name=_text(metadata.get(rpc.CLIENT_NAME_KEY)),
        version=_text(metadata.get(rpc.CLIENT_VERSION_KEY)) or agent,
        id=_text(metadata.get(rpc.CLIENT_ID_KEY)),
    )


def _text(value: str | bytes | None) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value or ""
    return text[: limits.CLIENT_NAME_BYTES_MAX]
