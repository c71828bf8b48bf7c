"""Who gets a message: wildcard edges, queue groups, and what a match costs."""

from __future__ import annotations

import pytest

from hermes.broker.router import Route, Router


def node_count(router: Router) -> int:
    """Trie nodes held, the root included."""
    nodes = [router._root]
    for node in nodes:
        nodes += node.children.values()
        nodes += [node.any] if node.any else []
    return len(nodes)


def subscribed(*patterns: str) -> Router:
    router = Router()
    for number, pattern in enumerate(patterns):
        router.add_subscription(number, pattern)
    return router


def test_literals_and_wildcards_meet_on_one_subject() -> None:
    router = subscribed("a.b.c", "a.*.c", "a.b.*", "a.>", ">", "*.*.*", "a.b", "a.b.c.d", "b.>")
    assert router.match("a.b.c").subscriptions == (0, 1, 2, 3, 4, 5)


def test_rest_matches_zero_tokens() -> None:
    router = subscribed("job.>", "job.*", "job.*.>", "job")
    assert router.match("job").subscriptions == (0, 3)
    assert router.match("job.1").subscriptions == (0, 1, 2)
    assert router.match("job.1.logs").subscriptions == (0, 2)
    assert router.match("jobs") == Route()


def test_a_leading_wildcard_does_not_reach_what_is_reserved() -> None:
    router = subscribed(">", "*", "*.>", "*.a", "_dead_letter.>", "_dead_letter.*", "_dead_letter")
    assert router.match("_dead_letter.a").subscriptions == (4, 5)
    assert router.match("_dead_letter").subscriptions == (4, 6)
    # Only the first token counts.
    assert router.match("a._b").subscriptions == (0, 2)


def test_a_group_is_its_name_across_patterns() -> None:
    router = Router()
    router.add_subscription(1, "a.*", ("workers",))
    router.add_subscription(2, "a.b", ("workers", "audit"))
    router.add_subscription(3, ">", ("audit", "audit"))
    router.add_subscription(4, "a.b")
    router.add_subscription(5, "c", ("workers",))
    assert router.match("a.b") == Route(
        subscriptions=(4,), groups=(("audit", (2, 3)), ("workers", (1, 2)))
    )
    assert router.match("c") == Route(groups=(("audit", (3,)), ("workers", (5,))))


def test_a_consumer_comes_once_whatever_matches() -> None:
    router = Router()
    router.add_consumer("z", ["a.b", "a.>", "a.b"])
    router.add_consumer("b", ["*.b", "c"])
    router.add_consumer("none", [])
    assert router.match("a.b").consumers == ("b", "z")
    assert router.match("a").consumers == ("z",)
    router.remove_consumer("z")
    assert router.match("a.b").consumers == ("b",)


def test_changes_reach_subjects_seen_before() -> None:
    router = Router()
    assert router.match("a.b") == Route()
    router.add_subscription(1, "a.b")
    router.add_consumer("c", ["a.>"])
    assert router.match("a.b") == Route(subscriptions=(1,), consumers=("c",))
    router.remove_subscription(1)
    assert router.match("a.b") == Route(consumers=("c",))
    router.remove_consumer("c")
    assert router.match("a.b") == Route()


def test_wrong_registrations_are_bugs() -> None:
    router = Router()
    router.add_subscription(1, "a")
    router.add_consumer("c", ["a"])
    with pytest.raises(ValueError, match="subscription 1"):
        router.add_subscription(1, "b")
    with pytest.raises(ValueError, match="'c'"):
        router.add_consumer("c", ["b"])
    with pytest.raises(KeyError):
        router.remove_subscription(2)
    with pytest.raises(KeyError):
        router.remove_consumer("d")
    assert router.match("a") == Route(subscriptions=(1,), consumers=("c",))
    assert router.match("b") == Route()


def test_the_trie_shrinks_back_to_its_root() -> None:
    router = Router()
    patterns = ["a.b.c", "a.b", "a.*.c", "a.>", ">", "*", "*.>", "a.b.*.d.>"]
    for number, pattern in enumerate(patterns):
        router.add_subscription(number, pattern)
        router.add_consumer(pattern, [pattern])
    assert node_count(router) > len(patterns)
    for number, pattern in enumerate(patterns):
        router.remove_subscription(number)
        assert router.match("a.b.c").subscriptions == tuple(
            n for n in (0, 2, 3, 4, 6) if n > number
        )
        router.remove_consumer(pattern)
    assert node_count(router) == 1
    assert router._root.is_empty()


def test_the_cost_of_a_match_does_not_grow_with_what_does_not_match() -> None:
    router = subscribed("orders.eu.created", "orders.*.created", "orders.>", ">")

    def cost(subject: str) -> int:
        before = router.nodes_visited
        router.match(subject)
        return router.nodes_visited - before

    alone = cost("orders.eu.created")
    assert alone > 0
    for number in range(10, 2_010):
        router.add_subscription(number, f"orders.eu{number}.created")
        router.add_subscription(-number, f"other{number}.*.>")
        router.add_consumer(f"c{number}", [f"orders.eu.created{number}.*", f"*.x{number}"])
    assert router.match("orders.eu.created").subscriptions == (0, 1, 2, 3)
    # One node more: the `*` that `*.x…` hangs from fits the first token.
    router.add_consumer("invalidate", ["x"])
    assert cost("orders.eu.created") == alone + 1
    assert cost("orders.eu.created") == 0, "the second time it is remembered"


def test_the_memory_of_routes_is_bounded_and_keeps_what_is_used() -> None:
    router = Router(cache_max=100)
    router.add_subscription(1, ">")
    router.match("used")
    for number in range(1_000):
        router.match(f"s.{number}")
        before = router.nodes_visited
        assert router.match("used").subscriptions == (1,)
        assert router.nodes_visited == before, "what is asked for stays"
        assert router.cached_routes <= 100


def test_subjects_with_the_same_audience_share_a_route() -> None:
    router = subscribed(">", "a.*")
    assert router.match("a.1") is router.match("a.2")
    assert router.match("a.1") is not router.match("b.1")


def test_tokens_beyond_every_pattern_cost_no_entry() -> None:
    """A million subjects under one pattern are one route and one entry."""
    router = Router()
    router.add_consumer("c", ["orders.*.new", "bills.>"])
    for n in range(1_000):
        assert router.match(f"bills.{n % 7}.x.{n}").consumers == ("c",)
        assert router.match(f"orders.eu.new.{n}").consumers == ()
        assert router.match(f"orders.{n % 5}.new").consumers == ("c",)
    assert router.match("bills").consumers == ("c",)
    assert router.cached_routes == 7 + 1 + 5 + 1
    router.remove_consumer("c")
    assert router.match("bills.1.x.1").consumers == ()
