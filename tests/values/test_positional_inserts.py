"""Plain inserts by the driver's executemany: rows as SQLAlchemy writes them, and by SQLAlchemy where it must."""

import functools
import itertools
import logging
import pickle
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from databases import LIKE_A_PARAMETER, TAKES_NAMES_LIKE_PARAMETERS
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    PickleType,
    String,
    Time,
    Uuid,
    create_engine,
    event,
    func,
    insert,
    literal,
    text,
)
from sqlalchemy.dialects.mssql import pyodbc
from sqlalchemy.dialects.oracle import oracledb
from sqlalchemy.dialects.postgresql import asyncpg, psycopg
from sqlalchemy.types import TypeDecorator
from tables_of_values import Colour, Reversed, Shouted, table_of

from batchwrite import BatchWriter, Stage
from batchwrite.sinks.positional import PositionalInserts, takes_tuples


class Doubled(TypeDecorator):
    """Numbers that are stored twice as large, by a type around another type with a processor of its own."""

    impl = Numeric(10, 2)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value * 2


VALUES = {
    "decorated": (Shouted, ["abc", None]),
    "decorated-number": (Doubled, [Decimal("1.25"), None]),
    "sql-around": (Reversed, ["banana", None]),
    "enum": (Enum(Colour), [Colour.RED, "GREEN", None]),
    "json": (JSON, [{"a": [1, None]}, "text", None, JSON.NULL]),
    "json-null": (JSON(none_as_null=True), [None, {"a": None}]),
    "boolean": (Boolean, [True, False, 1, None]),
    "interval": (Interval, [timedelta(days=-3, microseconds=5), None]),
    "bytes": (LargeBinary, [b"\x00\xff", bytearray(b"abc"), memoryview(b"x"), None]),
    "date": (Date, [date(1, 1, 1), None]),
    "time": (Time, [time(23, 59, 59, 999999), None]),
    "moment": (DateTime, [datetime(2024, 2, 29, 12, 0, 0, 1), datetime(2024, 1, 1, tzinfo=UTC), None]),  # noqa: DTZ001
    "numeric": (Numeric(12, 2), [Decimal("1.10"), 3, 2.5, Decimal("1e400"), None]),
    "numeric-read-as-float": (Numeric(12, 2, asdecimal=False), [Decimal("1.10"), 3, 2.5, None]),
    "float": (Float, [0.1, 0.0, float("inf"), 3, None]),
    "pickle": (PickleType(pickler=pickle), [{"a", "b"}, None]),
    "uuid": (Uuid, [uuid.UUID(int=7), None]),
    "uuid-text": (Uuid(as_uuid=False), [str(uuid.UUID(int=7)), None]),
    "text": (String, ["%s ? :x %%", "\x00", "ä€", 5, None]),
}


@pytest.fixture
def positional(monkeypatch):
    """Whether each block of rows that was inserted took the fast way."""
    taken = []
    insert_block = PositionalInserts.insert

    def insert_and_note(self, connection, block):
        taken.append(insert_block(self, connection, block))
        return taken[-1]

    monkeypatch.setattr(PositionalInserts, "insert", insert_and_note)
    return taken


def stored(engine, table):
    """What is in the file, whatever the columns' types make of it."""
    with engine.connect() as connection:
        quoted = [connection.dialect.identifier_preparer.quote(column.name) for column in table.columns]
        columns = ", ".join(f"{name}, typeof({name})" for name in quoted)
        return connection.exec_driver_sql(f"SELECT {columns} FROM t ORDER BY id").all()


def by_both(tmp_path, columns, rows, positional, *, is_fast):
    """Write rows by SQLAlchemy's own executemany and by ours, and compare."""
    found = []
    for name in ("sqlalchemy", "batchwrite"):
        engine = create_engine(f"sqlite:///{tmp_path / name}.db")
        metadata, table = table_of(*columns())
        metadata.create_all(engine)
        numbered = [{"id": number, **row} for number, row in enumerate(rows)]
        if name == "sqlalchemy":
            with engine.begin() as connection:
                connection.execute(insert(table), numbered)
        else:
            result = BatchWriter(engine).run(numbered, lambda row, out, table=table: out.insert(table, row))
            assert (result.written, result.failures) == (len(rows), ())
        found.append(stored(engine, table))
        engine.dispose()
    assert found[0] == found[1]
    assert positional == [is_fast]


@pytest.mark.parametrize(("kind", "values"), VALUES.values(), ids=VALUES)
def test_a_value_is_stored_as_sqlalchemy_stores_it(tmp_path, positional, kind, values):
    rows = [{"v": value} for value in (*values, values[0])]
    by_both(tmp_path, lambda: [Column("v", kind)], rows, positional, is_fast=True)


def counting():
    numbers = itertools.count(1)
    return lambda: next(numbers)


ODD_NAME = f"a b:c{LIKE_A_PARAMETER if TAKES_NAMES_LIKE_PARAMETERS else '%d'}"

DEFAULTS = {
    "none": lambda: [Column("w", Integer, default=None)],
    "constant": lambda: [Column("w", Shouted, default="abc")],
    "constant-json": lambda: [Column("w", JSON, default={"a": 1})],
    "function": lambda: [Column("w", Integer, default=counting())],
    "shared-counter": lambda: [Column(name, Integer, default=each) for each in [counting()] for name in "wx"],
    "class": lambda: [Column("w", JSON, default=dict)],
    "partial": lambda: [Column("w", Integer, default=functools.partial(int, "7"))],
    "server": lambda: [Column("w", String, server_default="from the server")],
    "sql": lambda: [Column("w", Integer, default=text("1 + 1"))],
    "sql-function": lambda: [Column("w", Integer, default=func.length("abc"))],
    "sql-with-parameter": lambda: [Column("w", Shouted, default=literal("abc", Shouted) + "x")],
    "computed": lambda: [Column("w", Integer, Computed("id + 100", persisted=True))],
    "odd-names": lambda: [Column(ODD_NAME, Integer, default=1), Column('q"?', String, default="?")],
    "other-key": lambda: [Column("stored_as", String, key="w", default="x")],
}


