"""The workloads: what is written, and by whom."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session, registry, relationship

from batchwrite.bench import growth, ours, retail, sqlite, updates
from batchwrite.bench.peers import COMMIT, CORE, SAVEPOINT, connected_engine
from batchwrite.bench.peers_postgresql import (
    ASYNCPG_COPY,
    COPY,
    COPY_CHUNKS,
    EVERY_PEER,
    copy_rows,
    copy_statement,
    psycopg_connection,
)
from batchwrite.bench.proxy import DelayProxy
from batchwrite.bench.rows import LINES_PER_ORDER, Rows, lines, orders, wide
from batchwrite.bench.table_task import RowsOfOneTable
from batchwrite.bench.tables import lines_table, order_tables, wide_table
from batchwrite.bench.task import Bench, Task
from batchwrite.bench.timing import Comparison

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Table

    from batchwrite.bench.place import Place
    from batchwrite.bench.rows import Order
    from batchwrite.bench.timing import Comparisons, Write
    from batchwrite.collector import Collector

CLEAN = "clean rows"
COLLECT = "map, collect and result, without a database"
ROUND_TRIPS = "round trips"
CHUNK_FAR_AWAY = "one chunk of 500 rows, 50 of them bad, 10 ms one way"
BAD_SHARES = (0.001, 0.01, 0.1, 0.5)
DELAYS = (0.0, 0.001, 0.01)
# With 10 ms one way, a savepoint a row takes 60 ms for each row.
_FEW_FAR_AWAY, _FEW_FAR_AWAY_QUICK = 100, 20
_MOST_ROWS_FAR_AWAY = 50_000
_CHUNK_ROWS, _CHUNK_BAD = 500, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Comparisons that belong together.

    Attributes:
        name: What it is called on the command line.
        title: What it is.
        comparisons: Makes them, one after the other; each is measured before the next is asked for.
        on_sqlite: Whether it is about SQLite.
        on_postgresql: Whether it is about PostgreSQL.
    """

    name: str
    title: str
    comparisons: Callable[[Bench], Comparisons]
    on_sqlite: bool = False
    on_postgresql: bool = True


def bad_rows_name(share: float) -> str:
    """What the comparison with a share of bad rows is called."""
    return f"{share:.1%} bad rows".replace(".0%", "%")


def latency_name(delay: float) -> str:
    """What the comparison with a delay, in seconds one way, is called."""
    return f"clean rows, {delay * 1_000:.0f} ms one way"


def clean_rows(bench: Bench) -> Comparisons:
    """Good invoice lines."""
    yield RowsOfOneTable(place=bench.place, count=bench.settings.rows).comparison(CLEAN, EVERY_PEER)


def bad_rows(bench: Bench) -> Comparisons:
    """Invoice lines of which some must be refused; what is compared are the rows that land."""
    for share in BAD_SHARES:
        rows = RowsOfOneTable(
            place=bench.place,
            count=bench.settings.rows,
            make_table=partial(lines_table, is_checked=True),
            make_rows=partial(lines, bad_share=share),
        )
        comparison = rows.comparison(bad_rows_name(share), (COPY, SAVEPOINT, COMMIT))
        yield comparison if share == 0.01 else replace(comparison, runs=bench.settings.fewer_runs)


