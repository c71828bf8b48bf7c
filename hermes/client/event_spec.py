"""[P] What `@event` notes about a class: its name, its subject's tokens, its codec.

A template is a subject whose tokens are text or one whole `{field}`. It is checked when
a class is decorated; the text that fields give, when an object is published. Both by
the broker's rules for subjects, so that a mistake is told where it was made.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from typing import Any, Final

import msgspec

from hermes.client.codec import Codec, is_pydantic
from hermes.errors import InvalidArgumentError
from hermes.limits import SUBJECT_BYTES_MAX, SUBJECT_TOKENS_MAX

SPEC_ATTRIBUTE: Final = "__hermes_event__"

_FIELD: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class EventSpec(msgspec.Struct, frozen=True):
    """What `@event` noted about a class. `tokens` are text, or the field they come from."""

    kind: type[Any]
    name: str
    template: str
    tokens: tuple[tuple[str, bool], ...]  # (text or field name, is it a field)
    codec: Codec
    headers: dict[str, str]

    @property
    def subject_filter(self) -> str:
        return ".".join("*" if is_field else text for text, is_field in self.tokens)

    def matches(self, tokens: list[str]) -> bool:
        """Could this class have been published on a subject of these tokens?"""
        return len(tokens) == len(self.tokens) and all(
            is_field or text == token
            for (text, is_field), token in zip(self.tokens, tokens, strict=True)
        )

    def subject_of(self, value: object) -> str:
        """The subject of an object of this class. Raises InvalidArgumentError."""
        subject = ".".join(
            self._token(text, getattr(value, text)) if is_field else text
            for text, is_field in self.tokens
        )
        check_size(subject, len(self.tokens))
        return subject

    def _token(self, field: str, value: object) -> str:
        if isinstance(value, enum.Enum):
            value = value.value
        if value is None:
            problem: str | None = "is None"
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            problem = _token_problem(text)
            if problem is None and text.startswith("_") and self.tokens[0] == (field, True):
                problem = "starts with _, which is reserved for the broker"
            if problem is None:
                return text
        raise InvalidArgumentError(
            f"{self.name}.{field} = {value!r} cannot be a subject token: it {problem}",
            hint=f"its subject is {self.template}",
        )


def parse_template(template: str) -> tuple[tuple[str, bool], ...]:
    """The tokens of a template. Raises InvalidArgumentError naming the wrong one."""
    tokens: list[tuple[str, bool]] = []
    for text in template.split("."):
        if field := _FIELD.fullmatch(text):
            tokens.append((field[1], True))
            continue
        problem = _token_problem(text)
        if problem is None and ("{" in text or "}" in text):
            problem = "may only be text or one whole {field}"
        if problem is None and not tokens and text.startswith("_"):
            problem = "is reserved: subjects that start with _ belong to the broker"
        if problem is not None:
            raise InvalidArgumentError(f"event subject {template!r}: token {text!r} {problem}")
        tokens.append((text, False))
    check_size(template, len(tokens))
    return tuple(tokens)


def field_names(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a class that can be an event. Raises InvalidArgumentError for another."""
    if is_pydantic(kind) and hasattr(kind, "model_fields"):
        return tuple(kind.model_fields)
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    if "__dataclass_fields__" in vars(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    raise InvalidArgumentError(
        f"{kind.__name__} is not a dataclass, a msgspec struct or a pydantic model",
        hint="put @hermes.event above @dataclass",
    )


def _token_problem(text: str) -> str | None:
    """Why `text` is not one token of a subject; None when it is."""
    if not text:
        return "is empty"
    if "." in text:
        return "has a dot: one field is one token"
    if "*" in text or ">" in text:
        return "has a wildcard: those belong in patterns"
    if any(character.isspace() or not character.isprintable() for character in text):
        return "has whitespace or a control character"
    return None


def check_size(subject: str, tokens: int) -> None:
    """Raises InvalidArgumentError beyond the broker's limits for a subject."""
    if tokens > SUBJECT_TOKENS_MAX or len(subject.encode()) > SUBJECT_BYTES_MAX:
        raise InvalidArgumentError(
            f"subject {subject[:80]!r} is too long",
            hint=f"at most {SUBJECT_TOKENS_MAX} tokens and {SUBJECT_BYTES_MAX} bytes",
        )


def spec_of(kind: Any) -> EventSpec | None:
    """What `@event` noted about this very class; None when it is not decorated itself."""
    spec = getattr(kind, SPEC_ATTRIBUTE, None)
    return spec if isinstance(spec, EventSpec) and spec.kind is kind else None
