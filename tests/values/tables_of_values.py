"""What the tests of values share: types, tables and mapped classes."""

import enum
import itertools
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

from generated import contents
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    Enum,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    func,
    insert,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import INET, JSONB, TSTZRANGE
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    column_property,
    composite,
    mapped_column,
    relationship,
    synonym,
)

from batchwrite import BatchWriter, Stage

BAD = object()


"""Stands for an item that fails, so that the others take the way of the fallback."""


class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"


class Shouted(TypeDecorator):
    """Texts that are stored in capitals and read in small letters."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.upper()

    def process_result_value(self, value, dialect):
        return None if value is None else value.lower()


class Reversed(TypeDecorator):
    """Texts that the database itself turns round, by an SQL function around the parameter."""

    impl = String
    cache_ok = True

    def bind_expression(self, bindvalue):
        return func.replace(bindvalue, "a", "b")


def rows_by_sqlalchemy(engine, created, metadata, table, rows):
    with created(engine, metadata):
        with engine.begin() as connection:
            for row in rows:
                connection.execute(insert(table).values(row))
        return contents(engine, metadata)


def rows_by_batchwrite(engine, created, metadata, table, rows, *, method="insert", with_bad):
    """The rows as they land, on the bulk way or (with a bad item among them) on the way of the fallback."""

    def map_item(row, out):
        if row is BAD:
            out.update(table, {"id": 4711}, id=4712)
        else:
            getattr(out, method)(table, row)

    with created(engine, metadata):
        result = BatchWriter(engine).run([*rows, BAD] if with_bad else rows, map_item)
        assert (result.written, result.failed) == (len(rows), int(with_bad)), result.failures
        return contents(engine, metadata)


def table_of(*columns):
    metadata = MetaData()
    key = Column("id", Integer, primary_key=True, autoincrement=False)
    return metadata, Table("t", metadata, key, *columns)


def assert_same(engine, created, columns, rows, *, with_bad, method="insert"):
    metadata, table = table_of(*columns())
    numbered = [{"id": number, **row} for number, row in enumerate(rows)]
    expected = rows_by_sqlalchemy(engine, created, metadata, table, numbered)
    metadata, table = table_of(*columns())
    got = rows_by_batchwrite(engine, created, metadata, table, numbered, method=method, with_bad=with_bad)
    assert repr(got) == repr(expected)
    assert got == expected


VALUES = {
    "enum": (Enum(Colour, name="colour"), [Colour.RED, Colour.GREEN, None]),
    "enum-by-value": (Enum(Colour, name="c", values_callable=lambda kind: [c.value for c in kind]), [Colour.RED]),
    "json": (JSON, [{"a": [1, None, "ä"]}, [], "text", 1, True, None, {}, JSON.NULL]),
    "json-none-as-null": (JSON(none_as_null=True), [None, {"a": None}]),
    "uuid": (Uuid, [uuid.UUID(int=7), None]),
    "uuid-text": (Uuid(as_uuid=False), [str(uuid.UUID(int=7)), None]),
    "bytes": (LargeBinary, [b"", b"\x00\xff", bytearray(b"abc"), None]),
    "text": (Text, ["", "ä€\U0001f600", 'it\'s "quoted" %s :x \\ \n', None]),
    "decorated": (Shouted, ["abc", None]),
    "bind-expression": (Reversed, ["banana", "x"]),
    "integer": (BigInteger, [0, -(2**63), 2**63 - 1, None]),
    "boolean": (Boolean, [True, False, None]),
    "double": (Double, [0.1, -1e300, 5e-324, 3, None]),
    "date": (Date, [date(1, 1, 1), date(9999, 12, 31), None]),
    "time": (Time, [time(0, 0), time(23, 59, 59, 999999), None]),
    "moment": (DateTime, [datetime(2024, 2, 29, 12, 0, 0, 1), None]),  # noqa: DTZ001 - a column without a zone
    "interval": (Interval, [timedelta(days=3, microseconds=5), -timedelta(seconds=1), None]),
}


POSTGRESQL_VALUES = {
    "numeric": (Numeric(30, 10), [Decimal("12345678901234567890.0123456789"), Decimal("-0.0000000001"), 1, None]),
    "numeric-free": (Numeric, [Decimal("1e-20"), Decimal(123456789012345678901234567890)]),
    "moment-with-zone": (
        DateTime(timezone=True),
        [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))],
    ),
    "array": (ARRAY(Integer), [[1, 2], [], [None], None]),
    "array-of-arrays": (ARRAY(String, dimensions=2), [[["a", "b"]], [["{", '"'], ["\\", ","]]]),
    "jsonb": (JSONB, [{"a": 1}, None, []]),
    "inet": (INET, ["127.0.0.1", None]),
    "range": (TSTZRANGE, [None]),
}


NOT_FINITE = [float("nan"), float("inf"), -float("inf"), Decimal("NaN"), Decimal("Infinity"), Decimal("sNaN")]


def columns_with_defaults():
    numbers = itertools.count(1)
    return [
        Column("v", Integer),
        Column("constant", Integer, default=7),
        Column("counted", Integer, default=lambda: next(numbers)),
        Column("derived", Integer, default=lambda context: (context.get_current_parameters()["v"] or 0) * 2),
        Column("sql", Integer, default=text("1 + 1")),
        Column("scalar", Integer, default=select(func.length("abc")).scalar_subquery()),
        Column("server", String, server_default="from the server"),
        Column("computed", Integer, Computed("id + 100", persisted=True)),
    ]


def table_with_onupdate(**column):
    return table_of(
        Column("v", Integer),
        Column("touched", Integer, default=0, **column),
    )


ONUPDATE = {
    "constant": 9,
    "callable": lambda: 9,
    "context": lambda context: 9 if context is not None else None,
    "parameters": lambda context: 9 + 0 * len(context.get_current_parameters()),
    "sql": text("4 + 5"),
    "function": func.abs(-9),
}


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    full_name: Mapped[str] = mapped_column("name", String(20))
    colour: Mapped[Colour | None] = mapped_column(default=Colour.RED)
    note: Mapped[str | None] = mapped_column(server_default="none")
    label: Mapped[str] = column_property(literal_column("'x' || name"))
    alias = synonym("full_name")
    pets: Mapped[list["Pet"]] = relationship(back_populates="owner")


class Pet(Base):
    __tablename__ = "pet"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    owner: Mapped[Person | None] = relationship(back_populates="pets")


class Vehicle(Base):
    __tablename__ = "vehicle"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    wheels: Mapped[int] = mapped_column(default=4)


class Truck(Vehicle):
    __tablename__ = "truck"
    __mapper_args__ = {"polymorphic_identity": "truck"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("vehicle.id"), primary_key=True)
    load: Mapped[int] = mapped_column(default=10)


class Bicycle(Vehicle):
    __mapper_args__ = {"polymorphic_identity": "bicycle"}  # noqa: RUF012

    bell: Mapped[str | None]


@dataclass
class Point:
    x: int
    y: int


class Place(Base):
    __tablename__ = "place"

    id: Mapped[int] = mapped_column(primary_key=True)
    point: Mapped[Point] = composite(mapped_column("x"), mapped_column("y"))


class Versioned(Base):
    __tablename__ = "versioned"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(nullable=False)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Coin(DataBase):
    __tablename__ = "coin"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(default=5)


def add(item, out):
    out.add(item)


def added(engine, *instances):
    result = BatchWriter(engine).run(instances, add)
    assert (result.failures, result.abort) == ((), None)
    return result


def refused(engine, instance):
    """The failure of an instance that cannot be added."""
    result = BatchWriter(engine).run([instance], add)
    (failure,) = result.failures
    assert (failure.stage, failure.error_type) == (Stage.MAP, "ItemRefused")
    return failure


def rows_of(engine, name, metadata=Base.metadata):
    return contents(engine, metadata)[name]
