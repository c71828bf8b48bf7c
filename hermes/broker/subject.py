"""[P] Subjects and patterns as text: what is valid, what is reserved, what matches.

A subject is 1 to 32 tokens joined by dots, at most 512 bytes of UTF-8. A token is not
empty and holds no dot, whitespace, control character, `*` or `>`. A pattern may have
`*` in place of a token (it matches exactly one) and `>` as the last (it matches zero
or more).

A subject whose first token starts with `_` is reserved for Hermes. Clients do not
publish there, and a pattern has to spell the first token out to match it. It may be
longer than others by the longest prefix Hermes puts before a subject.

The routing of many patterns at once is `router.py`; other encodings than text are
`subject_wire.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from hermes import limits
from hermes.errors import InvalidArgumentError

ANY: Final = "*"
REST: Final = ">"
RESERVED_MARK: Final = "_"
DEAD_LETTER_PREFIX: Final = "_dead_letter."

# `\s` covers every Unicode whitespace, \x1c-\x1f and \x85 included. Lone surrogates
# have no UTF-8.
_OUTSIDE: Final = r"\s\x00-\x1f\x7f-\x9f\ud800-\udfff"
_TOKEN: Final = rf"[^{_OUTSIDE}.*>]+"
_PUBLISHABLE: Final = re.compile(rf"(?!{RESERVED_MARK}){_TOKEN}(?:\.{_TOKEN})*")
_FORBIDDEN: Final = re.compile(rf"[{_OUTSIDE}]")
_FORBIDDEN_IN_NAMES: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_EXCERPT_CHARS: Final = 80


def validate_subject(subject: str) -> None:
    """Raise InvalidArgumentError unless it is a subject; reserved ones are."""
    _explain("subject", subject, wildcards=False)


def validate_pattern(pattern: str) -> None:
    """Raise InvalidArgumentError unless it is a pattern; every subject is."""
    _explain("pattern", pattern, wildcards=True)


def is_reserved(subject: str) -> bool:
    """Whether a subject, or what a pattern matches, belongs to Hermes."""
    return subject.startswith(RESERVED_MARK)


@lru_cache(maxsize=limits.SUBJECT_CACHE_MAX)
def check_publishable(subject: str) -> None:
    """Raise InvalidArgumentError unless it is a subject that clients may publish to."""
    # Characters bound bytes from below: nothing long is encoded or searched.
    if (
        len(subject) <= limits.SUBJECT_BYTES_MAX
        and _PUBLISHABLE.fullmatch(subject)
        and (subject.isascii() or len(subject.encode()) <= limits.SUBJECT_BYTES_MAX)
        and subject.count(".") < limits.SUBJECT_TOKENS_MAX
    ):
        return
    validate_subject(subject)
    refuse_reserved(subject)


def refuse_reserved(subject: str) -> None:
    """Raise InvalidArgumentError for a subject that only Hermes publishes to."""
    if is_reserved(subject):
        raise InvalidArgumentError(
            f"subject {_excerpt(subject)} is reserved for Hermes",
            hint=f"begin the first token with something else than {RESERVED_MARK!r}",
            subject=subject,
        )


def dead_letter_subject(subject: str) -> str | None:
    """Where the dead letters of a subject go; None for those of dead letters."""
    if subject.startswith(DEAD_LETTER_PREFIX):
        return None
    return DEAD_LETTER_PREFIX + subject


def matches(pattern: str, subject: str) -> bool:
    """Whether a valid pattern matches a valid subject."""
    wanted = pattern.split(".")
    tokens = subject.split(".")
    if is_reserved(subject) and wanted[0] in (ANY, REST):
        return False
    if wanted[-1] == REST:
        wanted.pop()
        if len(tokens) < len(wanted):
            return False
    elif len(tokens) != len(wanted):
        return False
    return all(
        want in (ANY, token) for want, token in zip(wanted, tokens[: len(wanted)], strict=True)
    )


@lru_cache(maxsize=limits.MATCHERS_CACHED_MAX)
def matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """A fast test whether a subject matches any of some valid patterns; none match nothing.

    The same patterns give the same test, so that readers can keep what they learned by it.
    """
    literal: set[str] = set()
    wild: list[str] = []
    for pattern in patterns:
        if ANY in pattern or REST in pattern:
            wild.append(_expression(pattern))
        else:
            literal.add(pattern)
    if not wild:
        return frozenset(literal).__contains__
    fits = re.compile("|".join(wild)).fullmatch
    if not literal:
        return lambda subject: fits(subject) is not None
    return lambda subject: subject in literal or fits(subject) is not None


def validate_name(kind: str, text: str, max_bytes: int) -> None:
    """Raise InvalidArgumentError unless it is a name.

    A name (of a consumer, a queue group: `kind`, for the message) has 1 to `max_bytes`
    bytes of UTF-8 and no control characters.
    """
    if not text:
        raise InvalidArgumentError(f"the {kind} is empty; expected 1 to {max_bytes} bytes")
    if len(text) > max_bytes or len(text.encode(errors="replace")) > max_bytes:
        raise InvalidArgumentError(
            f"the {kind} {_excerpt(text)} is too long; expected at most {max_bytes} bytes",
            bytes_max=max_bytes,
        )
    found = _FORBIDDEN_IN_NAMES.search(text)
    if found:
        raise InvalidArgumentError(
            f"the {kind} {_excerpt(text)} holds {found[0]!r}; expected no control characters"
        )


# ------------------------------------------------------------------------ inside


def _expression(pattern: str) -> str:
    """A regular expression for a wildcard pattern, without backtracking into tokens."""
    tokens = pattern.split(".")
    # A leading wildcard does not reach what is reserved.
    guard = rf"(?!{RESERVED_MARK})" if tokens[0] in (ANY, REST) else ""
    if tokens == [REST]:
        return rf"{guard}[^.].*"
    rest = ""
    if tokens[-1] == REST:
        tokens.pop()
        rest = r"(?:\..*)?"
    return guard + r"\.".join(r"[^.]+" if t == ANY else re.escape(t) for t in tokens) + rest


def _explain(kind: str, text: str, *, wildcards: bool) -> None:
    """Raise InvalidArgumentError that says what is wrong, if anything is."""
    extra_tokens = 1 if is_reserved(text) else 0
    bytes_max = limits.SUBJECT_BYTES_MAX + extra_tokens * len(DEAD_LETTER_PREFIX)
    tokens_max = limits.SUBJECT_TOKENS_MAX + extra_tokens

    def refuse(expected: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"{kind} {_excerpt(text)} is not valid: {expected}", **{kind: text[:bytes_max]}
        )

    if not text:
        raise refuse("it is empty; expected tokens joined by dots, like orders.created")
    if len(text) > bytes_max or len(text.encode(errors="replace")) > bytes_max:
        raise refuse(f"it is too long; expected at most {bytes_max} bytes of UTF-8")
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        raise refuse(f"it holds {forbidden[0]!r}; expected no whitespace or control characters")
    tokens = text.split(".")
    if len(tokens) > tokens_max:
        raise refuse(f"it has {len(tokens)} tokens; expected at most {tokens_max}")
    for place, token in enumerate(tokens, 1):
        if not token:
            raise refuse(f"token {place} is empty; expected something between the dots")
        if ANY not in token and REST not in token:
            continue
        if not wildcards:
            raise refuse(f"token {place} is {token!r}; wildcards are for patterns")
        if token not in (ANY, REST):
            raise refuse(f"token {place} is {token!r}; expected {ANY} or {REST} to stand alone")
        if token == REST and place != len(tokens):
            raise refuse(f"token {place} is {REST}; expected it only as the last token")


def _excerpt(text: str) -> str:
    """The text quoted for a message, cut when it is long."""
    if len(text) > _EXCERPT_CHARS:
        return repr(text[:_EXCERPT_CHARS]) + "…"
    return repr(text)
