"""The newest batches in memory."""

from __future__ import annotations

from hermes.broker.batch import LineBatch
from hermes.broker.ring import Ring
from hermes.limits import KIB, RING_OVERHEAD_BYTES


def ring_of(*bounds: tuple[int, int], bytes_max: int = 10**6, size: int = 10) -> Ring:
    ring = Ring(bytes_max)
    for first, last in bounds:
        ring.append(LineBatch(first, last, "a", b"", bytes(size), 0, 0))
    return ring


def test_a_batch_is_found_by_any_of_its_offsets() -> None:
    ring = ring_of((5, 9), (10, 10), (11, 30))
    found = [batch and batch.first for batch in map(ring.find, (4, 5, 9, 10, 11, 30, 31))]
    assert found == [None, 5, 5, 10, 11, 11, None]


def test_small_batches_count_with_what_their_objects_take() -> None:
    """64 MiB of batches of 100 bytes were 370 MB of memory."""
    ring = ring_of(*((i, i) for i in range(1_000)), bytes_max=100 * KIB, size=100)
    assert len(ring) == 100 * KIB // (100 + RING_OVERHEAD_BYTES)


def test_since_begins_with_the_batch_that_holds_the_offset() -> None:
    ring = ring_of((5, 9), (10, 10), (11, 30))
    assert [batch.first for batch in ring.since(7, 2)] == [5, 10]
    assert [batch.first for batch in ring.since(0, 9)] == [5, 10, 11]
    assert ring.since(31, 9) == []


def test_the_oldest_go_when_there_are_too_many_bytes() -> None:
    ring = ring_of(*((i, i) for i in range(1_000)), bytes_max=5 * (10 + RING_OVERHEAD_BYTES) + 5)
    assert len(ring) == 5
    assert ring.find(994) is None
    assert [batch.first for batch in ring.since(0, 9)] == [995, 996, 997, 998, 999]
    assert (ring.holds(994), ring.holds(995), ring.holds(5_000)) == (False, True, True)


def test_one_batch_is_kept_whatever_its_size() -> None:
    ring = ring_of((0, 0), (1, 1), bytes_max=1)
    assert len(ring) == 1 and ring.find(1) is not None


def test_an_empty_ring_holds_nothing() -> None:
    ring = Ring()
    assert not ring.holds(0)
    assert ring.find(0) is None
