"""The router against matching every registration one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hermes.broker.router import Route, Router
from hermes.broker.subject import matches

TOKENS = st.sampled_from(["a", "b", "_c"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.tuples(
    st.lists(TOKENS | st.just("*"), max_size=3), st.sampled_from(["", ">", "a"])
).map(lambda parts: ".".join([*parts[0], *filter(None, parts[1:])]) or ">")
GROUPS = st.lists(st.sampled_from(["g", "h"]), max_size=2).map(tuple)

EVERY_SUBJECT = ["a", "b", "_c", "a.a", "a.b", "b._c", "_c.a", "a.b.a", "_c.a.b", "b.a.a.a"]


class RouterAgainstList(RuleBasedStateMachine):
    """Registrations come and go; after each step every subject goes to the right ones."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router(cache_max=4)
        self.subscriptions: dict[int, tuple[str, tuple[str, ...]]] = {}
        self.consumers: dict[str, list[str]] = {}

    @rule(number=st.integers(0, 5), pattern=PATTERNS, groups=GROUPS)
    def toggle_subscription(self, number: int, pattern: str, groups: tuple[str, ...]) -> None:
        if self.subscriptions.pop(number, None):
            self.router.remove_subscription(number)
        else:
            self.subscriptions[number] = (pattern, groups)
            self.router.add_subscription(number, pattern, groups)

    @rule(name=st.sampled_from("xyz"), filters=st.lists(PATTERNS, min_size=1, max_size=3))
    def toggle_consumer(self, name: str, filters: list[str]) -> None:
        if self.consumers.pop(name, None):
            self.router.remove_consumer(name)
        else:
            self.consumers[name] = filters
            self.router.add_consumer(name, filters)

    @rule(subject=SUBJECTS)
    def match(self, subject: str) -> None:
        assert self.router.match(subject) == self.expected(subject)

    @invariant()
    def every_subject_goes_to_the_right_ones(self) -> None:
        for subject in EVERY_SUBJECT:
            assert self.router.match(subject) == self.expected(subject)

    def expected(self, subject: str) -> Route:
        fitting = {
            number: groups
            for number, (pattern, groups) in self.subscriptions.items()
            if matches(pattern, subject)
        }
        names = sorted({group for groups in fitting.values() for group in groups})
        return Route(
            subscriptions=tuple(sorted(n for n, groups in fitting.items() if not groups)),
            groups=tuple(
                (name, tuple(sorted(n for n, groups in fitting.items() if name in groups)))
                for name in names
            ),
            consumers=tuple(
                sorted(
                    name
                    for name, filters in self.consumers.items()
                    if any(matches(pattern, subject) for pattern in filters)
                )
            ),
        )


TestRouter = RouterAgainstList.TestCase


@given(st.lists(PATTERNS, max_size=8), SUBJECTS)
def test_a_match_visits_no_more_nodes_than_prefixes_fit(patterns: list[str], subject: str) -> None:
    router = Router()
    for number, pattern in enumerate(patterns):
        router.add_subscription(number, pattern)
    router.match(subject)
    prefixes = {
        tuple(tokens[:length])
        for tokens in (pattern.removesuffix(">").rstrip(".").split(".") for pattern in patterns)
        for length in range(1, len(tokens) + 1)
        if tokens[0]
    }
    start = subject.split(".")
    fitting = [
        prefix
        for prefix in prefixes
        if len(prefix) <= len(start) and matches(".".join(prefix), ".".join(start[: len(prefix)]))
    ]
    assert router.nodes_visited == 1 + len(fitting)  # the root fits everything
