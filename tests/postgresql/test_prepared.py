"""What psycopg prepares on the general path, and what is left of it when a statement fails."""

import itertools

import pytest
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Table, create_engine, event, func, select
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeDecorator

from batchwrite import BatchWriter


class Positive(TypeDecorator):
    """A type with a bind expression, for which there is no fast path."""

    impl = Integer
    cache_ok = True

    def bind_expression(self, bindvalue):
        return func.abs(bindvalue)


# A row without a size is another statement to psycopg than one with a size: it is prepared under another name.
TABLE = Table(
    "sizes",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", Positive),
    Column("n", Integer, CheckConstraint("n < 100")),
)
GOOD, GOOD_NULL, BAD, BAD_NULL = {"size": -7, "n": 1}, {"n": 1}, {"size": -7, "n": 500}, {"n": 500}
CHUNKS = [
    (first, second, third, fourth, fifth)
    for first, second, third, fourth, fifth in itertools.product([GOOD, GOOD_NULL, BAD, BAD_NULL], repeat=5)
    if first["n"] == fourth["n"] == 500 and [second, third, fifth].count(GOOD) == 1
][::4]


@pytest.fixture
def engine(postgres_engine):
    """One connection for all chunks: what psycopg remembers of it in one, it remembers in the next."""
    TABLE.metadata.create_all(postgres_engine)
    engine = create_engine(postgres_engine.url, pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


def rows_of(shapes):
    return [{"id": number, "size": None, **shape} for number, shape in enumerate(shapes)]


def assert_written(result, rows):
    assert result.abort is None
    assert [failure.index for failure in result.failures] == [row["id"] for row in rows if row["n"] == 500]
    assert result.written + result.failed == len(rows)


def test_a_statement_that_fails_leaves_no_name_behind(engine):
    for rows in map(rows_of, CHUNKS):
        with engine.begin() as connection:
            connection.execute(TABLE.delete())
        engine.dispose()
        assert_written(BatchWriter(engine, chunk_size=3).run(rows, lambda row, out: out.insert(TABLE, row)), rows)


def test_nor_does_one_in_somebody_elses_transaction(engine):
    rows = rows_of([GOOD, BAD_NULL, GOOD, BAD, GOOD_NULL] * 2)
    with Session(engine) as session:
        for _ in range(3):
            writer = BatchWriter.in_session(session, chunk_size=3)
            assert_written(writer.run(rows, lambda row, out: out.insert(TABLE, row)), rows)
            session.execute(TABLE.delete())
            raw = session.connection().connection.driver_connection
            assert raw.prepare_threshold == 5  # psycopg prepares again as it did


def test_what_is_no_longer_prepared_is_prepared_again(engine):
    """As behind a pool that runs DISCARD ALL, or where somebody's own statement has failed and left a name behind."""

    @event.listens_for(engine, "checkout")
    def forget(connection, *_):
        connection.pgconn.exec_(b"DEALLOCATE ALL")

    rows = rows_of([GOOD, GOOD_NULL] * 10)
    result = BatchWriter(engine, chunk_size=5).run(rows, lambda row, out: out.insert(TABLE, row))
    assert_written(result, rows)
    assert result.fallbacks == 0
    with engine.connect() as connection:
        sizes = connection.scalars(select(TABLE.c.size).order_by(TABLE.c.id)).all()
    assert sizes == [7, None] * 10
