"""[P] Typed events: classes that know their subject.

    @hermes.event("orders.{region}.created")
    @dataclass
    class OrderCreated:
        region: str
        amount: int

A template is a subject whose tokens are text or `{field}`. To publish, the fields
give the tokens; to receive, a field token becomes `*`. Two headers tell a receiver
what it has: `content-type` (the codec) and `event-type` (the name of the class).

Rules: what is wrong with a class is told when it is decorated; what is wrong with
a set of classes, when it is subscribed to; only a wrong payload is told per
message, as a DecodeError with a reason a person understands. The class itself is
not changed beyond one attribute, and not inherited: each event class is decorated.
Nothing here talks to a broker.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, Union, get_args, get_origin

import msgspec

from hermes.client.codec import JSON, Codec, JsonCodec, describe
from hermes.client.event_spec import (
    SPEC_ATTRIBUTE,
    EventSpec,
    field_names,
    parse_template,
    spec_of,
)
from hermes.errors import DecodeError, InvalidArgumentError
from hermes.limits import HEADERS_BYTES_MAX

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

CONTENT_TYPE: Final = "content-type"
EVENT_TYPE: Final = "event-type"


class EncodedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as it is published."""

    subject: str
    payload: bytes
    headers: dict[str, str]


class _EventSet(msgspec.Struct, frozen=True):
    """The classes one subscription takes, ready for look-ups."""

    specs: tuple[EventSpec, ...]
    by_name: dict[str, EventSpec]
    filters: tuple[str, ...]


# ------------------------------------------------------------------- decoration


def event(
    subject_template: str, /, *, name: str | None = None, codec: Codec | None = None
) -> Callable[[type[T]], type[T]]:
    """Make a dataclass, a msgspec struct or a pydantic class an event.

    `subject_template`: `orders.created`, or `orders.{region}.created` with tokens
    from fields. `name`: the `event-type` header, by default the name of the class.
    Raises InvalidArgumentError for a template or a class that can never work.
    """
    tokens = parse_template(subject_template)

    def decorate(kind: type[T]) -> type[T]:
        fields = field_names(kind)
        for text, is_field in tokens:
            if is_field and text not in fields:
                raise InvalidArgumentError(
                    f"{kind.__name__} has no field {text!r}, named in {subject_template!r}",
                    hint=f"its fields are {', '.join(fields) or 'none'}",
                )
        event_name = kind.__name__ if name is None else name
        if not event_name.isprintable() or not 0 < len(event_name.encode()) <= HEADERS_BYTES_MAX:
            raise InvalidArgumentError(f"{event_name!r} cannot be an event's name")
        used = JSON if codec is None else codec
        headers = {CONTENT_TYPE: used.content_type, EVENT_TYPE: event_name}
        spec = EventSpec(kind, event_name, subject_template, tokens, used, headers)
        setattr(kind, SPEC_ATTRIBUTE, spec)
        return kind

    return decorate


# --------------------------------------------------------------------- publishing


def is_event(value: object) -> bool:
    """True for an event class and for an instance of one. A union is not an event."""
    return spec_of(value if isinstance(value, type) else type(value)) is not None


def encode_event(value: object) -> EncodedEvent:
    """Subject, payload and headers of one event object.

    Raises InvalidArgumentError: not an event, a field that is no subject token, or
    a value the codec does not take.
    """
    spec = spec_of(type(value))
    if spec is None:
        raise _not_an_event(type(value))
    subject = spec.subject_of(value)
    try:
        payload = spec.codec.encode(value)
    except Exception as error:
        raise InvalidArgumentError(
            f"{spec.name} cannot be encoded as {spec.codec.name}: {describe(error)}"
        ) from error
    return EncodedEvent(subject, payload, dict(spec.headers))


# ---------------------------------------------------------------------- receiving


def event_subject_filters(kinds: TypeForm[Any]) -> tuple[str, ...]:
    """The patterns to subscribe to for an event class or a union of them.

    Field tokens become `*`; a pattern that another one covers is left out.
    Raises InvalidArgumentError: not event classes, or two with one `event-type`.
    """
    return _event_set(kinds).filters


