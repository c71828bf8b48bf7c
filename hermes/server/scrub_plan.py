"""[P] Which sealed segments a pass of the scrub has still to check, and in what order.

A pass comes to every segment that was sealed when it was planned: first to those that this
process never checked, then to those whose check is longest ago; among equals in the order
of the log, but beginning at `begin_at`. That place is drawn anew in each process, as
progress dies with it: so a server that is restarted more often than a pass takes comes to
all of its segments in time, too, and not to the oldest ones again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def left_to_check(
    segments: Iterable[int], checked: Mapping[int, int], number: int, begin_at: int
) -> list[int]:
    """The first lsns of those segments that pass `number` has not checked, next one first.

    `checked` says in which pass a segment was checked last; passes count from 1.
    """
    left = [first_lsn for first_lsn in segments if checked.get(first_lsn) != number]
    return sorted(left, key=lambda lsn: (checked.get(lsn, 0), lsn < begin_at, lsn))
