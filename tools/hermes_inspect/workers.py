"""Processes that read pieces of a store side by side.

They give way to a server, and do not outlive who began them: a pool's processes otherwise
wait for work for ever when their parent is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from hermes_inspect.yielding import be_nice

EXIT_ORPHANED: Final = 1


def worker_pool(count: int, preload: Sequence[str] = ()) -> ProcessPoolExecutor:
    """A pool of `count` processes; `preload` names modules to import once for all of them."""
    # Forked from a clean process: this one may have threads and open databases.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *preload])
    return ProcessPoolExecutor(count, context, _begin)


def _begin() -> None:
    """An interrupt is the parent's to handle."""
    be_nice()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(EXIT_ORPHANED)
