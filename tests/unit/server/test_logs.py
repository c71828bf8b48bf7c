"""Log lines: JSON for machines, words for people, and the level that was asked for."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from hermes.server.logs import configure, get_logger


@pytest.fixture(autouse=True)
def _restore_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    root.setLevel(level)


def test_json_lines_have_the_fields() -> None:
    stream = io.StringIO()
    configure("auto", "info", stream)
    get_logger("hermes.test").info("store opened", records=3, path="/srv/é")
    line = json.loads(stream.getvalue())
    assert line["event"] == "store opened"
    assert (line["records"], line["path"], line["level"]) == (3, "/srv/é", "info")
    assert line["timestamp"].endswith("Z")


def test_a_traceback_stays_on_one_json_line() -> None:
    stream = io.StringIO()
    configure("json", "info", stream)
    try:
        raise ValueError("broken")
    except ValueError as error:
        get_logger("hermes.test").error("unexpected error", exc_info=error)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"][0]["exc_value"] == "broken"


def test_a_traceback_tells_nothing_of_the_messages() -> None:
    # Frames were logged with their locals, so an unexpected error put the payloads and the
    # headers that its handler held into the log.
    def handle(payload: bytes) -> None:
        raise ValueError(f"{len(payload)} bytes")

    stream = io.StringIO()
    configure("json", "info", stream)
    try:
        handle(b"confidential")
    except ValueError as error:
        get_logger("hermes.test").error("unexpected error", exc_info=error)
    (raised,) = json.loads(stream.getvalue())["exception"]
    assert raised["frames"][-1]["name"] == "handle"
    assert "confidential" not in stream.getvalue()


def test_human_lines_are_for_people() -> None:
    stream = io.StringIO()
    configure("human", "info", stream)
    get_logger("hermes.test").warning("unknown variable", name="HERMES_X")
    assert "unknown variable name=HERMES_X" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_the_level_holds_for_other_libraries_too() -> None:
    stream = io.StringIO()
    configure("json", "warning", stream)
    get_logger("hermes.test").info("quiet")
    logging.getLogger("grpc").info("quiet")
    logging.getLogger("grpc").warning("loud %s", 1)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "loud 1"


def test_configuring_again_replaces_the_handler() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("json", "info", first)
    configure("json", "info", second)
    get_logger("hermes.test").info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1
