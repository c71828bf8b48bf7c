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

from hermes.errors import ForkedProcessError

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "true")

_HINT = "make a new hermes.Client in the child, or start it with 'spawn' or 'forkserver'"

_used_in_pid: int | None = None  # where gRPC was first used by a client
_inherited_grpc = False  # this process was forked from one that used gRPC


def _after_fork_in_child() -> None:
    global _inherited_grpc
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


class ForkGuard:
    """Remembers the process it was made in."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def forked(self) -> bool:
        return os.getpid() != self._pid

    def check(self) -> None:
        """Raise `ForkedProcessError` in any other process."""
        if os.getpid() != self._pid:
            raise ForkedProcessError(
                f"this client was made in process {self._pid}, before a fork", hint=_HINT
            )