def decode_event(kinds: TypeForm[T], subject: str, payload: bytes, headers: Mapping[str, str]) -> T:
    """The event a message carries: its class by `event-type`, else by its subject.

    Raises DecodeError with the reason; InvalidArgumentError when `kinds` is wrong.
    """
    spec = _choose(_event_set(kinds), subject, headers)
    expected = spec.codec.content_type
    content_type = headers.get(CONTENT_TYPE, expected)
    if content_type.partition(";")[0].strip().lower() != expected.partition(";")[0].lower():
        raise DecodeError(
            f"{spec.name} on {subject} has content-type {content_type!r}, expected {expected!r}",
            subject=subject,
            event_type=spec.name,
        )
    try:
        return spec.codec.decode(payload, spec.kind)  # type: ignore[no-any-return]
    except Exception as error:
        raise DecodeError(
            f"{spec.name} on {subject} is not valid {spec.codec.name}: {describe(error)}",
            subject=subject,
            event_type=spec.name,
        ) from error


def _choose(events: _EventSet, subject: str, headers: Mapping[str, str]) -> EventSpec:
    name = headers.get(EVENT_TYPE)
    if name is not None:
        if (spec := events.by_name.get(name)) is not None:
            return spec
        problem = f"has event-type {name!r}"
    else:
        tokens = subject.split(".")
        candidates = [spec for spec in events.specs if spec.matches(tokens)]
        if len(candidates) == 1:
            return candidates[0]
        problem = "has no event-type header, and its subject fits " + (
            " and ".join(spec.name for spec in candidates) or "no expected event"
        )
    raise DecodeError(
        f"message on {subject} {problem}; expected {' or '.join(events.by_name)}",
        subject=subject,
    )


def _event_set(kinds: Any) -> _EventSet:
    try:
        return _cached_event_set(kinds)
    except TypeError:  # unhashable: a list, a dict
        raise _not_an_event(kinds) from None


@lru_cache(maxsize=1024)
def _cached_event_set(kinds: Any) -> _EventSet:
    specs: list[EventSpec] = []
    by_name: dict[str, EventSpec] = {}
    for kind in dict.fromkeys(_members(kinds)):
        spec = spec_of(kind)
        if spec is None:
            raise _not_an_event(kind)
        if spec.name in by_name:
            raise InvalidArgumentError(
                f"{by_name[spec.name].kind.__qualname__} and {kind.__qualname__} have the same "
                f"event-type {spec.name!r}",
                hint="give one of them another with @hermes.event(..., name=...)",
            )
        if isinstance(spec.codec, JsonCodec):
            try:
                spec.codec.check(spec.kind)
            except Exception as error:
                raise InvalidArgumentError(
                    f"{spec.name} cannot be decoded from {spec.codec.name}: {describe(error)}"
                ) from error
        specs.append(spec)
        by_name[spec.name] = spec
    filters = list(dict.fromkeys(spec.subject_filter for spec in specs))
    needed = [one for one in filters if not any(_covers(other, one) for other in filters)]
    return _EventSet(tuple(specs), by_name, tuple(needed))


def _members(kinds: Any) -> list[Any]:
    """The classes of a union, of an alias of one, or the class itself."""
    if hasattr(kinds, "__value__"):  # type X = A | B
        return _members(kinds.__value__)
    if get_origin(kinds) in (Union, types.UnionType):
        return [member for kind in get_args(kinds) for member in _members(kind)]
    return [kinds]


def _covers(wide: str, narrow: str) -> bool:
    if wide == narrow:
        return False
    wide_tokens, narrow_tokens = wide.split("."), narrow.split(".")
    return len(wide_tokens) == len(narrow_tokens) and all(
        a in ("*", b) for a, b in zip(wide_tokens, narrow_tokens, strict=True)
    )


def _not_an_event(kind: Any) -> InvalidArgumentError:
    name = getattr(kind, "__name__", None) or repr(kind)
    return InvalidArgumentError(
        f"{name} is not an event", hint='decorate the class with @hermes.event("some.subject")'
    )
