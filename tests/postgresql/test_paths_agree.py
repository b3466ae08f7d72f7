"""On PostgreSQL a value lands, or fails, in one way: alone, in any chunk, by every path, as by SQLAlchemy's INSERT."""

import enum
import itertools
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import ip_address, ip_interface, ip_network

import numpy
import pandas
import pytest
from sqlalchemy import (
    DDL,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    PickleType,
    String,
    Table,
    Text,
    Time,
    Uuid,
    create_engine,
    insert,
    literal,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError

from batchwrite import BatchWriter


class Liar(datetime):
    """Another time in words than in numbers."""

    def isoformat(self, *_args, **_kwargs):
        return "2001-01-01T00:00:00"


class Number(int):
    """Another number in words."""

    def __repr__(self):
        return "9"


class Fraction(float):
    """Likewise."""

    def __repr__(self):
        return "9.5"


class Money(Decimal):
    """Likewise."""

    def __str__(self):
        return "9.25"


class Word(str):
    __slots__ = ()


class Raw(bytes):
    __slots__ = ()


class Size(enum.IntEnum):
    S = 5


class Colour(enum.StrEnum):
    RED = "red"


MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_901)  # noqa: DTZ001 - of a column without a zone
STAMP = pandas.Timestamp("2026-01-02 03:04:05.123456789")
MOMENTS = [MOMENT, STAMP, Liar(2026, 1, 2), numpy.datetime64("2026-01-02T03:04:05.123456789"), date(2026, 1, 2)]
ZONED = [moment.replace(tzinfo=UTC) for moment in (MOMENT, Liar(2026, 1, 2))] + [STAMP.tz_localize("UTC")]
INTEGERS = [5, True, Number(5), Size.S, numpy.int8(-5), numpy.int64(5), numpy.uint64(2**63), numpy.bool_(True), 2**70]
HALFWAY = float(((1 << 24) + 1) << 30)  # between two numbers of single precision; its shortest digits are above it
FRACTIONS = [0.1, HALFWAY, -0.0, 1e-60, 1e300, Fraction(1.5), Decimal("1.255"), Money("1.5")]
FRACTIONS += [numpy.float16(0.1), numpy.float32(0.1), numpy.float64(0.1)]
FLOATS = [*FRACTIONS, float("inf"), float("nan")]
SPANS = [
    *(timedelta(-1, 2, 3_456), timedelta(0, 0, -1), timedelta(0), timedelta.max, timedelta.min),
    *(timedelta(400, 86_399, 999_999), timedelta(microseconds=500), pandas.Timedelta("-1 day 2.123456789s")),
    numpy.timedelta64(5, "s"),
]
WORDS = ["x", "", Word("y"), Colour.RED, numpy.str_("z"), 'a"\\\t\n', "äöü", "too long for some"]
BYTES = [b"x", b"", bytearray(b"\\x00"), memoryview(b"ab"), Raw(b"y"), numpy.bytes_(b"z"), numpy.array([1]), b"\0'\\"]
ODD = [None, "x", 5, 1.5, b"x", MOMENT, timedelta(1), time(1, 2), uuid.UUID(int=5), [1], object()]

VALUES = {
    "integer": (Integer(), INTEGERS),
    "numeric": (Numeric(), [*FRACTIONS, *INTEGERS]),
    "numeric(10,2)": (Numeric(10, 2), [*FRACTIONS, *INTEGERS]),
    "double": (Float(), [*FLOATS, *INTEGERS]),
    "real": (Float(24), [*FLOATS, *INTEGERS]),
    "text": (Text(), [*WORDS, 5, Number(5)]),
    "varchar(5)": (String(5), WORDS),
    "citext": (postgresql.CITEXT(), WORDS),
    "enum": (Enum("x", "y", "red", name="letters"), WORDS),
    "timestamp": (DateTime(), [*MOMENTS, *ZONED]),
    "timestamptz": (DateTime(timezone=True), [*MOMENTS, *ZONED]),
    "date": (Date(), MOMENTS),
    "time": (Time(), [time(1, 2, 3, 456_789), time(1, 2, tzinfo=UTC)]),
    "timetz": (Time(timezone=True), [time(1, 2), time(1, 2, tzinfo=UTC), time(3, tzinfo=timezone(timedelta(0, 30)))]),
    "interval": (Interval(), SPANS),
    "interval(3)": (postgresql.INTERVAL(precision=3), SPANS),
    "interval day to minute": (postgresql.INTERVAL(fields="DAY TO MINUTE"), SPANS),
    "bytea": (LargeBinary(), BYTES),
    "pickled": (PickleType(), [{"a": 1}, "x", 5]),
    "uuid": (Uuid(), [uuid.UUID(int=5), str(uuid.UUID(int=6))]),
    "char(32)": (Uuid(native_uuid=False), [uuid.UUID(int=5)]),
    "jsonb": (postgresql.JSONB(), [{"a": [1, None]}, "x", 1.5]),
    "json in jsonb": (postgresql.JSON().with_variant(postgresql.JSON(), "postgresql"), [{"a": 1}, "x"]),
    "inet": (postgresql.INET(), ["10.0.0.1", "::1/64", ip_address("10.0.0.1"), ip_address("::1"), "x"]),
    "inet of networks": (postgresql.INET(), [ip_interface("10.0.0.1/8"), ip_network("10.0.0.0/8")]),
    "cidr": (postgresql.CIDR(), ["10.0.0.0/8", ip_network("10.0.0.0/8"), ip_network("fe80::/10"), "10.0.0.1/8"]),
    "macaddr": (postgresql.MACADDR(), ["08:00:2b:01:02:03", "x"]),
    "money": (postgresql.MONEY(), ["12.34", Decimal("12.34"), 5]),
    "domain over varchar(3)": (postgresql.DOMAIN("three", String(3)), ["abc", "abcd", "abc "]),
    "text in a domain over varchar(3)": (String(), ["abc", "abcd", "abc "]),
    "float in a domain over real": (Float(), FLOATS),
    "interval(6) in interval(0)": (postgresql.INTERVAL(precision=6), SPANS),
    "interval(0) in interval": (postgresql.INTERVAL(precision=0), SPANS),
    "array": (postgresql.ARRAY(Integer), [[1, 2], [None], []]),
    "range": (postgresql.INT4RANGE(), [postgresql.Range(1, 5), "x"]),
}
IN_THE_DATABASE = {
    "json in jsonb": "jsonb",
    "text in a domain over varchar(3)": "five",
    "float in a domain over real": "halves",
    "interval(6) in interval(0)": "interval(0)",
    "interval(0) in interval": "interval",
}
BEFORE = [
    "CREATE EXTENSION IF NOT EXISTS citext",
    "CREATE DOMAIN three_letters AS varchar(3)",
    "CREATE DOMAIN five AS three_letters",
    "CREATE DOMAIN halves AS real",
]


