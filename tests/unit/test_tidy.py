"""Sizes and manners of the source, so that every file can be read in one sitting."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

# Put together here so that this file passes its own test.
LEFTOVERS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"]) + r")\b")


@pytest.fixture(scope="module")
def sources(repository: Path) -> dict[str, str]:
    """Path to text of every Python file written by hand."""
    return {
        str(path.relative_to(repository)): path.read_text()
        for folder in ("hermes", "tools", "tests", "examples")
        for path in sorted((repository / folder).rglob("*.py"))
        if not path.name.endswith("_pb2.py")
    }


def functions(text: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_sources_are_found(sources: dict[str, str]) -> None:
    assert "hermes/clock.py" in sources
    assert "tests/unit/test_tidy.py" in sources


def test_files_are_short(sources: dict[str, str]) -> None:
    sizes = {name: len(text.splitlines()) for name, text in sources.items()}
    assert {name: size for name, size in sizes.items() if size > FILE_LINES_MAX} == {}


def test_functions_are_short(sources: dict[str, str]) -> None:
    long = {
        f"{name}:{node.lineno} {node.name}": lines(node)
        for name, text in sources.items()
        for node in functions(text)
        if lines(node) > FUNCTION_LINES_MAX
    }
    assert long == {}


def test_modules_tell_their_theory(sources: dict[str, str]) -> None:
    # An empty __init__.py has nothing to tell.
    silent = [
        name
        for name, text in sources.items()
        if text and ast.get_docstring(ast.parse(text)) is None
    ]
    assert silent == []


def test_nothing_is_left_for_later(sources: dict[str, str]) -> None:
    assert [name for name, text in sources.items() if LEFTOVERS.search(text)] == []
