"""What a session found that knew the documentation alone."""

import pytest
from ids import shown
from sqlalchemy import (
    DDL,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    select,
)

from batchwrite import BatchWriter


def wrote(engine, table, items, map_item=None, **settings):
    """The statuses of the items, and the rows at the end."""
    table.metadata.drop_all(engine)
    table.metadata.create_all(engine)
    stream = BatchWriter(engine, **settings).stream(items, map_item or (lambda row, out: out.insert(table, row)))
    outcomes = [(str(outcome.status), outcome.failure and outcome.failure.sqlstate) for outcome in stream]
    assert stream.result.abort is None, stream.result.abort
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
    return outcomes, rows


def agree(engine, table, items, map_item=None):
    """The same in one chunk as one by one."""
    together = wrote(engine, table, items, map_item)
    assert together == wrote(engine, table, items, map_item, chunk_size=1)
    return together


def test_the_earlier_of_two_rows_of_different_columns_has_the_key(postgres_engine):
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("t", Text, unique=True),
        Column("m", Integer, CheckConstraint("m < 50")),
    )
    items = [{"id": 1, "t": "a"}, {"id": 2, "t": "b", "m": 31}, {"id": 3, "t": "b"}, {"id": 4, "t": "c", "m": 99}]
    outcomes, _ = agree(postgres_engine, table, items)
    assert [status for status, _ in outcomes] == ["written", "written", "failed", "failed"]


def test_a_unique_key_for_which_nulls_are_alike(postgres_engine):
    with postgres_engine.connect() as connection:
        if connection.dialect.server_version_info < (15,):
            pytest.skip("PostgreSQL has had NULLS NOT DISTINCT since 15")
    key = Column("t", Text)
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), key, Column("m", Integer))
    Index("one_null", key, unique=True, postgresql_nulls_not_distinct=True)
    CheckConstraint("m < 50", table=table)
    items = [{"id": 1, "t": "a", "m": 99}, {"id": 1, "t": None, "m": 1}, {"id": 2, "t": None, "m": 1}]
    outcomes, _ = agree(postgres_engine, table, items)
    assert [status for status, _ in outcomes] == ["failed", "written", "failed"]


def test_the_earlier_of_two_keys_that_only_the_database_takes_for_one(postgres_engine):
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("x", Integer, CheckConstraint("x < 9")),
    )
    outcomes, _ = agree(postgres_engine, table, [{"id": "1", "x": 1}, {"id": 1, "x": 2}, {"id": 3, "x": 99}])
    assert [status for status, _ in outcomes] == ["written", "failed", "failed"]


@pytest.mark.parametrize("default", [{"default": 6}, {"server_default": "6"}], ids=str)
def test_the_earlier_of_two_keys_of_which_one_is_a_default(postgres_engine, default):
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("u", Integer, unique=True, **default),
        Column("c", String(2)),
        Column("x", Integer, CheckConstraint("x < 9")),
    )
    items = [{"id": 1, "u": 6, "c": "a   ", "x": 1}, {"id": 2, "c": "b", "x": 2}, {"id": 3, "u": 7, "c": "c", "x": 99}]
    outcomes, _ = agree(postgres_engine, table, items)
    assert [status for status, _ in outcomes] == ["written", "failed", "failed"]


def test_the_earlier_of_two_keys_of_an_index_that_the_table_does_not_know(postgres_engine):
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("u", Integer),
        Column("c", String(2)),
        Column("x", Integer, CheckConstraint("x < 9")),
    )
    event.listen(table, "after_create", DDL("CREATE UNIQUE INDEX only_here ON t (u)"))
    items = [{"id": 1, "u": 6, "c": "a   ", "x": 1}, {"id": 2, "u": 6, "c": "b", "x": 2}, {"id": 3, "u": 7, "x": 99}]
    outcomes, _ = agree(postgres_engine, table, [{"c": None} | item for item in items])
    assert [status for status, _ in outcomes] == ["written", "failed", "failed"]


def test_schemas_are_translated(postgres_engine):
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA tenant")
    translated = create_engine(postgres_engine.url, execution_options={"schema_translate_map": {None: "tenant"}})
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True))
    table.create(postgres_engine)
    table.create(translated)
    BatchWriter(translated).run([1, 2, 2, *range(10, 300)], lambda number, out: out.insert(table, {"id": number}))
    with postgres_engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM tenant.t").scalar() == 292
        assert connection.exec_driver_sql("SELECT count(*) FROM public.t").scalar() == 0
    translated.dispose()


@pytest.mark.parametrize("name", ["bw_j", "bw_g0_c0", "item", "place", "c0", "id%", 'a "b"'])
def test_a_column_may_be_called_anything(postgres_engine, name):
    table = Table(
        "v",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column(name, Integer, unique=True),
        Column("a", Integer),
    )

    def map_item(item, out):
        if item["kind"] == "new":
            out.insert(table, {"id": item["id"], name: item["id"], "a": 0})
        else:
            out.update(table, {"id": item["id"]}, a=item["a"])

    items = [{"kind": "new", "id": number} for number in range(1, 6)]
    items += [{"kind": "old", "id": number, "a": 10 * number} for number in (1, 2, 3, 99, 4)]
    outcomes, rows = agree(postgres_engine, table, items, map_item)
    assert [status for status, _ in outcomes] == [*["written"] * 8, "failed", "written"]
    assert [row[2] for row in rows] == [10, 20, 30, 40, 0]


