"""Values land as SQLAlchemy itself would write them: types, defaults, expressions, ORM instances."""

import itertools

import pytest
from generated import contents
from sqlalchemy import (
    Column,
    Identity,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    insert,
    literal_column,
)
from tables_of_values import (
    ONUPDATE,
    assert_same,
    columns_with_defaults,
    rows_by_batchwrite,
    table_of,
    table_with_onupdate,
)

from batchwrite import BatchWriter


@pytest.mark.parametrize("with_bad", [False, True], ids=["bulk", "fallback"])
@pytest.mark.parametrize("method", ["insert", "upsert"])
def test_columns_left_out_get_their_defaults(engine, created, method, with_bad):
    rows = [{"v": 1}, {"v": 2}, {"v": None}]
    if with_bad:  # a callable that counts is called again for what is written again
        metadata, table = table_of(*columns_with_defaults())
        numbered = [{"id": number, **row} for number, row in enumerate(rows)]
        got = rows_by_batchwrite(engine, created, metadata, table, numbered, method=method, with_bad=True)["t"]
        assert [(row[2], row[5], row[7]) for row in got] == [(7, 2, "from the server")] * 3
    else:
        assert_same(engine, created, columns_with_defaults, rows, with_bad=False, method=method)


def test_rows_of_one_table_may_have_different_columns(engine, created):
    rows = [{"v": 1}, {"constant": 1}, {"v": 1, "server": "x"}, {}, {"server": None, "constant": None}]
    numbered = [{"id": number, **row} for number, row in enumerate(rows)]

    def columns():
        return [
            Column("v", Integer),
            Column("constant", Integer, default=7),
            Column("server", String, server_default="s"),
        ]

    metadata, table = table_of(*columns())
    got = rows_by_batchwrite(engine, created, metadata, table, numbered, with_bad=False)["t"]
    assert got == [(0, 1, 7, "s"), (1, None, 1, "s"), (2, 1, 7, "x"), (3, None, 7, "s"), (4, None, None, None)]


def test_a_row_of_defaults_only_can_be_inserted(engine, created):
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, primary_key=True), Column("v", Integer, server_default="5"))
    with created(engine, metadata):
        result = BatchWriter(engine).run([{}, {}, {}], lambda row, out: out.insert(table, row))
        assert contents(engine, metadata)["t"] == [(1, 5), (2, 5), (3, 5)]
    assert result.written == 3


@pytest.mark.parametrize("key", [Identity, lambda: Identity(always=True), lambda: Sequence("numbers")])
def test_generated_keys_are_generated(postgres_engine, created, key):
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, key(), primary_key=True), Column("v", Integer))
    with created(postgres_engine, metadata):
        BatchWriter(postgres_engine).run([5, 6, 7], lambda value, out: out.insert(table, {"v": value}))
        assert contents(postgres_engine, metadata)["t"] == [(1, 5), (2, 6), (3, 7)]


@pytest.mark.parametrize("onupdate", ONUPDATE.values(), ids=ONUPDATE)
@pytest.mark.parametrize("method", ["update", "increment", "upsert"])
def test_a_row_that_changes_is_touched(engine, created, method, onupdate):
    metadata, table = table_with_onupdate(onupdate=onupdate)

    def map_item(item, out):
        if method == "upsert":
            out.upsert(table, {"id": 1, "v": 2})
        else:
            getattr(out, method)(table, {"id": 1}, v=1)

    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(table), {"id": 1, "v": 1})
        result = BatchWriter(engine).run([1], map_item)
        assert (result.failures, result.abort) == ((), None)
        assert contents(engine, metadata)["t"] == [(1, 1 if method == "update" else 2, 9)]


def test_a_value_given_is_not_overwritten_by_the_touch(engine, created):
    metadata, table = table_with_onupdate(onupdate=9)
    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(table), {"id": 1})
        BatchWriter(engine).run([1], lambda item, out: out.upsert(table, {"id": 1, "touched": 5}))
        assert contents(engine, metadata)["t"] == [(1, None, 5)]


def test_an_insert_if_absent_touches_nothing(engine, created):
    metadata, table = table_with_onupdate(onupdate=9)
    with created(engine, metadata):
        items = [1, 1]
        BatchWriter(engine).run(items, lambda item, out: out.upsert(table, {"id": 1, "v": 5}, set=()))
        assert contents(engine, metadata)["t"] == [(1, 5, 0)]


@pytest.mark.parametrize("chunk_size", [1, 2])
@pytest.mark.parametrize("methods", list(itertools.product(["insert", "upsert"], ["update", "upsert"])))
def test_a_row_is_touched_whether_its_writes_share_a_chunk_or_not(engine, created, methods, chunk_size):
    metadata, table = table_with_onupdate(onupdate=9)

    def map_item(method, out):
        if method == "update":
            out.update(table, {"id": 1}, v=2)
        else:
            getattr(out, method)(table, {"id": 1, "v": 1})

    with created(engine, metadata):
        BatchWriter(engine, chunk_size=chunk_size).run(methods, map_item)
        ((_, _, touched),) = contents(engine, metadata)["t"]
    assert touched == 9


@pytest.mark.parametrize("chunk_size", [1, 3])
def test_a_version_that_each_update_raises_counts_every_update(engine, created, chunk_size):
    metadata, table = table_with_onupdate(onupdate=literal_column("touched") + 1)
    with created(engine, metadata):
        with engine.begin() as connection:
            connection.execute(insert(table), {"id": 1})
        writer = BatchWriter(engine, chunk_size=chunk_size)
        writer.run([1, 2, 3], lambda item, out: out.update(table, {"id": 1}, v=item))
        assert contents(engine, metadata)["t"] == [(1, 3, 3)]