def table_of(name):
    kind, _ = VALUES[name]
    return Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("n", Integer, CheckConstraint("n < 100")),
        Column("v", kind),
    )


def stored(engine):
    """What has landed, in words; and nothing is left."""
    with engine.begin() as connection:
        found = dict(connection.exec_driver_sql("SELECT id, v::text FROM t WHERE id < 1000 ORDER BY id").all())
        connection.exec_driver_sql("TRUNCATE t")
    return found


def by_core(engine, table, rows):
    for row in rows:
        try:
            with engine.begin() as connection:
                connection.execute(insert(table), row)
        except (SQLAlchemyError, TypeError, ValueError, AttributeError, OverflowError):
            continue


# The neighbours that each row has in its chunk: as many as are said of one sort.
NULL, EXPRESSION, BAD = {"n": 1, "v": None}, {"n": literal(1), "v": None}, {"n": 500, "v": None}
PATHS = {
    "alone": [],
    "in arrays": [NULL] * 2,
    "by COPY": [NULL] * 119,
    "in the general way": [EXPRESSION],
    "in a fallback": [BAD],
    "in a fallback of the general way": [BAD, EXPRESSION],
}


@pytest.fixture(scope="module")
def engine(module_database):
    engine = create_engine(module_database)
    with engine.begin() as connection:
        for statement in BEFORE:
            connection.execute(DDL(statement))
    yield engine
    engine.dispose()


@pytest.fixture
def made(engine):
    """Makes the table for some values."""
    tables = []

    def make(name):
        table = table_of(name)
        tables.append(table)
        table.metadata.create_all(engine)
        if name in IN_THE_DATABASE:
            with engine.begin() as connection:
                kind = IN_THE_DATABASE[name]
                connection.exec_driver_sql(f"ALTER TABLE t ALTER v TYPE {kind} USING v::{kind}")
        return table

    yield make
    for table in tables:
        table.metadata.drop_all(engine)


def rows_of(name):
    _, values = VALUES[name]
    return [{"id": number, "n": 1, "v": value} for number, value in enumerate([*values, *ODD])]


def with_neighbours(rows, neighbours):
    numbers = itertools.count(1_000)
    for row in rows:
        yield from [row, *({"id": next(numbers), **each} for each in neighbours)]


def assert_paths_agree(engine, table, rows):
    by_core(engine, table, rows)
    expected = stored(engine)
    for path, neighbours in PATHS.items():
        writer = BatchWriter(engine, chunk_size=1 + len(neighbours))
        result = writer.run(with_neighbours(rows, neighbours), lambda row, out: out.insert(table, row))
        assert result.abort is None, path
        assert stored(engine) == expected, path
    assert BatchWriter(engine).run(rows, lambda row, out: out.insert(table, row)).abort is None
    assert stored(engine) == expected, "together"


@pytest.mark.drawn(5)
@pytest.mark.parametrize("name", VALUES)
def test_a_value_lands_in_one_way(engine, made, name):
    assert_paths_agree(engine, made(name), rows_of(name))


@pytest.mark.drawn(1)
@pytest.mark.parametrize("style", ["postgres", "sql_standard", "iso_8601", "postgres_verbose"])
@pytest.mark.parametrize("name", ["interval", "interval(3)", "interval day to minute"])
def test_time_spans_land_in_every_style(engine, made, name, style):
    table = made(name)
    styled = create_engine(engine.url, connect_args={"options": f"-c intervalstyle={style}"})
    try:
        assert_paths_agree(styled, table, rows_of(name))
    finally:
        styled.dispose()


def test_a_domain_that_must_have_a_value_is_asked_whichever_way(postgres_engine, monkeypatch):
    """COPY takes NULL for a column that is left out, and asks no domain."""
    monkeypatch.setattr("batchwrite.sinks.postgresql.bulk._FEWEST_FOR_COPY", 1)
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql("CREATE DOMAIN name_d AS varchar(4) NOT NULL")
        connection.exec_driver_sql("CREATE TABLE named (id integer PRIMARY KEY, name name_d)")
    table = Table("named", MetaData(), Column("id", Integer, primary_key=True), Column("name", String))
    rows = [{"id": 1, "name": "a"}, {"id": 2}, {"id": 3, "name": "c"}]
    result = BatchWriter(postgres_engine).run(rows, lambda row, out: out.insert(table, row))
    assert (result.written, [failure.sqlstate for failure in result.failures]) == (2, ["23502"])
