"""Values land as SQLAlchemy itself would write them: types, defaults, expressions, ORM instances."""

from datetime import UTC, datetime, timedelta

import pytest
from databases import tables_kept
from generated import contents
from hypothesis import given
from hypothesis import strategies as st
from ids import shown
from sqlalchemy import (
    Column,
    DateTime,
    Double,
    Float,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    func,
    insert,
    null,
    select,
)
from tables_of_values import (
    BAD,
    NOT_FINITE,
    POSTGRESQL_VALUES,
    VALUES,
    Shouted,
    assert_same,
    rows_by_sqlalchemy,
    table_of,
)

from batchwrite import BatchWriter


@pytest.mark.parametrize("with_bad", [False, True], ids=["bulk", "fallback"])
@pytest.mark.parametrize("method", ["insert", "upsert"])
@pytest.mark.parametrize(("kind", "values"), VALUES.values(), ids=VALUES)
def test_a_value_lands_as_sqlalchemy_writes_it(engine, created, kind, values, method, with_bad):
    rows = [{"v": value} for value in values]
    assert_same(engine, created, lambda: [Column("v", kind)], rows, method=method, with_bad=with_bad)


@pytest.mark.parametrize("with_bad", [False, True], ids=["bulk", "fallback"])
@pytest.mark.parametrize("method", ["insert", "upsert"])
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_an_infinite_float_lands_where_there_are_such(engine, created, method, with_bad):
    rows = [{"v": float("inf")}, {"v": -float("inf")}]
    assert_same(engine, created, lambda: [Column("v", Double)], rows, method=method, with_bad=with_bad)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_float_that_mariadb_does_not_have_fails_its_item(mariadb_engine, created, value):
    metadata, table = table_of(Column("v", Double))
    with created(mariadb_engine, metadata):
        rows = [{"id": 1, "v": 1.0}, {"id": 2, "v": value}]
        result = BatchWriter(mariadb_engine).run(rows, lambda row, out: out.insert(table, row))
    assert [failure.index for failure in result.failures] == [1]


@pytest.mark.parametrize("with_bad", [False, True], ids=["bulk", "fallback"])
@pytest.mark.parametrize(("kind", "values"), POSTGRESQL_VALUES.values(), ids=POSTGRESQL_VALUES)
def test_a_value_of_postgresql_lands_as_sqlalchemy_writes_it(postgres_engine, created, kind, values, with_bad):
    rows = [{"v": value} for value in values]
    assert_same(postgres_engine, created, lambda: [Column("v", kind)], rows, with_bad=with_bad)


@pytest.mark.parametrize("with_bad", [False, True], ids=["bulk", "fallback"])
@pytest.mark.parametrize(("kind", "values"), VALUES.values(), ids=VALUES)
def test_an_updated_value_lands_as_sqlalchemy_writes_it(engine, created, kind, values, with_bad):
    metadata, table = table_of(Column("v", kind))

    def map_item(row, out):
        if row is BAD:
            raise ValueError
        out.insert(table, {"id": row["id"]})
        out.update(table, {"id": row["id"]}, v=row["v"])

    rows = [{"id": number, "v": value} for number, value in enumerate(values)]
    expected = rows_by_sqlalchemy(engine, created, metadata, table, rows)
    with created(engine, metadata):
        BatchWriter(engine).run([*rows, BAD] if with_bad else rows, map_item)
        got = contents(engine, metadata)
    assert repr(got) == repr(expected)


def test_a_value_of_a_decorated_type_is_a_key_like_any_other(engine, created):
    metadata = MetaData()
    table = Table("t", metadata, Column("k", Shouted, primary_key=True), Column("n", Integer, nullable=False))

    def map_item(item, out):
        out.upsert(table, {"k": item, "n": 0}, set=())
        out.increment(table, {"k": item}, n=1)

    with created(engine, metadata):
        result = BatchWriter(engine).run(["a", "b", "a"], map_item)
        rows = contents(engine, metadata)["t"]
        with engine.connect() as connection:
            raw = connection.exec_driver_sql("SELECT k FROM t ORDER BY k").scalars().all()
    assert (rows, raw) == ([("a", 2), ("b", 1)], ["A", "B"])
    assert result.written == 3


