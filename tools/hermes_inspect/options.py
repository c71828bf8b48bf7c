"""Options that several commands take, and how their text is read.

Where the store is: `store.py`. Raises UsageError for what cannot be read, which becomes
one line and exit code 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from hermes.cli.options import UsageError
from hermes.clock import SystemClock
from hermes.errors import InvalidArgumentError
from hermes_inspect.filters import Filter, make_filter
from hermes_inspect.payloads import PAYLOAD_MODES
from hermes_inspect.times import Zone

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
LocalOption = Annotated[
    bool, typer.Option("--local", help="Times in this machine's zone instead of UTC.")
]
KindOption = Annotated[
    list[str] | None,
    typer.Option("--kind", "-k", metavar="KIND", help="acked, nacked, … or settlements, live, …"),
]
SubjectOption = Annotated[
    list[str] | None,
    typer.Option("--subject", metavar="PATTERN", help="Publishes on it; see also --consumer."),
]
ConsumerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--consumer",
        "-c",
        metavar="NAME",
        help="Records of a consumer; with --subject those about its messages.",
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="2026-01-31T12:00:00Z, or -1h: an hour ago."),
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="The same.")]
OffsetOption = Annotated[
    str | None,
    typer.Option("--offset", metavar="RANGE", help="About messages: 812, 800..900, 800.."),
]
LsnOption = Annotated[
    str | None, typer.Option("--lsn", metavar="RANGE", help="Records: 812, 800..900, 800..")
]
TextOption = Annotated[
    str, typer.Option("--text", metavar="TEXT", help="In a payload, header, id or reason.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="The first so many.")
]
LastOption = Annotated[
    int | None, typer.Option("--last", "-n", min=0, metavar="N", help="The newest so many.")
]
FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on with what is logged from now on.")
]
PayloadOption = Annotated[
    str | None,
    typer.Option(
        "--payload",
        metavar="|".join(PAYLOAD_MODES),
        help="Show the messages, and their payloads so.",
    ),
]
NoTuiOption = Annotated[bool, typer.Option("--no-tui", help="Lines, also on a terminal.")]


def typed_filter(
    *,
    kinds: Iterable[str] = (),
    subjects: Iterable[str] = (),
    consumers: Iterable[str] = (),
    since: str | None = None,
    until: str | None = None,
    offset: str | None = None,
    lsn: str | None = None,
    text: str = "",
    zone: Zone,
) -> Filter:
    """The filter of a command line. Raises UsageError."""
    try:
        return make_filter(
            kinds=kinds,
            subjects=subjects,
            consumers=consumers,
            since=since,
            until=until,
            offset=offset,
            lsn=lsn,
            text=text,
            now_ns=SystemClock().wall_ns(),
            zone=zone,
        )
    except InvalidArgumentError as error:
        raise UsageError(str(error)) from error
