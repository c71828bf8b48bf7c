"""[P] What an export is asked for: which rows, which columns of them. Plain data.

Filters narrow events/ and custody/; records/ always holds its whole range, or its chain
could not be recomputed. The same options over the same range give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from hermes.broker.subject import matcher, validate_pattern
from hermes.errors import InvalidArgumentError
from hermes_inspect.rows import KIND_NAMES, EventRun

# Headers that commonly carry secrets.
HEADERS_DROPPED: Final = ("authorization", "cookie")


class ExportError(InvalidArgumentError):
    """The export cannot be made as asked; nothing was overwritten."""


class NoExportError(ExportError):
    """There is no finished export in this folder."""


class NewerExportError(ExportError):
    """The export was made by a newer version, with a schema that this one does not know."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times are Unix nanoseconds; `until_ns` is not included. Empty: no such filter.

    `subjects` are patterns. `dropped_headers` are in lower case, sorted.
    """

    subjects: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None
    payloads: bool = False
    dropped_headers: tuple[str, ...] = HEADERS_DROPPED

    def check(self) -> None:
        """Raises InvalidArgumentError (ExportError) for a pattern or a kind that is none."""
        for pattern in self.subjects:
            validate_pattern(pattern)
        unknown = sorted(set(self.kinds) - set(KIND_NAMES.values()))
        if unknown:
            raise ExportError(
                f"no kind of record is called {unknown[0]!r}",
                hint="kinds: " + " ".join(KIND_NAMES.values()),
            )

    def time_fits(self, at_ns: int) -> bool:
        return (self.since_ns is None or at_ns >= self.since_ns) and (
            self.until_ns is None or at_ns < self.until_ns
        )

    def subject_fits(self) -> Callable[[str | None], bool]:
        """A test of subjects; under a filter a row without one does not fit."""
        if not self.subjects:
            return lambda _: True
        fits = matcher(self.subjects)
        return lambda subject: subject is not None and fits(subject)

    def run_fits(self) -> Callable[[EventRun], bool] | None:
        """A test of runs of events; None when everything fits."""
        if not (self.subjects or self.consumers or self.kinds) and (
            self.since_ns is None and self.until_ns is None
        ):
            return None
        subject_fits = self.subject_fits()
        kinds, consumers = frozenset(self.kinds), frozenset(self.consumers)

        def fits(run: EventRun) -> bool:
            return (
                (not kinds or run.kind_name in kinds)
                and (not consumers or run.consumer in consumers)
                and subject_fits(run.subject)
                and self.time_fits(run.at_ns)
            )

        return fits
