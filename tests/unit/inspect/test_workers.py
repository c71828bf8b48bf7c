"""Processes that read side by side end with whoever began them, however that ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

ENDED_MS = 20_000

BEGINS_TWO = """
import signal, sys
from multiprocessing import active_children
from hermes_inspect.workers import worker_pool

if __name__ == "__main__":
    pool = worker_pool(2)
    for _ in range(2):
        pool.submit(signal.pause)  # whoever is done would be given the second one too
    print(*(child.pid for child in active_children()), flush=True)
    sys.stdin.read()
"""


def test_no_process_outlives_a_parent_that_was_killed() -> None:
    # A verify that was stopped left its processes waiting for work, for ever.
    parent = subprocess.Popen(
        [sys.executable, "-c", BEGINS_TWO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with parent:
        assert parent.stdout is not None
        workers = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        parent.send_signal(signal.SIGKILL)
        for worker in workers:
            ended = select.poll()
            ended.register(worker, select.POLLIN)
            assert ended.poll(ENDED_MS)
            os.close(worker)