SUMS = table_of(Column("n", Numeric(38, 6), nullable=False))


@pytest.fixture(scope="module")
def emptied_sums(postgres_module_engine):
    with tables_kept(postgres_module_engine) as kept:
        yield kept.emptied


@given(
    deltas=st.lists(
        st.decimals(-(10**12), 10**12, places=6, allow_nan=False, allow_infinity=False), min_size=1, max_size=8
    )
)
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_decimals_stay_exact_in_sums(postgres_module_engine, emptied_sums, deltas, chunk_size):
    metadata, table = SUMS
    with emptied_sums(metadata):
        with postgres_module_engine.begin() as connection:
            connection.execute(insert(table), {"id": 1, "n": 0})
        writer = BatchWriter(postgres_module_engine, chunk_size=chunk_size)
        writer.run(deltas, lambda delta, out: out.increment(table, {"id": 1}, n=delta))
        ((_, total),) = contents(postgres_module_engine, metadata)["t"]
    assert total == sum(deltas)


def test_time_spans_are_added_to_dates(postgres_engine, created):
    metadata, table = table_of(Column("at", DateTime(timezone=True), nullable=False))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    hour = timedelta(hours=1)
    with created(postgres_engine, metadata):
        with postgres_engine.begin() as connection:
            connection.execute(insert(table), {"id": 1, "at": start})
        BatchWriter(postgres_engine).run([hour, hour], lambda span, out: out.increment(table, {"id": 1}, at=span))
        assert contents(postgres_engine, metadata)["t"] == [(1, start + 2 * hour)]


@pytest.mark.parametrize("value", NOT_FINITE, ids=shown)
@pytest.mark.parametrize("method", ["insert", "upsert", "update"])
def test_what_is_not_finite_is_refused_for_money(engine, created, value, method):
    metadata, table = table_of(Column("money", Numeric(8, 2)))

    def map_item(item, out):
        row = {"id": item, "money": value if item == 2 else 1}
        if method == "update":
            out.insert(table, {"id": item})
            out.update(table, {"id": item}, money=row["money"])
        else:
            getattr(out, method)(table, row)

    with created(engine, metadata):
        result = BatchWriter(engine).run([1, 2, 3], map_item)
        assert [row[0] for row in contents(engine, metadata)["t"]] == [1, 3]
    (failure,) = result.failures
    assert (failure.index, failure.table, failure.column) == (1, "t", "money")


def test_a_value_refused_is_refused_although_a_later_item_covers_it_up(engine, created):
    """NaN, and then a number, for one key in one chunk."""
    metadata, table = table_of(Column("money", Numeric(8, 2)))
    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(table), {"id": 1})
        items = [float("nan"), 5]
        result = BatchWriter(engine).run(items, lambda value, out: out.update(table, {"id": 1}, money=value))
    assert [failure.index for failure in result.failures] == [0]


def test_nan_does_not_become_null(sqlite_engine, created):
    metadata, table = table_of(Column("v", Float))
    with created(sqlite_engine, metadata):
        result = BatchWriter(sqlite_engine).run([{"id": 1, "v": float("nan")}], lambda row, out: out.insert(table, row))
        assert contents(sqlite_engine, metadata)["t"] == []
    assert result.failures[0].column == "v"


def test_nan_is_a_value_of_a_float_of_postgresql(postgres_engine, created):
    metadata, table = table_of(Column("v", Double))
    with created(postgres_engine, metadata):
        BatchWriter(postgres_engine).run([{"id": 1, "v": float("nan")}], lambda row, out: out.insert(table, row))
        ((_, value),) = contents(postgres_engine, metadata)["t"]
    assert value != value


