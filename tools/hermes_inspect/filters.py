"""[P] Which records a person wants to see: a filter, how it is typed, and whether a record fits.

A filter is typed as words, `kind:acked consumer:billing subject:orders.>`, in a command's
options or in one line (`parse`); `describe` writes it back. Everything that is said must
hold; of several values of one word, any.

A subject is on publishes and live deliveries; what happened to messages (delivered,
acked, ...) is under a consumer's name. A filter with a subject and also a consumer or such
a kind means records about messages of that subject: whether one is, needs a look-up, which
the caller does (`query.py`); `fits` then decides the rest.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

import msgspec

from hermes.broker.subject import matcher, validate_pattern
from hermes.errors import InvalidArgumentError
from hermes.log.record import Kind
from hermes_inspect.model import (
    CONSUMER_KINDS,
    SETTLEMENT_KINDS,
    SUBJECT_KINDS,
    Message,
    RecordView,
    messages_of,
)
from hermes_inspect.times import Clockface, Zone, parse_moment, utc

# Names for several kinds at once.
GROUPS: Final[dict[str, frozenset[int]]] = {
    "publishes": frozenset({Kind.PUBLISHED, Kind.PUBLISHED_LIVE}),
    "deliveries": frozenset({Kind.DELIVERED, Kind.DELIVERED_LIVE}),
    "settlements": SETTLEMENT_KINDS - {Kind.DELIVERED},
    "failures": frozenset(
        {Kind.NACKED, Kind.REJECTED, Kind.EXPIRED, Kind.DEAD_LETTERED, Kind.DROPPED, Kind.LOST}
    ),
    "live": frozenset(
        {Kind.PUBLISHED_LIVE, Kind.AUDIENCE, Kind.DELIVERED_LIVE, Kind.DROPPED}
        | {Kind.SUBSCRIPTION_OPENED, Kind.SUBSCRIPTION_CLOSED}
    ),
    "consumers": frozenset(range(Kind.CONSUMER_CREATED, Kind.CONSUMER_DELETED + 1)),
    "clients": frozenset(range(Kind.SESSION_OPENED, Kind.SUBSCRIPTION_CLOSED + 1)),
    "log": frozenset(range(Kind.SNAPSHOT, Kind.CHECKPOINT + 1)),
    "server": frozenset({Kind.SERVER_STARTED, Kind.SERVER_STOPPED, Kind.CLOCK_STEPPED}),
}
WORDS: Final = ("kind", "subject", "consumer", "since", "until", "offset", "lsn", "text")


class Filter(msgspec.Struct, frozen=True):
    """What must hold of a record. Empty and None: anything. Bounds are inclusive."""

    kinds: frozenset[int] = frozenset()
    subjects: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None
    first_lsn: int | None = None
    last_lsn: int | None = None
    text: str = ""  # in a payload, or in a reason; upper and lower case are the same

    @property
    def everything(self) -> bool:
        return self == EVERYTHING

    @property
    def effective_kinds(self) -> frozenset[int] | None:
        """Kinds that can fit at all; None is every kind."""
        kinds = self.kinds or None
        if self.consumers:
            kinds = CONSUMER_KINDS if kinds is None else kinds & CONSUMER_KINDS
        if self.subjects:
            if self.about_subjects:
                kinds = (kinds or SETTLEMENT_KINDS) & (SETTLEMENT_KINDS | SUBJECT_KINDS)
            else:
                kinds = SUBJECT_KINDS if kinds is None else kinds & SUBJECT_KINDS
        return kinds

    @property
    def about_subjects(self) -> bool:
        """Whether settlements are wanted by the subject of their messages."""
        return bool(self.subjects) and bool(self.consumers or self.kinds & SETTLEMENT_KINDS)

    @property
    def keys(self) -> Callable[[str], bool] | None:
        """A test of a record's key, if one test serves all effective kinds."""
        if self.consumers:
            return _is_one_of(self.consumers)
        if self.subjects and not self.about_subjects:
            return matcher(self.subjects)
        return None

    @property
    def needs_payloads(self) -> bool:
        return bool(self.text)


EVERYTHING: Final = Filter()


@lru_cache(maxsize=256)
def _is_one_of(names: tuple[str, ...]) -> Callable[[str], bool]:
    """The same names give the same test, so that readers keep what they learned by it."""
    return frozenset(names).__contains__


def fits(wanted: Filter, view: RecordView) -> bool:
    """Whether a record is wanted, but for the subject of settled messages (`about_subjects`)."""
    kinds = wanted.effective_kinds
    if kinds is not None and view.kind not in kinds:
        return False
    if not (_from(wanted.first_lsn, view.lsn) and _upto(wanted.last_lsn, view.lsn)):
        return False
    if not (_from(wanted.since_ns, view.at_ns) and _upto(wanted.until_ns, view.at_ns)):
        return False
    if wanted.consumers and view.consumer not in wanted.consumers:
        return False
    if wanted.subjects and view.subject and not matcher(wanted.subjects)(view.subject):
        return False
    if (wanted.first_offset is not None or wanted.last_offset is not None) and not any(
        _from(wanted.first_offset, last) and _upto(wanted.last_offset, first)
        for first, last in view.ranges
    ):
        return False
    return not wanted.text or holds_text(view, wanted.text)


def holds_text(view: RecordView, text: str) -> bool:
    """Whether a payload, header, id or reason of a record holds a text."""
    if text.casefold() in view.reason.casefold():
        return True
    return any(message_holds(message, text) for message in messages_of(view))


