"""Whatever is appended, the log on SQLite and the log in memory give the same answers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hermes.log.log import open_log
from hermes.log.memory import MemoryLog
from hermes.log.port import Log, LogReader, SegmentInfo
from hermes.log.record import Kind, Record, StoredRecord
from tests.contract.records import BIG, Outcomes, publish, snapshot

KEYS = ("a", "b", "ключ", "c.d")
TERMS = (1, 2, (1 << 63) - 1)

# What to append next; offsets of publishes follow from the log.
Step = tuple[str, int, int, str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "publish", "live", "settle", "settle", "rare", "roll"]),
        st.integers(0, 40),
        st.integers(1, 9),
        st.sampled_from(KEYS),
        st.sampled_from(TERMS),
    ),
    max_size=40,
)
# Syncs cost nothing there: these are answers, not crashes.
MEMORY_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None
SETTLING = (Kind.DELIVERED, Kind.ACKED, Kind.NACKED)


def grow(log: Log, steps: list[Step]) -> int:
    """Append what the steps say; returns the last lsn."""
    clock = 0
    for step, place, width, key, term in steps:
        clock += place % 3
        if step == "roll":
            if log.next_lsn > 1:
                log.roll(snapshot(), log.next_lsn)
            continue
        if step == "publish":
            record = publish(log.next_offset, width, key, at_ns=clock, terms=(term,))
        elif step == "live":
            record = Record(at_ns=clock, kind=Kind.PUBLISHED_LIVE, key=key, payload=b"live")
        elif step == "settle":
            kind = SETTLING[place % len(SETTLING)]
            record = Record(
                at_ns=clock, kind=kind, key=key, first=place, last=place + width - 1, body=b"b"
            )
        else:
            record = Record(at_ns=clock, kind=Kind.SESSION_OPENED, terms=(term,))
        log.append([record], log.next_lsn)
    return log.next_lsn - 1


def plain(records: list[StoredRecord]) -> list[tuple[object, ...]]:
    """Without what the salt changes: hashes, and the chain inside a seal."""
    return [
        (
            *(r.lsn, r.at_ns, r.kind, r.key, r.first, r.last, r.payload),
            None if r.kind == Kind.SEGMENT_SEALED else r.body,
        )
        for r in records
    ]


def one(record: StoredRecord | None) -> list[tuple[object, ...]]:
    return [] if record is None else plain([record])


def answers(reader: LogReader, offset: int, lsn: int, limit: int) -> list[object]:
    """Every look-up, asked the same."""
    found: list[object] = [
        plain(reader.read(lsn, limit=limit, limit_bytes=60)),
        plain(reader.read(lsn, limit=limit, limit_bytes=BIG, payloads=False)),
        one(reader.publish_of(offset)),
        plain(reader.touching(offset, limit=limit)),
        plain(reader.touching(offset, after_lsn=lsn, limit=BIG)),
        reader.offset_at_time(offset),
        reader.count_messages(offset),
        one(reader.latest(Kind.SESSION_OPENED)),
        one(reader.latest(Kind.SNAPSHOT, at_or_before_lsn=lsn)),
        [plain(reader.with_term(term, limit=limit)) for term in TERMS],
    ]
    for key in KEYS:
        found += [
            plain(reader.of_key(key, limit=limit)),
            plain(reader.of_key(key, kinds=SETTLING[1:], after_lsn=lsn, limit=limit)),
            reader.count_messages(offset, key.__eq__),
        ]
    page, upto = reader.publishes(offset, limit=limit, limit_bytes=60)
    found += [plain(page), upto]
    for wanted in (None, "b".__eq__, {"a", "ключ"}.__contains__):
        before = offset + 7
        page, upto = reader.publishes(
            offset, limit=BIG, limit_bytes=BIG, keys=wanted, before_offset=before
        )
        # A batch that goes beyond and does not match may count as considered, or not.
        found += [plain(page), min(upto, before)]
        found.append(reader.batches(offset, before_offset=before, limit=limit))
    found.append(reader.batches(offset, limit=limit))
    return found


def described(infos: list[SegmentInfo]) -> list[tuple[object, ...]]:
    """Without the sizes, which depend on what the log is made of."""
    fields = [f for f in SegmentInfo.__struct_fields__ if f not in {"bytes", "payload_bytes"}]
    return [tuple(getattr(info, field) for field in fields) for info in infos]


@settings(max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(STEPS, st.integers(0, 60), st.integers(1, 30), st.integers(1, 6))
def test_both_logs_answer_alike(steps: list[Step], offset: int, lsn: int, limit: int) -> None:
    memory = MemoryLog(Outcomes())
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK) as folder:
        sqlite = open_log(Path(folder) / "store", outcomes)
        try:
            last = grow(sqlite, steps)
            assert grow(memory, steps) == last
            outcomes.wait_for(last)
            numbers = (sqlite.next_lsn, sqlite.next_offset, sqlite.oldest_offset)
            assert numbers == (memory.next_lsn, memory.next_offset, memory.oldest_offset)
            assert described(sqlite.segments()) == described(memory.segments())
            expected = answers(memory.reader(), offset, lsn, limit)
            assert answers(sqlite.reader(), offset, lsn, limit) == expected
        finally:
            sqlite.close()
