"""`hermes-inspect stats`: counts, bytes, rates and latencies, out of the log.

The one command that reads every record of its range; payloads are not read. What is
counted, and within which bounds, is in `tally.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from hermes.cli.groups import single
from hermes.cli.text import counted
from hermes_inspect import output
from hermes_inspect.model import Gap, kind_name
from hermes_inspect.options import (
    JsonOption,
    LocalOption,
    LsnOption,
    SinceOption,
    UntilOption,
    typed_filter,
)
from hermes_inspect.output import Output
from hermes_inspect.query import Records
from hermes_inspect.store import Store, StoreArgument, StoreOption, open_store, store_path
from hermes_inspect.tally import (
    ConsumerTally,
    SubjectTally,
    Tally,
    consumer_fields,
    rate,
    subject_fields,
)
from hermes_inspect.times import Clockface, size, span
from hermes_inspect.yielding import Yielding, yield_to

# Rows of the table of subjects; JSON has all.
SUBJECTS_SHOWN: Final = 30

_Progress = Callable[[int], None]


def stats(
    store: StoreArgument = None,
    store_option: StoreOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    lsn: LsnOption = None,
    json: JsonOption = False,
    local: LocalOption = False,
) -> None:
    """Count messages and bytes, and measure latencies, per subject and per consumer."""
    face = output.clockface(local=local)
    wanted = typed_filter(since=since, until=until, lsn=lsn, zone=face.zone)
    with open_store(store_path(store_option, store)) as opened:
        output.tell_state(opened)
        records = Records(opened, wanted)
        yielding = yield_to(opened.path)
        with _progress(opened, records) as progress:
            tally, gaps = count(records, yielding, progress)
        for gap in gaps:
            output.warn(f"damaged: records {gap.first_lsn}..{gap.last_lsn}: {gap.why}")
        out = Output(json=json)
        if json:
            _objects(out, tally)
        else:
            _tables(out, tally, face)
        output.exit_for(opened, damaged=bool(gaps))


def count(records: Records, yielding: Yielding, progress: _Progress) -> tuple[Tally, list[Gap]]:
    """Read them all. Raises StoreError."""
    tally = Tally()
    gaps: list[Gap] = []
    for page in records.walk():
        for item in page.items:
            if isinstance(item, Gap):
                gaps.append(item)
            else:
                tally.add(item.lsn, item.at_ns, item.kind, item.event)
        progress(page.reached)
        yielding.between_steps()
    return tally, gaps


@contextmanager
def _progress(store: Store, records: Records) -> Iterator[_Progress]:
    """A bar on stderr, if a person watches it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    first = max(records.first_lsn, store.first_lsn)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=max(1, records.end_lsn_now - first))
        yield lambda lsn: bar.update(task, completed=lsn - first)


def _objects(out: Output, tally: Tally) -> None:
    out.fields(
        {
            "records": tally.records,
            "first_lsn": tally.first_lsn,
            "last_lsn": tally.last_lsn,
            "span_ns": tally.span_ns,
            "kinds": {kind_name(kind): number for kind, number in sorted(tally.kinds.items())},
        }
    )
    for name, subject in _by_messages(tally):
        out.fields(subject_fields(name, subject, tally.span_ns))
    for name, consumer in sorted(tally.consumers.items()):
        out.fields(consumer_fields(name, consumer, tally.span_ns))


def _by_messages(tally: Tally) -> list[tuple[str, SubjectTally]]:
    return sorted(
        tally.subjects.items(), key=lambda one: (-one[1].messages - one[1].live_messages, one[0])
    )


def _tables(out: Output, tally: Tally, face: Clockface) -> None:
    if not tally.records:
        out.line("no records")
        return
    out.line(
        f"{counted(tally.records, 'record')}, lsn {tally.first_lsn}..{tally.last_lsn}, "
        f"{face.moment(tally.first_at_ns)} to {face.moment(tally.last_at_ns)} {face.name} "
        f"({span(tally.span_ns)})"
    )
    subjects = _by_messages(tally)
    if subjects:
        out.line("")
        out.table(
            ("~SUBJECT", "#MESSAGES", "#LIVE", "#BYTES", "#PER BATCH", "#PER SECOND"),
            (_subject_cells(name, one, tally.span_ns) for name, one in subjects[:SUBJECTS_SHOWN]),
        )
    if len(subjects) > SUBJECTS_SHOWN:
        out.line(f"and {len(subjects) - SUBJECTS_SHOWN:,} more; --json has all")
    if tally.consumers:
        consumers = sorted(tally.consumers.items())
        out.line("")
        counts = ("DELIVERED", "AGAIN", "ACKED", "NACKED", "EXPIRED", "RELEASED", "DEAD")
        out.table(
            ("CONSUMER", *(f"#{name}" for name in counts)),
            (_consumer_cells(name, one) for name, one in consumers),
        )
        out.line("")
        out.table(
            ("CONSUMER", "LATENCY", "#P50", "#P90", "#P99", "#MAX", "#MEASURED"),
            (cells for name, one in consumers for cells in _latency_cells(name, one)),
        )


def _subject_cells(name: str, tally: SubjectTally, span_ns: int) -> list[str]:
    messages = tally.messages + tally.live_messages
    return [
        name,
        f"{tally.messages:,}",
        f"{tally.live_messages:,}",
        size(tally.bytes + tally.live_bytes),
        f"{tally.messages / tally.batches:.1f}" if tally.batches else "",
        f"{rate(messages, span_ns):,.1f}",
    ]


def _consumer_cells(name: str, tally: ConsumerTally) -> list[str]:
    return [
        name,
        f"{tally.delivered:,}",
        f"{tally.redelivered:,}",
        f"{tally.acked:,}",
        f"{tally.nacked + tally.rejected:,}",
        f"{tally.expired:,}",
        f"{tally.released:,}",
        f"{tally.dead:,}",
    ]


def _latency_cells(name: str, tally: ConsumerTally) -> Iterator[list[str]]:
    for label, histogram in (
        ("publish → deliver", tally.publish_to_deliver),
        ("deliver → ack", tally.deliver_to_ack),
        ("publish → ack", tally.publish_to_ack),
    ):
        if histogram.count:
            spans = [span(histogram.percentile(percent)) for percent in (50, 90, 99, 100)]
            yield [name, label, *spans, f"{histogram.count:,}"]
            name = ""


app = single(stats)