def test_sql_functions_are_values(engine, created):
    metadata, table = table_of(Column("v", Integer), Column("at", DateTime(timezone=True)))
    rows = [{"id": 1, "v": func.abs(-5)}, {"id": 2, "v": 1, "at": func.now()}, {"id": 3, "v": null()}]
    with created(engine, metadata):
        result = BatchWriter(engine).run(rows, lambda row, out: out.insert(table, row))
        got = contents(engine, metadata)["t"]
    assert result.written == 3
    assert [row[:2] for row in got] == [(1, 5), (2, 1), (3, None)]
    assert got[1][2] is not None


@pytest.mark.parametrize("chunk_size", [1, 2, 10])
def test_an_update_may_be_computed_from_the_row(engine, created, chunk_size):
    metadata, table = table_of(Column("n", Integer))

    def map_item(item, out):
        if item == 0:
            out.insert(table, {"id": 1, "n": 1})
        else:
            out.update(table, {"id": 1}, n=table.c.n * 2 + 1)

    with created(engine, metadata):
        result = BatchWriter(engine, chunk_size=chunk_size).run(range(5), map_item)
        assert contents(engine, metadata)["t"] == [(1, 31)]
    assert result.written == 5


def test_a_value_may_be_a_query(engine, created):
    metadata, table = table_of(Column("n", Integer))

    def map_item(item, out):
        out.insert(table, {"id": item, "n": select(func.count()).select_from(table).scalar_subquery()})

    with created(engine, metadata):
        BatchWriter(engine).run([10, 11, 12], map_item)
        assert contents(engine, metadata)["t"] == [(10, 0), (11, 1), (12, 2)]


def test_an_upsert_may_set_an_expression(engine, created):
    metadata, table = table_of(Column("n", Integer))
    with created(engine, metadata):
        rows = [{"id": 1, "n": func.abs(-1)}, {"id": 1, "n": func.abs(-2)}]
        result = BatchWriter(engine).run(rows, lambda row, out: out.upsert(table, row))
        assert contents(engine, metadata)["t"] == [(1, 2)]
    assert result.written == 2


def test_a_slower_way_is_said_once(engine, created, caplog):
    metadata, table = table_of(Column("n", Integer))
    rows = [{"id": number, "n": func.abs(-number)} for number in range(6)]
    with created(engine, metadata), caplog.at_level("WARNING", "batchwrite"):
        BatchWriter(engine, chunk_size=2).run(rows, lambda row, out: out.insert(table, row))
    assert [record.action for record in caplog.records if record.name == "batchwrite"] == ["slow_path"]


PEOPLE = Table(
    "people", MetaData(), Column("id", Integer, primary_key=True), Column("owner", String), Column("n", Integer)
)


@pytest.mark.parametrize(
    "write",
    [
        lambda _, out: out.delete(PEOPLE, {"owner": "Ada"}, missing_ok=True),
        lambda _, out: out.delete(PEOPLE, {"owner": "Ada"}),
        lambda _, out: out.increment(PEOPLE, {"owner": "Ada"}, n=5),
        lambda _, out: out.update(PEOPLE, {"owner": "Ada"}, n=5),
    ],
)
def test_a_key_that_names_several_rows_fails_its_item(engine, created, write):
    rows = [(1, "Ada", 100), (2, "Ada", None)]
    with created(engine, PEOPLE.metadata):
        with engine.begin() as connection:
            connection.execute(PEOPLE.insert(), [dict(zip(("id", "owner", "n"), row, strict=True)) for row in rows])
        (failure,) = BatchWriter(engine).run([1], write).failures
        with engine.connect() as connection:
            assert connection.execute(PEOPLE.select().order_by(PEOPLE.c.id)).all() == rows
    assert "more than one row" in failure.message


@pytest.mark.parametrize("bad", [False, b"1", [1]])
def test_an_odd_value_for_a_number_fails_its_item_alone(engine, created, bad):
    prices = Table("prices", MetaData(), Column("id", Integer, primary_key=True), Column("n", Numeric(10, 2)))
    items = [(1, 10), (2, bad), (3, 10)]
    with created(engine, prices.metadata):
        result = BatchWriter(engine).run(items, lambda item, out: out.insert(prices, {"id": item[0], "n": item[1]}))
    assert result.abort is None
    assert result.written >= 2
