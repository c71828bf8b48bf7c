"""Sinks deliver, retry, give up, and never hold anybody up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hermes import limits
from hermes.server import checkpoint_sinks
from hermes.server.checkpoint_sinks import Sink, SinkError, open_sinks, to_command, to_file, to_url
from hermes.server.config import ServerConfig


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_sinks, "RETRY_SECS", 0.001)


def ended(sink: Sink) -> Sink:
    sink.leave()
    sink.join(20)
    return sink


def test_notes_arrive_in_order() -> None:
    got: list[str] = []
    sink = Sink("test", got.append)
    for n in range(5):
        sink.give(str(n))
    ended(sink)
    assert got == ["0", "1", "2", "3", "4"]
    assert (sink.delivered, sink.failed) == (5, 0)


def test_a_failure_is_tried_again_and_then_given_up() -> None:
    tries: list[str] = []
    enough = threading.Event()

    def deliver(note: str) -> None:
        tries.append(note)
        if note == "bad" or len(tries) == 4:
            raise SinkError("no")
        enough.set()

    sink = Sink("test", deliver)
    sink.give("bad")
    sink.give("good")
    assert enough.wait(20)
    ended(sink)
    assert tries == ["bad"] * checkpoint_sinks.ATTEMPTS + ["good", "good"]
    assert (sink.delivered, sink.failed) == (1, 1)


def test_a_sink_that_hangs_loses_the_oldest_and_holds_nobody_up() -> None:
    begun, go_on = threading.Event(), threading.Event()
    got: list[str] = []

    def deliver(note: str) -> None:
        begun.set()
        go_on.wait()
        got.append(note)

    sink = Sink("test", deliver)
    sink.give("first")
    begun.wait()
    for n in range(limits.CHECKPOINTS_WAITING_MAX + 2):
        sink.give(str(n))
    assert sink.failed == 2
    go_on.set()
    ended(sink)
    assert got[:2] == ["first", "2"]
    assert got[-1] == str(limits.CHECKPOINTS_WAITING_MAX + 1)


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    deliver = to_file(tmp_path / "notes")
    deliver("a\n")
    deliver("b\n")
    assert (tmp_path / "notes").read_text() == "a\n\nb\n\n"
    with pytest.raises(SinkError, match="Is a directory"):
        to_file(tmp_path)("a\n")


def test_a_command_gets_it_on_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    to_command(["sh", "-c", f"cat > {out}"])("a note\n")
    assert out.read_text() == "a note\n"
    with pytest.raises(SinkError, match="sh ended with 3: not today"):
        to_command(["sh", "-c", "echo not today >&2; exit 3"])("a")
    with pytest.raises(SinkError, match="No such file"):
        to_command(["/nowhere/at/all"])("a")
    monkeypatch.setattr(checkpoint_sinks, "TIMEOUT_SECS", 0.05)
    with pytest.raises(SinkError, match="longer than"):
        to_command(["sleep", "60"])("a")


class Receiver(HTTPServer):
    """Answers the paths /200, /302, /500; keeps what was posted."""

    def __init__(self) -> None:
        self.posted: queue.Queue[tuple[str, str, bytes]] = queue.Queue()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.put((self.path, self.headers["Content-Type"], body))
        self.send_response(int(self.path[1:]))
        if self.path == "/302":
            self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url_gets_a_post(receiver: Receiver) -> None:
    base = f"http://127.0.0.1:{receiver.server_port}"
    to_url(f"{base}/200")("— né\n")
    assert receiver.posted.get() == ("/200", "text/plain; charset=utf-8", "— né\n".encode())
    for path in ("/302", "/500"):
        with pytest.raises(SinkError, match=f"127.0.0.1 answered {path[1:]}"):
            to_url(base + path)("a")
        assert receiver.posted.get()[0] == path
    assert receiver.posted.empty(), "a redirect is not followed: it would lose the note"


def test_a_url_that_nobody_serves_hides_its_secrets(receiver: Receiver) -> None:
    receiver.server_close()
    with pytest.raises(SinkError) as caught:
        to_url(f"http://127.0.0.1:{receiver.server_port}/?token=secret")("a")
    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_settings_say_which(tmp_path: Path) -> None:
    assert open_sinks(ServerConfig()) == []
    config = ServerConfig(
        checkpoint_file=tmp_path / "notes",
        checkpoint_command=f"sh -c 'cat > {tmp_path}/copy'",
        checkpoint_url="http://127.0.0.1:9/",
    )
    sinks = open_sinks(config)
    assert [sink.name for sink in sinks] == ["file", "command", "url"]
    for sink in sinks[:2]:
        sink.give("a\n")
    for sink in sinks:
        ended(sink)
    assert (tmp_path / "notes").read_text() == "a\n\n"
    assert (tmp_path / "copy").read_text() == "a\n"
