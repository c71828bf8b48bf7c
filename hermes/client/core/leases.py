"""[P] The leases this member holds, and when they must be extended.

A `Leased` is one delivery with the state of each of its messages. The table is in
order of the next extension: all leases of a consumer have the same ack timeout, so an
extended lease simply moves to the end, and only the first one needs to be looked at.

Rules
- A lease is extended at a third of its ack timeout, until `max_lease_ns` after delivery;
  then it runs out, and its messages are lost when the ack timeout has passed.
- A lost message may still be acked: acks count from whoever held the message.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.deliveries import Delivered, selected_indexes

OPEN, SETTLED, LOST = 0, 1, 2


class Leased(Delivered):
    """One delivery, leased to this member; `states` has OPEN, SETTLED or LOST per index.

    `indexes` are those of the batch's messages that are meant.
    """

    __slots__ = (
        "born_ns",
        "due_ns",
        "extended_ns",
        "first_offset",
        "indexes",
        "running_out",
        "serial",
        "states",
        "unsettled",
    )

    def __init__(self, delivery: pb.Delivery, serial: int, now_ns: int) -> None:
        first_offset = delivery.base_offset
        super().__init__(delivery.batch, first_offset, delivery.attempt, delivery.published_at_ns)
        self.first_offset = first_offset
        self.serial = serial
        selection = delivery.selection
        self.indexes = indexes = selected_indexes(self.count, list(selection) if selection else [])
        self.unsettled = len(indexes)
        if isinstance(indexes, range) and not indexes.start:
            self.states = bytearray(len(indexes))
        else:
            self.states = bytearray((SETTLED,)) * (indexes[-1] + 1)
            for index in indexes:
                self.states[index] = OPEN
        self.born_ns = self.extended_ns = now_ns
        self.due_ns = 0
        self.running_out = False

    def open_indexes(self) -> list[int]:
        return [index for index, state in enumerate(self.states) if state == OPEN]


class LeaseTable:
    """Every lease with something unsettled, next to be extended first."""

    def __init__(self, max_lease_ns: int) -> None:
        self._max_lease_ns = max_lease_ns
        self._ack_timeout_ns = 0
        self._leases: OrderedDict[int, Leased] = OrderedDict()
        self._running_out: OrderedDict[int, Leased] = OrderedDict()
        self._next_serial = 0
        self.unsettled = 0  # messages

    def set_ack_timeout(self, ack_timeout_ns: int) -> None:
        """As the broker told it when the stream was opened."""
        self._ack_timeout_ns = ack_timeout_ns

    def add(self, delivery: pb.Delivery, now_ns: int) -> Leased:
        leased = Leased(delivery, self._next_serial, now_ns)
        leased.due_ns = now_ns + self._ack_timeout_ns // 3
        self._next_serial += 1
        self._leases[leased.serial] = leased
        self.unsettled += leased.unsettled
        return leased

    def close(self, leased: Leased, index: int, state: int) -> bool:
        """Mark a message SETTLED or LOST; False when it was not open."""
        was_open = leased.states[index] == OPEN
        leased.states[index] = state
        table = self._running_out if leased.running_out else self._leases
        if was_open and leased.serial in table:
            self.unsettled -= 1
            leased.unsettled -= 1
            if not leased.unsettled:
                del table[leased.serial]
        return was_open

    def settle(self, leased: Leased, index: int) -> bool:
        """Mark a message SETTLED in few steps; False when it was already."""
        states = leased.states
        state = states[index]
        if state == SETTLED:
            return False
        states[index] = SETTLED
        if state == OPEN:  # so it is in a table
            self.unsettled -= 1
            leased.unsettled -= 1
            if not leased.unsettled:
                table = self._running_out if leased.running_out else self._leases
                table.pop(leased.serial, None)
        return True

    def settle_run(self, leased: Leased, first: int, end: int) -> None:
        """Mark the messages first, ..., end-1 SETTLED."""
        states = leased.states
        opened = states.count(OPEN, first, end)
        states[first:end] = bytes((SETTLED,)) * (end - first)
        table = self._running_out if leased.running_out else self._leases
        if opened and leased.serial in table:
            self.unsettled -= opened
            leased.unsettled -= opened
            if not leased.unsettled:
                del table[leased.serial]

    def next_due_ns(self) -> int | None:
        firsts = [next(iter(t.values())) for t in (self._leases, self._running_out) if t]
        return min((leased.due_ns for leased in firsts), default=None)

    def due(self, now_ns: int) -> tuple[list[Leased], list[Leased]]:
        """Leases to extend now, and leases that have run out.

        Extends early what would be due soon, so that one frame serves many.
        """
        horizon_ns = now_ns + self._ack_timeout_ns // 12
        extend: list[Leased] = []
        while self._leases:
            leased = next(iter(self._leases.values()))
            if leased.due_ns > horizon_ns:
                break
            if now_ns - leased.born_ns + self._ack_timeout_ns > self._max_lease_ns:
                leased.running_out = True
                leased.due_ns = leased.extended_ns + self._ack_timeout_ns
                del self._leases[leased.serial]
                self._running_out[leased.serial] = leased
            else:
                leased.extended_ns = now_ns
                leased.due_ns = max(now_ns + self._ack_timeout_ns // 3, horizon_ns + 1)
                self._leases.move_to_end(leased.serial)
                extend.append(leased)
        run_out = [leased for leased in self._running_out.values() if leased.due_ns <= now_ns]
        return extend, run_out

    def holding(self, offsets: Iterable[tuple[int, int]]) -> list[tuple[Leased, set[int]]]:
        """Open messages in inclusive offset ranges, by lease."""
        found: list[tuple[Leased, set[int]]] = []
        for leased in self._all():
            base, end = leased.first_offset, leased.first_offset + len(leased.states)
            indexes = {
                offset - base
                for first, last in offsets
                for offset in range(max(first, base), min(last + 1, end))
                if leased.states[offset - base] == OPEN
            }
            if indexes:
                found.append((leased, indexes))
        return found

    def clear(self) -> list[Leased]:
        """Forget every lease (the connection took them along); gives what was held."""
        held = self._all()
        self._leases.clear()
        self._running_out.clear()
        self.unsettled = 0
        return held

    def _all(self) -> list[Leased]:
        return [*self._leases.values(), *self._running_out.values()]
