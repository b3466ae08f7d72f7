"""How many statements a chunk takes, by kind of write, database and type of column; and no slow path comes unseen.

The tables below say what is expected. A row that takes more statements than before is a slow path that has come back.
"""

import asyncio
import enum
import logging
import re
import sqlite3
import uuid
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from databases import async_engine_for
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
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
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    UniqueConstraint,
    Uuid,
    create_engine,
    event,
    func,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeDecorator

from batchwrite import BatchWriter
from batchwrite.aio import AsyncBatchWriter

ROWS = 120  # enough for COPY


class Size(enum.Enum):
    S, M = 1, 2


class Doubled(TypeDecorator):
    """A type that is written as an SQL expression."""

    impl = Integer
    cache_ok = True

    def bind_expression(self, bindvalue):
        return bindvalue * 2


MOMENT = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - of a column without a zone

# ---- what is expected: statements for a chunk of ROWS rows

STATEMENTS = {
    "sqlite": {
        "insert": 1,
        "upsert": 1,
        "insert if absent": 1,
        "update": 1,
        "increment": 1,
        "delete": 1,
        "add": 1,
    },
    "mariadb": {
        "insert": 1,
        "upsert": 1,
        "insert if absent": 1,
        "update": ROWS,  # MariaDB has no UPDATE that takes a key and a value from each of many rows
        "increment": ROWS,
        "delete": ROWS,
        "add": 1,
    },
    "postgresql": {
        "insert": 1,
        "upsert": 1,
        "insert if absent": 1,
        "update": 1,
        "increment": 1,
        "delete": 1,
        "add": 1,
    },
}

# Types that are as fast as any, with a value each; on all databases, and on one.
FAST_TYPES = {
    "small": (SmallInteger(), 1),
    "big": (BigInteger(), 2**40),
    "numeric": (Numeric(10, 2), Decimal("1.25")),
    "double": (Float(53), 0.1),
    "single": (Float(24), 0.5),
    "string": (String(20), "x%s"),
    "text": (Text(), "%(x)s"),
    "flag": (Boolean(), True),
    "day": (Date(), date(2026, 1, 2)),
    "moment": (DateTime(), MOMENT),
    "hour": (Time(), time(1, 2, 3)),
    "span": (Interval(), timedelta(1, 2)),
    "bytes": (LargeBinary(), b"x"),
    "pickled": (PickleType(), {"a": 1}),
    "size": (Enum(Size, name="sizes"), Size.M),
    "word": (Enum("a", "b", native_enum=False), "a"),
    "json": (JSON(), {"a": [1, None]}),
    "uuid": (Uuid(), uuid.UUID(int=5)),
    "hex": (Uuid(native_uuid=False), uuid.UUID(int=5)),
    "uuid_as_text": (Uuid(as_uuid=False), str(uuid.UUID(int=5))),
    "always_null": (Integer(), None),
}
FAST_TYPES_OF = {
    "sqlite": {},
    "mariadb": {
        "exact": (mysql.DATETIME(fsp=6), MOMENT),
        "blob": (mysql.LONGBLOB(), b"x"),
        "binary": (mysql.BINARY(16), uuid.UUID(int=5).bytes),
        "unsigned": (mysql.BIGINT(unsigned=True), 2**63),
        "letters": (mysql.ENUM("a", "b"), "a"),
    },
    "postgresql": {
        "zoned": (DateTime(timezone=True), MOMENT.replace(tzinfo=UTC)),
        "zoned_hour": (Time(timezone=True), time(1, tzinfo=UTC)),
        "stamp": (postgresql.TIMESTAMP(precision=3), MOMENT),
        "interval": (postgresql.INTERVAL(precision=3), timedelta(1, 2)),
        "days": (postgresql.INTERVAL(fields="DAY"), timedelta(1)),
        "double_precision": (postgresql.DOUBLE_PRECISION(), 0.1),
        "real": (postgresql.REAL(), 0.5),
        "bytea": (postgresql.BYTEA(), b"x"),
        "jsonb": (postgresql.JSONB(), {"a": 1}),
        "native": (postgresql.ENUM("a", "b", name="native"), "a"),
        "inet": (postgresql.INET(), "10.0.0.1"),
        "cidr": (postgresql.CIDR(), "10.0.0.0/8"),
        "mac": (postgresql.MACADDR(), "08:00:2b:01:02:03"),
        "money": (postgresql.MONEY(), "1.25"),
        "domain": (postgresql.DOMAIN("three", String(3)), "abc"),
    },
}

