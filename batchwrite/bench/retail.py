"""The Online Retail file into four tables, through the map function of the demo."""

from __future__ import annotations

import io
import lzma
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, DateTime, Integer, Numeric, String, Table, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from batchwrite.bench import ours
from batchwrite.bench.peers import FEW, connected_engine
from batchwrite.bench.peers_postgresql import COPY
from batchwrite.bench.rows import Rows
from batchwrite.bench.tables import NotWrittenError, make_anew
from batchwrite.bench.task import Task
from batchwrite.bench.timing import Comparison
from batchwrite.demo.retail import Line, LineMapper, RetailTables, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection, MetaData

    from batchwrite.bench.place import Place
    from batchwrite.bench.rows import Row
    from batchwrite.bench.task import Bench
    from batchwrite.bench.timing import Comparisons, Write

ALL_LINES = 541_909
"""Lines of the whole file."""

LANDING = 536_639
"""Lines of it that land."""

NAME = "Online Retail lines into four tables"
_SAMPLE = "online_retail_sample.csv.xz"


def comparisons(bench: Bench) -> Comparisons:
    """Ours, one savepoint a line, and COPY of the same lines into a single table: what is compared are lines."""
    place, settings = bench.place, bench.settings
    # A quick bench reads the beginning of the file.
    made = read(settings.retail_file, settings.rows // 2 if settings.quick else ALL_LINES)
    few = made[: max(1, round(len(made) * FEW / 2))]
    tables = RetailTables.define(place.metadata())
    every, some = (_task(place, tables, some_lines) for some_lines in (made, few))
    mine = ours.contenders(every, made, lambda: LineMapper(tables), every.rows)
    metadata = place.metadata()
    single = _single_table(place, metadata)
    typed = [_typed(number, line) for number, line in enumerate(made, start=1)]
    copied = COPY.contender(Task.of(place, metadata, {single: typed}), single, Rows(items=typed, bad={}))
    by_savepoints = some.contender("SQLAlchemy, one savepoint a line", partial(_savepoints, place, tables, few))
    yield Comparison(
        name=NAME,
        contenders=[*mine, copied, by_savepoints],
        baseline=COPY.name,
        runs=settings.fewer_runs,
    )


def read(path: Path | None, most: int) -> list[Line]:
    """The lines of the file, or of the sample in the package.

    Raises:
        OSError: There is no such file.
    """
    source = files("batchwrite.demo").joinpath(_SAMPLE) if path is None else path
    with source.open("rb") as raw:
        is_packed = source.name.endswith(".xz")
        with (
            lzma.open(raw) if is_packed else raw as unpacked,
            io.TextIOWrapper(unpacked, encoding="utf-8", newline="") as stream,
        ):
            return list(islice(read_lines(stream), most))


def _task(place: Place, tables: RetailTables, made: Sequence[Line]) -> Task:
    landing = landing_lines(made)
    expected = {
        "invoice_lines": len(landing),
        "invoices": len({line.invoice_no for line in landing}),
        "products": len({line.stock_code.upper() for line in landing}),
        "on_hand": -sum(int(line.quantity) for line in landing),
    }
    return Task(
        place=place,
        rows=len(landing),
        fresh=partial(make_anew, place, tables.stock.metadata),
        check=partial(_check, place, tables, expected),
    )


def landing_lines(made: Sequence[Line]) -> list[Line]:
    """The lines that must land: the first of several that are the same, and no price below zero."""
    first: dict[tuple[object, ...], Line] = {}
    for line in made:
        price = Decimal(line.unit_price)
        if price >= 0:
            first.setdefault((*line[:5], price), line)
    return list(first.values())


def _check(place: Place, tables: RetailTables, expected: Mapping[str, int]) -> None:
    with place.engine.connect() as connection:
        found = {
            name: connection.scalar(select(func.count()).select_from(getattr(tables, name)))
            for name in ("invoice_lines", "invoices", "products")
        }
        found["on_hand"] = connection.scalar(select(func.sum(tables.stock.c.on_hand)))
    if found != expected:
        raise NotWrittenError(f"the database holds {found} where {expected} should be")


def _single_table(place: Place, metadata: MetaData) -> Table:
    return Table(
        place.name("retail_lines"),
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("invoice_no", String(10), nullable=False),
        Column("stock_code", String(20), nullable=False),
        Column("description", String(60), nullable=False),
        Column("quantity", Integer, nullable=False),
        Column("invoiced_at", DateTime, nullable=False),
        Column("unit_price", Numeric, nullable=False),
        Column("customer_id", Integer),
        Column("country", String(40), nullable=False),
    )


def _typed(number: int, line: Line) -> Row:
    return {
        "id": number,
        "invoice_no": line.invoice_no,
        "stock_code": line.stock_code,
        "description": line.description,
        "quantity": int(line.quantity),
        "invoiced_at": datetime.fromisoformat(line.invoiced_at),
        "unit_price": Decimal(line.unit_price),
        "customer_id": int(float(line.customer_id)) if line.customer_id else None,
        "country": line.country,
    }


class _AtOnce:
    """What a map function can be given in place of a collector: writes as it is told."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, table: Table, row: Row) -> None:
        self._connection.execute(table.insert(), row)

    def upsert(self, table: Table, row: Row, *, set: Sequence[str]) -> None:  # noqa: A002 - the collector's word
        statement = insert(table)
        key = list(table.primary_key.columns)
        changed = {name: statement.excluded[name] for name in set}
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=key, set_=changed)
            if changed
            else statement.on_conflict_do_nothing(index_elements=key),
            row,
        )

    def increment(self, table: Table, key: Row, **deltas: int) -> None:
        values = {name: table.c[name] + delta for name, delta in deltas.items()}
        self._connection.execute(table.update().filter_by(**key).values(values))


@contextmanager
def _savepoints(place: Place, tables: RetailTables, made: Sequence[Line]) -> Iterator[Write]:
    with connected_engine(place.url) as engine:

        def write() -> None:
            map_line: Any = LineMapper(tables)
            with engine.begin() as connection:
                for line in made:
                    try:
                        with connection.begin_nested():
                            map_line(line, _AtOnce(connection))
                    except IntegrityError:
                        continue

        yield write
