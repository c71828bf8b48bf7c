"""What conditions leave: never less than fits, and of plain ones not more either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.log.record import Kind
from hermes.log.schema import INTEGER_MAX
from hermes.log.sql_table import Condition
from hermes_inspect.sql_bounds import ANY, integers, kinds_named, texts
from hermes_inspect.sql_tables import records_search

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "in": lambda a, b: a in b,
}
NUMBERS = st.integers(-3, 20) | st.floats(-3, 20)
CONDITIONS = st.lists(
    st.builds(Condition, st.just("n"), st.sampled_from(["=", "<", "<=", ">", ">="]), NUMBERS)
    | st.builds(Condition, st.just("n"), st.just("in"), st.frozensets(st.integers(-3, 20))),
    max_size=4,
)


@given(CONDITIONS)
def test_exactly_the_numbers_that_fit(conditions: list[Condition]) -> None:
    ranges = integers(conditions, "n")
    for n in range(25):
        fits = all(COMPARE[c.op](n, c.value) for c in conditions)
        assert fits == any(first <= n <= last for first, last in ranges)
    assert list(ranges) == sorted(ranges)


@pytest.mark.parametrize("value", ["5", b"5", float("nan"), float("inf"), frozenset({"5", 7})])
def test_what_is_not_understood_narrows_nothing(value: Any) -> None:
    op = "in" if isinstance(value, frozenset) else "="
    assert integers([Condition("n", op, value)], "n") == ANY


def test_null_fits_nothing() -> None:
    assert integers([Condition("n", ">", None)], "n") == ()
    assert integers([Condition("n", "in", {None, 3})], "n") == ((3, 3),)
    assert texts([Condition("t", "=", None)], "t") == frozenset()


def test_texts() -> None:
    several = Condition("t", "in", {"a", "b", None})
    assert texts([], "t") is None
    assert texts([several, Condition("other", "=", "x")], "t") == frozenset({"a", "b"})
    assert texts([several, Condition("t", "=", "b")], "t") == frozenset({"b"})
    assert texts([Condition("t", "=", 5)], "t") is None


def test_kinds_by_name() -> None:
    assert kinds_named(None) is None
    assert kinds_named(frozenset({"acked", "kind_40", "nonsense", "kind_x"})) == frozenset(
        {Kind.ACKED, 40}
    )
    assert kinds_named(frozenset({"nonsense"})) == frozenset()
    # A walk cannot ask for it, so it asks for any.
    assert kinds_named(frozenset({"kind_99"})) is None


@pytest.mark.parametrize(
    ("conditions", "bounds"),
    [
        ([("first", "<=", 20), ("last", ">=", 20)], (20, 20)),
        ([("first", "=", 12)], (12, 12)),
        ([("last", "<", 40)], (None, 39)),
        ([("first", ">", 20), ("last", "<", 40)], (21, 39)),
    ],
)
def test_records_by_their_hull(conditions: list[Any], bounds: tuple[Any, Any]) -> None:
    search, lsns = records_search([Condition(*one) for one in conditions])
    assert search is not None and lsns == ((0, INTEGER_MAX),)
    assert (search.first_offset, search.last_offset) == bounds


def test_hulls_that_cannot_be() -> None:
    conditions = [Condition("first", ">", 50), Condition("last", "<", 20)]
    assert records_search(conditions)[0] is None
