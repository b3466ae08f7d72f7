"""Engines and pools of every kind."""

import contextlib
import threading

import pytest
from items import (
    METADATA,
    accounted,
    counts,
    ids,
    interrupt_twice,
    on_statement,
    write_one,
)
from sqlalchemy import (
    NullPool,
    StaticPool,
    create_engine,
    event,
)

from batchwrite import (
    BatchWriter,
    RunInterrupted,
)


@pytest.mark.parametrize("name", ["sqlite_engine", "postgres_engine"])
@pytest.mark.parametrize("items", [[1, 2, 3], [1, -2, 3]])
def test_an_engine_without_a_pool_serves(request, name, items):
    pooled = request.getfixturevalue(name)
    METADATA.create_all(pooled)
    engine = create_engine(pooled.url, poolclass=NullPool)
    result = accounted(BatchWriter(engine, chunk_size=2).run(items, write_one), engine)
    assert result.written == sum(item > 0 for item in items)


def committing_engines(given):
    """Engines that commit every statement, by either way of asking for it."""
    yield create_engine(given.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    yield given.execution_options(isolation_level="AUTOCOMMIT")


def test_an_engine_that_commits_every_statement_is_refused(postgres):
    for engine in committing_engines(postgres):
        result = accounted(BatchWriter(engine).run([1, -2, 3], write_one), postgres)
        assert "AUTOCOMMIT" in result.abort.message
        assert counts(result) == (0, 0, 0, 3, 0)


def test_on_sqlite_an_engine_that_commits_every_statement_serves_as_the_chunk_begins_by_itself(sqlite_engine):
    METADATA.create_all(sqlite_engine)
    for number, engine in enumerate(committing_engines(sqlite_engine)):
        result = BatchWriter(engine).run([number + 10, -2, -3, "x"], write_one)
        assert counts(result) == (1, 3, 0, 0, 0)
    with on_statement(sqlite_engine, "INSERT", interrupt_twice), contextlib.suppress(RunInterrupted):
        BatchWriter(sqlite_engine.execution_options(isolation_level="AUTOCOMMIT")).run([1], write_one)
    assert ids(sqlite_engine) == [10, 11]


@pytest.fixture
def memory():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def test_a_database_in_memory_serves(memory):
    result = accounted(BatchWriter(memory, chunk_size=2).run([1, -2, 3, -4, 5], write_one), memory)
    assert counts(result) == (3, 2, 0, 0, 0)


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
@pytest.mark.parametrize("items", [[1, 2, 3], [1, -2, 3]])
def test_an_engine_that_begins_by_itself_serves(tmp_path, begin, items):
    """The recipe of SQLAlchemy's manual for SAVEPOINT on SQLite."""
    engine = create_engine(f"sqlite:///{tmp_path / 'recipe.db'}")

    @event.listens_for(engine, "connect")
    def do_connect(dbapi_connection, connection_record):
        dbapi_connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def do_begin(connection):
        connection.exec_driver_sql(begin)

    METADATA.create_all(engine)
    result = accounted(BatchWriter(engine, chunk_size=2).run(items, write_one), engine)
    assert result.written == sum(item > 0 for item in items)
    with engine.connect() as connection:
        assert connection.connection.dbapi_connection.isolation_level is None
    engine.dispose()


@pytest.mark.parametrize("level", ["", "DEFERRED", "IMMEDIATE", None])
@pytest.mark.parametrize("items", [[1, 2], [-1, 2]])
def test_the_drivers_own_way_of_beginning_is_restored(memory, level, items):
    raw = memory.raw_connection()
    raw.dbapi_connection.isolation_level = level
    raw.close()
    accounted(BatchWriter(memory).run(items, write_one), memory)
    raw = memory.raw_connection()
    assert raw.dbapi_connection.isolation_level == level
    assert not raw.dbapi_connection.in_transaction
    raw.close()


def test_the_drivers_own_way_of_beginning_is_restored_when_the_run_is_interrupted(memory):
    with on_statement(memory, "INSERT", interrupt_twice), pytest.raises(RunInterrupted):
        BatchWriter(memory).run([1], write_one)
    raw = memory.raw_connection()
    assert raw.dbapi_connection.isolation_level == ""
    assert not raw.dbapi_connection.in_transaction
    raw.close()


def test_no_more_connections_are_held_between_chunks_than_there_are_workers(database):
    def map_item(item, out):
        held.append(database.pool.checkedout())
        write_one(item, out)

    held = []
    assert BatchWriter(database, chunk_size=2).run([1, -2, 3, -4, 5], map_item).written == 3
    assert max(held) <= (1 if database.dialect.name == "postgresql" else 0)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_stricter_isolation_serves(postgres, level):
    engine = postgres.execution_options(isolation_level=level)
    assert counts(accounted(BatchWriter(engine).run([1, -2, 3], write_one), postgres)) == (2, 1, 0, 0, 0)


def test_writers_may_run_in_other_threads(database):
    results = []

    def work(start):
        results.append(BatchWriter(database, chunk_size=5).run([*range(start, start + 20), -start], write_one))

    threads = [threading.Thread(target=work, args=(start,)) for start in (100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [counts(result) for result in results] == [(20, 1, 0, 0, 0)] * 3
