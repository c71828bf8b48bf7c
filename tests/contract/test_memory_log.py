"""The log in memory keeps the contract; and what it offers to simulation."""

from __future__ import annotations

import pytest

from hermes.errors import LogClosedError, SegmentDamagedError, StoreError
from hermes.log.memory import MemoryImage, MemoryLog
from hermes.log.port import Committed, Log, LogReader
from tests.contract.compaction_contract import CompactionContract
from tests.contract.log_contract import LogContract
from tests.contract.records import BIG, Outcomes, compacted, dropped, publish, snapshot


class MemoryStore:
    """An image, handed from one log to the next."""

    def __init__(self) -> None:
        self.outcomes = Outcomes()
        self.log: MemoryLog | None = None
        self._image: MemoryImage | None = None

    def open(self) -> MemoryLog:
        if self.log is not None:
            self.log.close()
            self._image = self.log.image()
        self.outcomes = Outcomes()
        self.log = MemoryLog(self.outcomes, image=self._image)
        return self.log

    def finish_compactions(self, log: Log) -> None:
        """It was done at once."""


class TestMemoryLog(LogContract, CompactionContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
def held(outcomes: Outcomes) -> MemoryLog:
    """A log whose commits wait."""
    return MemoryLog(outcomes, auto_commit=False)


def test_commits_wait_until_released(held: MemoryLog, outcomes: Outcomes) -> None:
    held.append([publish(0), publish(1)], 1)
    held.append([publish(2)], 3)
    held.append([publish(3)], 4)
    assert (held.pending, held.next_lsn, held.next_offset) == (3, 5, 4)
    assert held.reader().read(1, limit=9, limit_bytes=BIG) == []
    assert outcomes.all == []
    assert held.committed.lsn == 0
    assert held.commit() == 1
    assert outcomes.committed_lsn == 2
    assert (held.committed.lsn, held.committed.next_offset) == (2, 2)
    assert held.commit_all() == 2
    assert outcomes.committed_lsn == 4
    assert len(outcomes.all) == 2
    assert held.commit_all() == 0
    assert len(outcomes.all) == 2


def test_queued_bytes_and_segment_bytes(held: MemoryLog, outcomes: Outcomes) -> None:
    held.append([publish(0, payload=b"x" * 100)], 1)
    held.append([publish(1, payload=b"x" * 50)], 2)
    assert held.queued_bytes == 158
    held.commit()
    assert outcomes.all == [Committed(last_lsn=1, segment_bytes=104, queued_bytes=54)]


def test_a_crash_loses_what_was_not_committed(held: MemoryLog, outcomes: Outcomes) -> None:
    held.append([publish(0)], 1)
    held.commit()
    held.append([publish(1)], 2)
    held.roll(snapshot(), 3)
    image = held.crash()
    assert outcomes.committed_lsn == 1
    with pytest.raises(LogClosedError):
        held.append([], 5)
    log = MemoryLog(outcomes, image=image)
    assert (log.next_lsn, log.next_offset) == (2, 1)


def test_a_crash_may_keep_what_nobody_was_told_of(held: MemoryLog, outcomes: Outcomes) -> None:
    for n in range(3):
        held.append([publish(n)], n + 1)
    image = held.crash(keep=2)
    assert outcomes.all == []
    assert MemoryLog(outcomes, image=image).next_lsn == 3


def test_a_failure_is_told_once_and_is_final(held: MemoryLog, outcomes: Outcomes) -> None:
    held.append([publish(0)], 1)
    error = StoreError("no")
    held.fail(error)
    held.fail(StoreError("again"))
    assert outcomes.error is error
    assert len(outcomes.all) == 1
    with pytest.raises(LogClosedError):
        held.append([publish(1)], 2)
    held.close()
    assert MemoryLog(outcomes, image=held.crash(keep=1)).next_lsn == 2


def test_an_image_is_not_touched_by_later_logs(held: MemoryLog, outcomes: Outcomes) -> None:
    held.append([publish(0)], 1)
    image = held.crash(keep=1)
    MemoryLog(outcomes, image=image).append([publish(1)], 2)
    assert MemoryLog(outcomes, image=image).next_lsn == 2


def test_runs_repeat_exactly(outcomes: Outcomes) -> None:
    first, second = (MemoryLog(outcomes), MemoryLog(outcomes))
    for log in (first, second):
        log.append([publish(0, 2), publish(2)], 1)
    read = first.reader().read(1, limit=9, limit_bytes=BIG)
    assert read == second.reader().read(1, limit=9, limit_bytes=BIG)
    assert len(read) == 2


@pytest.fixture
def sealed(outcomes: Outcomes) -> MemoryLog:
    """Two sealed segments, from records 1 and 2, and an active one from record 5."""
    log = MemoryLog(outcomes)
    log.append([publish(0)], 1)
    log.roll(snapshot(), 2)
    log.append([publish(1)], 4)
    log.roll(snapshot(), 5)
    return log


def _read_all(reader: LogReader) -> object:
    return reader.read(1, limit=9, limit_bytes=BIG)


def _read_offset_1(reader: LogReader) -> object:
    return reader.publish_of(1)


def test_damage_is_met_by_whoever_reads_there(sealed: MemoryLog, outcomes: Outcomes) -> None:
    sealed.damage(2, "a bad page")
    for log in (sealed, MemoryLog(outcomes, image=sealed.crash())):
        reader = log.reader()
        assert log.quarantined == ()
        for look in (_read_all, _read_offset_1):
            with pytest.raises(SegmentDamagedError) as caught:
                look(reader)
            assert (caught.value.fields["first_lsn"], caught.value.fields["last_lsn"]) == (2, 4)
            assert caught.value.fields["reason"] == "a bad page"
        assert reader.read(5, limit=9, limit_bytes=BIG)[0].lsn == 5
        first = reader.publish_of(0)
        assert first is not None


def test_what_is_restored_can_be_read_again(sealed: MemoryLog, outcomes: Outcomes) -> None:
    sealed.damage(2, "a bad page")
    image = sealed.crash()
    image.mend()
    read = MemoryLog(outcomes, image=image).reader().read(1, limit=9, limit_bytes=BIG)
    assert [record.lsn for record in read] == [1, 2, 3, 4, 5, 6]


def test_a_damaged_segment_keeps_its_payloads(sealed: MemoryLog, outcomes: Outcomes) -> None:
    # What would be written anew could not be proved to be what was sealed.
    sealed.damage(2, "a bad page")
    sealed.append([compacted(2, 4, (1, 1))], 7)
    sealed.compact(2)
    (stuck,) = sealed.compactions
    assert (stuck.first_lsn, stuck.stuck) == (2, True)
    image = sealed.crash()
    image.mend()
    log = MemoryLog(outcomes, image=image)  # the announcement stands: opening goes on
    kept = log.reader().publish_of(1)
    assert kept is not None
    assert (kept.payload, log.compactions) == (None, ())


def test_opening_goes_on_with_a_drop(sealed: MemoryLog, outcomes: Outcomes) -> None:
    sealed.append([dropped(1, 1)], 7)
    log = MemoryLog(outcomes, image=sealed.crash())
    assert [segment.first_lsn for segment in log.segments()] == [2, 5]