def wide_rows(bench: Bench) -> Comparisons:
    """Rows of 61 columns."""
    rows = RowsOfOneTable(
        place=bench.place,
        make_table=wide_table,
        make_rows=lambda count: Rows(items=wide(count), bad={}),
        count=max(2, bench.settings.rows // 10),
    )
    comparison = rows.comparison("wide rows", (COPY, COPY_CHUNKS, ASYNCPG_COPY, CORE))
    yield replace(comparison, runs=bench.settings.fewer_runs)


def latency(bench: Bench) -> Comparisons:
    """Invoice lines to a database that is far away."""
    count = min(bench.settings.rows, _MOST_ROWS_FAR_AWAY)
    savepoints = _FEW_FAR_AWAY_QUICK if bench.settings.quick else _FEW_FAR_AWAY
    for delay in DELAYS:
        with DelayProxy(bench.place.server, delay) as proxy:
            far = bench.place.through(proxy.port)
            rows = RowsOfOneTable(place=far, count=count, counters=_counting(proxy))
            few = replace(SAVEPOINT, share=min(1.0, savepoints / count))
            peers = (COPY, COPY_CHUNKS, ASYNCPG_COPY, CORE, few)
            yield replace(rows.comparison(latency_name(delay), peers), runs=bench.settings.fewer_runs)
    with DelayProxy(bench.place.server, DELAYS[-1]) as proxy:
        chunk = RowsOfOneTable(
            place=bench.place.through(proxy.port),
            make_table=partial(lines_table, is_checked=True),
            make_rows=partial(lines, bad_share=_CHUNK_BAD),
            count=_CHUNK_ROWS,
            counters=_counting(proxy),
        )
        few = replace(SAVEPOINT, share=0.1 if bench.settings.quick else 1.0)
        yield replace(chunk.comparison(CHUNK_FAR_AWAY, (few,), baseline=None), runs=bench.settings.fewer_runs)


def _counting(proxy: DelayProxy) -> Mapping[str, Callable[[], int]]:
    return {ROUND_TRIPS: lambda: proxy.round_trips}


def collect(bench: Bench) -> Comparisons:
    """What map, collector and result cost by themselves: inserts of nine columns, and a sink that takes all."""
    table = lines_table(bench.place, bench.place.metadata())
    items = lines(bench.settings.rows).items
    task = Task(place=bench.place, rows=len(items), fresh=lambda: None, check=lambda: None)

    @contextmanager
    def opened() -> Iterator[Write]:
        writer = ours.AcceptingWriter()
        yield lambda: ours.run(writer, items, lambda item, out: out.insert(table, item), len(items))

    yield Comparison(name=COLLECT, contenders=[task.contender(ours.NAME, opened)])


def orders_with_lines(bench: Bench) -> Comparisons:
    """Orders of five lines, two tables; what is compared are rows, six an order."""
    place = bench.place
    metadata = place.metadata()
    tables = order_tables(place, metadata)

    def task(count: int) -> tuple[Task, list[Order]]:
        made = orders(count)
        landing = {
            tables[0]: [order.header for order in made],
            tables[1]: [row for order in made for row in order.lines],
        }
        return Task.of(place, metadata, landing), made

    count = max(2, bench.settings.rows // (LINES_PER_ORDER + 1))
    (every, made), (some, few) = task(count), task(max(2, count // 10))

    def record(order: Order, out: Collector) -> None:
        out.insert(tables[0], order.header)
        for row in order.lines:
            out.insert(tables[1], row)

    contenders = ours.contenders(every, made, lambda: record, len(made))
    contenders += [
        every.contender(COPY.name, partial(_copy_orders, place, tables, made)),
        every.contender(CORE.name, partial(_core_orders, place, tables, made)),
        some.contender("SQLAlchemy ORM add_all", partial(_orm_orders, place, tables, few)),
        some.contender("SQLAlchemy, one commit an order", partial(_commit_orders, place, tables, few)),
    ]
    yield Comparison(
        name="orders with lines", contenders=contenders, baseline=COPY.name, runs=bench.settings.fewer_runs
    )


@contextmanager
def _copy_orders(place: Place, tables: Sequence[Table], made: Sequence[Order]) -> Iterator[Write]:
    statements = [copy_statement(table) for table in tables]
    with psycopg_connection(place) as connection:

        def write() -> None:
            with connection.transaction():
                copy_rows(connection, statements[0], [tuple(order.header.values()) for order in made])
                copy_rows(connection, statements[1], [tuple(row.values()) for order in made for row in order.lines])

        yield write


@contextmanager
def _core_orders(place: Place, tables: Sequence[Table], made: Sequence[Order]) -> Iterator[Write]:
    with connected_engine(place.url) as engine:

        def write() -> None:
            with engine.begin() as connection:
                connection.execute(tables[0].insert(), [order.header for order in made])
                connection.execute(tables[1].insert(), [row for order in made for row in order.lines])

        yield write


@contextmanager
def _commit_orders(place: Place, tables: Sequence[Table], made: Sequence[Order]) -> Iterator[Write]:
    with connected_engine(place.url) as engine:

        def write() -> None:
            with engine.connect() as connection:
                for order in made:
                    with connection.begin():
                        connection.execute(tables[0].insert(), order.header)
                        connection.execute(tables[1].insert(), order.lines)

        yield write


@contextmanager
def _orm_orders(place: Place, tables: Sequence[Table], made: Sequence[Order]) -> Iterator[Write]:
    mapper_registry = registry(metadata=tables[0].metadata)
    header: Any = type("Header", (), {})
    line: Any = type("Line", (), {})
    mapper_registry.map_imperatively(line, tables[1])
    mapper_registry.map_imperatively(header, tables[0], properties={"lines": relationship(line)})
    try:
        with connected_engine(place.url) as engine:

            def write() -> None:
                with Session(engine) as session:
                    session.add_all(
                        [header(**order.header, lines=[line(**row) for row in order.lines]) for order in made]
                    )
                    session.commit()

            yield write
    finally:
        mapper_registry.dispose()


WORKLOADS = (
    Workload(name="clean", title="clean rows of nine columns, every peer", comparisons=clean_rows),
    Workload(name="bad", title="0.1 %, 1 %, 10 % and 50 % bad rows of five kinds", comparisons=bad_rows),
    Workload(name="updates", title="aggregated updates of 1 to 100,000 keys", comparisons=updates.comparisons),
    Workload(name="retail", title="the Online Retail file into four tables", comparisons=retail.comparisons),
    Workload(name="orders", title="orders with their lines", comparisons=orders_with_lines),
    Workload(name="wide", title="rows of 61 columns", comparisons=wide_rows),
    Workload(name="latency", title="a database 0, 1 and 10 ms away, one way", comparisons=latency),
    Workload(name="growth", title="1,000 to 10 million rows: time and peak memory", comparisons=growth.comparisons),
    Workload(name="collect", title="map, collect and result by themselves", comparisons=collect, on_sqlite=True),
    Workload(
        name="sqlite",
        title="SQLite beside sqlite3.executemany",
        comparisons=sqlite.comparisons,
        on_sqlite=True,
        on_postgresql=False,
    ),
)
