"""[P] From a subject to those who want it.

Theory: patterns live in a trie of tokens, with an edge for `*` and a place for `>` on
every node. A match walks the subject's tokens through it, keeping every node that
still fits, so its cost is that of the patterns that fit so far, never that of the
rest. Each end of a pattern is a `_Leaf` holding the targets of that pattern; the set
of leaves that a subject reaches determines its `Route`.

The walk ends where the patterns do: beyond the longest one, tokens change nothing. So
routes are remembered by what of a subject can matter, and a million subjects under
`orders.>` are one entry. Leaves reached -> Route is remembered too, so that many entries
share one Route. Both memories forget everything when the trie changes.

Rules
- Patterns and subjects come in validated (`subject.py`).
- A subject whose first token starts with `_` is not reached by a leading wildcard.
- Answers are sorted: the same registrations give the same Route.

Whose turn it is in a queue group, and who has room, is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from hermes import limits
from hermes.broker.subject import ANY, RESERVED_MARK, REST


class Route(msgspec.Struct, frozen=True, gc=False):
    """Who gets a message of one subject. Everything is sorted.

    `subscriptions`: those without a queue group. `groups`: (name, members) of each
    queue group with a matching member. `consumers`: names of durable consumers.
    """

    subscriptions: tuple[int, ...] = ()
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    consumers: tuple[str, ...] = ()


NOBODY = Route()


class _Leaf:
    """The targets of one pattern."""

    __slots__ = ("consumers", "subscriptions")

    def __init__(self) -> None:
        self.subscriptions: set[int] = set()
        self.consumers: set[str] = set()


class _Node:
    """A prefix of patterns: where the next token leads, and what ends here."""

    __slots__ = ("any", "children", "here", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.any: _Node | None = None  # behind `*`
        self.here: _Leaf | None = None  # patterns that end here
        self.rest: _Leaf | None = None  # patterns that end here with `>`

    def is_empty(self) -> bool:
        return not (self.children or self.any or self.here or self.rest)


class Router:
    """Registrations of subscriptions and consumers, and the routes they make."""

    def __init__(self, cache_max: int = limits.ROUTE_CACHE_MAX) -> None:
        self._root = _Node()
        self._subscriptions: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._consumers: dict[str, tuple[str, ...]] = {}
        # Two generations: a full one becomes the old one, what is asked for moves to
        # the new. As good as least-recently-used, at the cost of a dict look-up.
        self._generation_max = max(1, cache_max // 2)
        self._routes: dict[str, Route] = {}
        self._old_routes: dict[str, Route] = {}
        self._routes_by_leaves: dict[tuple[_Leaf, ...], Route] = {}
        self._depths: Counter[int] = Counter()  # tokens before `>` -> registrations
        self._depth = 1  # the most of them; the first token always counts: it may be reserved
        self.nodes_visited = 0
        """Trie nodes looked at by all matches so far: what a match costs, for metrics."""

    # ------------------------------------------------------------ registration

    def add_subscription(
        self, subscription: int, pattern: str, queue_groups: Iterable[str] = ()
    ) -> None:
        """Register a live receiver. Raises ValueError when the id is taken."""
        if subscription in self._subscriptions:
            raise ValueError(f"subscription {subscription} is registered already")
        self._subscriptions[subscription] = (pattern, tuple(dict.fromkeys(queue_groups)))
        self._leaf(pattern).subscriptions.add(subscription)
        self._count_depth(pattern, +1)

    def remove_subscription(self, subscription: int) -> None:
        """Unregister it. Raises KeyError when there is none."""
        pattern, _ = self._subscriptions.pop(subscription)
        self._leaf(pattern).subscriptions.remove(subscription)
        self._prune(pattern)
        self._count_depth(pattern, -1)

    def add_consumer(self, name: str, filters: Iterable[str]) -> None:
        """Register a durable consumer. Raises ValueError when the name is taken."""
        if name in self._consumers:
            raise ValueError(f"consumer {name!r} is registered already")
        self._consumers[name] = tuple(dict.fromkeys(filters))
        for pattern in self._consumers[name]:
            self._leaf(pattern).consumers.add(name)
            self._count_depth(pattern, +1)

    def remove_consumer(self, name: str) -> None:
        """Unregister it. Raises KeyError when there is none."""
        for pattern in self._consumers.pop(name):
            self._leaf(pattern).consumers.remove(name)
            self._prune(pattern)
            self._count_depth(pattern, -1)

    def _count_depth(self, pattern: str, registrations: int) -> None:
        """The trie has changed."""
        depth = pattern.count(".") + (not pattern.endswith(REST))
        self._depths[depth] += registrations
        if not self._depths[depth]:
            del self._depths[depth]
        self._depth = max(1, *self._depths) if self._depths else 1
        self._routes = {}
        self._old_routes = {}
        self._routes_by_leaves = {}

    # ----------------------------------------------------------------- matching

    def match(self, subject: str) -> Route:
        """Who gets a message of this subject."""
        parts = subject.split(".", self._depth)
        seen = subject
        if len(parts) > self._depth:
            # The last dot stays: that there are more tokens matters, what they are does not.
            seen = subject[: -len(parts[-1])]
        route = self._routes.get(seen)
        if route is not None:
            return route
        route = self._old_routes.get(seen)
        if route is None:
            route = self._route_of(subject)
        if len(self._routes) >= self._generation_max:
            self._old_routes = self._routes
            self._routes = {}
            self._routes_by_leaves = {}
        self._routes[seen] = route
        return route

    @property
    def cached_routes(self) -> int:
        """Entries remembered at the moment."""
        return len(self._routes) + len(self._old_routes)

    def _route_of(self, subject: str) -> Route:
        leaves = self._leaves_of(subject)
        if not leaves:
            return NOBODY
        route = self._routes_by_leaves.get(leaves)
        if route is None:
            route = self._routes_by_leaves[leaves] = self._join(leaves)
        return route

    def _leaves_of(self, subject: str) -> tuple[_Leaf, ...]:
        """The ends of all patterns that match."""
        leaves: list[_Leaf] = []
        nodes = [self._root]
        wildcards = not subject.startswith(RESERVED_MARK)
        for token in subject.split("."):
            self.nodes_visited += len(nodes)
            reached: list[_Node] = []
            for node in nodes:
                child = node.children.get(token)
                if child is not None:
                    reached.append(child)
                if wildcards:
                    if node.rest is not None:
                        leaves.append(node.rest)
                    if node.any is not None:
                        reached.append(node.any)
            if not reached:
                return tuple(leaves)
            nodes = reached
            wildcards = True  # only the first token is kept from them
        self.nodes_visited += len(nodes)
        for node in nodes:
            if node.here is not None:
                leaves.append(node.here)
            if node.rest is not None:  # `>` matches zero tokens too
                leaves.append(node.rest)
        return tuple(leaves)

    def _join(self, leaves: tuple[_Leaf, ...]) -> Route:
        plain: list[int] = []
        members: dict[str, list[int]] = {}
        consumers: set[str] = set()
        for leaf in leaves:
            consumers |= leaf.consumers
            for subscription in leaf.subscriptions:
                _, queue_groups = self._subscriptions[subscription]
                if not queue_groups:
                    plain.append(subscription)
                for group in queue_groups:
                    members.setdefault(group, []).append(subscription)
        return Route(
            subscriptions=tuple(sorted(plain)),
            groups=tuple((group, tuple(sorted(members[group]))) for group in sorted(members)),
            consumers=tuple(sorted(consumers)),
        )

    # ----------------------------------------------------------------- the trie

    def _leaf(self, pattern: str) -> _Leaf:
        """The end of a pattern, made when it is missing."""
        *tokens, last = pattern.split(".")
        if last != REST:
            tokens.append(last)
        node = self._root
        for token in tokens:
            if token == ANY:
                node.any = node.any or _Node()
                node = node.any
            else:
                node = node.children.setdefault(token, _Node())
        if last == REST:
            node.rest = node.rest or _Leaf()
            return node.rest
        node.here = node.here or _Leaf()
        return node.here

    def _prune(self, pattern: str) -> None:
        """Remove the end of a pattern and the branch to it, as far as they are empty."""
        path: list[tuple[_Node, str]] = []
        node = self._root
        for token in pattern.split("."):
            path.append((node, token))
            if token == REST:
                break
            following = node.any if token == ANY else node.children[token]
            assert following is not None
            node = following
        if not _has_targets(node.here):
            node.here = None
        if not _has_targets(node.rest):
            node.rest = None
        for parent, token in reversed(path):
            if token == REST:
                continue
            child = parent.any if token == ANY else parent.children[token]
            if child is None or not child.is_empty():
                return
            if token == ANY:
                parent.any = None
            else:
                del parent.children[token]


def _has_targets(leaf: _Leaf | None) -> bool:
    return leaf is not None and bool(leaf.subscriptions or leaf.consumers)
