"""The null log: the part of the contract that numbers, and nothing else."""

from __future__ import annotations

import pytest

from hermes.errors import LogClosedError
from hermes.log.chain import genesis
from hermes.log.facts import Mark
from hermes.log.null import NullLog
from tests.contract.records import BIG, Outcomes, publish, snapshot


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
def log(outcomes: Outcomes) -> NullLog:
    return NullLog(outcomes)


def test_it_numbers_and_answers_at_once(log: NullLog, outcomes: Outcomes) -> None:
    assert (log.next_lsn, log.next_offset, log.durable, log.store_id) == (1, 0, False, "")
    assert log.append([publish(0, 3), publish(3)], 1) == 2
    assert outcomes.committed_lsn == 2
    assert log.roll(snapshot(), 3) == 4
    assert outcomes.committed_lsn == 4
    assert (log.next_lsn, log.next_offset, log.oldest_offset) == (5, 4, 4)
    assert not log.low_space
    assert log.queued_bytes == 0


def test_it_keeps_nothing(log: NullLog) -> None:
    log.append([publish(0, 3)], 1)
    assert log.segments() == []
    assert log.committed == Mark(0, 0, genesis(""))
    reader = log.reader()
    assert reader.read(1, limit=9, limit_bytes=BIG) == []
    assert reader.publishes(0, limit=9, limit_bytes=BIG) == ([], 0)
    assert reader.count_messages(0) == 0
    with pytest.raises(ValueError, match="keeps nothing"):
        log.drop(1)


def test_it_refuses_what_every_log_refuses(log: NullLog, outcomes: Outcomes) -> None:
    with pytest.raises(ValueError, match="next lsn"):
        log.append([publish(0)], 2)
    with pytest.raises(ValueError, match="numbered"):
        log.append([publish(1)], 1)
    assert log.append([], 1) == 0
    assert outcomes.all == []
    log.close()
    with pytest.raises(LogClosedError):
        log.append([publish(0)], 1)
