"""[P] Verdicts on their way to the broker: coalesced into ranges, confirmed by token.

Verdicts of one kind (same verdict, attempt, delay and reason) gather until the next
frame and leave as one Settlement with offset ranges. Each Settlement carries a token,
so we know what the broker has committed: acks that a lost connection left unconfirmed
are sent again (they are idempotent and not tied to a connection), other verdicts are
not, because the lease they judged went with the connection.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.stream import Waiter, fail, resolve
from hermes.errors import ConnectionLostError, HermesError, StaleError
from hermes.limits import SETTLEMENT_RANGES_MAX


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What verdicts must share to leave in one Settlement."""

    verdict: pb.Verdict
    attempt: int = 0
    delay_ns: int | None = None
    reason: str = ""


ACK = Terms(pb.VERDICT_ACK)


# Who waits for the verdict on the offsets first..last, both included.
_Waiting = tuple[int, int, Waiter]


class _Gathered(msgspec.Struct):
    """Single offsets, and runs (first, last), in any order."""

    offsets: list[int]
    runs: list[tuple[int, int]]
    waiters: list[_Waiting]


class _Sent(msgspec.Struct):
    terms: Terms
    ranges: list[int]
    waiters: list[_Waiting]


class Settlements:
    """The outbox of one consumer. Offsets in, Settlement messages out."""

    def __init__(self) -> None:
        self._gathered: dict[Terms, _Gathered] = {}
        self._sent: dict[int, _Sent] = {}
        self._next_token = 1

    @property
    def is_empty(self) -> bool:
        """Nothing is waiting to be sent."""
        return not self._gathered

    @property
    def is_confirmed(self) -> bool:
        """Nothing is waiting to be sent or confirmed."""
        return not self._gathered and not self._sent

    def add(self, terms: Terms, offsets: Iterable[int], waiter: Waiter | None = None) -> None:
        """Gather verdicts; `waiter` gets None at commit, or StaleError."""
        gathered = self._gathering(terms)
        before = len(gathered.offsets)
        gathered.offsets.extend(offsets)
        if waiter is not None:
            offset = gathered.offsets[before]
            gathered.waiters.append((offset, offset, waiter))

    def add_ack(self, offset: int) -> bool:
        """An ack nobody waits for, in few steps; true when it is the first to be gathered."""
        gathered = self._gathered.get(ACK)
        if gathered is None:
            self._gathered[ACK] = _Gathered([offset], [], [])
            return True
        gathered.offsets.append(offset)
        return False

    def add_run(self, terms: Terms, first: int, last: int, waiter: Waiter | None = None) -> None:
        """The same for the offsets first..last, both included, in one step."""
        gathered = self._gathering(terms)
        gathered.runs.append((first, last))
        if waiter is not None:
            gathered.waiters.append((first, last, waiter))

    def take(self) -> list[pb.Settlement]:
        """Everything gathered, at most SETTLEMENT_RANGES_MAX ranges; the rest stays."""
        taken: list[pb.Settlement] = []
        room = SETTLEMENT_RANGES_MAX
        for terms in list(self._gathered):
            if room <= 0:
                break
            gathered = self._gathered.pop(terms)
            ranges = to_ranges(gathered.offsets)
            if gathered.runs:
                ranges = join_runs([*gathered.runs, *_pairs(ranges)])
            waiters = gathered.waiters
            if len(ranges) > 2 * room:
                ranges, rest = ranges[: 2 * room], ranges[2 * room :]
                left = _Gathered([], _pairs(rest), [w for w in waiters if w[0] >= rest[0]])
                waiters = [w for w in waiters if w[0] < rest[0]]
                self._gathered[terms] = left
            room -= len(ranges) // 2
            taken.append(self._settlement(terms, ranges, waiters))
        return taken

    def on_confirmed(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            sent = self._sent.pop(token, None)
            for *_, waiter in sent.waiters if sent else ():
                resolve(waiter, None)

    def on_stale(self, stale: pb.Stale) -> None:
        """Fail who waits for a verdict on these offsets; the rest of the token goes on."""
        sent = self._sent.get(stale.token)
        if sent is None:
            return
        ranges = list(stale.ranges)
        for first, last, waiter in sent.waiters:
            offset = first_common(first, last, ranges)
            if offset is not None:
                fail(waiter, stale_error(offset))

    def on_lost(self) -> None:
        """Keep acks, give up on the rest."""
        gathered, self._gathered = self._gathered, {}
        sent, self._sent = self._sent, {}
        for item in sent.values():
            if item.terms == ACK:
                self._keep(item.waiters, (), _pairs(item.ranges))
            else:
                for *_, waiter in item.waiters:
                    fail(waiter, ConnectionLostError("the outcome of the verdict is unknown"))
        for terms, item_gathered in gathered.items():
            if terms == ACK:
                self._keep(item_gathered.waiters, item_gathered.offsets, item_gathered.runs)
            else:
                for offset, _, waiter in item_gathered.waiters:
                    fail(waiter, stale_error(offset))

    def on_failed(self, error: HermesError) -> None:
        waiters = [w for gathered in self._gathered.values() for w in gathered.waiters]
        waiters += [w for sent in self._sent.values() for w in sent.waiters]
        for *_, waiter in waiters:
            fail(waiter, error)
        self._gathered.clear()
        self._sent.clear()

    def _gathering(self, terms: Terms) -> _Gathered:
        gathered = self._gathered.get(terms)
        if gathered is None:
            gathered = self._gathered[terms] = _Gathered([], [], [])
        return gathered

    def _keep(
        self, waiters: list[_Waiting], offsets: Iterable[int], runs: list[tuple[int, int]]
    ) -> None:
        acks = self._gathering(ACK)
        acks.offsets.extend(offsets)
        acks.runs.extend(runs)
        acks.waiters.extend(waiters)

    def _settlement(
        self, terms: Terms, ranges: list[int], waiters: list[_Waiting]
    ) -> pb.Settlement:
        token, self._next_token = self._next_token, self._next_token + 1
        self._sent[token] = _Sent(terms, ranges, waiters)
        return settlement(terms, ranges, token)


def settlement(terms: Terms, ranges: list[int], token: int = 0) -> pb.Settlement:
    """The wire form of one verdict over flattened ranges."""
    return pb.Settlement(
        verdict=terms.verdict,
        ranges=ranges,
        attempt=terms.attempt,
        delay_ns=terms.delay_ns,
        reason=terms.reason,
        token=token,
    )


def stale_error(offset: int) -> StaleError:
    return StaleError(
        f"the verdict on offset {offset} did not count: the lease was lost",
        hint="the message is or was delivered again; make its handling idempotent",
        offset=offset,
    )


def to_ranges(offsets: list[int]) -> list[int]:
    """Offsets in any order to sorted, flattened, inclusive ranges. Sorts in place."""
    offsets.sort()
    ranges: list[int] = []
    last = -2
    for offset in offsets:
        if offset == last + 1:
            ranges[-1] = last = offset
        elif offset != last:
            ranges += (offset, offset)
            last = offset
    return ranges


def join_runs(runs: list[tuple[int, int]]) -> list[int]:
    """Inclusive runs in any order to sorted, flattened ranges. Sorts in place."""
    runs.sort()
    ranges: list[int] = []
    for first, last in runs:
        if ranges and first <= ranges[-1] + 1:
            if last > ranges[-1]:
                ranges[-1] = last
        else:
            ranges += (first, last)
    return ranges


def first_common(first: int, last: int, ranges: list[int]) -> int | None:
    """The first offset of first..last that is in one of the flattened, inclusive ranges."""
    found = [max(first, a) for a, b in _pairs(ranges) if a <= last and first <= b]
    return min(found, default=None)


def _pairs(ranges: list[int]) -> list[tuple[int, int]]:
    return list(zip(ranges[::2], ranges[1::2], strict=True))
