"""[P] What a server does after its log has failed: try again, wait, or end.

Theory: a failed log is closed, opened afresh and folded, and only then served again. When
the opening fails too, what matters is whether the cause can pass without a person at this
process: a disk gets room, a volume comes back, descriptors are given back. Then the server
goes on trying, refuses every call with UNAVAILABLE meanwhile, and says in its health that
it does not serve. What cannot pass ends it, with the reason.

no room (SQLITE_FULL, ENOSPC, EDQUOT)
    tried again until there is room
an I/O error; a store that is away, read-only or not permitted; no descriptors or memory
left; a file that another process keeps busy; a first commit that does not end
    tried again until it works
the store is damaged, lacks what was committed, is another one, or of a newer version
    the server ends: more tries do not bring it back
another server has the store
    the server ends: it has been replaced
anything that is no error of the store (a bug of ours)
    opened afresh; if that fails, or it comes back within a second, the server ends

The first try is immediate; the waits between further ones double from 0.1 s up to 2 s, and
start over once the server has served for 10 s. So a server whose disk comes back serves
again within 2 s plus the opening itself.

Sleeping, opening and logging belong to app.py; time is an argument.
"""

from __future__ import annotations

from typing import Final

from hermes.errors import (
    HermesError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
    UnavailableError,
)

WAIT_FIRST_SECS: Final = 0.1
WAIT_MAX_SECS: Final = 2.0
STEADY_NS: Final = 10_000_000_000
# A bug that comes back so soon would come back for ever.
AT_ONCE_NS: Final = 1_000_000_000
_NS_PER_SEC: Final = 1e9

_FINAL: Final = (StoreDamagedError, StoreLockedError, StoreVersionError)


def can_pass(error: BaseException) -> bool:
    """Whether the cause of a failure can go away while this process waits."""
    if isinstance(error, _FINAL):
        return False
    return isinstance(error, StoreError | OSError) or isinstance(error.__cause__, OSError)


def remedy(error: BaseException) -> str:
    """What makes it well, for the log's reader."""
    if isinstance(error, StoreFullError):
        return "free space on the store's disk: it is opened again by itself, within seconds"
    if can_pass(error):
        return "it is tried again by itself; if it stays, look at the store's disk"
    return "a person: see the error"


def reopening_error(cause: BaseException | None = None) -> UnavailableError:
    """What callers are told from a failure of the log until it is served again."""
    if isinstance(cause, StoreFullError):
        return UnavailableError(
            "the broker is reopening its log: its disk is full",
            hint="it serves again by itself once there is space on the broker's disk",
        )
    return UnavailableError("the broker is reopening its log", hint="try again shortly")


class Healing:
    """One server's failures: how long to wait, when to give up, and the counts of it all.

    Attributes may be read by any thread.
    """

    def __init__(self) -> None:
        self.failures = 0  # of a log that was served
        self.refusals = 0  # openings that failed
        self.reopenings = 0  # that succeeded
        self.last_outage_secs = 0.0  # from the failure to serving again
        self.cause: BaseException | None = None  # None while serving
        self._refusal = ""  # of the last opening since the failure
        self._tries = 0
        self._served_ns = 0
        self._failed_ns = 0

    @property
    def wait_secs(self) -> float:
        """How long to wait before the next opening."""
        if self._tries <= 1:
            return 0.0
        return min(WAIT_MAX_SECS, WAIT_FIRST_SECS * 2.0 ** min(self._tries - 2, 10))

    def served(self, now_ns: int) -> None:
        """It serves: at first, or again."""
        if self.cause is not None:
            self.reopenings += 1
            self.last_outage_secs = (now_ns - self._failed_ns) / _NS_PER_SEC
        self.cause = None
        self._served_ns = now_ns

    def failed(self, cause: HermesError, now_ns: int) -> None:
        """The log that was served has failed. Raises StoreError when that is final."""
        served_ns = now_ns - self._served_ns
        if served_ns < AT_ONCE_NS and self._tries and not can_pass(cause):
            raise StoreError(f"the log failed again at once: {cause.message}") from cause
        if served_ns >= STEADY_NS:
            self._tries = 0
        self.failures += 1
        self._tries += 1
        self._failed_ns = now_ns
        self._refusal = ""
        self.cause = cause

    def refused(self, error: Exception) -> bool:
        """Opening it afresh failed; answers whether for a reason that is new.

        Raises the error when waiting does not help.
        """
        self.refusals += 1
        if not can_pass(error):
            raise error
        self._tries += 1
        is_new = str(error) != self._refusal
        self._refusal = str(error)
        self.cause = error
        return is_new
