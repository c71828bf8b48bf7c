"""[P] Event objects to bytes and back.

A codec turns one event object into a payload and a payload into an object of a
known class. JSON is the default: msgspec for dataclasses and structs, pydantic's
own serialiser for pydantic classes. pydantic is recognised by what its classes
carry, never imported: who does not use it need not install it.

A codec raises whatever it likes; `hermes.client.typed` turns that into one
InvalidArgumentError (encode) or DecodeError (decode). Subjects, headers and the
choice of the class do not belong here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar

import msgspec

T = TypeVar("T")


class Codec(Protocol):
    """What `@hermes.event(..., codec=...)` takes. Must be thread-safe."""

    @property
    def name(self) -> str:
        """For people, in error messages: `JSON`."""
        ...

    @property
    def content_type(self) -> str:
        """The `content-type` header of every payload it makes: `application/json`."""
        ...

    def encode(self, value: Any) -> bytes:
        """The payload of one event object."""
        ...

    def decode(self, payload: bytes, kind: type[T]) -> T:
        """An object of class `kind`. Raises any exception when the payload is not one."""
        ...


class JsonCodec:
    """JSON for dataclasses, msgspec structs and pydantic classes."""

    name: Final = "JSON"
    content_type: Final = "application/json"

    def encode(self, value: Any) -> bytes:
        """UTF-8 JSON. Field names are the class's own, or its aliases where it has them."""
        kind = type(value)
        if is_pydantic_model(kind):
            text: str = value.model_dump_json(by_alias=True)
            return text.encode()
        if is_pydantic(kind):
            encoded: bytes = kind.__pydantic_serializer__.to_json(value, by_alias=True)
            return encoded
        return _ENCODER.encode(value)

    def decode(self, payload: bytes, kind: type[T]) -> T:
        """Validated. Unknown fields are ignored by msgspec, so events may grow."""
        checked: Any = kind
        if is_pydantic_model(kind):
            return checked.model_validate_json(payload)  # type: ignore[no-any-return]
        if is_pydantic(kind):
            return checked.__pydantic_validator__.validate_json(payload)  # type: ignore[no-any-return]
        return _decoder(checked).decode(payload)  # type: ignore[no-any-return]

    def check(self, kind: type[Any]) -> None:
        """Raises TypeError when no payload can ever become a `kind`.

        Called when a consumer opens, because a class that cannot be decoded would
        otherwise show up as one rejected message after another.
        """
        if not is_pydantic(kind):
            checked: Any = kind
            _decoder(checked)


JSON: Final = JsonCodec()

_ENCODER: Final = msgspec.json.Encoder()


@lru_cache(maxsize=1024)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def is_pydantic(kind: type[Any]) -> bool:
    """A pydantic model or a pydantic dataclass."""
    return hasattr(kind, "__pydantic_validator__") and hasattr(kind, "__pydantic_serializer__")


def is_pydantic_model(kind: type[Any]) -> bool:
    """A pydantic model: has the methods a subclass may override."""
    return is_pydantic(kind) and hasattr(kind, "model_validate_json")


def describe(error: Exception) -> str:
    """One line for a person, whatever library the error comes from."""
    details = getattr(error, "errors", None)
    if callable(details) and hasattr(error, "error_count"):  # pydantic: one line per field
        return "; ".join(_field_problem(problem) for problem in details())
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _field_problem(problem: dict[str, Any]) -> str:
    place = ".".join(str(step) for step in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
