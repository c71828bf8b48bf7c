"""The v1 encodings: what is written is read back, and nothing read does harm."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from hermes.broker.subject import validate_pattern
from hermes.broker.subject_wire import Encoding, decode, encode
from hermes.errors import InvalidArgumentError

WORDS = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters=".*>"),
    min_size=1,
    max_size=12,
)
INTEGERS = st.integers(-(2**63), 2**63 - 1).map(str)
TOKENS = WORDS | INTEGERS | st.just("*")
SUBJECTS = st.tuples(st.lists(TOKENS, min_size=1, max_size=31), st.sampled_from([[], [">"]])).map(
    lambda parts: ".".join(parts[0] + parts[1])
)


def is_valid(text: str) -> bool:
    try:
        validate_pattern(text)
    except InvalidArgumentError:
        return False
    return True


@given(SUBJECTS.filter(is_valid), st.sampled_from(Encoding))
def test_round_trip(text: str, encoding: Encoding) -> None:
    data = encode(text, encoding)
    if encoding is Encoding.TEXT and text.startswith("["):
        return  # JSON by its first byte
    assert decode(data) == (text, encoding)


@given(SUBJECTS.filter(is_valid), st.sampled_from(Encoding), st.data())
def test_damaged_subjects_are_read_or_refused(
    text: str, encoding: Encoding, data: st.DataObject
) -> None:
    damaged = bytearray(encode(text, encoding))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    check(bytes(damaged))
    check(bytes(damaged[:cut]))


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"\x03\x00" + tail))
@example(b"[" * 4_000)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    check(data)


def check(data: bytes) -> None:
    """Anything but InvalidArgumentError fails the test."""
    try:
        text, encoding = decode(data)
    except InvalidArgumentError:
        return
    assert text
    assert len(text) <= 20 * len(data), "read from nowhere"
    if encoding is Encoding.BINCODE and is_valid(text):
        # Integers may have been spelled as strings or at length; the text stays.
        assert decode(encode(text, encoding)) == (text, encoding)