@pytest.mark.parametrize("name", ["v", "u", "l", "s", "bw_v", "p%t"])
def test_a_table_may_be_called_anything(postgres_engine, name):
    table = Table(name, MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))

    def map_item(number, out):
        out.upsert(table, {"id": number % 3, "n": 0}, set=())
        out.increment(table, {"id": number % 3}, n=1)
        if number == 4:
            out.increment(table, {"id": 77}, n=1)

    outcomes, rows = agree(postgres_engine, table, range(7), map_item)
    assert [status for status, _ in outcomes].count("failed") == 1
    assert rows == [(0, 3), (1, 1), (2, 2)]


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "UTF8"])
def test_another_client_encoding(postgres_engine, encoding):
    engine = create_engine(postgres_engine.url, connect_args={"client_encoding": encoding})
    table = Table("täble" if encoding == "LATIN1" else "t", MetaData(), Column("id", Text, primary_key=True))
    word = "日本" if encoding == "EUC_JP" else "é"
    outcomes, _ = agree(engine, table, [{"id": each} for each in ["a", word, word, "b"]])
    assert [status for status, _ in outcomes] == ["written", "written", "failed", "written"]
    engine.dispose()


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_what_is_no_number_fails_its_item_in_a_column_of_whole_numbers(postgres_engine, value):
    from decimal import Decimal

    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    outcomes, _ = agree(postgres_engine, table, [{"id": 1, "n": 1}, {"id": 2, "n": Decimal(value)}, {"id": 3, "n": 3}])
    assert [status for status, _ in outcomes] == ["written", "failed", "written"]


def test_a_column_that_is_of_another_type_in_the_database(postgres_engine):
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id int PRIMARY KEY, n int)")
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("n", Numeric))
    result = BatchWriter(postgres_engine).run(
        [{"id": 1, "n": 1.5}, {"id": 2, "n": 2}], lambda row, out: out.insert(table, row)
    )
    assert result.written == 2
    with postgres_engine.connect() as connection:
        assert connection.scalar(select(func.sum(table.c.n))) == 4  # rounded, as by any INSERT


def test_a_type_that_changes_between_two_runs(postgres_engine):
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("n", Numeric(4)))
    table.create(postgres_engine)
    writer = BatchWriter(postgres_engine)
    rows = [{"id": number, "n": number} for number in range(5)]
    assert writer.run(rows, lambda row, out: out.insert(table, row)).written == 5
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE t ALTER n TYPE text")
    writer._sink._looked_up -= 60  # a minute later
    rows = [{"id": number, "n": number} for number in [3, *range(5, 10)]]
    result = writer.run(rows, lambda row, out: out.insert(table, row))
    assert {failure.sqlstate for failure in result.failures} <= {"23505", "42804"}


def test_the_result_of_a_stream_that_was_left_counts_what_is_on_its_way(postgres_engine):
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True))
    table.create(postgres_engine)
    writer = BatchWriter(postgres_engine, chunk_size=50, workers=4)
    stream = writer.stream(range(10_000), lambda number, out: out.insert(table, {"id": number}))
    for outcome in stream:
        if outcome.index == 120:
            break
    result = stream.result
    with postgres_engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(table)) == result.written
    assert result.received - result.written < 50


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_upserts_that_touch_a_column_by_a_python_function_fall_back(shared_engine, workers):
    touched = Table(
        "touched_by_python",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("n", Integer, nullable=False),
        Column("seen", Integer, onupdate=lambda: 5),
    )
    items = [{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 9, "n": None}, {"id": 3, "n": 3}, {"id": 1, "n": 4}]
    for size in (1, 2, 5_000):
        outcomes, rows = wrote(
            shared_engine, touched, items, lambda row, out: out.upsert(touched, row), chunk_size=size, workers=workers
        )
        assert [status for status, _ in outcomes] == ["written", "written", "failed", "written", "written"]
        assert [row[:2] for row in rows] == [(1, 4), (2, 2), (3, 3)]


class _Word(str):
    __slots__ = ()


@pytest.mark.parametrize("value", [_Word("s"), (1, 2), [], [None], "plain", 5, {"a": 1}], ids=shown)
def test_a_column_of_bytes_takes_bytes_only(shared_engine, value):
    blobs = Table("blobs", MetaData(), Column("id", Integer, primary_key=True), Column("v", LargeBinary))
    for size in (1, 2, 5_000):
        items = [{"id": 1, "v": b"ok"}, {"id": 2, "v": value}, {"id": 3, "v": bytearray(b"x")}]
        outcomes, rows = wrote(shared_engine, blobs, items, chunk_size=size)
        assert [status for status, _ in outcomes] == ["written", "failed", "written"]
        assert [(row.id, bytes(row.v)) for row in _rows(shared_engine, blobs)] == [(1, b"ok"), (3, b"x")]
        assert len(rows) == 2


def _rows(engine, table):
    with engine.connect() as connection:
        return list(connection.execute(select(table).order_by(table.c.id)))
