"""Searching finds what a plain walk finds, by whichever index, forwards and backwards."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hermes import limits
from hermes.log.log import SqliteLog, open_log
from hermes.log.reader import SqliteReader, open_reader
from hermes.log.record import Kind, Record, StoredRecord
from hermes.log.search import Search, lsn_at_time, search
from tests.contract.records import BIG, Outcomes, event, publish, snapshot
from tests.contract.store import put

SETTLEMENTS = (Kind.DELIVERED, Kind.ACKED, Kind.NACKED)


class Filled:
    """Four segments of records drawn by a seed; `at_ns` of each is ten times its lsn."""

    def __init__(self, folder: Path) -> None:
        self.outcomes = Outcomes()
        self.log: SqliteLog = open_log(folder, self.outcomes)
        rng = random.Random(7)
        offset = 0
        for _ in range(4):
            for _ in range(60):
                count = rng.randint(1, 4)
                key = f"orders.{rng.randint(0, 3)}"
                lsn = self.log.next_lsn
                records = [publish(offset, count, key, at_ns=10 * lsn)]
                for i in range(rng.randint(0, 2)):
                    at = rng.randint(max(0, offset - 20), offset)
                    kind = rng.choice(SETTLEMENTS)
                    record = event(kind, rng.choice(["billing", "audit"]), at, at + 2)
                    records.append(_at(record, 10 * (lsn + 1 + i)))
                offset += count
                put(self, self.log, *records)
            put(self, self.log, _at(event(Kind.MEMBER_JOINED, "billing"), 10 * self.log.next_lsn))
            # SegmentSealed takes the time of the snapshot, which is the next record.
            at_ns = 10 * self.log.next_lsn
            self.outcomes.wait_for(self.log.roll(_at(snapshot(), at_ns), self.log.next_lsn))

    def open(self) -> SqliteLog:
        return self.log


def _at(record: Record, at_ns: int) -> Record:
    return Record(at_ns, record.kind, record.key, record.first, record.last, record.body)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "store"
    Filled(path).log.close()
    return path


@pytest.fixture
def reader(folder: Path) -> Iterator[SqliteReader]:
    reader = open_reader(folder)
    yield reader
    reader.close()


def starts_with_orders(key: str) -> bool:
    return key in {"orders.1", "orders.2"}


def is_billing(key: str) -> bool:
    return key == "billing"


SEARCHES = {
    "everything": Search(),
    "common kind": Search(kinds=frozenset({Kind.PUBLISHED})),
    "numbered kinds": Search(kinds=frozenset({Kind.ACKED, Kind.NACKED})),
    "rare kinds": Search(kinds=frozenset({Kind.SNAPSHOT, Kind.MEMBER_JOINED})),
    "a kind that never was": Search(kinds=frozenset({Kind.REJECTED})),
    "rare and common": Search(kinds=frozenset({Kind.SNAPSHOT, Kind.DELIVERED})),
    "keys": Search(keys=starts_with_orders),
    "key and kind": Search(keys=is_billing, kinds=frozenset({Kind.ACKED})),
    "names": Search(names=frozenset({"orders.1", "billing", "nobody"})),
    "a name that never was": Search(names=frozenset({"nobody"})),
    "a name and offsets": Search(names=frozenset({"billing"}), first_offset=100, last_offset=160),
    "one offset": Search(first_offset=123, last_offset=123),
    "offsets": Search(first_offset=100, last_offset=160),
    "offsets from": Search(first_offset=120),
    "offsets of a consumer": Search(first_offset=100, last_offset=160, keys=is_billing),
    "offsets of a kind": Search(first_offset=100, last_offset=160, kinds=frozenset({Kind.ACKED})),
}


def expected(reader: SqliteReader, wanted: Search, low: int, high: int) -> list[int]:
    def fits(record: StoredRecord) -> bool:
        if wanted.kinds is not None and record.kind not in wanted.kinds:
            return False
        if wanted.keys is not None and not (record.key and wanted.keys(record.key)):
            return False
        if wanted.names is not None and record.key not in wanted.names:
            return False
        if wanted.first_offset is None and wanted.last_offset is None:
            return True
        first, last = wanted.offsets
        return record.first is not None and record.first <= last and record.last >= first  # type: ignore[operator]

    records = reader.read(1, limit=10**6, limit_bytes=BIG)
    return [r.lsn for r in records if low <= r.lsn < high and fits(r)]


def paged(
    reader: SqliteReader, wanted: Search, low: int, high: int, *, back: bool, limit: int
) -> list[int]:
    found: list[int] = []
    at = high if back else low
    while True:
        bounds = (low, at) if back else (at, high)
        page, reached = search(
            reader,
            wanted,
            from_lsn=bounds[0],
            before_lsn=bounds[1],
            newest_first=back,
            limit=limit,
            limit_bytes=BIG,
        )
        assert len(page) <= limit
        found += [record.lsn for record in page]
        if reached in {at, bounds[not back]} or not low < reached < high:
            return found[::-1] if back else found
        at = reached


@pytest.mark.parametrize("back", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"SEARCH_WALK_MAX": 7, "SEARCH_SHORT_MAX": 7},
        {
            "SEARCH_WALK_MAX": 7,
            "SEARCH_SHORT_MAX": 7,
            "SEARCH_SORTED_MAX": 3,
            "SEARCH_LINES_MERGED_MAX": 1,
        },
    ],
    ids=["as is", "short walks", "no index"],
)
def test_a_search_finds_what_a_walk_finds(
    reader: SqliteReader,
    name: str,
    back: bool,
    bounds: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for bound, value in bounds.items():
        monkeypatch.setattr(limits, bound, value)
    wanted = SEARCHES[name]
    end = 10**6
    for low, high in ((1, end), (50, 300)):
        wants = expected(reader, wanted, low, high)
        assert "never was" in name or wants
        for limit in (3, 1000):
            assert paged(reader, wanted, low, high, back=back, limit=limit) == wants


def test_a_page_is_bounded_in_bytes(reader: SqliteReader) -> None:
    page, reached = search(reader, Search(), limit=100, limit_bytes=1)
    assert [record.lsn for record in page] == [1]
    assert reached == 2


def test_payloads_are_left_out_when_not_asked_for(reader: SqliteReader) -> None:
    bare, _ = search(reader, Search(), limit=1, limit_bytes=BIG, payloads=False)
    full, _ = search(reader, Search(), limit=1, limit_bytes=BIG)
    assert bare[0].payload is None and bare[0].payload_hash is not None
    assert full[0].payload == b"content"


@pytest.mark.parametrize("ask", [lambda lsn: 10 * lsn, lambda lsn: 10 * lsn - 1])
def test_a_time_becomes_an_lsn(reader: SqliteReader, ask: Callable[[int], int]) -> None:
    times = [(r.lsn, r.at_ns) for r in reader.read(1, limit=10**6, limit_bytes=BIG)]
    honest = [lsn for lsn, at_ns in times if at_ns == 10 * lsn]
    assert len(honest) > 200
    found = {lsn: lsn_at_time(reader, ask(lsn)) for lsn in honest}
    assert {lsn: at for lsn, at in found.items() if at != lsn} == {}


def test_times_outside(reader: SqliteReader) -> None:
    last = reader.segments()[-1].last_lsn
    assert lsn_at_time(reader, 0) == 1
    assert lsn_at_time(reader, 10**15) == last + 1
