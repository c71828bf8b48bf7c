"""Matching and validation against naive ones."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes import limits
from hermes.broker import subject as subjects
from hermes.errors import InvalidArgumentError

TOKENS = st.sampled_from(["a", "b", "_c", "1", "+", "a.b"[:1] * 2])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=5).map(".".join)
PATTERNS = st.tuples(
    st.lists(TOKENS | st.just("*"), min_size=0, max_size=4), st.sampled_from(["", ">", "a"])
).map(lambda parts: ".".join([*parts[0], *filter(None, parts[1:])]) or ">")


def naive(pattern: list[str], tokens: list[str], first: bool = True) -> bool:
    """One token at a time, as the rules say it."""
    if not pattern:
        return not tokens
    if first and pattern[0] in {"*", ">"} and tokens[0].startswith("_"):
        return False
    if pattern[0] == ">":
        return True
    if not tokens or pattern[0] not in {"*", tokens[0]}:
        return False
    return naive(pattern[1:], tokens[1:], first=False)


@given(PATTERNS, SUBJECTS)
def test_matches_is_the_naive_matcher(pattern: str, subject: str) -> None:
    subjects.validate_pattern(pattern)
    subjects.validate_subject(subject)
    assert subjects.matches(pattern, subject) is naive(pattern.split("."), subject.split("."))


@given(st.lists(PATTERNS, max_size=5), SUBJECTS)
def test_matcher_is_any_of_them(patterns: list[str], subject: str) -> None:
    expected = any(subjects.matches(pattern, subject) for pattern in patterns)
    assert subjects.matcher(tuple(patterns))(subject) is expected


def is_subject(text: str) -> bool:
    """The rules of a subject, one by one and slowly."""
    if any(unicodedata.category(char) in {"Cc", "Cs"} or char.isspace() for char in text):
        return False
    extra = text.startswith("_")
    tokens = text.split(".")
    return (
        all(tokens)
        and "*" not in text
        and ">" not in text
        and len(tokens) <= limits.SUBJECT_TOKENS_MAX + extra
        and len(text.encode()) <= limits.SUBJECT_BYTES_MAX + extra * len("_dead_letter.")
    )


ANY_TEXT = (
    st.text(max_size=40)
    | st.text(st.characters(categories=["Cc", "Cs", "Z", "L"]), max_size=3)
    | st.text(".*>_ab", max_size=70)
    | st.integers(500, 530).map(lambda n: "x" * n)
    | st.integers(500, 530).map(lambda n: "_" * n)
    | st.integers(250, 265).map(lambda n: "é" * n)
)


@given(ANY_TEXT)
def test_validate_subject_follows_the_rules(text: str) -> None:
    if is_subject(text):
        subjects.validate_subject(text)
        subjects.validate_pattern(text)
    else:
        with pytest.raises(InvalidArgumentError):
            subjects.validate_subject(text)
