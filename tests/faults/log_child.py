"""A process that appends to a log until it is killed.

    python log_child.py FOLDER ROLL_EVERY

Prints each committed lsn on a line of its own, after the log told it.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading

from hermes.log.log import open_log
from hermes.log.port import Committed, Outcome
from hermes.log.record import Kind
from tests.contract.records import event, publish, snapshot


def main(folder: str, roll_every: int) -> None:
    # A few groups are always on their way; not more, or the queue is all there is to kill.
    room = threading.Semaphore(20)

    def tell(outcome: Outcome) -> None:
        if not isinstance(outcome, Committed):
            os._exit(3)
        os.write(1, f"{outcome.last_lsn}\n".encode())
        room.release(20)

    log = open_log(folder, tell)
    for n in itertools.count(1):
        room.acquire()
        at = log.next_offset
        key = f"s.{n % 7}"
        log.append([publish(at, 3, key), event(Kind.DELIVERED, "c", at, at + 2)], log.next_lsn)
        if n % roll_every == 0:
            log.roll(snapshot(), log.next_lsn)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
