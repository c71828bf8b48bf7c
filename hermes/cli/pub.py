"""`hermes pub`: one message, or one per line of stdin.

Lines are pipelined: up to WINDOW_LINES are on their way at once, and share frames
and commits. stdin is read as it comes, so a slow producer's line goes out at once.
Ctrl-C stops reading, waits for what is on its way and says what was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
import typer

from hermes import AsyncClient, PublishAck
from hermes.cli.groups import single
from hermes.cli.options import (
    DEFAULT_SERVER,
    Json,
    Server,
    UsageError,
    parse_headers,
    stdin_is_terminal,
)
from hermes.cli.output import Printer, client_notes, note
from hermes.errors import HermesError

WINDOW_LINES: Final = 1_000
CHUNK_BYTES: Final = 64 * 1024
FINISH_SECONDS: Final = 5.0


def pub(
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="Where to publish.", show_default=False)
    ],
    payload: Annotated[
        str | None,
        typer.Argument(
            metavar="PAYLOAD",
            help="The text to publish; - is all of stdin. Absent: one message per line of stdin.",
            show_default=False,
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("-H", "--header", metavar="KEY:VALUE", help="A header; may be repeated."),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", help="Publishing it again soon under this id stores nothing."),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="One message per line of stdin.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Only to who is listening now; nothing is stored.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Publish one message, or one per line of stdin. Prints the offset."""
    headers = parse_headers(header or ())
    if payload is None and not lines:
        if stdin_is_terminal():
            raise UsageError("no payload: give one, or - or --lines to read stdin")
        lines = True
    if lines and payload is not None:
        raise UsageError("--lines reads stdin: leave the payload out")
    if lines and id is not None:
        raise UsageError("--id names one message: it does not go with lines")
    if (lines or payload == "-") and sys.stdin is None:
        raise UsageError("stdin is closed: there is nothing to publish")
    template = Template(subject, headers, id, durable=not live)
    if lines:
        asyncio.run(_publish_lines(server, template, Printer(json=json)))
    else:
        content = sys.stdin.buffer.read() if payload == "-" else os.fsencode(payload or "")
        asyncio.run(_publish_one(server, template, content, Printer(json=json)))


app = single(pub)


class Template(msgspec.Struct, frozen=True):
    """What all messages of one invocation have in common."""

    subject: str
    headers: dict[str, str]
    id: str | None
    durable: bool


async def _publish(client: AsyncClient, template: Template, payload: bytes) -> PublishAck:
    return await client.publish(
        template.subject,
        payload,
        headers=template.headers or None,
        id=template.id,
        durable=template.durable,
    )


async def _publish_one(server: str, template: Template, payload: bytes, printer: Printer) -> None:
    async with AsyncClient(server, name="hermes pub") as client:
        with client_notes():
            ack = await _publish(client, template, payload)
    if printer.json:
        printer.fields(_ack_fields(ack))
    elif ack.offset is None:
        printer.line("forwarded")
    else:
        printer.line(f"{ack.offset}{' (duplicate)' if ack.duplicate else ''}")
    printer.flush()


def _ack_fields(ack: PublishAck) -> dict[str, int | bool | None]:
    return {"offset": ack.offset, "duplicate": ack.duplicate}


# -------------------------------------------------------------------------- lines


async def _publish_lines(server: str, template: Template, printer: Printer) -> None:
    async with AsyncClient(server, name="hermes pub") as client:
        pipeline = Pipeline(client, template, printer)
        with client_notes():
            try:
                async for line in stdin_lines():
                    await pipeline.send(line)
                await pipeline.finish()
            except asyncio.CancelledError:  # Ctrl-C
                try:
                    async with asyncio.timeout(FINISH_SECONDS):
                        await pipeline.finish()
                except TimeoutError:
                    note(f"{pipeline.in_flight} messages were not acknowledged")
                raise
            except HermesError:
                await pipeline.give_up()
                raise
            finally:
                pipeline.summarise()


class Pipeline:
    """Publishes lines in order, at most WINDOW_LINES of them unacknowledged."""

    def __init__(self, client: AsyncClient, template: Template, printer: Printer) -> None:
        self._client = client
        self._template = template
        self._printer = printer
        self._waiting: deque[asyncio.Task[PublishAck]] = deque()
        self._acknowledged = 0
        self._first: int | None = None
        self._last: int | None = None

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    async def send(self, line: bytes) -> None:
        """Raises the error of an earlier line as soon as it is known."""
        task = asyncio.create_task(_publish(self._client, self._template, line))
        self._waiting.append(task)
        while len(self._waiting) >= WINDOW_LINES or (self._waiting and self._waiting[0].done()):
            await self._settle_oldest()

    async def finish(self) -> None:
        """Wait until every line is acknowledged."""
        while self._waiting:
            await self._settle_oldest()

    async def give_up(self) -> None:
        """After an error: count what is acknowledged all the same, let go of the rest."""
        outcomes = await asyncio.gather(*self._waiting, return_exceptions=True)
        self._waiting.clear()
        for outcome in outcomes:
            if isinstance(outcome, PublishAck):
                self._count(outcome)

    def summarise(self) -> None:
        """What was acknowledged, in a line. Beside JSON, which has each offset, on stderr."""
        plural = "" if self._acknowledged == 1 else "s"
        where = ""
        if self._first is not None:
            one = self._first == self._last
            where = f", offset {self._first}" if one else f", offsets {self._first} to {self._last}"
        text = f"published {self._acknowledged:,} message{plural}{where}"
        if self._printer.json:
            self._printer.flush()
            note(text)
        else:
            self._printer.line(text)
            self._printer.flush()

    async def _settle_oldest(self) -> None:
        number = self._acknowledged + 1
        # Shielded, so that Ctrl-C ends the waiting, not the publishing.
        try:
            ack = await asyncio.shield(self._waiting[0])
        except HermesError as error:
            self._waiting.popleft()
            error.message = f"line {number}: {error.message}"
            raise
        self._waiting.popleft()
        self._count(ack)

    def _count(self, ack: PublishAck) -> None:
        self._acknowledged += 1
        if ack.offset is not None:
            self._first = ack.offset if self._first is None else self._first
            self._last = ack.offset
        if self._printer.json:
            self._printer.fields(_ack_fields(ack))


async def stdin_lines() -> AsyncIterator[bytes]:
    """Lines of stdin as they come, without their newline."""
    fd = sys.stdin.fileno()
    rest = b""
    while True:
        await _readable(fd)
        chunk = os.read(fd, CHUNK_BYTES)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


async def _readable(fd: int) -> None:
    """Wait for input, so that os.read does not block the loop."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(fd, ready.set)
    except PermissionError:  # a regular file: always readable, and epoll refuses it
        await asyncio.sleep(0)
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
