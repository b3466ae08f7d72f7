"""Values whose classes are not Python's own: nothing is worked out with them, and nothing they do ends a run."""

import enum
from decimal import Decimal

import numpy
import pandas
import pytest
from ids import shown
from sqlalchemy import (
    ARRAY,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    select,
)

from batchwrite import BatchWriter, DeadLetters, Ledger, Status

METADATA = MetaData()
STOCK = Table(
    "stock",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("whole", Integer, nullable=False, default=0),
    Column("exact", Numeric(20, 4), nullable=False, default=0),
    Column("note", String(50)),
)
LINES = Table(
    "lines",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("stock_id", Integer, ForeignKey("stock.id")),
)


class Size(enum.IntEnum):
    SMALL = 3


class Tens(int):
    """A class of somebody's that adds in a way of its own."""

    def __add__(self, other):
        return 10 * int(self) + int(other)

    __radd__ = __add__


class Hostile:
    """Raises whatever is asked of it."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __eq__(self, other):
        raise RuntimeError

    def __hash__(self):
        raise RuntimeError

    def __bool__(self):
        raise RuntimeError

    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


def run(engine, items, map_item, **options):
    with BatchWriter(engine, **options) as writer:
        result = writer.run(items, map_item)
    assert result.received == len(items)
    assert sum((result.written, result.failed, result.skipped, result.unattempted, result.unknown)) == len(items)
    return result


def rows(engine, table, *columns):
    chosen = [table.c[name] for name in columns] if columns else [table]
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(*chosen).order_by(table.c.id))]


# ---- sums

ADDED = {
    "int8": ([numpy.int8(100)] * 3, "whole", 300),
    "int32": ([numpy.int32(1_000_000_000)] * 2, "whole", 2_000_000_000),
    "uint64": ([numpy.uint64(7), numpy.int64(-9)], "whole", -2),
    "float16": ([numpy.float16(2048), *[numpy.float16(1)] * 3], "exact", 2051),
    "float32": ([numpy.float32(16_777_216), *[numpy.float32(1)] * 2], "exact", 16_777_218),
    "float64": ([numpy.float64(0.5)] * 2, "exact", 1),
    "an enumeration": ([Size.SMALL] * 2, "whole", 6),
    "a class of one's own": ([Tens(1)] * 3, "whole", 3),
    "of several": ([numpy.int8(100), 100, Tens(100), numpy.uint16(1)], "whole", 301),
}


@pytest.mark.drawn(30)
@pytest.mark.parametrize(("deltas", "column", "total"), ADDED.values(), ids=ADDED)
@pytest.mark.parametrize("key", [1, numpy.int64(1)], ids=["int", "int64"])
@pytest.mark.parametrize("chunk_size", [1, 100])
def test_numbers_of_any_class_are_added_as_what_they_are(
    shared_engine, emptied, deltas, column, total, key, chunk_size
):
    with emptied(METADATA):
        run(shared_engine, [{"id": 1}], lambda row, out: out.insert(STOCK, row))
        result = run(
            shared_engine,
            deltas,
            lambda delta, out: out.increment(STOCK, {"id": key}, {column: delta}),
            chunk_size=chunk_size,
        )
        assert (result.written, result.failures) == (len(deltas), ())
        assert rows(shared_engine, STOCK, column) == [(total,)]


NO_DELTAS = {
    "infinite": numpy.float32("inf"),
    "NaN": numpy.float64("nan"),
    "sNaN": Decimal("sNaN"),
    "an array": numpy.array([1]),
    "NA": pandas.NA,
    "NaT": pandas.NaT,
    "a span of numpy's": numpy.timedelta64(5, "D"),
    "nanoseconds": pandas.Timedelta(5, "ns"),
    "hostile": Hostile(),
    "more digits than a float has": numpy.longdouble(1) + numpy.finfo(numpy.longdouble).eps,
    "a truth value": numpy.True_,
}


@pytest.mark.parametrize("delta", NO_DELTAS.values(), ids=NO_DELTAS)
def test_what_is_no_number_fails_its_item_in_words(shared_engine, emptied, delta):
    with emptied(METADATA):
        run(shared_engine, [{"id": 1}], lambda row, out: out.insert(STOCK, row))
        result = run(shared_engine, [1, delta, 2], lambda it, out: out.increment(STOCK, {"id": 1}, exact=it))
        assert (result.written, result.failed, result.status) == (2, 1, Status.PARTIAL_SUCCESS)
        assert result.failures[0].error_type == "ItemRefused"
        assert rows(shared_engine, STOCK, "exact") == [(3,)]


# ---- values that cannot be compared

UNCOMPARABLE = {
    "an array": numpy.array([1.0, 2.0]),
    "an array of one": numpy.array([1]),
    "NA": pandas.NA,
    "hostile": Hostile(),
    "a list": [1],
    "sNaN": Decimal("sNaN"),
}


def upsert(row, out):
    out.upsert(STOCK, row)


def update(row, out):
    out.update(STOCK, {"id": row["id"]}, {name: value for name, value in row.items() if name != "id"})


@pytest.mark.drawn(24)
@pytest.mark.parametrize("value", UNCOMPARABLE.values(), ids=UNCOMPARABLE)
@pytest.mark.parametrize("write", [upsert, update])
@pytest.mark.parametrize("column", ["exact", "note"])
def test_a_value_that_cannot_be_compared_is_its_items_alone(shared_engine, emptied, value, write, column):
    """The good items land, whatever class the value of the bad one is of, also those of the same key."""
    with emptied(METADATA):
        run(shared_engine, [{"id": number} for number in range(3)], upsert)
        items = [{"id": 1, column: 1}, {"id": 1, column: value}, {"id": 1, column: value}, {"id": 2, column: 2}]
        alone = run(shared_engine, items, write, chunk_size=1)
        before = rows(shared_engine, STOCK)
        together = run(shared_engine, items, write)
        assert together.abort is None
        assert (together.written, together.failed) == (alone.written, alone.failed)
        assert rows(shared_engine, STOCK) == before


KEYS = {**UNCOMPARABLE, "NUL": "a\0b", "half of a character": "\ud800", "a text": "x", "huge": 2**80}
WRITES = {
    "insert": lambda key, out: out.insert(STOCK, {"id": key}),
    "upsert": lambda key, out: out.upsert(STOCK, {"id": key, "note": "b"}),
    "update": lambda key, out: out.update(STOCK, {"id": key}, note="b"),
    "increment": lambda key, out: out.increment(STOCK, {"id": key}, whole=1),
    "delete": lambda key, out: out.delete(STOCK, {"id": key}),
    "reference": lambda key, out: out.insert(LINES, {"id": 1, "stock_id": key}),
}


@pytest.mark.drawn(45)
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_odd_key_is_its_items_alone_in_a_chunk_of_every_kind(shared_engine, emptied, key, write):
    good = [
        lambda out: out.upsert(STOCK, {"id": 11, "note": "new"}),
        lambda out: out.update(STOCK, {"id": 1}, note="changed"),
        lambda out: out.increment(STOCK, {"id": 2}, whole=5),
        lambda out: write(key, out),
        lambda out: out.insert(STOCK, {"id": 12}),
        lambda out: out.insert(LINES, {"id": 2, "stock_id": 12}),
        lambda out: out.upsert(STOCK, {"id": 13, "note": "new"}),
    ]
    with emptied(METADATA):
        run(shared_engine, [{"id": number} for number in (1, 2)], upsert)
        result = run(shared_engine, good, lambda item, out: item(out), keep_failures=10)
        assert (result.status, result.abort) == (Status.PARTIAL_SUCCESS, None)
        assert (result.written, [failure.index for failure in result.failures]) == (6, [3])
        assert [row[0] for row in rows(shared_engine, STOCK)] == [1, 2, 11, 12, 13]


# ---- what stands for a missing value

MISSING = {
    "NaN": float("nan"),
    "numpy's NaN": numpy.float64("nan"),
    "numpy's small NaN": numpy.float32("nan"),
    "Decimal's NaN": Decimal("nan"),
    "NaT": pandas.NaT,
    "numpy's NaT": numpy.datetime64("NaT"),
    "NA": pandas.NA,
}


@pytest.mark.drawn(30)
@pytest.mark.parametrize("value", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize(
    "kind", [String(50), Integer(), Numeric(9, 2), DateTime(), LargeBinary(), SmallInteger()], ids=shown
)
@pytest.mark.parametrize("chunk_size", [1, 100])
def test_what_stands_for_a_missing_value_is_none(shared_engine, created, value, kind, chunk_size):
    metadata = MetaData()
    table = Table(
        "t", metadata, Column("id", Integer, primary_key=True, autoincrement=False), Column("v", kind, nullable=False)
    )
    with created(shared_engine, metadata):
        result = run(shared_engine, [value], lambda it, out: out.insert(table, {"id": 1, "v": it}))
        assert (result.written, result.failed) == (0, 1)


def test_a_float_column_takes_nan_where_the_database_can(postgres_engine):
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, primary_key=True), Column("v", Float))
    metadata.create_all(postgres_engine)
    values = [float("nan"), numpy.float64("nan"), float("inf")]
    result = run(postgres_engine, list(enumerate(values)), lambda it, out: out.insert(table, {"id": it[0], "v": it[1]}))
    assert result.written == 3


# ---- letters


@pytest.mark.parametrize("value", [numpy.int64(5), numpy.float32(1.5), numpy.uint8(7), Size.SMALL], ids=shown)
def test_a_letter_gives_an_equal_number_back(engine, value):
    assert retried_as(engine, value) == value


LOST = [pandas.NA, pandas.NaT, pandas.Timestamp("2024-01-01 00:00:00.123456789"), numpy.array([1, 2])]


@pytest.mark.parametrize("value", LOST, ids=lambda value: type(value).__name__)
def test_a_letter_says_what_it_cannot_give_back(engine, value):
    problem = retried_as(engine, value)
    assert "was not kept" in problem
    assert type(value).__name__ in problem


def retried_as(engine, value):
    """With which value a failed item comes back, or what is said of it where it does not."""
    ledger = Ledger()
    ledger.create(engine)
    METADATA.create_all(engine)
    seen = []

    def fail(item, out):
        seen.append(item)
        raise ValueError

    with BatchWriter(engine, ledger=ledger, dead_letters=DeadLetters()) as writer:
        writer.run([{"v": value}], fail, run_id="run")
        seen.clear()
        result = writer.retry("run", fail)
    return seen[0]["v"] if seen else result.failures[0].message


def test_arrays_of_numpy_in_an_array_column(postgres_engine):
    """As SQLAlchemy has them, each by itself: PostgreSQL takes them, and two of one key are not compared."""
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, primary_key=True), Column("v", ARRAY(Float)))
    metadata.create_all(postgres_engine)
    items = [(1, [1.0, 2.0]), (1, numpy.array([3.0, 4.0])), (2, [5.0]), (1, numpy.array([6.0]))]
    alone = run(
        postgres_engine, items, lambda it, out: out.upsert(table, dict(zip(["id", "v"], it, strict=True))), chunk_size=1
    )
    before = rows(postgres_engine, table)
    result = run(postgres_engine, items, lambda it, out: out.upsert(table, dict(zip(["id", "v"], it, strict=True))))
    assert (result.written, result.failed) == (alone.written, alone.failed)
    assert rows(postgres_engine, table) == before


class Tenfold(Integer):
    """A type of one's own, in which two values of Python are one row."""

    cache_ok = True

    def bind_processor(self, dialect):
        return lambda value: value if value is None else value // 10

    def get_dbapi_type(self, dbapi):
        return None


@pytest.mark.parametrize("kind", [Tenfold(), Integer().with_variant(Tenfold(), "sqlite")], ids=["class", "variant"])
def test_a_key_whose_type_converts_is_not_taken_for_exact(sqlite_engine, kind):
    metadata = MetaData()
    table = Table(
        "t",
        metadata,
        Column("id", kind, primary_key=True, autoincrement=False),
        Column("n", Integer, nullable=False, default=0),
        Column("v", String),
    )
    writes = [
        lambda out: out.update(table, {"id": 12}, v="a"),  # there is none yet, whatever comes behind it
        lambda out: out.insert(table, {"id": 15, "v": "b"}),
        lambda out: out.increment(table, {"id": 16}, n=2),
    ]
    found = []
    for chunk_size in (1, 100):
        metadata.drop_all(sqlite_engine)
        metadata.create_all(sqlite_engine)
        result = run(sqlite_engine, writes, lambda write, out: write(out), chunk_size=chunk_size)
        with sqlite_engine.connect() as connection:
            stored = connection.exec_driver_sql("SELECT id, n, v FROM t").all()
        found.append(([failure.index for failure in result.failures], stored))
    assert found[0] == found[1] == ([0], [(1, 2, "b")])
