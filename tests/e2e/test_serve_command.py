"""`hermes serve` as a process: what it says, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb

ANY_PORT = ("--listen", "127.0.0.1:0")
WAIT_SECS = 30


def environment(**variables: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HERMES_")}
    return clean | variables


def refused(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code and stderr of a server that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "hermes", "serve", *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=WAIT_SECS,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def last_line(stderr: str) -> str:
    """The one line for the user; before it there may be log lines, and nothing else."""
    *log, line = stderr.splitlines()
    for entry in log:
        json.loads(entry)
    return line


class Serving:
    """A server process that serves."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stderr is not None
        self._stderr = process.stderr
        self.log: list[dict[str, Any]] = []
        self.address: str = self.await_event("serving")["address"]

    def await_event(self, event: str) -> dict[str, Any]:
        for line in self._stderr:
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == event:
                return self.log[-1]
        raise AssertionError(f"it ended without {event!r}: {self.log}")

    def event(self, event: str) -> dict[str, Any]:
        (found,) = [entry for entry in self.log if entry["event"] == event]
        return found

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECS)


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[Serving]:
    process = subprocess.Popen(
        [sys.executable, "-m", "hermes", "serve", *arguments],
        cwd=folder,
        env=environment(**variables),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Serving(process)
    finally:
        process.kill()
        process.communicate()


def subscribe(address: str) -> tuple[grpc.Channel, Any]:
    """A live v1 subscription that is registered."""
    channel = grpc.insecure_channel(address)
    stub: Any = channel.unary_stream(
        rpc.SUBSCRIBE.path,
        request_serializer=pb.SubscribeRequest.SerializeToString,
        response_deserializer=pb.EventEnvelope.FromString,
    )
    call = stub(pb.SubscribeRequest(subject=b"a"))
    call.initial_metadata()
    return channel, call


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_tells_what_it_does_and_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, *ANY_PORT) as server:
        assert server.event("hermes")["version"]
        assert "--audit-retention" in server.event("hermes")["deletes"]
        assert server.event("store created")["path"] == "hermes-data"
        assert server.event("store opened")["records_folded"] == 0
        assert server.end(number) == 0
    assert (tmp_path / "hermes-data").is_dir()
    with serving(tmp_path, *ANY_PORT) as server:
        assert all(entry["event"] != "store created" for entry in server.log)
        assert server.event("store opened")["records_folded"] > 0
        assert server.end() == 0


def test_ephemeral_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, *ANY_PORT, "--ephemeral") as server:
        assert server.event("no store: fire-and-forget only")
        assert server.end() == 0
    assert list(tmp_path.iterdir()) == []


def test_flags_and_variables(tmp_path: Path) -> None:
    variables = {"HERMES_STORE_PATH": "from-env", "HERMES_CHANEL_CAPACITY": "1"}
    with serving(tmp_path, *ANY_PORT, "--store", "from-flag", **variables) as server:
        unknown = server.event("unknown environment variable")
        assert unknown["variable"] == "HERMES_CHANEL_CAPACITY"
        assert "HERMES_CHANNEL_CAPACITY" in unknown["hint"]
        assert server.end() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["from-flag"]


def test_words_for_people(tmp_path: Path) -> None:
    code, stderr = refused(
        tmp_path, "--log-format", "human", "--ephemeral", "--listen", server_taken()
    )
    assert code == 1
    assert "hermes" in stderr and "{" not in stderr


def server_taken() -> str:
    """An address somebody listens on for as long as the process lives."""
    TAKEN.append(socket.create_server(("127.0.0.1", 0)))
    return f"127.0.0.1:{TAKEN[-1].getsockname()[1]}"


TAKEN: list[socket.socket] = []


def test_a_second_signal_exits_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, *ANY_PORT, "--shutdown-grace", "600") as server:
        channel = grpc.insecure_channel(server.address)
        stub: Any = channel.stream_stream(
            rpc.SUBSCRIBE_BATCHES.path,
            request_serializer=pb.SubscribeBatchesRequest.SerializeToString,
            response_deserializer=pb.SubscribeBatchesResponse.FromString,
        )
        staying = stub(endless(pb.SubscribeBatchesRequest(heartbeat=1)))
        next(staying)
        server.process.send_signal(signal.SIGTERM)
        server.await_event("draining")
        assert server.end(signal.SIGINT) == 128 + signal.SIGINT
        channel.close()


def endless(first: pb.SubscribeBatchesRequest) -> Iterator[pb.SubscribeBatchesRequest]:
    yield first
    threading.Event().wait(WAIT_SECS)


def test_a_live_stream_ends_cleanly(tmp_path: Path) -> None:
    with serving(tmp_path, *ANY_PORT) as server:
        channel, call = subscribe(server.address)
        assert server.end() == 0
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        channel.close()


# ----------------------------------------------------------------- refusals


def test_bad_settings_are_named_all_at_once(tmp_path: Path) -> None:
    code, stderr = refused(
        tmp_path, "--gc-interval", "soon", HERMES_ACK_TIMEOUT="x", HERMES_LISTEN_ADDR="0.0.0.0:0"
    )
    lines = sorted(stderr.splitlines())
    assert code == 2
    assert len(lines) == 3
    for line, part in zip(
        lines, ("--gc-interval is 'soon'", "HERMES_ACK_TIMEOUT is 'x'", "--insecure"), strict=True
    ):
        assert line.startswith("hermes: ")
        assert part in line
    assert list(tmp_path.iterdir()) == []


def test_contradicting_flags(tmp_path: Path) -> None:
    code, stderr = refused(tmp_path, "--ephemeral", "--store", "x")
    assert (code, len(stderr.splitlines())) == (2, 1)
    assert "--ephemeral" in stderr


def test_a_taken_port(tmp_path: Path) -> None:
    address = server_taken()
    code, stderr = refused(tmp_path, "--listen", address)
    assert code == 1
    assert f"cannot listen on {address}: Address already in use" in last_line(stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_for_metrics(tmp_path: Path) -> None:
    address = server_taken()
    code, stderr = refused(tmp_path, *ANY_PORT, "--metrics-addr", address)
    assert code == 1
    assert f"cannot listen on {address} for metrics: Address already in use" in last_line(stderr)
    assert "--metrics-addr" in last_line(stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_locked_store(tmp_path: Path) -> None:
    with serving(tmp_path, *ANY_PORT) as server:
        store = tmp_path / "hermes-data"
        before = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
        code, stderr = refused(tmp_path, *ANY_PORT)
        assert code == 1
        assert "hermes-data" in last_line(stderr)
        assert {path.name: path.stat().st_mtime_ns for path in store.iterdir()} == before
        assert server.end() == 0


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    code, stderr = refused(tmp_path, *ANY_PORT, "--store", "file")
    assert code == 1
    assert "file" in last_line(stderr)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    code, stderr = refused(tmp_path, *ANY_PORT, "--store", "/proc/hermes")
    assert code == 1
    assert "/proc/hermes" in last_line(stderr)


@pytest.mark.parametrize(
    ("name", "text"), [("top_level.txt", "hermes\n"), ("RECORD", "hermes/__init__.py,,\n")]
)
def test_a_namesake_on_the_path_is_named(tmp_path: Path, name: str, text: str) -> None:
    """PyPI has a distribution `hermes` with a package of the same name."""
    metadata = tmp_path / "hermes-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hermes\nVersion: 1.0\n")
    (metadata / name).write_text(text)
    code, stderr = refused(tmp_path, *ANY_PORT, PYTHONPATH=str(tmp_path))
    assert code == 2
    assert "distribution hermes installs a package named hermes too" in stderr
    assert "uninstall" in stderr