@pytest.mark.parametrize("columns", DEFAULTS.values(), ids=DEFAULTS)
def test_a_column_left_out_gets_what_sqlalchemy_gives_it(tmp_path, positional, columns):
    by_both(tmp_path, lambda: [Column("v", Integer), *columns()], [{"v": 1}, {"v": 2}], positional, is_fast=True)


@functools.wraps(dict)
def looks_as_if_it_took_nothing(context):
    return context.get_current_parameters()["v"] + 1


@pytest.mark.parametrize(
    "function",
    [
        lambda context: context.get_current_parameters()["v"] * 2,
        lambda context: context.connection.dialect.name,
        looks_as_if_it_took_nothing,
    ],
    ids=["parameters", "connection", "disguised"],
)
def test_a_default_that_asks_for_its_statement_is_left_to_sqlalchemy(tmp_path, positional, caplog, function):
    def columns():
        return [Column("v", Integer), Column("w", String, default=function)]

    with caplog.at_level(logging.WARNING, "batchwrite"):
        by_both(tmp_path, columns, [{"v": 1}, {"v": 2}], positional, is_fast=False)
    (record,) = caplog.records
    assert (record.action, record.table) == ("slow_path", "t")


def test_columns_in_another_order_and_under_other_names(tmp_path, positional):
    def columns():
        return [Column("a", Integer), Column("select", String, key="b"), Column("c", DateTime)]

    moment = datetime(2024, 1, 1)  # noqa: DTZ001 - a column without a zone
    rows = [{"c": moment, "b": "x", "a": 1}, {"c": None, "b": "y", "a": 2}]
    by_both(tmp_path, columns, rows, positional, is_fast=True)


@pytest.mark.parametrize(
    "name", ["before_execute", "after_execute", "before_cursor_execute", "after_cursor_execute", "do_executemany"]
)
def test_who_listens_to_statements_hears_of_sqlalchemys_own(sqlite_engine, created, positional, name):
    heard = []

    def listen(*arguments, **_named):
        heard.append(arguments)

    metadata, table = table_of(Column("v", Integer))
    with created(sqlite_engine, metadata):
        event.listen(sqlite_engine, name, listen)
        result = BatchWriter(sqlite_engine).run([1, 2], lambda number, out: out.insert(table, {"id": number}))
    assert result.written == 2
    assert positional == [False]
    assert heard


def test_a_schema_that_is_translated_is_translated(sqlite_engine, positional):
    metadata, table = table_of(Column("v", Integer))
    table.schema = "elsewhere"
    engine = sqlite_engine.execution_options(schema_translate_map={"elsewhere": None})
    metadata.create_all(engine)
    result = BatchWriter(engine).run([1, 2], lambda number, out: out.insert(table, {"id": number, "v": 5}))
    assert (result.written, positional) == (2, [False])
    assert stored(sqlite_engine, table) == [(1, "integer", 5, "integer"), (2, "integer", 5, "integer")]


def test_sql_expressions_among_values_are_no_parameters(sqlite_engine, created, positional):
    metadata, table = table_of(Column("v", Integer))
    with created(sqlite_engine, metadata):
        rows = [{"id": 1, "v": 5}, {"id": 2, "v": func.abs(-7)}]
        result = BatchWriter(sqlite_engine).run(rows, lambda row, out: out.insert(table, row))
        found = stored(sqlite_engine, table)
    assert (result.written, positional) == (2, [])
    assert [row[2] for row in found] == [5, 7]


@pytest.mark.parametrize(
    ("kind", "bad", "error"),
    [
        (DateTime, "tomorrow", "StatementError"),
        (Enum(Colour, validate_strings=True), "BLUE", "StatementError"),
        (JSON, object(), "StatementError"),
        (Integer, 2**63, "OverflowError"),
        (String, object(), None),
    ],
    ids=["moment", "enum", "json", "too-large", "no-text"],
)
def test_an_item_with_a_value_that_cannot_be_bound_fails_as_by_sqlalchemy(
    sqlite_engine, created, monkeypatch, kind, bad, error
):
    metadata, table = table_of(Column("v", kind))
    rows = [{"id": 1, "v": None}, {"id": 2, "v": bad}, {"id": 3, "v": None}]
    found = []
    for is_fast in (True, False):
        if not is_fast:
            monkeypatch.setattr(PositionalInserts, "insert", lambda *_: False)
        with created(sqlite_engine, metadata):
            result = BatchWriter(sqlite_engine).run(rows, lambda row, out: out.insert(table, row))
            assert [row[0] for row in stored(sqlite_engine, table)] == [1, 3]
        (failure,) = result.failures
        found.append(failure)
    assert found[0] == found[1]
    assert (found[0].index, found[0].stage) == (1, Stage.WRITE)


@pytest.mark.parametrize("module", [psycopg, oracledb, pyodbc, asyncpg])
def test_a_dialect_that_does_more_to_its_parameters_takes_no_tuples(module):
    assert not takes_tuples(module.dialect())


def test_sqlite_takes_tuples():
    assert takes_tuples(create_engine("sqlite://").dialect)
