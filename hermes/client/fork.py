"""Fork: grpc does not cross it, so objects made before one refuse to work after it.

A forked child gets copies of clients whose threads, pollers and sockets belong to the
parent. Using them hangs or corrupts the parent's streams. So each client remembers the
process it was made in and raises `ForkedProcessError` elsewhere. A new sync `Client`
works in a child (grpc's fork support resets the sync stack); a new `AsyncClient` is
refused there once gRPC had been used before the fork, because grpc.aio's poller
thread and completion queue are not reset.

It turns grpc's fork support on, which works only before grpc is imported: so the
package imports this module before any other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hermes.errors import ForkedProcessError
from hermes.limits import MIB

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "true")

_HINT = "make a new hermes.Client in the child, or start it with 'spawn' or 'forkserver'"

# How many forks lie between this process and the first: cheaper to ask for than a pid.
_generation = 0
_used_in_pid: int | None = None  # where gRPC was first used by a client
_inherited_grpc = False  # this process was forked from one that used gRPC


def _after_fork_in_child() -> None:
    global _inherited_grpc, _generation
    _generation += 1
    _inherited_grpc = _inherited_grpc or _used_in_pid is not None


os.register_at_fork(after_in_child=_after_fork_in_child)


def note_grpc_used() -> None:
    """Called when a client opens its channel."""
    global _used_in_pid
    _used_in_pid = os.getpid()


def check_asyncio_allowed() -> None:
    """Raise `ForkedProcessError` in a child of a process that had used gRPC."""
    if _inherited_grpc:
        raise ForkedProcessError(
            "AsyncClient cannot be used after a fork: the parent had used gRPC", hint=_HINT
        )


# More than four times the usual 8 MiB; only the pages it touches are memory.
_POLLER_STACK_BYTES: Final = 64 * MIB


@contextmanager
def asyncio_poller_survives_forks() -> Iterator[None]:
    """Create the first grpc.aio object inside: its poller thread gets a large stack.

    That thread always waits inside gRPC, on a structure on its own stack. In a forked
    child the thread is gone, but gRPC still signals it when it closes the inherited
    connections there; by then glibc has given the dead thread's stack to a new thread,
    and the child dies of a segmentation fault, one time in three. glibc never reuses a
    stack more than four times as large as asked for: so this one stays what it was.
    """
    before = threading.stack_size(_POLLER_STACK_BYTES)
    try:
        yield
    finally:
        threading.stack_size(before)


class ForkGuard:
    """Remembers the process it was made in."""

    __slots__ = ("_generation", "_pid")

    def __init__(self) -> None:
        self._generation = _generation
        self._pid = os.getpid()

    @property
    def forked(self) -> bool:
        return self._generation != _generation

    def check(self) -> None:
        """Raise `ForkedProcessError` in any other process."""
        if self._generation != _generation:
            raise ForkedProcessError(
                f"this client was made in process {self._pid}, before a fork", hint=_HINT
            )
