"""The tables that are written to, made anew for each timed run; and the proof that rows have landed in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    UniqueConstraint,
    func,
    literal,
    select,
)

from batchwrite.bench.rows import CUSTOMERS, WIDE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batchwrite.bench.place import Place
    from batchwrite.bench.rows import Row


class NotWrittenError(Exception):
    """A contender has not written what it was given; the text says where the database differs."""


def lines_table(place: Place, metadata: MetaData, *, is_checked: bool = False, is_plain: bool = False) -> Table:
    """Invoice lines of nine columns: a primary key, and one unique constraint.

    Args:
        place: Where.
        metadata: What it belongs to.
        is_checked: Whether there are a CHECK and a foreign key too, to `customers_table`.
        is_plain: Whether prices and times are of types that SQLite stores as they come: see `rows.plain`.
    """
    checks: list[Any] = [CheckConstraint("quantity > 0", name="some_quantity")] if is_checked else []
    customer = [ForeignKey(customers_table(place, metadata).c.id)] if is_checked else []
    return Table(
        place.name("invoice_lines"),
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("invoice", String, nullable=False),
        Column("line", Integer, nullable=False),
        Column("sku", String, nullable=False),
        Column("description", String, nullable=False),
        Column("quantity", Integer, nullable=False),
        Column("unit_price", Integer if is_plain else Numeric(12, 2), nullable=False),
        Column("customer_id", Integer, *customer, nullable=False),
        Column("invoiced_at", String if is_plain else DateTime(timezone=True), nullable=False),
        UniqueConstraint("invoice", "line", name="line_only_once"),
        *checks,
    )


def customers_table(place: Place, metadata: MetaData) -> Table:
    """What a foreign key can point at; on PostgreSQL only, as is `stock_table`."""
    return Table(
        place.name("customers"),
        metadata,
        Column("id", Integer, primary_key=True),
        info={"seed": select(_numbers(CUSTOMERS))},
    )


def _numbers(count: int) -> Any:
    return func.generate_series(1, count)


def wide_table(place: Place, metadata: MetaData) -> Table:
    """The table of `rows.wide`."""
    numbered = range(WIDE_COLUMNS)
    return Table(
        place.name("wide"),
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        *(Column(f"number_{column}", Integer, nullable=False) for column in numbered),
        *(Column(f"amount_{column}", Numeric(12, 2), nullable=False) for column in numbered),
        *(Column(f"text_{column}", String, nullable=False) for column in numbered),
    )


def order_tables(place: Place, metadata: MetaData) -> tuple[Table, Table]:
    """Orders, and their lines."""
    headers = Table(
        place.name("orders"),
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("customer_id", Integer, nullable=False),
        Column("ordered_at", DateTime(timezone=True), nullable=False),
    )
    order_lines = Table(
        place.name("order_lines"),
        metadata,
        Column("order_id", ForeignKey(headers.c.id), primary_key=True),
        Column("line", Integer, primary_key=True, autoincrement=False),
        Column("sku", String, nullable=False),
        Column("quantity", Integer, nullable=False),
        Column("unit_price", Numeric(12, 2), nullable=False),
    )
    return headers, order_lines


def stock_table(place: Place, metadata: MetaData, keys: int) -> Table:
    """A row for each key, with nothing on hand."""
    return Table(
        place.name("stock"),
        metadata,
        Column("sku_id", BigInteger, primary_key=True, autoincrement=False),
        Column("on_hand", BigInteger, nullable=False),
        info={"seed": select(_numbers(keys), literal(0))},
    )


def make_anew(place: Place, metadata: MetaData) -> None:
    """Drop the tables and make them, with the rows that belong to them from the beginning."""
    with place.engine.begin() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
        for table in metadata.sorted_tables:
            if "seed" in table.info:
                connection.execute(table.insert().from_select(table.columns.keys(), table.info["seed"]))


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells whether the rows of a table are the right ones, without comparing them one by one.

    Attributes:
        values: The number of rows, and for each column the sum of its numbers, the length of all its texts, or its
            first and last time.
    """

    values: Mapping[str, object]

    @classmethod
    def of_rows(cls, table: Table, rows: Sequence[Row]) -> Fingerprint:
        """Of the rows that are to be there."""
        values: dict[str, object] = {"rows": len(rows)}
        for column in table.columns:
            values[column.name] = _summary(column, [row[column.name] for row in rows])
        return cls(values)

    @classmethod
    def of_table(cls, place: Place, table: Table) -> Fingerprint:
        """Of what the database holds."""
        asked = {column.name: _asked(column) for column in table.columns}
        query = select(func.count(), *(expression for each in asked.values() for expression in each))
        with place.engine.connect() as connection:
            count, *found = connection.execute(query.select_from(table)).one()
        values: dict[str, object] = {"rows": count}
        for name, expressions in asked.items():
            values[name] = tuple(map(_comparable, found[: len(expressions)]))
            del found[: len(expressions)]
        return cls(values)


def check(place: Place, expected: Mapping[Table, Fingerprint]) -> None:
    """Require that tables hold what they should.

    Raises:
        NotWrittenError: One does not.
    """
    for table, fingerprint in expected.items():
        found = Fingerprint.of_table(place, table)
        for name, value in fingerprint.values.items():
            if found.values[name] != value:
                raise NotWrittenError(f"{table.name}.{name}: {found.values[name]} where {value} should be")


def _asked(column: Column[Any]) -> tuple[Any, ...]:
    if isinstance(column.type, String):
        return (func.sum(func.length(column)),)
    if isinstance(column.type, DateTime):
        return func.min(column), func.max(column)
    return (func.sum(column),)


def _summary(column: Column[Any], values: Iterable[Any]) -> tuple[object, ...]:
    present = [value for value in values if value is not None]
    if not present:
        return (None, None) if isinstance(column.type, DateTime) else (None,)
    if isinstance(column.type, String):
        return (_comparable(sum(map(len, present))),)
    if isinstance(column.type, DateTime):
        return _comparable(min(present)), _comparable(max(present))
    return (_comparable(sum(present)),)


def _comparable(value: object) -> object:
    """The same for what is the same: drivers differ in time zones, and SQLite adds decimals up in floats."""
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).replace(tzinfo=None)
    if isinstance(value, (int, float, Decimal)):
        return round(Decimal(str(value)), 2)
    return value
