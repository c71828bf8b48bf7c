"""Subjects and patterns as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hermes import limits
from hermes.broker import subject as subjects
from hermes.broker.subject import validate_pattern, validate_subject
from hermes.errors import InvalidArgumentError

LONGEST = "x" * limits.SUBJECT_BYTES_MAX
MOST_TOKENS = ".".join(["t"] * limits.SUBJECT_TOKENS_MAX)

SUBJECTS = [
    "a",
    "orders.created",
    "orders.42.-7",
    "größe.注文.🚀",
    "a-b_c:d/e@f+g",
    "[x].{y}",
    "_dead_letter.orders.created",
    LONGEST,
    MOST_TOKENS,
    "é" * (limits.SUBJECT_BYTES_MAX // 2),
]
PATTERNS = ["*", ">", "*.*", "a.>", "a.*.c", "*.>", "_dead_letter.>", "a.*.>"]

# What neither a subject nor a pattern may be, and what the message says.
INVALID = [
    ("", "empty"),
    (".", "token 1 is empty"),
    (".a", "token 1 is empty"),
    ("a.", "token 2 is empty"),
    ("a..b", "token 2 is empty"),
    ("a b", "whitespace"),
    ("a.b\n", "whitespace"),
    ("a\t", "whitespace"),
    ("a\x00b", "control"),
    ("a\x7fb", "control"),
    ("a\x85b", "control"),
    ("a\u00a0b", "whitespace"),
    ("a\u2028b", "whitespace"),
    ("a\u3000b", "whitespace"),
    ("a\ud800b", "control"),
    (LONGEST + "x", "at most 512 bytes"),
    ("é" * (limits.SUBJECT_BYTES_MAX // 2) + "x", "at most 512 bytes"),
    ("x" * 1_000_000, "at most 512 bytes"),
    (MOST_TOKENS + ".t", "at most 32"),
]
# Wildcards that do not stand alone, or not last.
MISPLACED = ["foo*", "*foo", "a.b*c.d", "**", "a.>>", "foo>", ">.a", "a.>.b", ">.>", "a.*>"]


@pytest.mark.parametrize("text", SUBJECTS)
def test_valid_subjects_are_valid_patterns_too(text: str) -> None:
    validate_subject(text)
    validate_pattern(text)


@pytest.mark.parametrize("text", PATTERNS)
def test_wildcards_are_for_patterns(text: str) -> None:
    validate_pattern(text)
    with pytest.raises(InvalidArgumentError, match="wildcards are for patterns"):
        validate_subject(text)


@pytest.mark.parametrize("validate", [validate_subject, validate_pattern])
@pytest.mark.parametrize(("text", "told"), INVALID)
def test_what_is_neither(validate: Callable[[str], None], text: str, told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told) as caught:
        validate(text)
    assert len(str(caught.value)) < 400, "a long subject must not come back in full"


@pytest.mark.parametrize("text", MISPLACED)
def test_misplaced_wildcards(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"stand alone|only as the last"):
        validate_pattern(text)
    with pytest.raises(InvalidArgumentError):
        validate_subject(text)


def test_a_dead_letter_of_any_subject_has_a_valid_subject() -> None:
    for text in (LONGEST, MOST_TOKENS):
        copy = subjects.dead_letter_subject(text)
        assert copy == "_dead_letter." + text
        validate_subject(copy)
        validate_pattern(copy)
        with pytest.raises(InvalidArgumentError, match="at most"):
            validate_subject(copy + ".t" if text == MOST_TOKENS else copy + "x")
        assert subjects.dead_letter_subject(copy) is None


def test_reserved() -> None:
    assert subjects.is_reserved("_dead_letter.a")
    assert subjects.is_reserved("_")
    assert not subjects.is_reserved("a._b")
    subjects.refuse_reserved("a._b")
    with pytest.raises(InvalidArgumentError, match="reserved for Hermes"):
        subjects.refuse_reserved("_x")


MATCHES = [
    ("a", "a"),
    ("a.b", "a.b"),
    ("*", "a"),
    ("a.*", "a.b"),
    ("*.b", "a.b"),
    ("a.*.c", "a.b.c"),
    (">", "a"),
    (">", "a.b.c"),
    ("job.>", "job"),
    ("job.>", "job.1"),
    ("job.>", "job.1.logs"),
    ("*.>", "a"),
    ("*.>", "a.b"),
    ("a.*.>", "a.b"),
    ("a.*.>", "a.b.c.d"),
    ("a.+", "a.+"),
    ("_dead_letter.>", "_dead_letter.a"),
    ("_dead_letter.*", "_dead_letter.a"),
    ("a.*", "a._b"),
]
MISSES = [
    ("a", "b"),
    ("a", "a.b"),
    ("a.b", "a"),
    ("a.*", "a"),
    ("a.*", "a.b.c"),
    ("*", "a.b"),
    ("*.*", "a"),
    ("job.>", "jobs"),
    ("job.>", "jo"),
    ("a.*.>", "a"),
    ("a.b.>", "a.c"),
    ("a.+", "a.aa"),
    ("a.b", "axb"),
    (">", "_dead_letter.a"),
    ("*", "_a"),
    ("*.a", "_dead_letter.a"),
    ("*.>", "_dead_letter.a"),
]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [(*pair, True) for pair in MATCHES] + [(*pair, False) for pair in MISSES],
)
def test_matching(pattern: str, text: str, expected: bool) -> None:
    assert subjects.matches(pattern, text) is expected
    assert subjects.matcher((pattern,))(text) is expected
    assert subjects.matcher(("other.one", pattern))(text) is expected
    assert subjects.matcher(("other.*", pattern))(text) is expected


def test_no_patterns_match_nothing() -> None:
    assert subjects.matcher(())("a") is False


def test_names() -> None:
    subjects.validate_name("consumer name", "billing of the EU, 2nd", 256)
    subjects.validate_name("consumer name", "é" * 128, 256)
    for name, told in [
        ("", "empty; expected 1 to 256"),
        ("é" * 129, "at most 256"),
        ("x" * 1_000_000, "at most 256"),
        ("a\nb", "control"),
        ("a\ud800", "control"),
    ]:
        with pytest.raises(InvalidArgumentError, match=told) as caught:
            subjects.validate_name("consumer name", name, 256)
        assert "consumer name" in str(caught.value)
        assert len(str(caught.value)) < 400
