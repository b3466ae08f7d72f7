"""What is stored of an item is the same alone and among others, by whichever way, whatever the session is set to."""

import math

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    NullPool,
    Numeric,
    String,
    Table,
    create_engine,
    event,
    select,
    text,
)

from batchwrite import BatchWriter

SETTINGS = {
    "array_nulls": "off",
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "'sql_standard'",
    "bytea_output": "'escape'",
    "extra_float_digits": "-5",
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "transform_null_equals": "on",
    "TimeZone": "'Asia/Kolkata'",
    "quote_all_identifiers": "on",
    "xmlbinary": "hex",
    "plpgsql.variable_conflict": "use_variable",
    "plpgsql.extra_errors": "'all'",
    "search_path": "''",
}


def table_of(metadata, schema=None):
    return Table(
        "t",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String),
        Column("amount", Float),
        Column("exact", Numeric(12, 4)),
        Column("raw", LargeBinary),
        schema=schema,
    )


ROWS = [
    {"id": 1, "name": None, "amount": 0.1, "exact": None, "raw": b"\\\x00'"},
    {"id": 2, "name": "NULL", "amount": None, "exact": 0.1, "raw": None},
    {"id": 3, "name": "\\N{,}\"'", "amount": math.inf, "exact": 7, "raw": b""},
]


def ways(table):
    """How rows come to be there: map functions, and options."""

    def insert(row, out):
        out.insert(table, row)

    def upsert(row, out):
        out.upsert(table, row)

    def update(row, out):
        out.insert(table, {"id": row["id"], "name": "before"})
        out.update(table, {"id": row["id"]}, {name: value for name, value in row.items() if name != "id"})

    return [(insert, 1), (insert, 100), (upsert, 1), (upsert, 100), (update, 1), (update, 100)]


@pytest.mark.drawn(16)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("is_lent", [False, True])
def test_no_setting_of_the_session_changes_what_is_stored(postgres_engine, monkeypatch, setting, copied, is_lent):
    monkeypatch.setattr("batchwrite.sinks.postgresql.bulk._FEWEST_FOR_COPY", 1 if copied else 1_000)
    metadata = MetaData()
    table = table_of(metadata, schema="public")
    metadata.create_all(postgres_engine)
    engine = create_engine(postgres_engine.url, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def change(raw, _record):
        raw.execute(f"SET {setting} = {SETTINGS[setting]}")
        raw.commit()

    for write, chunk_size in ways(table):
        for bad in ([], [{"id": 9, "exact": 10**30}]):
            with postgres_engine.begin() as connection:
                connection.execute(table.delete())
            if is_lent:
                with engine.begin() as connection, BatchWriter.in_session(connection, chunk_size=chunk_size) as writer:
                    before = connection.scalar(text(f"SHOW {setting}"))
                    result = writer.run([*ROWS, *bad], write)
                    assert connection.scalar(text(f"SHOW {setting}")) == before
            else:
                with BatchWriter(engine, chunk_size=chunk_size) as writer:
                    result = writer.run([*ROWS, *bad], write)
            assert (result.written, result.failed, result.abort) == (3, len(bad), None)
            with postgres_engine.connect() as connection:
                found = [row._asdict() for row in connection.execute(select(table).order_by(table.c.id))]
            assert [row | {"exact": row["exact"] and float(row["exact"])} for row in found] == ROWS


CHANGES = {
    "real to double precision": ("real", "ALTER COLUMN v TYPE double precision", 0.1, Float(24)),
    "numeric to double precision": (
        "numeric",
        "ALTER COLUMN v TYPE double precision",
        0.1 + 0.2,
        Numeric(asdecimal=False),
    ),
    "int to bigint": ("integer", "ALTER COLUMN v TYPE bigint", 2**40, BigInteger()),
    "varchar to text": ("varchar(3)", "ALTER COLUMN v TYPE text", "longer", String()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_table_that_is_altered_between_chunks_is_written_as_it_is_then(
    postgres_engine, monkeypatch, change, copied, workers
):
    """The first chunk goes by what the table was, and those behind by what it is, without a failure or a fallback."""
    monkeypatch.setattr("batchwrite.sinks.postgresql.bulk._FEWEST_FOR_COPY", 1 if copied else 1_000)
    kind, alter, value, declared = CHANGES[change]
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE t (id integer PRIMARY KEY, v {kind})")
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False), Column("v", declared))

    def write(number, out):
        out.insert(table, {"id": number, "v": None if number < 4 else value})

    with BatchWriter(postgres_engine, chunk_size=2, workers=workers) as writer:
        assert writer.run([1, 2, 3], write).written == 3
        with postgres_engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE t {alter}")
        result = writer.run([4, 5, 6, 7], write)
        assert (result.written, result.fallbacks, result.failures) == (4, 0, ())
        with postgres_engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM t WHERE id > 3")
        assert writer.run([4], lambda number, out: out.upsert(table, {"id": 4, "v": value})).written == 1
    with postgres_engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT v FROM t WHERE id = 4").scalar() == value


def test_tenants_by_search_path_have_each_their_own_table(postgres_engine):
    """A writer with connections of several search paths: the same name is another table, of another type."""
    with postgres_engine.begin() as connection:
        for schema, kind in (("one", "real"), ("two", "double precision")):
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
            connection.exec_driver_sql(f"CREATE TABLE {schema}.t (id integer PRIMARY KEY, v {kind})")
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False), Column("v", Float))
    engine = create_engine(postgres_engine.url, poolclass=NullPool)
    tenant = "one"

    @event.listens_for(engine, "connect")
    def choose(raw, _record):
        raw.execute(f"SET search_path = {tenant}")
        raw.commit()

    with BatchWriter(engine) as writer:
        for number in range(6):
            tenant = ("one", "two")[number % 2]
            result = writer.run([{"id": number, "v": 0.1}], lambda row, out: out.insert(table, row))
            assert (result.written, result.fallbacks) == (1, 0)
    with postgres_engine.connect() as connection:
        assert {v for (v,) in connection.exec_driver_sql("SELECT v FROM two.t")} == {0.1}
        assert connection.exec_driver_sql("SELECT count(*) FROM one.t").scalar() == 3
