"""The heap of due times."""

from __future__ import annotations

from hermes.broker.due import REBUILD_MIN, SLACK, DueQueue


def test_what_is_due_comes_out_earliest_first() -> None:
    queue = DueQueue([(5, 0, 0), (3, 1, 1)])
    queue.push(4, 2, 2)
    queue.push(9, 3, 3)
    assert queue.next_due_ns() == 3
    assert [first for _, first, _ in queue.pop_due(5)] == [1, 2, 0]
    assert queue.next_due_ns() == 9
    assert list(queue.pop_due(8)) == []


def test_stopping_early_keeps_the_rest() -> None:
    queue = DueQueue([(1, 0, 0), (2, 1, 1)])
    for _ in queue.pop_due(5):
        break
    assert len(queue) == 1


def test_a_heap_that_outgrew_what_is_held_is_built_anew() -> None:
    queue = DueQueue((1, i, i) for i in range(REBUILD_MIN + SLACK))
    queue.trim(1, [(7, 0, 0)])
    assert len(queue) == REBUILD_MIN + SLACK
    queue.push(1, 0, 0)
    queue.trim(1, [(7, 0, 0)])
    assert (len(queue), queue.next_due_ns()) == (1, 7)
    assert DueQueue().next_due_ns() is None