# Columns of an insert that make it slow, and what the log says then.
SLOW = {
    "postgresql": {
        "array": (lambda: Column("v", postgresql.ARRAY(Integer)), [1], "SQLAlchemy alone knows"),
        "range": (lambda: Column("v", postgresql.INT4RANGE()), postgresql.Range(1, 2), "SQLAlchemy alone knows"),
        "bits": (lambda: Column("v", postgresql.BIT(3)), "101", "SQLAlchemy alone knows"),
        "vector": (lambda: Column("v", postgresql.TSVECTOR()), "a", "SQLAlchemy alone knows"),
        "type": (lambda: Column("v", Doubled), 1, "is written as an SQL expression"),
        "oid": (lambda: Column("v", postgresql.OID()), 5, "SQLAlchemy alone knows"),
    },
    "mariadb": {
        "default": (lambda: Column("v", DateTime, default=func.now()), None, "types or defaults are SQL expressions"),
        "type": (lambda: Column("v", Doubled), 1, "types or defaults are SQL expressions"),
    },
}

# Columns of an upsert: whether one statement does for all, by what a column has.
UPSERTS_OF_MARIADB = {
    "plain": (lambda: Column("v", Integer), 1),
    "a server's default": (lambda: Column("v", Integer, server_default="5"), 1),
    "a default": (lambda: Column("v", Integer, default=5), 1),
    "an SQL expression that touches": (lambda: Column("v", DateTime, onupdate=func.now()), 1),
    "a constant that touches": (lambda: Column("v", Integer, onupdate=5), ROWS),
    "a function that touches": (lambda: Column("v", Integer, onupdate=lambda: 5), ROWS),
    "an SQL expression as default": (lambda: Column("v", DateTime, default=func.now()), ROWS),
    "a percent sign": (lambda: Column("100%", Integer, key="v"), ROWS),
}
KEYS_OF_MARIADB = {
    "integer": (Integer(), lambda number: number),
    "text": (String(20), lambda number: f"key {number}"),
    "uuid": (Uuid(), lambda number: uuid.UUID(int=number)),
    "binary": (mysql.BINARY(16), lambda number: number.to_bytes(16)),
    "day": (Date(), lambda number: date(2026, 1, 1) + timedelta(number)),
    "numeric": (Numeric(10, 2), Decimal),
}

# ---- how they are counted

DML = re.compile(r"\s*(INSERT|UPDATE|DELETE|COPY|WITH)\b")


class Counter(logging.Handler):
    """Statements that change rows, as each database can best be asked for them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def note(self, statement, times=1):
        self.count += times * sum(bool(DML.match(each)) for each in statement.split("; "))

    def emit(self, record):
        self.note(record.getMessage())


class CountingCursor(sqlite3.Cursor):
    def execute(self, statement, *arguments):
        self.connection.counter.note(statement)
        return super().execute(statement, *arguments)

    def executemany(self, statement, *arguments):
        self.connection.counter.note(statement)
        return super().executemany(statement, *arguments)


class CountingConnection(sqlite3.Connection):
    counter = Counter()

    def cursor(self, factory=CountingCursor):
        return super().cursor(factory)


@contextmanager
def statements_of_sqlite(engine):
    """Calls of the driver: no listener, which would have the rows take another way."""
    CountingConnection.counter.count = 0
    yield CountingConnection.counter


@contextmanager
def statements_of_postgresql(engine):
    """Those past SQLAlchemy, by their log, and SQLAlchemy's: the driver sends one for each row."""
    counter, log = Counter(), logging.getLogger("batchwrite.sql")

    def note(_connection, _cursor, statement, parameters, _context, executemany):
        counter.note(statement, len(parameters) if executemany else 1)

    event.listen(engine, "before_cursor_execute", note)
    log.addHandler(counter)
    log.setLevel(logging.DEBUG)
    try:
        yield counter
    finally:
        log.removeHandler(counter)
        log.setLevel(logging.NOTSET)
        event.remove(engine, "before_cursor_execute", note)


