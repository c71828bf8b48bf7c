"""A process that opens a store with an announced compaction, and kills itself in its midst.

    python compaction_child.py FOLDER MOMENT

MOMENT: a number of pieces after which it dies, or "verified" (the new file is complete),
"renamed" (the folder is not synced yet). Exits with 0 if there was nothing to be killed in.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from unittest import mock

from hermes.log.log import open_log
from tests.support.backups import until


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_after(pieces: int) -> Callable[..., None]:
    left = [pieces]

    def rest(*_: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            die()

    return rest


def main(folder: str, moment: str) -> None:
    if moment == "verified":
        mock.patch("hermes.log.shrinking.Shrinking.take_replaced", die).start()
    elif moment == "renamed":
        mock.patch("hermes.log.compactor.sync_folder", die).start()
    else:
        mock.patch("hermes.log.compactor.Compactor._rest", dying_after(int(moment))).start()
    log = open_log(folder, lambda _: None)
    until(lambda: not log.compactions)
    log.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
