"""`hermes-inspect sql`: ask the log in SQL, live or at rest; nothing can be changed.

The statement sees the log as it was when it began. What there is to ask is in
`sql_tables.py`, what a statement may do in `hermes.log.sql`, how answers are written in
`sql_output.py`.
"""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer

from hermes.cli.groups import single
from hermes.cli.options import UsageError
from hermes.log.sql import ReadOnlySql, SqlError, limit_memory
from hermes_inspect import output
from hermes_inspect.model import Gap
from hermes_inspect.options import JsonOption
from hermes_inspect.output import Output
from hermes_inspect.sql_output import TABLE_ROWS, Limited, write_csv, write_json, write_table
from hermes_inspect.sql_tables import describe, functions, tables
from hermes_inspect.sql_walk import Walk
from hermes_inspect.store import StoreOption, open_store, store_path
from hermes_inspect.yielding import yield_to

STDIN = "-"

StatementArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[STATEMENT]",
        help="SELECT …; - reads it from stdin; without it the tables are told.",
        show_default=False,
    ),
]
CsvOption = Annotated[bool, typer.Option("--csv", help="CSV with a line of names.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Show so many rows at most.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", min=0.001, metavar="SECONDS", help="Give up after so long."),
]
PayloadsOption = Annotated[
    bool, typer.Option("--payloads", help="Let events have a column with payloads.")
]


def sql(
    statement: StatementArgument = None,
    store_option: StoreOption = None,
    csv: CsvOption = False,
    json: JsonOption = False,
    limit: LimitOption = None,
    timeout: TimeoutOption = None,
    payloads: PayloadsOption = False,
) -> None:
    """Ask the log in SQL."""
    if csv and json:
        raise UsageError("--csv and --json exclude each other")
    out = Output(json=json)
    if statement is None:
        _describe(out, payloads=payloads)
        return
    if statement == STDIN:
        statement = sys.stdin.read()
    gaps: list[Gap] = []

    def tell(gap: Gap) -> None:
        gaps.append(gap)
        output.warn(f"damaged: records {gap.first_lsn}..{gap.last_lsn}: {gap.why}")

    limit_memory()
    with open_store(store_path(store_option)) as store:
        output.tell_state(store)
        walk = Walk(store, tell, yield_to(store.path).between_steps)
        found = tables(store, walk, payloads=payloads)
        with closing(ReadOnlySql(found, functions(walk))) as connection:
            timeout_ns = None if timeout is None else round(timeout * 1e9)
            try:
                answer = connection.ask(statement, timeout_ns=timeout_ns)
                if limit is None and not csv and not json and out.columns is not None:
                    limit = TABLE_ROWS
                shown = Limited(answer, sys.maxsize if limit is None else limit)
                write = write_csv if csv else write_json if json else write_table
                write(out, shown)
                out.flush()
            except SqlError as error:
                raise _hinted(error, payloads=payloads) from error
            if shown.cut:
                output.warn(f"there are more rows than {limit:,}: --limit N shows more")
        output.exit_for(store, damaged=bool(gaps))


def _hinted(error: SqlError, *, payloads: bool) -> SqlError:
    """The same with what to do about it, where SQLite says only what is wrong."""
    if not error.hint and not payloads and error.message.endswith("no such column: payload"):
        return SqlError(error.message, hint="give --payloads to have it")
    if not error.hint and "no such" in error.message:
        return SqlError(error.message, hint="hermes-inspect sql lists tables and columns")
    return error


def _describe(out: Output, *, payloads: bool) -> None:
    """Tables and columns; needs no store."""
    for name, about, columns in describe(payloads=payloads):
        if out.json:
            for column in columns:
                fields = {"table": name, "column": column.name, "type": column.type}
                out.fields(fields | {"about": column.about or None})
            continue
        out.line(f"{name}: {about}")
        out.table(
            ("  COLUMN", "TYPE", "~"),
            ((f"  {column.name}", column.type, column.about) for column in columns),
        )
        out.line("")
    if not out.json:
        out.line("lsn_at('2026-01-31T12:00Z'), lsn_at('-1h'): the first lsn from a time on")


app = single(sql)
