"""Lines of the log about slower ways come once for each table and reason, however many writers there are."""

import asyncio
import gc
import threading
from datetime import datetime

import pytest
from databases import async_engine_for
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, func
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Session

from batchwrite import BatchWriter, Listener
from batchwrite.aio import AsyncBatchWriter
from batchwrite.sinks import said as module
from batchwrite.sinks.said import Said, said_of

METADATA = MetaData()
ITEMS = Table("said_items", METADATA, Column("id", Integer, primary_key=True), Column("n", Integer))
OTHERS = Table("said_others", METADATA, Column("id", Integer, primary_key=True), Column("n", Integer))


class Told(Listener):
    def __init__(self):
        self.slow = []

    def on_slow_path(self, slow_path, /):
        self.slow.append((slow_path.table, slow_path.reason))


@pytest.fixture
def database(engine):
    METADATA.create_all(engine)
    return engine


def lines(caplog):
    return [record.getMessage() for record in caplog.records if getattr(record, "action", "") == "slow_path"]


def slowly(table, start=0):
    """Items that are written in a slower way into a table."""
    return [(table, {"id": start + number, "n": func.abs(number)}) for number in range(1, 5)]


def insert(item, out):
    out.insert(*item)


def test_writers_of_one_engine_say_it_once_and_each_tells_its_listeners(database, caplog):
    """A writer a request: by the engine, by a session, by the engine as a tenant has it."""
    told = []
    for request in range(9):
        listener, session = Told(), Session(database)
        tenant = database.execution_options(schema_translate_map={"x": f"tenant_{request}"})
        if request % 3 == 1:
            writer = BatchWriter.in_session(session, chunk_size=2, listeners=[listener])
        else:
            writer = BatchWriter(tenant if request % 3 else database, chunk_size=2, listeners=[listener])
        assert writer.run(slowly(ITEMS, 10 * request), insert).written == 4
        session.rollback()
        told.append(listener.slow)
    reasons = {reason for each in told for table, reason in each}
    assert all(each and len(set(each)) == len(each) for each in told)
    assert {table for each in told for table, _ in each} == {"said_items"}
    assert sorted(lines(caplog)) == sorted(
        f"table said_items is written in a slower way: {reason}" for reason in reasons
    )


def test_another_table_and_another_engine_have_their_own_lines(database, caplog):
    for table in (ITEMS, OTHERS, ITEMS, OTHERS):
        with Session(database) as session:
            BatchWriter.in_session(session).run(slowly(table), insert)
    first = lines(caplog)
    assert len(set(first)) == len(first)
    assert {line.split()[1] for line in first} == {"said_items", "said_others"}
    another = create_engine(database.url)
    with Session(another) as session:
        BatchWriter.in_session(session).run(slowly(ITEMS), insert)
    another.dispose()
    assert sorted(lines(caplog)[len(first) :]) == sorted(line for line in first if "said_items" in line)


def test_writers_with_engines_of_their_own_say_it_once_an_address(tmp_path, caplog):
    """A writer a request that is made of a URL: the engine is another one each time."""
    url = f"sqlite:///{tmp_path / 'own.db'}"
    engine = create_engine(url)
    METADATA.create_all(engine)
    engine.dispose()
    for request in range(4):
        with BatchWriter(url) as writer:
            assert writer.run(slowly(ITEMS, 10 * request), insert).written == 4
    assert len(lines(caplog)) == 1


def test_tasks_share_what_has_been_said(database, caplog):
    async def requests():
        engine = async_engine_for(database)
        for request in range(3):
            await AsyncBatchWriter(engine).run(slowly(ITEMS, 10 * request), insert)
        await engine.dispose()

    asyncio.run(requests())
    said = lines(caplog)
    assert said
    assert len(set(said)) == len(said)


def test_a_driver_without_copy_is_named_once(postgres_engine, caplog):
    engine = async_engine_for(postgres_engine, "postgresql+asyncpg")
    told = [Told() for _ in range(3)]
    for listener in told:
        AsyncBatchWriter(engine, listeners=[listener])
    assert [line.split(":")[0] for line in lines(caplog)] == ["rows are written by INSERT"]
    assert [listener.slow for listener in told] == [[(None, "the driver is asyncpg")]] * 3


def test_a_column_that_drops_digits_is_named_once(mariadb_engine, caplog):
    table = Table("said_times", MetaData(), Column("id", Integer, primary_key=True), Column("at", mysql.DATETIME))
    table.create(mariadb_engine)
    for number in range(3):
        row = {"id": number + 1, "at": datetime(2026, 12, 1, 1, 1, 1, 500)}  # noqa: DTZ001 - as DATETIME has it
        BatchWriter(mariadb_engine).run([row], lambda each, out: out.insert(table, each))
    assert [record.action for record in caplog.records if record.name == "batchwrite"] == ["rounded"]


def test_what_has_been_said_is_bounded_and_forgotten_with_its_engine(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_LINES", 10)
    said = Said()
    assert [said.is_new("slow_path", f"t{number}") for number in range(25)] == [True] * 25
    assert len(said._lines) <= 10
    before = len(module._by_dialect)
    for number in range(300):
        said_of(create_engine(f"sqlite:///{tmp_path / str(number)}"), owns_engine=True).is_new("x")
    gc.collect()
    assert len(module._by_dialect) <= before + 1
    assert len(module._by_address) <= 100


def test_threads_say_it_once():
    said, first = Said(), []

    def say():
        first.extend(number for number in range(1_000) if said.is_new(str(number)))

    threads = [threading.Thread(target=say) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(first) == list(range(1_000))
