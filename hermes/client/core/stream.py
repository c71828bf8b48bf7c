"""[P] What a driver asks of a core: the contract between I/O and decisions.

A core is the state of one kind of stream over any number of connections. A driver
opens the RPC, sends `opening`, then writes whatever `next_request` gives and feeds
each response to `on_response`, until the stream ends; then `on_lost`, and again.

Rules
- Calls into a core never block and are serialised by the driver (event loop or lock).
- `next_request` merges all that is ready; what becomes ready while a frame is being
  written goes into the next one. No timers.
- Time comes in as monotonic nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from hermes.errors import HermesError

RequestT_co = TypeVar("RequestT_co", covariant=True)
ResponseT_contra = TypeVar("ResponseT_contra", contravariant=True)


class Waiter(Protocol):
    """What asyncio and concurrent futures have in common."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: Any, /) -> None: ...


def resolve(waiter: Waiter | None, result: Any) -> None:
    """Set a result unless nobody waits any more."""
    if waiter is not None and not waiter.done():
        waiter.set_result(result)


def fail(waiter: Waiter | None, error: Exception) -> None:
    """Set an exception unless nobody waits any more."""
    if waiter is not None and not waiter.done():
        waiter.set_exception(error)


class StreamCore(Protocol[RequestT_co, ResponseT_contra]):
    """One kind of stream. See the module's docstring for who calls what when."""

    # Set by the driver: called whenever next_request may have something to give.
    wake: Callable[[], None]

    @property
    def is_open(self) -> bool:
        """The broker has answered the opening request of the present connection."""
        ...

    @property
    def is_finished(self) -> bool:
        """Nothing is left to do on this connection: it may be half-closed."""
        ...

    @property
    def is_ahead(self) -> bool:
        """Users are busy taking what has come: let them run before reading on."""
        ...

    def opening(self) -> RequestT_co:
        """The first request of a new connection."""
        ...

    def on_response(self, response: ResponseT_contra, now_ns: int, /) -> None: ...

    def next_request(self) -> RequestT_co | None:
        """The next frame, or None when there is nothing to send yet."""
        ...

    def next_timer_ns(self) -> int | None:
        """When `on_timer` wants to be called, connected or not."""
        ...

    def on_timer(self, now_ns: int, /) -> None: ...

    def on_lost(self, error: HermesError, now_ns: int, /) -> None:
        """The connection ended; the driver opens another after a pause."""
        ...

    def on_failed(self, error: HermesError) -> None:
        """No further connection will be made: everything that waits fails."""
        ...
