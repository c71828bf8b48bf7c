"""The three v1 encodings. The bincode vectors come from the Rust crate bincode 2."""

from __future__ import annotations

import pytest

from hermes import limits
from hermes.broker.subject import validate_subject
from hermes.broker.subject_wire import Encoding, decode, encode
from hermes.errors import InvalidArgumentError

BINCODE = [
    ("job.42.logs", "0300036a6f62015400046c6f6773"),
    ("job.*.>", "0300036a6f620203"),
    ("a.-1.0.7", "0400016101010100010e"),
    ("-9223372036854775808.9223372036854775807", "0201fdffffffffffffffff01fdfeffffffffffffff"),
    (
        "-126.125.126.40000.3000000000",
        "0501fbfb0001fa01fbfc0001fc8038010001fd00bca06501000000",
    ),
    (
        "é." + "x" * 250 + "." + "y" * 251,
        "030002c3a9" + "00fa" + "78" * 250 + "00fbfb00" + "79" * 251,
    ),
    (">", "0103"),
]
JSON = [
    ("job.42.logs", b'["job",42,"logs"]'),
    ("job.*.>", b'["job","*",">"]'),
    ("a.-1.0.7", b'["a",-1,0,7]'),
    ("é.注文", '["é","注文"]'.encode()),
    ('a"b.c\\d', b'["a\\"b","c\\\\d"]'),
    (
        "-9223372036854775808.9223372036854775807",
        b"[-9223372036854775808,9223372036854775807]",
    ),
]
TEXT = ["a", "job.42.logs", "job.*.>", "é.注文", "{a", '"a"']


@pytest.mark.parametrize(("text", "data"), BINCODE)
def test_bincode_both_ways(text: str, data: str) -> None:
    assert encode(text, Encoding.BINCODE).hex() == data
    assert decode(bytes.fromhex(data)) == (text, Encoding.BINCODE)


@pytest.mark.parametrize(("text", "data"), JSON)
def test_json_both_ways(text: str, data: bytes) -> None:
    assert encode(text, Encoding.JSON) == data
    assert decode(data) == (text, Encoding.JSON)


@pytest.mark.parametrize("text", TEXT)
def test_text_both_ways(text: str) -> None:
    assert encode(text, Encoding.TEXT) == text.encode()
    assert decode(text.encode()) == (text, Encoding.TEXT)


def test_only_canonical_64_bit_integers_become_integers() -> None:
    text = "007.+1.-0.1_0.١.9223372036854775808.-9223372036854775809.12345678901234567890"
    assert encode(text, Encoding.JSON).decode() == '["' + '","'.join(text.split(".")) + '"]'
    data = encode(text, Encoding.BINCODE)
    assert decode(data) == (text, Encoding.BINCODE)
    assert data[1] == 0, "a string"


def test_a_string_with_dots_is_several_tokens() -> None:
    assert decode(b'["orders.eu",42]') == ("orders.eu.42", Encoding.JSON)
    assert decode(b"\x02\x00\x03a.b\x01\x54") == ("a.b.42", Encoding.BINCODE)


def test_json_may_be_spelled_loosely() -> None:
    assert decode(b'[ "a" , 1,\n"\\u00e9" ] ') == ("a.1.é", Encoding.JSON)


def test_the_longest_reserved_subject_fits_every_encoding() -> None:
    awkward = '"' * (limits.SUBJECT_BYTES_MAX - 2 * (limits.SUBJECT_TOKENS_MAX - 1))
    subject = "_dead_letter." + ".".join([awkward, *["x"] * (limits.SUBJECT_TOKENS_MAX - 1)])
    validate_subject(subject)
    for encoding in Encoding:
        data = encode(subject, encoding)
        assert len(data) <= limits.SUBJECT_WIRE_BYTES_MAX
        assert decode(data) == (subject, encoding)
    escaped = b'["' + b"\\u0061" * limits.SUBJECT_BYTES_MAX + b'"]'
    assert decode(escaped) == ("a" * limits.SUBJECT_BYTES_MAX, Encoding.JSON)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b"\x00", "empty"),
        (b"[]", "empty"),
        (b"\xff\xfe", "UTF-8 text, a JSON array or a bincode list"),
        (b"ab\xc3", "not UTF-8 at byte 2"),
        (b"x" * (limits.SUBJECT_WIRE_BYTES_MAX + 1), "at most 512 bytes"),
        # JSON
        (b"[", "not valid JSON"),
        (b"[ ]", "not valid JSON: it is empty"),
        (b'["a"', "not valid JSON"),
        (b'["a"]x', "trailing"),
        (b'["a",1.0]', "holds float"),
        (b'["a",1e999]', "not valid JSON"),
        (b'["a",true]', "holds bool"),
        (b'["a",null]', "holds NoneType"),
        (b'["a",["b"]]', "holds list"),
        (b'["a",{}]', "holds dict"),
        (b'["a",9223372036854775808]', "64 bits"),
        (b"[1" + b"0" * 4_000 + b"]", "64 bits"),
        (b"[" * 4_000, "not valid JSON"),
        (b'["\xff"]', "not valid JSON"),
        (b'["\\ud800"]', "not valid JSON"),
        (b'["a",""]', "empty token"),
        (b'["a..b"]', "empty token"),
        (b'["a.*"]', "holds a wildcard"),
        (b'["a>"]', "holds a wildcard"),
        # bincode
        (b"\x00\x00", "0 segments"),
        (b"\x22\x02" + b"\x02" * 33, "34 segments"),
        (b"\xfa\x02" + b"\x02" * 249, "250 segments"),
        (b"\x02\x02", "no number at byte 2"),
        (b"\x01\x02\x02", "1 bytes follow"),
        (b"\x02\x02\x04", "no segment variant 4"),
        (b"\x02\x02\xfb\x00\x01", "no segment variant 256"),
        (b"\x01\x00", "no number at byte 2"),
        (b"\x01\x00\x02a", "string of 2 bytes ends after"),
        (b"\x01\x00\xfd\xff\xff\xff\xff\xff\xff\xff\xff", "ends after the subject does"),
        (b"\x01\x00\xfd\xff\xff", "no number at byte 2"),
        (b"\x01\x00\xfe" + b"\x00" * 16, "no number at byte 2"),
        (b"\x01\x01\xff", "no number at byte 2"),
        (b"\x01\x00\x02\xc3\x28", "not UTF-8"),
        (b"\x01\x00\x00", "empty token"),
        (b"\x01\x00\x03a..", "empty token"),
        (b"\x01\x00\x01*", "holds a wildcard"),
    ],
)
def test_malformed(data: bytes, told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told) as caught:
        decode(data)
    assert len(str(caught.value)) < 400
