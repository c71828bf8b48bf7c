"""[P] What a segment file looks like to SQLite: DDL, pragmas, and every look-up, as data.

Each index and each pragma carries its reason. A row is in at most two indexes, beside
the rare kinds: an index costs one more page per commit. Every statement that answers a
question is here, so that one test can ask SQLite for its plan and refuse scans.

No connection is opened here; `database.py` applies this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from hermes import limits
from hermes.log.record import FIRST_RARE_KIND, Kind

# "HRMS", so that `file` and a stranger can tell whose SQLite file it is.
APPLICATION_ID: Final = 0x48524D53
FORMAT_VERSION: Final = 1

# Small commits write a page per B-tree and like small pages; batches of 10 KiB like
# large ones. Measured from 4 to 32 KiB: 8 KiB is within noise of the best at both ends.
PAGE_BYTES: Final = 8192

PUBLISHED: Final = int(Kind.PUBLISHED)
# SQLite's largest integer: no lsn or offset is beyond it.
INTEGER_MAX: Final = (1 << 63) - 1

TABLES: Final = (
    # Facts about the file: store_id, format_version, first_lsn, next_offset and chain
    # (the last two as they were before first_lsn).
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID",
    # Subjects, consumers and patterns, each once per segment.
    "CREATE TABLE keys (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
    # What is large comes last: reading a body never walks over a payload's pages.
    """CREATE TABLE records (
        lsn INTEGER PRIMARY KEY,
        at_ns INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        key INTEGER REFERENCES keys (id),
        first INTEGER,
        last INTEGER,
        payload_hash BLOB,
        chain BLOB NOT NULL,
        body BLOB NOT NULL,
        payload BLOB
    ) STRICT""",
    # 63-bit digests of message ids.
    """CREATE TABLE terms (
        term INTEGER, lsn INTEGER, PRIMARY KEY (term, lsn)
    ) STRICT, WITHOUT ROWID""",
)

INDEXES: Final = (
    # A key's records in order; a filter's publishes and their count, without the rows.
    """CREATE INDEX by_key ON records (key, kind, lsn, first, last)
        WHERE key IS NOT NULL""",
    # Which batch holds an offset; which records touch one.
    """CREATE INDEX by_offset ON records (kind, first, last, key)
        WHERE first IS NOT NULL""",
    # The newest snapshot, seal, drop, start, ... Kinds that travel with messages
    # would pay on each row, and nobody asks for the newest of them.
    f"CREATE INDEX by_kind ON records (kind) WHERE kind >= {FIRST_RARE_KIND}",
)


class Pragma(msgspec.Struct, frozen=True):
    """A setting, what SQLite must answer when it is read back, and why."""

    name: str
    value: str | int
    expected: str | int
    why: str


_EVERY = (
    Pragma("mmap_size", 0, 0, "an I/O error must be an error, not a SIGBUS"),
    Pragma("trusted_schema", "OFF", 0, "a doctored file must not run code"),
    Pragma("cell_size_check", "ON", 1, "damaged pages are named early"),
    Pragma("temp_store", "MEMORY", 2, "no files beside the store"),
    Pragma("busy_timeout", 5000, 5000, "sealing and recovery take short exclusive locks"),
)

_WAL = Pragma("journal_mode", "WAL", "wal", "readers beside the writer, one sync per commit")
_FULL_SYNC = Pragma("synchronous", "FULL", 2, "a commit is on disk when it returns")

# Only when the file is made, under a name that nobody looks for; the order matters. It is
# synced once, when it is complete: `BUILT_PRAGMA`, then a checkpoint.
BUILD_PRAGMAS: Final = (
    *_EVERY,
    Pragma("synchronous", "OFF", 0, "half a file is worth nothing, so it needs no syncs"),
    Pragma("page_size", PAGE_BYTES, PAGE_BYTES, "see PAGE_BYTES; only before the first page"),
    Pragma("auto_vacuum", "NONE", 0, "space comes back by unlinking segments"),
    Pragma("application_id", APPLICATION_ID, APPLICATION_ID, "whose file this is"),
    Pragma("user_version", FORMAT_VERSION, FORMAT_VERSION, "refused by older versions"),
    _WAL,
)
BUILT_PRAGMA: Final = _FULL_SYNC

WRITE_PRAGMAS: Final = (
    *_EVERY,
    _WAL,
    _FULL_SYNC,
    Pragma("fullfsync", "ON", 1, "macOS: fsync alone does not reach the disk"),
    Pragma("checkpoint_fullfsync", "ON", 1, "the same for checkpoints"),
    Pragma("wal_autocheckpoint", 0, 0, "checkpoints run beside the commits, not in them"),
    Pragma(
        "journal_size_limit",
        limits.WAL_KEPT_BYTES,
        limits.WAL_KEPT_BYTES,
        "a WAL that grew under load shrinks again",
    ),
    Pragma("cache_size", -16_384, -16_384, "16 MiB hold the inner pages of every index"),
)

READ_PRAGMAS: Final = (
    *_EVERY,
    Pragma("query_only", "ON", 1, "readers never write"),
    Pragma("cache_size", -2_048, -2_048, "2 MiB: there are many readers"),
)

# Sealing must not wait for readers, nor make them wait: it is tried again later.
SEAL_PRAGMAS: Final = (
    *(pragma for pragma in _EVERY if pragma.name != "busy_timeout"),
    _FULL_SYNC,
)

# For the copy that a compaction writes under a name that nobody looks for: each piece is a
# transaction that syncs what it wrote.
COMPACT_PRAGMAS: Final = (
    *_EVERY,
    Pragma("page_size", PAGE_BYTES, PAGE_BYTES, "as in every segment; before the first page"),
    Pragma("auto_vacuum", "NONE", 0, "space comes back by unlinking segments"),
    Pragma("journal_mode", "OFF", "off", "half a copy is worth nothing"),
    Pragma("application_id", APPLICATION_ID, APPLICATION_ID, "whose file this is"),
    Pragma("user_version", FORMAT_VERSION, FORMAT_VERSION, "refused by older versions"),
    _FULL_SYNC,
    Pragma("fullfsync", "ON", 1, "macOS: fsync alone does not reach the disk"),
    Pragma("cache_size", -16_384, -16_384, "16 MiB hold the inner pages of every index"),
)

# ------------------------------------------------------------------ statements

KEY_ID: Final = "SELECT id FROM keys WHERE text = ?"
INSERT_META: Final = "INSERT INTO meta (name, value) VALUES (?, ?)"
META: Final = "SELECT name, value FROM meta"

# The columns of a StoredRecord, in its order. substr takes the salt off.
_ROW = (
    "SELECT lsn, at_ns, kind, (SELECT text FROM keys WHERE id = records.key), first, last,"
    " body, {payload}, payload_hash, chain FROM records"
)
_FULL = _ROW.format(payload="substr(payload, 17)")
_BARE = _ROW.format(payload="NULL")
_AS_STORED = _ROW.format(payload="payload")

READ: Final = f"{_FULL} WHERE lsn >= ? ORDER BY lsn LIMIT ?"
READ_BARE: Final = f"{_BARE} WHERE lsn >= ? ORDER BY lsn LIMIT ?"
# For verification: the payload with its salt, which is what its hash is over.
READ_SALTED: Final = f"{_AS_STORED} WHERE lsn >= ? ORDER BY lsn LIMIT ?"
SCAN: Final = f"{_AS_STORED} WHERE lsn >= ? AND lsn <= ? ORDER BY lsn"
# Newest first, as far as somebody reads.
PAYLOADS_BACK: Final = """SELECT lsn, payload, payload_hash FROM records
    WHERE lsn > ? ORDER BY lsn DESC"""
CHAIN_AT: Final = "SELECT chain FROM records WHERE lsn = ?"
RECORD: Final = f"{_FULL} WHERE lsn = ?"
# Beside a record, what its hashes are over: the salt, and the link before it (of the first
# record, the one in meta).
PROOF: Final = """SELECT substr(payload, 1, 16), coalesce(
        (SELECT chain FROM records AS before WHERE before.lsn = records.lsn - 1),
        (SELECT value FROM meta WHERE name = 'chain'))
    FROM records WHERE lsn = ?"""
RECORD_BARE: Final = f"{_BARE} WHERE lsn = ?"
# The length of a blob is told by its row's header: its pages are not read.
PAYLOAD_BYTES: Final = "SELECT length(payload) FROM records WHERE lsn = ?"
TIME_FROM: Final = "SELECT lsn, at_ns FROM records WHERE lsn >= ? ORDER BY lsn LIMIT 1"
LAST_RECORD: Final = f"{_BARE} ORDER BY lsn DESC LIMIT 1"
# first and last of the batch at or before an offset; whether it holds it, the caller sees.
PUBLISH_AT: Final = f"""SELECT lsn, first, last, at_ns FROM records
    WHERE kind = {PUBLISHED} AND first <= ? ORDER BY first DESC LIMIT 1"""
PUBLISH_AFTER: Final = f"""SELECT lsn, first, last, at_ns FROM records
    WHERE kind = {PUBLISHED} AND first > ? ORDER BY first LIMIT 1"""
LAST_PUBLISH: Final = f"""SELECT lsn, first, last, at_ns FROM records
    WHERE kind = {PUBLISHED} AND first >= 0 ORDER BY first DESC LIMIT 1"""
# Publishes from a first offset on, below another: whole rows, or the index alone.
PUBLISHES: Final = f"""{_FULL}
    WHERE kind = {PUBLISHED} AND first >= ? AND first < ? ORDER BY first LIMIT ?"""
PUBLISHES_WALK: Final = f"""SELECT first, last, lsn, key FROM records
    WHERE kind = {PUBLISHED} AND first >= ? AND first < ? ORDER BY first LIMIT ?"""
# From the index alone, but for the key's text.
BATCHES: Final = f"""SELECT first, last, lsn, (SELECT text FROM keys WHERE id = records.key)
    FROM records WHERE kind = {PUBLISHED} AND first >= ? AND first < ? ORDER BY first LIMIT ?"""
PUBLISHES_OF_KEY: Final = f"""SELECT first, last, lsn, key FROM records
    WHERE key = ? AND kind = {PUBLISHED} AND lsn >= ? ORDER BY lsn"""
MESSAGES_OF_KEY: Final = f"""SELECT sum(last - max(first, ?) + 1) FROM records
    WHERE key = ? AND kind = {PUBLISHED} AND lsn >= ?"""
KEYS_AFTER: Final = "SELECT id, text FROM keys WHERE id > ? ORDER BY id"
LAST_KEY: Final = "SELECT id FROM keys WHERE id > ? ORDER BY id DESC LIMIT 1"
# The only statement that walks a whole table: a dictionary, to be listed.
SUBJECTS: Final = f"""SELECT text FROM keys WHERE EXISTS (
    SELECT 1 FROM records WHERE key = keys.id AND kind = {PUBLISHED})"""

# The next kind after one, among those with offsets, or of one key: hops over the index.
NEXT_KIND: Final = """SELECT kind FROM records
    WHERE first IS NOT NULL AND kind > ? ORDER BY kind LIMIT 1"""
NEXT_KIND_OF_KEY: Final = """SELECT kind FROM records
    WHERE key = ? AND kind > ? ORDER BY kind LIMIT 1"""
TOUCHING: Final = """SELECT lsn FROM records
    WHERE kind = ? AND first BETWEEN ? AND ? AND last >= ? AND lsn > ?"""
LSNS_OF_KEY: Final = """SELECT lsn FROM records
    WHERE key = ? AND kind = ? AND lsn > ? ORDER BY lsn LIMIT ?"""
LSNS_OF_TERM: Final = "SELECT lsn FROM terms WHERE term = ? ORDER BY lsn LIMIT ?"
LATEST: Final = f"""{_FULL}
    WHERE kind = ? AND kind >= {FIRST_RARE_KIND} AND lsn <= ? ORDER BY lsn DESC LIMIT 1"""
ANNOUNCED: Final = f"""SELECT lsn, first, last, body FROM records
    WHERE kind = {int(Kind.SEGMENT_COMPACTED)} AND kind >= {FIRST_RARE_KIND} AND lsn > ?
    ORDER BY lsn DESC"""
LOWEST_FIRST: Final = """SELECT first FROM records
    WHERE kind = ? AND first >= 0 ORDER BY first LIMIT 1"""
HIGHEST_FIRST: Final = """SELECT first FROM records
    WHERE kind = ? AND first >= 0 ORDER BY first DESC LIMIT 1"""
HIGHEST_LAST: Final = "SELECT max(last) FROM records WHERE kind = ? AND first >= ?"

# -------------------------------------------------------- statements of many rows

RECORD_COLUMNS: Final = 10
# Per statement; SQLite takes 32,766, apsw keeps statements of up to 16 KiB prepared.
_PARAMETERS_MAX: Final = 5_120


@cache
def insert_records(rows: int) -> str:
    """Insert up to so many rows of records; what is left over is bound to NULL."""
    columns = "lsn, at_ns, kind, key, first, last, payload_hash, chain, body, payload"
    return f"INSERT INTO records ({columns}) {_given(rows, RECORD_COLUMNS)}"


@cache
def insert_keys(rows: int) -> str:
    """Insert up to so many (id, text)."""
    return f"INSERT INTO keys (id, text) {_given(rows, 2)}"


@cache
def insert_terms(rows: int) -> str:
    """Insert up to so many (term, lsn); a batch may carry one id twice."""
    return f"INSERT OR IGNORE INTO terms (term, lsn) {_given(rows, 2)}"


@cache
def known_keys(rows: int) -> str:
    """(text, id) of those of up to so many texts that are in the dictionary."""
    return f"SELECT text, id FROM keys WHERE text IN ({','.join('?' * rows)})"


def in_statements(
    sql: Callable[[int], str], values: Sequence[Any], columns: int
) -> Iterator[tuple[str, Sequence[Any]]]:
    """Cut rows, given as one flat sequence, into statements of a few sizes.

    `sql` makes the statement for a number of rows: a power of two, so that few have to
    be prepared. What a statement has too many rows is None.
    """
    most = 1 << ((_PARAMETERS_MAX // columns).bit_length() - 1)
    for start in range(0, len(values), most * columns):
        part = values[start : start + most * columns]
        rows = 1 << (len(part) // columns - 1).bit_length()
        missing = rows * columns - len(part)
        yield sql(rows), [*part, *([None] * missing)] if missing else part


def _values(rows: int, columns: int) -> str:
    row = f"({','.join('?' * columns)})"
    return f"VALUES {','.join([row] * rows)}"


def _given(rows: int, columns: int) -> str:
    """The rows that were bound, as a query."""
    if rows == 1:
        return _values(1, columns)
    return f"SELECT * FROM ({_values(rows, columns)}) WHERE column1 IS NOT NULL"


# For people who search: lsns from one up to another, not included, forwards and backwards.
# Bit k of the mask stands for kind k; -1 is every kind.
_BOTH_WAYS: Final = ("ORDER BY lsn", "ORDER BY lsn DESC")
_SPAN = "SELECT lsn, key, first, last FROM records WHERE"
SPAN_OF_MASK: Final = tuple(
    f"{_SPAN} lsn >= ? AND lsn < ? AND ((? >> kind) & 1) {order}" for order in _BOTH_WAYS
)
SPAN_OF_KIND: Final = tuple(
    f"{_SPAN} kind = ? AND kind >= {FIRST_RARE_KIND} AND lsn >= ? AND lsn < ? {order}"
    for order in _BOTH_WAYS
)
SPAN_OF_KEY: Final = tuple(
    f"{_SPAN} key = ? AND kind = ? AND lsn >= ? AND lsn < ? {order}" for order in _BOTH_WAYS
)
SPAN_OF_OFFSETS: Final = """SELECT lsn, key, first, last FROM records
    WHERE kind = ? AND first BETWEEN ? AND ? AND last >= ? LIMIT ?"""

# Of which offsets a record must touch one: a byte each from ?4 on, 1 for those.
TOUCHING_ANY: Final = """SELECT lsn FROM records
    WHERE kind = ?1 AND first BETWEEN ?2 AND ?3 AND last >= ?4
    AND instr(substr(?5, max(first, ?4) - ?4 + 1, min(last, ?3) - max(first, ?4) + 1), x'01')"""

# Compaction: from an attached old file into a new one. Statements take rows in the order of
# the table they go to, so that both files are walked from one end to the other.
COPIED_FACTS: Final = ("payload_bytes", "retired", "compacted_lsn")
ATTACH_SOURCE: Final = "ATTACH ? AS source"
COPY_META: Final = f"""INSERT INTO main.meta SELECT name, value FROM source.meta
    WHERE name NOT IN {COPIED_FACTS}"""
RETIRED_TABLE: Final = "CREATE TEMP TABLE retired (first INTEGER PRIMARY KEY, last INTEGER)"
INSERT_RETIRED: Final = "INSERT INTO retired VALUES (?, ?)"
# Which of many offsets, a JSON array, no batch begins with, and none ends with. Tens of
# thousands are looked up inside SQLite: nobody waits for the interpreter meanwhile.
NOT_FIRST: Final = f"""SELECT o.value FROM json_each(?) AS o WHERE NOT EXISTS
    (SELECT 1 FROM records AS r WHERE r.kind = {PUBLISHED} AND r.first = o.value) LIMIT 1"""
NOT_LAST: Final = f"""SELECT o.value FROM json_each(?) AS o WHERE o.value IS NOT
    (SELECT r.last FROM records AS r WHERE r.kind = {PUBLISHED} AND r.first <= o.value
        ORDER BY r.first DESC LIMIT 1) LIMIT 1"""
COPY_KEYS: Final = """INSERT INTO main.keys SELECT id, text FROM source.keys
    WHERE id > (SELECT coalesce(max(id), -1) FROM main.keys) ORDER BY id LIMIT ?"""
COPY_RECORDS: Final = f"""INSERT INTO main.records
        (lsn, at_ns, kind, key, first, last, payload_hash, chain, body, payload)
    SELECT lsn, at_ns, kind, key, first, last, payload_hash, chain, body,
        CASE WHEN kind = {int(Kind.PUBLISHED_LIVE)} THEN NULL
            WHEN kind = {PUBLISHED} AND last <= (SELECT r.last FROM temp.retired AS r
                WHERE r.first <= o.last ORDER BY r.first DESC LIMIT 1) THEN NULL
            ELSE payload END
    FROM source.records AS o WHERE lsn BETWEEN ? AND ? ORDER BY lsn"""
COPY_TERMS: Final = """INSERT INTO main.terms SELECT term, lsn FROM source.terms
    WHERE (term, lsn) > (?, ?) ORDER BY term, lsn LIMIT ?"""
LAST_TERM: Final = "SELECT term, lsn FROM main.terms ORDER BY term DESC, lsn DESC LIMIT 1"
COUNT_TERMS: Final = """SELECT (SELECT count(*) FROM main.terms),
    (SELECT count(*) FROM source.terms)"""

# A statement and how many parameters it takes: what the test of plans looks at.
LOOKUPS: Final = {
    READ: 2,
    READ_BARE: 2,
    READ_SALTED: 2,
    SCAN: 2,
    PAYLOADS_BACK: 1,
    CHAIN_AT: 1,
    RECORD: 1,
    PROOF: 1,
    RECORD_BARE: 1,
    PAYLOAD_BYTES: 1,
    TIME_FROM: 1,
    PUBLISH_AT: 1,
    PUBLISH_AFTER: 1,
    LAST_PUBLISH: 0,
    PUBLISHES: 3,
    PUBLISHES_WALK: 3,
    BATCHES: 3,
    PUBLISHES_OF_KEY: 2,
    MESSAGES_OF_KEY: 3,
    KEYS_AFTER: 1,
    KEY_ID: 1,
    known_keys(4): 4,
    LAST_KEY: 1,
    NEXT_KIND: 1,
    NEXT_KIND_OF_KEY: 2,
    TOUCHING: 5,
    LSNS_OF_KEY: 4,
    LSNS_OF_TERM: 2,
    LATEST: 2,
    ANNOUNCED: 1,
    LOWEST_FIRST: 1,
    HIGHEST_FIRST: 1,
    HIGHEST_LAST: 2,
    **dict.fromkeys(SPAN_OF_MASK, 3),
    **dict.fromkeys(SPAN_OF_KIND, 3),
    **dict.fromkeys(SPAN_OF_KEY, 4),
    SPAN_OF_OFFSETS: 5,
    TOUCHING_ANY: 5,
}
