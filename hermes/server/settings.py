"""What a setting is: how it is described, parsed, shown, and found wrong.

A setting is a field of a msgspec.Struct whose annotation carries a `Meta` made by one of
the functions here: the bounds that msgspec checks, and beside them the environment
variable and the words that say what is expected. Which settings a server has is in
`config.py`; nothing here knows one of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import UNSET, Meta

_SHORT_FLAGS: Final = {"listen_addr": "listen", "store_path": "store"}
_NONE_TEXTS: Final = frozenset({"", "none"})
_TRUE_TEXTS: Final = frozenset({"1", "true", "yes", "on"})
_FALSE_TEXTS: Final = frozenset({"0", "false", "no", "off", ""})

DAY_SECS: Final = 86_400
NS_PER_SEC: Final = 1_000_000_000
# Ten years: far beyond use, and in nanoseconds still far from 2^63.
SECS_MAX: Final = 3650 * DAY_SECS


def meta(variable: str, expected: str, text: str, **bounds: Any) -> Meta:
    return Meta(description=text, extra={"variable": variable, "expected": expected}, **bounds)


def count(variable: str, text: str, low: int = 1, high: int = 10_000_000) -> Meta:
    return meta(variable, f"an integer from {low:,} to {high:,}", text, ge=low, le=high)


def count_or_none(variable: str, text: str, none: str, low: int = 1) -> Meta:
    """Its upper bound belongs to the type inside, as its lower one does."""
    return meta(variable, f"an integer from {low:,} on, or none ({none})", text)


def seconds(variable: str, text: str, low: float = 0.01) -> Meta:
    expected = f"seconds, from {low:g} to {SECS_MAX:,}"
    return meta(variable, expected, text, ge=low, le=SECS_MAX)


def seconds_or_none(variable: str, text: str, none: str) -> Meta:
    return meta(variable, f"seconds, from 1 to {SECS_MAX:,}, or none ({none})", text)


def choice(variable: str, text: str, *choices: str) -> Meta:
    return meta(variable, f"one of {', '.join(choices)}", text, pattern=f"^({'|'.join(choices)})$")


class Setting(msgspec.Struct, frozen=True):
    """One field of ServerConfig and how it is written outside."""

    field: str
    variable: str  # environment
    annotation: Any
    default: Any
    expected: str
    text: str

    @property
    def flag(self) -> str:
        name = _SHORT_FLAGS.get(self.field, self.field.removesuffix("_secs"))
        return "--" + name.replace("_", "-")

    @property
    def is_switch(self) -> bool:
        return isinstance(self.default, bool)

    def parse(self, text: str) -> Any:
        """The value a text stands for; UNSET when it is not one."""
        text = text.strip()
        if self.is_switch:
            folded = text.casefold()
            if folded in _TRUE_TEXTS:
                return True
            return False if folded in _FALSE_TEXTS else UNSET
        if self.default is None and text.casefold() in _NONE_TEXTS:
            return None
        if self.field.startswith("log_"):
            text = text.casefold()
        try:
            return msgspec.convert(text, self.annotation, strict=False, dec_hook=_decode)
        except (msgspec.ValidationError, ValueError):
            return UNSET

    def problem(self, value: object) -> str:
        return f"is {str(value)!r}: expected {self.expected}"

    def show(self, value: object) -> str:
        """The text that means this value."""
        if value is None:
            return "none"
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)


def _decode(kind: type, value: Any) -> Any:
    """What msgspec does not convert by itself."""
    if kind is Path:
        return Path(value).expanduser()
    raise NotImplementedError(kind)


def settings_of(config: type[msgspec.Struct]) -> tuple[Setting, ...]:
    """The settings of a struct, in the order of its fields."""
    hints = get_type_hints(config, include_extras=True)
    settings = []
    for field in msgspec.structs.fields(config):
        (described,) = hints[field.name].__metadata__
        settings.append(
            Setting(
                field.name,
                described.extra["variable"],
                hints[field.name],
                field.default,
                described.extra["expected"],
                described.description,
            )
        )
    return tuple(settings)