COMMANDS = "SHOW SESSION STATUS WHERE Variable_name IN ('Com_insert', 'Com_update', 'Com_delete')"


def sent_so_far(connection):
    return sum(int(number) for _, number in connection.exec_driver_sql(COMMANDS))


@contextmanager
def statements_of_mariadb(engine):
    """What the server has counted in its one session: the driver may make one of many, or many of one."""
    with engine.connect() as connection:
        before = sent_so_far(connection)
    counter = Counter()
    yield counter
    with engine.connect() as connection:
        counter.count = sent_so_far(connection) - before


COUNTED = {
    "sqlite": statements_of_sqlite,
    "mariadb": statements_of_mariadb,
    "postgresql": statements_of_postgresql,
}


@pytest.fixture
def one(engine):
    """The database over one connection, so that it can be asked how many statements there were."""
    arguments = {"factory": CountingConnection} if engine.dialect.name == "sqlite" else {}
    made = create_engine(engine.url, pool_size=1, max_overflow=0, connect_args=arguments)
    yield made
    made.dispose()


@pytest.fixture
def one_of_mariadb(mariadb_engine):
    made = create_engine(mariadb_engine.url, pool_size=1, max_overflow=0)
    yield made
    made.dispose()


# ---- the tests


def table_of(database):
    columns = {**FAST_TYPES, **FAST_TYPES_OF[database]}
    return Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("n", Integer),
        *(Column(name, kind) for name, (kind, _) in columns.items()),
    )


def rows_of(database):
    values = {name: value for name, (_, value) in {**FAST_TYPES, **FAST_TYPES_OF[database]}.items()}
    return [{"id": number, "n": number, **values} for number in range(ROWS)]


def writes_of(table, kind):
    """What maps a row to one write of a kind."""

    def update(row, out):
        out.update(table, {"id": row["id"]}, **{name: value for name, value in row.items() if name != "id"})

    if kind == "add":
        mapped = type("Mapped", (), {})
        registry().map_imperatively(mapped, table)
        return lambda row, out: out.add(mapped(**row))
    return {
        "insert": lambda row, out: out.insert(table, row),
        "upsert": lambda row, out: out.upsert(table, row),
        "insert if absent": lambda row, out: out.upsert(table, row, set=()),
        "update": update,
        "increment": lambda row, out: out.increment(table, {"id": row["id"]}, n=1),
        "delete": lambda row, out: out.delete(table, {"id": row["id"]}),
    }[kind]


THERE = {"insert": 0, "add": 0, "upsert": ROWS // 2, "insert if absent": ROWS // 2}
"""How many of the rows are there before; of others all."""


def slow_paths(caplog):
    return [record.getMessage() for record in caplog.records if getattr(record, "action", "") == "slow_path"]


@pytest.mark.parametrize("kind", STATEMENTS["sqlite"])
def test_a_chunk_takes_as_many_statements_as_the_table_says(one, kind, caplog):
    database = one.dialect.name
    table, rows = table_of(database), rows_of(database)
    table.metadata.create_all(one)
    there = rows[: THERE.get(kind, ROWS)]
    if there:
        with one.begin() as connection:
            connection.execute(table.insert(), there)
    with COUNTED[database](one) as counter:
        result = BatchWriter(one, workers=0).run(rows, writes_of(table, kind))
    assert (result.written, result.fallbacks) == (ROWS, 0)
    assert counter.count == STATEMENTS[database][kind]
    assert slow_paths(caplog) == []


@pytest.mark.parametrize(("database", "name"), [(database, name) for database in SLOW for name in SLOW[database]])
def test_what_is_slow_says_so(request, database, name, caplog):
    engine = request.getfixturevalue({"postgresql": "postgres_engine", "mariadb": "mariadb_engine"}[database])
    column, value, words = SLOW[database][name]
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False), column())
    table.create(engine)
    rows = [{"id": number} if value is None else {"id": number, "v": value} for number in range(ROWS)]
    result = BatchWriter(engine).run(rows, lambda row, out: out.insert(table, row))
    assert (result.written, result.fallbacks) == (ROWS, 0)
    (said,) = slow_paths(caplog)
    assert words in said


