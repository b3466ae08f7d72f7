"""SQLite: ours beside the standard library's module, on the same file."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from batchwrite.bench.peers import COMMIT, CORE, ORM_ADD_ALL, SAVEPOINT, Peer, connected_engine
from batchwrite.bench.rows import BadKind, Rows, lines, plain
from batchwrite.bench.table_task import RowsOfOneTable
from batchwrite.bench.tables import lines_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Table

    from batchwrite.bench.place import Place
    from batchwrite.bench.rows import Row
    from batchwrite.bench.task import Bench
    from batchwrite.bench.timing import Comparisons, Write

PLAIN = "SQLite, clean rows of values that it stores as they are"
CONVERTED = "SQLite, clean rows with Decimal and datetime"
EXECUTEMANY = "sqlite3.executemany, one transaction"


def comparisons(bench: Bench) -> Comparisons:
    """Invoice lines, once as SQLite stores them, and once as PostgreSQL gets them, which somebody has to convert."""
    rows = RowsOfOneTable(place=bench.place, count=bench.settings.rows)
    # A COMMIT is a file that reaches the disk, and its journal too.
    peers = (CORE, ORM_ADD_ALL, SAVEPOINT, replace(COMMIT, share=COMMIT.share / 5))
    stored = replace(rows, make_table=partial(lines_table, is_plain=True), make_rows=plain_lines)
    yield stored.comparison(PLAIN, (AS_THEY_ARE, *peers), EXECUTEMANY)
    converting = replace(AS_THEY_ARE, opened=partial(_executemany, convert=_converted))
    comparison = rows.comparison(CONVERTED, (converting, *peers), EXECUTEMANY)
    yield replace(comparison, runs=bench.settings.fewer_runs)


def plain_lines(count: int, bad_share: float = 0.0) -> Rows:
    """Invoice lines as SQLite stores them, some of them bad in ways that need neither a CHECK nor another table."""
    rows = lines(count, bad_share, (BadKind.UNIQUE, BadKind.NOT_NULL))
    return Rows(items=plain(rows.items), bad=rows.bad)


def _as_it_is(row: Row) -> tuple[Any, ...]:
    return tuple(row.values())


def _converted(row: Row) -> tuple[Any, ...]:
    # As one would by hand: the module takes neither type. The form is the one that SQLAlchemy reads.
    converted = row | {
        "unit_price": float(row["unit_price"]),
        "invoiced_at": row["invoiced_at"].strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    return tuple(converted.values())


@contextmanager
def _executemany(
    place: Place, table: Table, rows: Sequence[Row], *, convert: Callable[[Row], tuple[Any, ...]]
) -> Iterator[Write]:
    marks = ", ".join("?" for _ in table.columns)
    statement = f'INSERT INTO "{table.name}" VALUES ({marks})'  # noqa: S608 - a name of our own
    # By way of the engine, so that a database in memory is the same one, and foreign keys are enforced for both.
    with connected_engine(place.url) as engine:
        raw = engine.raw_connection()
        try:
            connection: Any = raw.driver_connection

            def write() -> None:
                with connection:
                    connection.executemany(statement, map(convert, rows))

            yield write
        finally:
            raw.close()


AS_THEY_ARE = Peer(name=EXECUTEMANY, opened=partial(_executemany, convert=_as_it_is))
"""For rows of `plain_lines`."""
