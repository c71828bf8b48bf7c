"""`hermes-inspect trace`: the custody timeline of one message, found by index.

A message is named by its offset (812 or @812), by its id, or, live and without an id, by
the place where it was published (@lsn.index). Everything about a durable message touches
its offset; what happened to a live one is under its subject. What it means is laid out in
`timeline.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final

import typer
from rich.text import Text

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer, MessageState
from hermes.broker.recovery import recover
from hermes.broker.subject import dead_letter_subject, matcher
from hermes.cli.groups import single
from hermes.errors import HermesError, NotFoundError
from hermes.log.record import Kind, StoredRecord, look_up_term
from hermes.log.search import Search, search
from hermes_inspect import output
from hermes_inspect.model import RecordView, messages_of, view_of
from hermes_inspect.options import JsonOption, LocalOption, PayloadOption
from hermes_inspect.output import Output
from hermes_inspect.payloads import message_lines
from hermes_inspect.sessions import Sessions
from hermes_inspect.store import Store, StoreOption, open_store, store_path
from hermes_inspect.timeline import (
    Receiver,
    Step,
    Trace,
    lines,
    standing_lines,
    standings,
    title,
    trace_fields,
)
from hermes_inspect.views import LineStyle

# Steps of one message; a poison message without a limit may have many.
STEPS_MAX: Final = 10_000
# Messages with one id that are shown.
SAME_ID_MAX: Final = 20
# Copies of dead letters, or live deliveries, of one subject that are looked through.
NEARBY_MAX: Final = 256
# A full buffer drops a message soon after it was published, or not at all.
DROPPED_WITHIN_RECORDS: Final = 200_000
_CHUNK_RECORDS: Final = 1_000
_PLACE: Final = re.compile(r"@?(\d+)|@(\d+)\.(\d+)", re.ASCII)

# A publish, and which message of it.
Place = tuple[RecordView, int]


def trace(
    message: Annotated[str, typer.Argument(help="An offset (812, @812) or a message id.")],
    store_option: StoreOption = None,
    by_id: Annotated[
        bool, typer.Option("--id", help="MESSAGE is an id, also if it looks like an offset.")
    ] = False,
    payload: PayloadOption = None,
    json: JsonOption = False,
    local: LocalOption = False,
) -> None:
    """Tell the whole story of one message."""
    with open_store(store_path(store_option)) as store:
        output.tell_state(store)
        who = Sessions(store.reader)
        out = Output(json=json)
        style = LineStyle(output.clockface(local=local), out.columns)
        for number, place in enumerate(find(store, message, by_id=by_id)):
            traced = Tracer(store, who).trace(*place)
            if json:
                out.fields(trace_fields(traced, who))
            else:
                if number:
                    out.text(Text())
                _print(out, traced, who, style, payload)
        output.exit_for(store)


def _print(
    out: Output, traced: Trace, who: Sessions, style: LineStyle, payload: str | None
) -> None:
    out.text(title(traced))
    if not style.dates:
        date = style.face.date(traced.steps[0].view.at_ns)
        out.text(Text(f"{date} {style.face.name}", "dim"))
    for line in lines(traced, who, style):
        out.text(line)
    if traced.cut:
        output.warn(f"it has more than {STEPS_MAX} steps; the rest is not shown")
    for line in standing_lines(traced):
        out.text(line)
    if payload is not None and traced.message is not None:
        for line in message_lines(traced.message, payload):
            out.text(line)


# ------------------------------------------------------------------------- which message


def find(store: Store, name: str, *, by_id: bool = False) -> list[Place]:
    """The messages of a name, oldest first; several when an id was used again.

    Raises NotFoundError, StoreError.
    """
    place = None if by_id else _PLACE.fullmatch(name)
    found: list[Place] = []
    if place is not None and place[1]:
        found = _at_offset(store, int(place[1]))
    elif place is not None:
        found = _at_lsn(store, int(place[2]), int(place[3]))
    if not found and not name.startswith("@"):
        found = list(_with_id(store, name))
    if found:
        return found
    if place is not None and place[1]:
        raise _no_offset(store, int(place[1]))
    raise NotFoundError(
        f"no message {name!r} in {store.path}", hint="an offset, or the id it was published with"
    )


def _at_offset(store: Store, offset: int) -> list[Place]:
    record = store.reader.publish_of(offset)
    if record is None or record.first is None:
        return []
    return [(view_of(record), offset - record.first)]


def _at_lsn(store: Store, lsn: int, index: int) -> list[Place]:
    view = _record_at(store, lsn, payloads=True)
    if view is None or view.kind != Kind.PUBLISHED_LIVE or index >= view.messages:
        return []
    return [(view, index)]


def _with_id(store: Store, name: str) -> Iterator[Place]:
    for record in store.reader.with_term(look_up_term(name), limit=SAME_ID_MAX):
        view = view_of(record)
        for index, one in enumerate(view.ids):
            if one == name:
                yield view, index


def _record_at(store: Store, lsn: int, *, payloads: bool = False) -> RecordView | None:
    records = store.reader.read(lsn, limit=1, limit_bytes=1, payloads=payloads)
    return view_of(records[0]) if records and records[0].lsn == lsn else None


def _no_offset(store: Store, offset: int) -> NotFoundError:
    """Why an offset is not there."""
    held = [s for s in store.segments() if s.first_offset is not None]
    if not held:
        return NotFoundError(f"no message at offset {offset}: none was published durably")
    first, last = held[0].first_offset, held[-1].last_offset
    if last is not None and offset > last:
        return NotFoundError(f"no message at offset {offset} yet: the newest is {last}")
    if first is not None and offset < first:
        return NotFoundError(f"offset {offset} is no longer held: the oldest is {first}")
    return NotFoundError(f"offset {offset} was lost: no record holds it")


# ----------------------------------------------------------------------------- its story


class Tracer:
    """Gathers what happened to messages of one store."""

    def __init__(self, store: Store, who: Sessions) -> None:
        self._store = store
        self._reader = store.reader
        self._who = who

    def trace(self, publish: RecordView, index: int) -> Trace:
        """The story of one message of a publish. Raises StoreError."""
        as_of_lsn = self._store.last_lsn
        messages = messages_of(publish)
        first = publish.record.first
        offset = None if first is None else first + index
        cut = False
        if offset is None:
            steps = [Step(publish), *self._live_steps(publish)]
            others: dict[str, str] = {}
        else:
            steps, cut = self._durable_steps(publish, offset)
            named = {step.view.consumer for step in steps}
            retired = any(step.view.kind == Kind.SEGMENT_COMPACTED for step in steps)
            others = self._others(publish.subject, offset, named, retired=retired)
        return Trace(
            subject=publish.subject,
            index=index,
            offset=offset,
            id=publish.ids[index] if publish.ids else "",
            message=messages[index] if messages else None,
            steps=tuple(steps),
            standings=standings(steps, others),
            as_of_lsn=as_of_lsn,
            cut=cut,
        )

    def _durable_steps(self, publish: RecordView, offset: int) -> tuple[list[Step], bool]:
        steps = [Step(publish)]
        after_lsn = publish.lsn
        while True:
            page = self._reader.touching(offset, after_lsn=after_lsn, limit=_CHUNK_RECORDS)
            for record in page:
                after_lsn = record.lsn
                view = view_of(record)
                if any(first <= offset <= last for first, last in view.ranges):
                    steps.append(Step(view, self._receivers(view)))
            if len(page) < _CHUNK_RECORDS or len(steps) > STEPS_MAX:
                break
        copies = [
            Step(copy, copy=True)
            for step in steps
            if step.view.kind == Kind.DEAD_LETTERED
            and (copy := self._copy(publish.subject, offset, step.view)) is not None
        ]
        steps = sorted([*steps, *copies, *self._deletions(steps)], key=lambda step: step.view.lsn)
        return steps[:STEPS_MAX], len(steps) > STEPS_MAX

    def _copy(self, subject: str, offset: int, dead: RecordView) -> RecordView | None:
        """The copy of a dead letter that was published for others to see."""
        key = dead_letter_subject(subject)
        if key is None:
            return None
        for record in self._reader.of_key(
            key, kinds={Kind.PUBLISHED}, after_lsn=dead.lsn, limit=NEARBY_MAX
        ):
            event = view_of(record).event
            if isinstance(event, ev.Published) and event.dead_letter_consumer == dead.consumer:
                shift = offset - event.dead_letter_offset
                if 0 <= shift <= event.last - event.first:
                    return view_of(record)
        return None

    def _deletions(self, steps: list[Step]) -> list[Step]:
        """Where a consumer that had the message was deleted."""
        found = []
        for consumer in {step.view.consumer for step in steps if step.view.consumer}:
            after_lsn = min(step.view.lsn for step in steps if step.view.consumer == consumer)
            deleted = self._reader.of_key(
                consumer, kinds={Kind.CONSUMER_DELETED}, after_lsn=after_lsn, limit=1
            )
            found += [Step(view_of(record)) for record in deleted]
        return found

    def _others(
        self, subject: str, offset: int, named: set[str], *, retired: bool
    ) -> dict[str, str]:
        """Consumers that want the subject and never had the message, and why."""
        try:
            state = recover(self._reader).state
        except HermesError:
            return {}  # a damaged log has no state; what happened is shown all the same
        return {
            name: _never_delivered(consumer, offset, retired=retired)
            for name, consumer in state.consumers.items()
            if name not in named and matcher(consumer.policy.filters)(subject)
        }

    # ------------------------------------------------------------------------- live

    def _live_steps(self, publish: RecordView) -> Iterator[Step]:
        """What became of a live batch: to whom it was handed, who lost it."""
        steps: list[Step] = []
        for record in self._reader.of_key(
            publish.subject, kinds={Kind.DELIVERED_LIVE}, after_lsn=publish.lsn, limit=NEARBY_MAX
        ):
            view = view_of(record)
            event = view.event
            if isinstance(event, ev.DeliveredLive) and event.published_lsn == publish.lsn:
                steps.append(Step(view, self._receivers(view)))
        handed = {one.subscription: one for step in steps for one in step.receivers}
        steps += self._drops(publish.lsn, handed)
        return iter(steps)

    def _drops(self, lsn: int, handed: dict[int, Receiver]) -> Iterator[Step]:
        records: list[StoredRecord] = []
        at, end = lsn, lsn + DROPPED_WITHIN_RECORDS
        while handed and at < end:
            page, reached = search(
                self._reader,
                Search(kinds=frozenset({Kind.DROPPED})),
                from_lsn=at,
                before_lsn=end,
                limit=NEARBY_MAX,
                limit_bytes=1 << 20,
            )
            records += page
            if reached == at or reached > self._store.last_lsn:
                break
            at = reached
        for record in records:
            view = view_of(record)
            event = view.event
            if (
                isinstance(event, ev.Dropped)
                and event.subscription in handed
                and event.first_published_lsn <= lsn <= event.last_published_lsn
            ):
                yield Step(view, (handed[event.subscription],))

    def _receivers(self, view: RecordView) -> tuple[Receiver, ...]:
        event = view.event
        if not isinstance(event, ev.DeliveredLive):
            return ()
        subscriptions: list[int] = []
        if event.audience:
            audience = _record_at(self._store, event.audience)
            if audience is not None and isinstance(audience.event, ev.AudienceFormed):
                subscriptions += audience.event.subscriptions
        subscriptions += event.picks
        return tuple(self._receiver(one) for one in subscriptions)

    def _receiver(self, subscription: int) -> Receiver:
        view = _record_at(self._store, subscription)
        if view is None or not isinstance(view.event, ev.SubscriptionOpened):
            return Receiver(subscription, "", (), 0, None)
        event = view.event
        return Receiver(
            subscription, event.pattern, event.queue_groups, event.session, self._who(event.session)
        )


def _never_delivered(consumer: Consumer, offset: int, *, retired: bool) -> str:
    state = consumer.state_of(offset)
    if state is MessageState.UNSEEN:
        return "payload retired undelivered" if retired else "not delivered yet"
    if state is MessageState.SETTLED and retired:
        return "not delivered: before its start, or its payload was retired"
    if state is MessageState.SETTLED:
        return "not delivered: before its start, or passed over"
    return str(state.value)


app = single(trace)
