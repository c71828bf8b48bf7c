"""[P] How fast things happen: rates of the rows that are shown, and a sparkline of the log.

Rates count messages (records of other kinds: records) of the last `RATE_NS` before a moment,
or of as much of it as is held. The sparkline's bars are records per second, found by index;
here they are only drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from rich.text import Text

from hermes.log.record import Kind
from hermes_inspect.model import RecordView
from hermes_inspect.times import SECOND_NS
from hermes_inspect.tui.rows import Row

RATE_NS: Final = 10 * SECOND_NS
BARS: Final = "▁▂▃▄▅▆▇█"

_NAMES: Final[tuple[tuple[str, str, frozenset[int]], ...]] = (
    ("published", "green", frozenset({Kind.PUBLISHED, Kind.PUBLISHED_LIVE})),
    ("delivered", "cyan", frozenset({Kind.DELIVERED, Kind.DELIVERED_LIVE})),
    ("acked", "blue", frozenset({Kind.ACKED})),
    ("failed", "red", frozenset({Kind.NACKED, Kind.REJECTED, Kind.EXPIRED, Kind.DEAD_LETTERED})),
)


class Rates(msgspec.Struct, frozen=True):
    """Per second, by name, in the order in which they are shown."""

    per_second: tuple[tuple[str, str, float], ...]  # name, style, rate


def rates(newest_first: Iterable[Row], at_ns: int) -> Rates:
    """Rates right before a moment, of rows from the newest back.

    Rows end where the window does; then the rate is that of the span that they cover.
    """
    counts = dict.fromkeys((name for name, _, _ in _NAMES), 0)
    oldest_ns = at_ns
    whole = False
    for row in newest_first:
        view = row.item
        if not isinstance(view, RecordView) or view.at_ns > at_ns:
            continue
        if view.at_ns <= at_ns - RATE_NS:
            whole = True
            break
        oldest_ns = min(oldest_ns, view.at_ns)
        for name, _, kinds in _NAMES:
            if view.kind in kinds:
                counts[name] += view.messages or 1
    # A span below a second says little: a handful of records is no rate.
    span_ns = RATE_NS if whole else max(SECOND_NS, at_ns - oldest_ns)
    return Rates(tuple((n, style, counts[n] * SECOND_NS / span_ns) for n, style, _ in _NAMES))


def rate_text(per_second: float) -> str:
    """`0`, `0.4`, `12`, `1.2k`, `3.4M`."""
    if per_second < 10:
        return f"{per_second:.1f}".removesuffix(".0")
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if per_second >= scale:
            return f"{per_second / scale:.1f}{unit}"
    return f"{per_second:.0f}"


def sparkline(counts: Sequence[int]) -> str:
    """A bar per count, the highest full; what is not nothing can be seen."""
    top = max(counts, default=0)
    if not top:
        return BARS[0] * len(counts)
    steps = len(BARS) - 1
    return "".join(BARS[min(steps, -(-count * steps // top))] for count in counts)


def rates_line(counts: Sequence[int], found: Rates, when: str, *, paused: bool = False) -> Text:
    """The sparkline and the rates on one line; the caller cuts it.

    `when` says which moment it ends at, empty for now or where there is no room. `paused`:
    the figures are of that moment and stand still, which is seen with and without colours.
    """
    text = Text("‖" if paused else " ", "bold yellow", no_wrap=True, end="")
    text.append(sparkline(counts), "yellow" if paused else "green")
    latest = counts[-1] if counts else 0
    figures = "dim" if paused else "bold"
    text.append(f" {rate_text(latest)}", figures)
    text.append(f" rec/s{when}", "dim")
    for name, style, per_second in found.per_second:
        text.append("  ")
        text.append(rate_text(per_second), figures)
        text.append(f" {name}", style)
    return text
