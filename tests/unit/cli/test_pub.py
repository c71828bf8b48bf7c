"""The pipeline of `hermes pub --lines`, without a broker."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hermes import PublishAck
from hermes.cli import pub
from hermes.cli.output import Printer
from hermes.errors import LimitExceededError


class FakeClient:
    """Acknowledges when `release` is called; refuses the payload b"bad"."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.answers: list[asyncio.Future[PublishAck]] = []

    async def publish(self, subject: str, payload: bytes, **_: Any) -> PublishAck:
        assert subject == "s"
        self.sent.append(payload)
        answer: asyncio.Future[PublishAck] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        return await answer

    def release(self) -> None:
        for offset, (payload, answer) in enumerate(zip(self.sent, self.answers, strict=True)):
            if answer.done():
                continue
            if payload == b"bad":
                answer.set_exception(LimitExceededError("too large"))
            else:
                answer.set_result(PublishAck(offset))


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def pipeline_of(client: FakeClient) -> pub.Pipeline:
    connected: Any = client
    template = pub.Template("s", {}, None, durable=True)
    return pub.Pipeline(connected, template, Printer(json=True))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_lines_go_out_in_order_and_answers_come_in_order(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = pipeline_of(client)
    lines = [b"%d" % number for number in range(50)]
    for line in lines:
        await pipeline.send(line)
    await turns()
    assert client.sent == lines
    assert pipeline.in_flight == 50
    client.release()
    await pipeline.finish()
    pipeline.summarise()
    captured = capsys.readouterr()
    assert [json.loads(line)["offset"] for line in captured.out.splitlines()] == list(range(50))
    assert captured.err == "published 50 messages, offsets 0 to 49\n"


async def test_the_window_is_bounded(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipeline_of(client)
    monkeypatch.setattr(pub, "WINDOW_LINES", 3)
    await pipeline.send(b"1")
    await pipeline.send(b"2")
    third = asyncio.create_task(pipeline.send(b"3"))
    await turns()
    assert not third.done()
    client.release()
    await third


async def test_a_refused_line_is_named_and_the_rest_is_counted(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = pipeline_of(client)
    for line in (b"good", b"bad", b"good"):
        await pipeline.send(line)
    await turns()
    client.release()
    with pytest.raises(LimitExceededError, match="line 2: too large"):
        await pipeline.finish()
    await pipeline.give_up()
    pipeline.summarise()
    assert capsys.readouterr().err == "published 2 messages, offsets 0 to 2\n"


async def test_cancelling_the_wait_does_not_cancel_the_publishing(client: FakeClient) -> None:
    pipeline = pipeline_of(client)
    await pipeline.send(b"1")
    waiting = asyncio.create_task(pipeline.finish())
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    client.release()
    await pipeline.finish()
    assert pipeline.in_flight == 0


# ------------------------------------------------------------------------- stdin


class Stdin:
    """Stands in for sys.stdin with a file descriptor of the test's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    reading, writing = os.pipe()
    monkeypatch.setattr("sys.stdin", Stdin(reading))
    yield writing
    os.close(reading)


async def test_lines_arrive_as_they_are_written(pipe: int) -> None:
    lines = pub.stdin_lines()
    os.write(pipe, b"one\ntw")
    assert await anext(lines) == b"one"
    second = asyncio.ensure_future(anext(lines))
    await turns()
    assert not second.done()
    os.write(pipe, b"o\n\n\xff last")
    os.close(pipe)
    assert await second == b"two"
    assert [line async for line in lines] == [b"", b"\xff last"]


async def test_a_regular_file_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a" * 100_000 + b"\nb\n")
    with path.open("rb") as file:
        monkeypatch.setattr("sys.stdin", Stdin(file.fileno()))
        assert [len(line) async for line in pub.stdin_lines()] == [100_000, 1]