def message_holds(message: Message, text: str) -> bool:
    wanted = text.casefold()
    return (
        wanted in message.payload.decode(errors="replace").casefold()
        or wanted in message.id.casefold()
        or any(wanted in f"{k}: {v}".casefold() for k, v in message.headers.items())
    )


def _from(bound: int | None, value: int) -> bool:
    return bound is None or value >= bound


def _upto(bound: int | None, value: int) -> bool:
    return bound is None or value <= bound


# --------------------------------------------------------------------------- typed form


def parse_kinds(names: Iterable[str]) -> frozenset[int]:
    """Kinds by name (`acked`, also several: `acked,nacked`) or group (`settlements`).

    Raises InvalidArgumentError that lists what there is.
    """
    kinds: set[int] = set()
    for name in (part for text in names for part in text.split(",")):
        word = name.strip().lower().replace("-", "_")
        if word in GROUPS:
            kinds |= GROUPS[word]
        elif word.upper() in Kind.__members__:
            kinds.add(Kind[word.upper()])
        else:
            known = ", ".join([*GROUPS, *(kind.name.lower() for kind in Kind)])
            raise InvalidArgumentError(f"no kind {name!r}; there are {known}")
    return frozenset(kinds)


def parse_range(word: str, text: str) -> tuple[int | None, int | None]:
    """`812`, `800..900`, `800..` or `..900`. Raises InvalidArgumentError."""
    first, dots, last = text.partition("..")
    if not dots:
        last = first
    if any(bound and not (bound.isascii() and bound.isdigit()) for bound in (first, last)) or not (
        first or last
    ):
        raise InvalidArgumentError(f"{word} {text!r}: expected a number, or a range like 800..900")
    return (int(first) if first else None), (int(last) if last else None)


def make_filter(
    *,
    kinds: Iterable[str] = (),
    subjects: Iterable[str] = (),
    consumers: Iterable[str] = (),
    since: str | None = None,
    until: str | None = None,
    offset: str | None = None,
    lsn: str | None = None,
    text: str = "",
    now_ns: int,
    zone: Zone = utc,
) -> Filter:
    """A filter of what was typed. Raises InvalidArgumentError."""
    patterns = tuple(subjects)
    for pattern in patterns:
        validate_pattern(pattern)
    first_offset, last_offset = (None, None) if offset is None else parse_range("offset", offset)
    first_lsn, last_lsn = (None, None) if lsn is None else parse_range("lsn", lsn)
    wanted = Filter(
        kinds=parse_kinds(kinds),
        subjects=patterns,
        consumers=tuple(consumers),
        since_ns=None if since is None else parse_moment(since, now_ns=now_ns, zone=zone),
        until_ns=None if until is None else parse_moment(until, now_ns=now_ns, zone=zone),
        first_offset=first_offset,
        last_offset=last_offset,
        first_lsn=first_lsn,
        last_lsn=last_lsn,
        text=text,
    )
    if wanted.effective_kinds == frozenset():
        what = "consumer" if wanted.consumers else "subject"
        raise InvalidArgumentError(f"records of the kinds asked for have no {what}")
    return wanted


def parse(line: str, *, now_ns: int, zone: Zone = utc) -> Filter:
    """A filter typed in one line: `kind:acked consumer:billing since:-1h offset:5..9 boom`.

    A word without a name is text to look for. Raises InvalidArgumentError.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidArgumentError(f"a quote is not closed in {line!r}") from error
    said: dict[str, list[str]] = {word: [] for word in WORDS}
    for word in words:
        name, colon, value = word.partition(":")
        if colon and name in said:
            said[name].append(value)
        else:
            said["text"].append(word)
    for name in ("since", "until", "offset", "lsn"):
        if len(said[name]) > 1:
            raise InvalidArgumentError(f"{name}: is said twice")
    return make_filter(
        kinds=said["kind"],
        subjects=said["subject"],
        consumers=said["consumer"],
        since=next(iter(said["since"]), None),
        until=next(iter(said["until"]), None),
        offset=next(iter(said["offset"]), None),
        lsn=next(iter(said["lsn"]), None),
        text=" ".join(said["text"]),
        now_ns=now_ns,
        zone=zone,
    )


def describe(wanted: Filter, face: Clockface) -> str:
    """A filter as it could be typed; empty for everything."""
    words = []
    if wanted.kinds:
        named = [name for name, kinds in GROUPS.items() if kinds == wanted.kinds]
        kinds = named or [Kind(kind).name.lower() for kind in sorted(wanted.kinds)]
        words.append("kind:" + ",".join(kinds))
    words += [f"subject:{pattern}" for pattern in wanted.subjects]
    words += [f"consumer:{shlex.quote(name)}" for name in wanted.consumers]
    for name, at_ns in (("since", wanted.since_ns), ("until", wanted.until_ns)):
        if at_ns is not None:
            words.append(f"{name}:{shlex.quote(face.moment(at_ns))}")
    for name, first, last in (
        ("offset", wanted.first_offset, wanted.last_offset),
        ("lsn", wanted.first_lsn, wanted.last_lsn),
    ):
        if first is not None or last is not None:
            words.append(f"{name}:" + _range_text(first, last))
    if wanted.text:
        words.append(f"text:{shlex.quote(wanted.text)}")
    return " ".join(words)


def _range_text(first: int | None, last: int | None) -> str:
    if first == last:
        return str(first)
    return f"{'' if first is None else first}..{'' if last is None else last}"
