"""What is tried again after a failure of the log, when, and what ends the server."""

from __future__ import annotations

import pytest

from hermes.errors import (
    HermesError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)
from hermes.server.healing import (
    AT_ONCE_NS,
    STEADY_NS,
    WAIT_MAX_SECS,
    Healing,
    can_pass,
    reopening_error,
)


def caused_by_the_system() -> HermesError:
    error = HermesError("a key cannot be read")
    error.__cause__ = OSError(5, "Input/output error")
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (StoreFullError("full"), True),
        (StoreError("IOError: disk I/O error"), True),
        (OSError(30, "Read-only file system"), True),
        (caused_by_the_system(), True),
        (StoreDamagedError("lost"), False),
        (StoreLockedError("replaced"), False),
        (StoreVersionError("newer"), False),
        (HermesError("KeyError: 'a bug'"), False),
        (ValueError("a bug"), False),
    ],
    ids=str,
)
def test_what_can_pass_is_waited_for_and_the_rest_ends_the_server(
    error: Exception, passes: bool
) -> None:
    assert can_pass(error) is passes
    healing = Healing()
    healing.failed(StoreError("first"), 0)
    if passes:
        assert healing.refused(error)
        assert not healing.refused(error), "the same reason is no news"
    else:
        with pytest.raises(type(error)):
            healing.refused(error)


def test_waits_double_up_to_a_bound_and_start_over_after_steady_service() -> None:
    healing = Healing()
    healing.served(0)
    healing.failed(StoreError("io"), STEADY_NS)
    waits = [healing.wait_secs]
    for _ in range(40):
        healing.refused(StoreError("io"))
        waits.append(healing.wait_secs)
    assert waits[:4] == [0.0, 0.1, 0.2, 0.4]
    assert max(waits) == waits[-1] == WAIT_MAX_SECS
    healing.served(2 * STEADY_NS)
    healing.failed(StoreError("io"), 2 * STEADY_NS + 1)
    assert healing.wait_secs == WAIT_MAX_SECS, "it did not last: no new beginning"
    healing.served(3 * STEADY_NS)
    healing.failed(StoreError("io"), 4 * STEADY_NS)
    assert healing.wait_secs == 0.0


def test_a_bug_that_comes_back_at_once_ends_the_server() -> None:
    healing = Healing()
    bug = HermesError("KeyError: 'a bug'")
    healing.served(0)
    healing.failed(bug, 1)
    healing.served(2)
    with pytest.raises(StoreError, match="failed again at once: KeyError"):
        healing.failed(bug, AT_ONCE_NS)
    later = Healing()
    later.served(0)
    later.failed(bug, 1)
    later.served(2)
    later.failed(bug, 2 + AT_ONCE_NS)
    assert later.failures == 2


def test_an_outage_is_counted_from_the_failure_to_serving_again() -> None:
    healing = Healing()
    healing.served(0)
    assert (healing.reopenings, healing.last_outage_secs) == (0, 0.0)
    healing.failed(StoreError("io"), STEADY_NS)
    healing.refused(StoreFullError("full"))
    assert "its disk is full" in str(reopening_error(healing.cause))
    healing.served(STEADY_NS + 2_500_000_000)
    assert (healing.failures, healing.refusals, healing.reopenings) == (1, 1, 1)
    assert healing.last_outage_secs == 2.5
    assert healing.cause is None
