"""SQL that can only read: a connection to nothing but tables that a caller gives.

Theory: the database is an empty one in memory, so there is no file to touch; the tables
are virtual (`sql_virtual.py`) and have no methods to write. Beyond that
- an authorizer lets through reading, functions and recursion, and refuses all else by name:
  writing, ATTACH, PRAGMA (but for what tells about tables), transactions;
- one statement at a time, and SQLite must call it read-only;
- memory, the size of a value and of a statement, and time are bounded.

Every way a statement can fail is one SqlError with what SQLite said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import apsw
import apsw.ext

from hermes import limits
from hermes.clock import Clock, SystemClock
from hermes.errors import HermesError
from hermes.log.sql_table import Row, Table
from hermes.log.sql_virtual import add_table

# PRAGMAs that only tell about tables.
_TELLING: Final = frozenset({"table_info", "table_list", "table_xinfo"})
# Functions that would reach out of the database; this SQLite has the first two.
_REFUSED_FUNCTIONS: Final = frozenset(
    {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
)
_LET_THROUGH: Final = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE})
_SETTINGS: Final = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
)
_LIMITS: Final = (
    (apsw.SQLITE_LIMIT_ATTACHED, 0),
    (apsw.SQLITE_LIMIT_LENGTH, limits.SQL_VALUE_BYTES_MAX),
    (apsw.SQLITE_LIMIT_SQL_LENGTH, limits.SQL_STATEMENT_BYTES_MAX),
    (apsw.SQLITE_LIMIT_WORKER_THREADS, 0),
)


class SqlError(HermesError):
    """A statement was refused, or failed while it ran."""


class SqlTimeoutError(SqlError):
    """A statement ran out of its time."""


def limit_memory() -> None:
    """Bound what SQLite takes in this process, for sorts and groups. For a process that does
    nothing else."""
    apsw.hard_heap_limit(limits.SQL_MEMORY_BYTES_MAX)


class Answer:
    """A statement that runs while its rows are read. `columns` may repeat a name."""

    def __init__(self, columns: tuple[str, ...], rows: Iterator[Row]) -> None:
        self.columns = columns
        self._rows = rows

    def __iter__(self) -> Iterator[Row]:
        """Rows, each as long as `columns`. Raises SqlError, and what a scan raises."""
        return self._rows


class ReadOnlySql:
    """Answers SQL about given tables. One thread, one statement at a time."""

    def __init__(
        self,
        tables: Iterable[Table],
        functions: Mapping[str, Callable[..., Any]] | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        """`functions` are scalar, and give the same for the same arguments in a statement."""
        self._clock = clock or SystemClock()
        self._deadline_ns: int | None = None
        self._late = False
        self._refused = ""
        self._db = apsw.Connection(":memory:")
        self._db.pragma("temp_store", "memory")  # a sort must not make files
        for setting, value in _SETTINGS:
            self._db.config(setting, value)
        for table in tables:
            add_table(self._db, table, self._check)
        for name, function in (functions or {}).items():
            self._db.create_scalar_function(name, function, deterministic=True)
        for limit, value in _LIMITS:
            self._db.limit(limit, value)
        self._db.set_authorizer(self._authorize)
        # Called from inside of SQLite's own loops: time is up, or Ctrl-C was pressed.
        self._db.set_progress_handler(self._is_late, limits.SQL_STEPS_PER_CHECK)

    def close(self) -> None:
        self._db.close()

    def ask(self, statement: str, *, timeout_ns: int | None = None) -> Answer:
        """Begin a statement. The time counts from now on.

        Raises SqlError for what is no statement, more than one, or one that does not read.
        """
        self._late = False
        self._deadline_ns = None if timeout_ns is None else self._clock.monotonic_ns() + timeout_ns
        with self._explaining():
            info = apsw.ext.query_info(self._db, statement)
            rest = info.query_remaining
            more = rest is not None and apsw.ext.query_info(self._db, rest).has_vdbe
        if more:
            raise SqlError("one statement at a time", hint="leave out what follows the first ;")
        if not info.has_vdbe:
            raise SqlError("there is no statement")
        if not info.is_readonly or not info.description:
            raise SqlError("this statement does not read", hint="SQL only reads here")
        if info.bindings_count:
            raise SqlError("the statement has parameters", hint="write the values into it")
        columns = tuple(name for name, _ in info.description)
        return Answer(columns, self._run(info.first_query))

    def _run(self, statement: str) -> Iterator[Row]:
        with self._explaining():
            cursor = self._db.execute(statement)
            try:
                yield from cursor
            finally:
                cursor.close(True)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        self._refused = ""
        try:
            yield
        except apsw.InterruptError as error:
            raise (self._timed_out() if self._late else SqlError("interrupted")) from error
        except (apsw.NoMemError, MemoryError) as error:
            raise SqlError(
                f"it needs more than {limits.SQL_MEMORY_BYTES_MAX // limits.MIB} MiB of memory",
                hint="narrow it with WHERE, or group by less",
            ) from error
        except apsw.Error as error:
            if self._refused:
                raise SqlError(
                    f"refused, because it needs {self._refused}", hint="SQL only reads here"
                ) from error
            raise SqlError(f"SQLite says: {error}") from error

    # ---------------------------------------------------------------- what is allowed

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action in _LET_THROUGH:
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_FUNCTION and second not in _REFUSED_FUNCTIONS:
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_PRAGMA and first in _TELLING:
            return apsw.SQLITE_OK
        name = apsw.mapping_authorizer_function[action]
        self._refused = str(name).removeprefix("SQLITE_").replace("_", " ")
        if action in (apsw.SQLITE_FUNCTION, apsw.SQLITE_PRAGMA):
            self._refused += f" {second if action == apsw.SQLITE_FUNCTION else first}"
        return apsw.SQLITE_DENY

    # --------------------------------------------------------------------------- time

    def _is_late(self) -> bool:
        deadline_ns = self._deadline_ns
        if deadline_ns is not None and self._clock.monotonic_ns() >= deadline_ns:
            self._late = True
        return self._late

    def _check(self) -> None:
        """For scans. Raises SqlTimeoutError."""
        if self._is_late():
            raise self._timed_out()

    def _timed_out(self) -> SqlTimeoutError:
        return SqlTimeoutError("out of time", hint="narrow it with WHERE, or give it more")
