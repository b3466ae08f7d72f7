"""Increments of the stock, line by line: many of the same keys."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select

from batchwrite.bench import ours
from batchwrite.bench.peers import CORE, FEW, FULL, connected_engine
from batchwrite.bench.peers_postgresql import copy_rows, names, psycopg_connection
from batchwrite.bench.rows import increments
from batchwrite.bench.tables import NotWrittenError, make_anew, stock_table
from batchwrite.bench.task import Task
from batchwrite.bench.timing import Comparison

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Table

    from batchwrite.bench.place import Place
    from batchwrite.bench.rows import Row
    from batchwrite.bench.task import Bench
    from batchwrite.bench.timing import Comparisons, Write
    from batchwrite.collector import Collector

KEYS = (1, 1_000, 100_000)
SKEWED_KEYS = 10_000
EXECUTEMANY = "psycopg executemany UPDATE"
COPY = "psycopg COPY, then one UPDATE"


def name(keys: int) -> str:
    """What the comparison with so many keys is called."""
    return f"increments of {keys:,} key{'s' if keys > 1 else ''}"


def comparisons(bench: Bench) -> Comparisons:
    """As many increments as a workload has rows, of few keys and of many."""
    for keys in KEYS:
        yield comparison(bench, keys, name(keys), skewed=False)
    yield comparison(bench, SKEWED_KEYS, f"{name(SKEWED_KEYS)}, skewed", skewed=True)


def comparison(bench: Bench, keys: int, title: str, *, skewed: bool, copied: float = FULL) -> Comparison:
    """As many increments as a workload has rows, by everybody; `copied` is the share of them that COPY gets."""
    place = bench.place
    table = stock_table(place, place.metadata(), keys)
    deltas = increments(bench.settings.rows, keys, skewed=skewed)
    copying = increments(round(len(deltas) * copied), keys, skewed=skewed)
    few = deltas[: max(1, round(len(deltas) * FEW))]
    # Updates of one row in one transaction take longer each time: the row's versions pile up.
    many = few if keys == 1 else deltas
    every, some, executemany, copy = (_task(place, table, part) for part in (deltas, few, many, copying))

    def record(row: Row, out: Collector) -> None:
        out.increment(table, {"sku_id": row["sku_id"]}, on_hand=row["delta"])

    return Comparison(
        name=title,
        contenders=[
            *ours.contenders(every, deltas, lambda: record, len(deltas)),
            copy.contender(COPY, partial(_copy_and_update, place, table, copying)),
            executemany.contender(EXECUTEMANY, partial(_executemany, place, table, many)),
            executemany.contender(f"{CORE.name} UPDATE", partial(_core, place, table, many)),
            some.contender("SQLAlchemy, one commit an update", partial(_commits, place, table, few)),
        ],
        baseline=COPY,
        runs=bench.settings.fewer_runs,
    )


def _task(place: Place, table: Table, deltas: Sequence[Row]) -> Task:
    expected: Counter[int] = Counter()
    for row in deltas:
        expected[row["sku_id"]] += row["delta"]
    return Task(
        place=place,
        rows=len(deltas),
        fresh=partial(make_anew, place, table.metadata),
        check=partial(_check, place, table, expected),
    )


def _check(place: Place, table: Table, expected: Counter[int]) -> None:
    with place.engine.connect() as connection:
        moved = select(table.c.sku_id, table.c.on_hand).where(table.c.on_hand != 0)
        found = {key: on_hand for key, on_hand in connection.execute(moved)}  # noqa: C416 - rows are no pairs to mypy
    if found != expected:
        raise NotWrittenError(f"{len(found):,} keys moved by {sum(found.values()):,}, which is not what was asked for")


@contextmanager
def _copy_and_update(place: Place, table: Table, deltas: Sequence[Row]) -> Iterator[Write]:
    """What one would write by hand for speed."""
    stock = names(table)["table"]
    rows = [(row["sku_id"], row["delta"]) for row in deltas]
    with psycopg_connection(place) as connection:

        def write() -> None:
            with connection.transaction():
                connection.execute("CREATE TEMP TABLE deltas (sku_id bigint, delta bigint) ON COMMIT DROP")
                copy_rows(connection, "COPY deltas FROM STDIN", rows)
                connection.execute(
                    f"UPDATE {stock} stock SET on_hand = on_hand + delta "  # noqa: S608 - names of our own
                    "FROM (SELECT sku_id, sum(delta) AS delta FROM deltas GROUP BY sku_id) summed "
                    "WHERE stock.sku_id = summed.sku_id"
                )

        yield write


@contextmanager
def _executemany(place: Place, table: Table, deltas: Sequence[Row]) -> Iterator[Write]:
    statement = f"UPDATE {names(table)['table']} SET on_hand = on_hand + %s WHERE sku_id = %s"  # noqa: S608
    rows = [(row["delta"], row["sku_id"]) for row in deltas]
    with psycopg_connection(place) as connection:

        def write() -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(statement, rows)

        yield write


@contextmanager
def _core(place: Place, table: Table, deltas: Sequence[Row]) -> Iterator[Write]:
    rows = [{"key": row["sku_id"], "delta": row["delta"]} for row in deltas]
    statement = (
        table.update().where(table.c.sku_id == bindparam("key")).values(on_hand=table.c.on_hand + bindparam("delta"))
    )
    with connected_engine(place.url) as engine:

        def write() -> None:
            with engine.begin() as connection:
                connection.execute(statement, rows)

        yield write


@contextmanager
def _commits(place: Place, table: Table, deltas: Sequence[Row]) -> Iterator[Write]:
    with connected_engine(place.url) as engine:

        def write() -> None:
            with engine.connect() as connection:
                for row in deltas:
                    with connection.begin():
                        connection.execute(
                            table.update()
                            .where(table.c.sku_id == row["sku_id"])
                            .values(on_hand=table.c.on_hand + row["delta"])
                        )

        yield write