@pytest.mark.parametrize("name", UPSERTS_OF_MARIADB)
def test_upserts_of_mariadb_go_at_once_unless_a_parameter_stands_behind_them(one_of_mariadb, name, caplog):
    column, statements = UPSERTS_OF_MARIADB[name]
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("w", Integer),
        column(),
    )
    table.create(one_of_mariadb)
    given = {"w": 1, "v": 1} if name in {"plain", "a percent sign"} else {"w": 1}
    with statements_of_mariadb(one_of_mariadb) as counter:
        rows = [{"id": number, **given} for number in range(ROWS)]
        assert BatchWriter(one_of_mariadb).run(rows, lambda row, out: out.upsert(table, row)).written == ROWS
    assert counter.count == statements
    assert bool(slow_paths(caplog)) == (statements > 1)
    with one_of_mariadb.connect() as connection:
        assert connection.execute(table.select()).mappings().first()["w"] == 1


@pytest.mark.parametrize("name", KEYS_OF_MARIADB)
@pytest.mark.parametrize("changed", [None, ()], ids=["upsert", "insert if absent"])
def test_upserts_of_mariadb_go_at_once_whatever_the_key(one_of_mariadb, name, changed):
    kind, key = KEYS_OF_MARIADB[name]
    table = Table(
        "t",
        MetaData(),
        Column("id", kind, primary_key=True, autoincrement=False),
        Column("other", Integer),
        Column("n", Integer),
        UniqueConstraint("other", "n"),
    )
    table.create(one_of_mariadb)
    settings = {} if changed is None else {"set": changed}
    for start, statements in ((0, 1), (ROWS // 2, 1)):
        rows = [{"id": key(number), "n": start} for number in range(start, start + ROWS)]
        with statements_of_mariadb(one_of_mariadb) as counter:
            result = BatchWriter(one_of_mariadb).run(rows, lambda row, out: out.upsert(table, row, **settings))
        assert (result.written, counter.count) == (ROWS, statements)
    with one_of_mariadb.connect() as connection:
        numbers = connection.scalars(table.select().with_only_columns(table.c.n).order_by(table.c.id)).all()
    changed_rows = ROWS if changed is None else ROWS // 2
    assert sorted(numbers) == [0] * (ROWS * 3 // 2 - changed_rows) + [ROWS // 2] * changed_rows


@pytest.mark.parametrize("kind", ["insert", "upsert", "insert if absent"])
def test_so_it_is_under_asyncio(mariadb_engine, kind):
    table = table_of("mariadb")
    rows = [{name: row[name] for name in ("id", "n", "string", "text", "moment", "uuid")} for row in rows_of("mariadb")]
    table.metadata.create_all(mariadb_engine)

    async def run():
        engine = async_engine_for(mariadb_engine, pool_size=1, max_overflow=0)
        try:
            async with engine.connect() as connection:
                before = await connection.run_sync(sent_so_far)
            async with AsyncBatchWriter(engine) as writer:
                result = await writer.run(rows, writes_of(table, kind))
            async with engine.connect() as connection:
                return result, await connection.run_sync(sent_so_far) - before
        finally:
            await engine.dispose()

    result, count = asyncio.run(run())
    assert (result.written, count) == (ROWS, 1)
