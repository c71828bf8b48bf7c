"""The journal: effects hang on commits, in order, and die with their epoch."""

from __future__ import annotations

import pytest

from hermes.broker import events as ev
from hermes.broker.journal import Journal
from hermes.broker.state import State
from hermes.errors import UnavailableError
from hermes.limits import QUEUED_OVERHEAD_BYTES
from hermes.log.memory import MemoryLog
from hermes.log.null import NullLog
from hermes.log.port import Committed, Outcome
from hermes.log.record import Kind


class Bench:
    """A journal over a log whose commits the test releases."""

    def __init__(self) -> None:
        self.log = MemoryLog(self._listen, auto_commit=False)
        self.journal = Journal(State(), self.log)
        self.released: list[str] = []

    def _listen(self, outcome: Outcome) -> None:
        if isinstance(outcome, Committed):
            self.journal.committed(outcome.last_lsn)

    def record(self, step_ns: int = 1) -> int:
        return self.journal.record(ev.ClockStepped(engine_time_ns=1, step_ns=step_ns))

    def effect(self, name: str) -> None:
        self.journal.after_commit(lambda: self.released.append(name))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_effect_waits_for_the_commit_of_its_turn(bench: Bench) -> None:
    bench.record()
    bench.effect("first")
    assert not bench.released
    bench.journal.flush()
    assert not bench.released
    bench.log.commit_all()
    assert bench.released == ["first"]


def test_effects_are_released_group_by_group_and_in_order(bench: Bench) -> None:
    for turn in range(3):
        bench.record()
        bench.effect(f"{turn}a")
        bench.record()
        bench.effect(f"{turn}b")
        bench.journal.flush()
    bench.log.commit()
    assert bench.released == ["0a", "0b"]
    bench.log.commit(2)
    assert bench.released == ["0a", "0b", "1a", "1b", "2a", "2b"]
    assert bench.journal.idle


def test_a_reply_without_an_event_waits_for_what_was_appended_before(bench: Bench) -> None:
    bench.record()
    bench.journal.flush()
    bench.effect("reply")
    assert not bench.released
    bench.log.commit_all()
    assert bench.released == ["reply"]


def test_a_reply_is_released_at_once_when_nothing_is_pending(bench: Bench) -> None:
    bench.effect("reply")
    assert bench.released == ["reply"]


def test_a_reply_asked_for_by_an_effect_waits_for_later_groups(bench: Bench) -> None:
    bench.record()
    bench.journal.after_commit(lambda: bench.effect("chained"))
    bench.journal.flush()
    bench.record()
    bench.journal.flush()
    bench.log.commit()
    assert not bench.released
    bench.log.commit()
    assert bench.released == ["chained"]


def test_nothing_is_released_after_abandon(bench: Bench) -> None:
    bench.record()
    bench.effect("flushed")
    bench.journal.flush()
    bench.record()
    bench.effect("recorded")
    bench.journal.abandon()
    # An effect asked for after the failure ran at once, since nothing was pending any
    # more: a client was told that its ack is durable, which nobody knows.
    bench.effect("late")
    bench.journal.flush()
    bench.log.commit_all()
    assert not bench.released
    with pytest.raises(UnavailableError):
        bench.record()


def test_the_state_is_ahead_of_the_log_by_what_is_not_flushed(bench: Bench) -> None:
    assert bench.record() == 1
    assert bench.journal.state.next_lsn == 2
    assert bench.log.next_lsn == 1
    bench.journal.flush()
    assert bench.log.next_lsn == 2


def test_a_snapshot_is_one_record_and_holds_later_replies(bench: Bench) -> None:
    bench.record()
    bench.journal.flush()
    bench.journal.snapshot()
    assert bench.journal.records_since_snapshot == 0
    bench.effect("reply")
    bench.log.commit()
    assert not bench.released
    bench.log.commit()
    assert bench.released == ["reply"]
    assert bench.log.reader().latest(Kind.SNAPSHOT) is not None
    assert bench.record() == 3


def test_a_roll_takes_two_lsns(bench: Bench) -> None:
    bench.record()
    bench.journal.flush()
    bench.journal.roll()
    assert bench.record() == 4
    bench.journal.flush()
    bench.log.commit_all()
    kinds = [r.kind for r in bench.log.reader().read(1, limit=9, limit_bytes=10**6)]
    assert kinds == [Kind.CLOCK_STEPPED, Kind.SEGMENT_SEALED, Kind.SNAPSHOT, Kind.CLOCK_STEPPED]


def test_uncommitted_bytes_are_those_of_payloads_and_their_objects(bench: Bench) -> None:
    bench.journal.record(
        ev.Published(
            engine_time_ns=1, subject="a", first=0, last=0, head=b"", content=b"12345", sizes=(5,)
        )
    )
    bench.journal.flush()
    assert bench.journal.uncommitted_bytes == 5 + QUEUED_OVERHEAD_BYTES
    bench.log.commit_all()
    assert bench.journal.uncommitted_bytes == 0


def test_an_event_that_cannot_be_encoded_changes_nothing(bench: Bench) -> None:
    # The event was folded before it was encoded: the state then counted a record that
    # the log never got, and every later append failed.
    with pytest.raises(ValueError, match="range"):
        bench.journal.record(
            ev.SubscriptionClosed(engine_time_ns=-1, session=1, pattern="a", subscription=1)
        )
    assert bench.record() == 1
    bench.journal.flush()
    assert bench.log.next_lsn == 2


def test_without_a_store_effects_are_released_at_the_end_of_the_turn() -> None:
    released: list[int] = []
    journal = Journal(State(), NullLog(lambda _: None))
    journal.record(ev.ClockStepped(engine_time_ns=1, step_ns=1))
    journal.after_commit(lambda: released.append(1))
    journal.after_commit(lambda: released.append(2))
    assert not released
    journal.flush()
    assert released == [1, 2]
