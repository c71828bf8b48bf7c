"""Leaving the processor to a server: when to rest, how long, and beside whom."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hermes_inspect import cli, yielding
from hermes_inspect.yielding import REST_FACTOR, Yielding, rest_ns
from tests.support.stored import store_records
from tests.support.world import World, messages


def test_who_got_what_it_wanted_need_not_rest() -> None:
    assert rest_ns(20_000_000, 20_000_000) == 0
    assert rest_ns(20_000_000, 18_000_000) == 0


def test_who_was_kept_waiting_rests_some_times_as_long() -> None:
    assert rest_ns(20_000_000, 10_000_000) == REST_FACTOR * 20_000_000


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited, in seconds, instead of waiting."""
    times: list[float] = []

    def wait(_: threading.Event, timeout: float | None = None) -> bool:
        times.append(timeout or 0.0)
        return False

    monkeypatch.setattr(threading.Event, "wait", wait)
    monkeypatch.setattr(yielding, "STRETCH_NS", 0)
    # As if nothing had been had of the processor, whatever it was.
    monkeypatch.setattr(yielding, "thread_cpu_ns", lambda: 0)
    return times


def test_rests_beside_a_server_that_writes(tmp_path: Path, waited: list[float]) -> None:
    (tmp_path / "HEAD").write_bytes(b"just now")
    Yielding(tmp_path).between_steps()
    assert len(waited) == 1


def test_does_not_rest_where_nobody_writes(tmp_path: Path, waited: list[float]) -> None:
    Yielding(tmp_path).between_steps()  # no HEAD at all
    (tmp_path / "HEAD").write_bytes(b"long ago")
    os.utime(tmp_path / "HEAD", ns=(0, 0))
    Yielding(tmp_path).between_steps()
    assert waited == []


def test_rests_at_least_as_long_as_is_asked(tmp_path: Path, waited: list[float]) -> None:
    Yielding(tmp_path).rest(1_000.0)
    (tmp_path / "HEAD").write_bytes(b"just now")
    Yielding(tmp_path).rest(1_000.0)
    assert waited == [1_000.0, 1_000.0]


def test_does_not_rest_after_too_little_to_tell(
    tmp_path: Path, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yielding, "STRETCH_NS", 1 << 60)
    (tmp_path / "HEAD").write_bytes(b"just now")
    Yielding(tmp_path).between_steps()
    assert waited == []


@pytest.mark.parametrize(
    "command",
    [["log"], ["stats"], ["sql", "SELECT count(*) FROM events"], ["export", "OUT"], ["verify"]],
    ids=lambda command: command[0],
)
def test_whatever_reads_much_may_rest_on_the_way(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    world.publish(*(messages(2, subject=f"a.{n}") for n in range(3)))
    store = store_records(tmp_path / "store", world.records())
    steps = 0

    def step(_: Yielding) -> None:
        nonlocal steps
        steps += 1

    monkeypatch.setattr(Yielding, "between_steps", step)
    monkeypatch.setattr(yielding, "be_nice", lambda: None)
    parts = [str(tmp_path / "out") if part == "OUT" else part for part in command]
    assert cli.run([*parts, "--store", str(store)]) == 0
    assert steps
