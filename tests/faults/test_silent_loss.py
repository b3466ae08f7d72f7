"""The traps in which data are lost without a word, one test or more each; numbered as in the notes that found them.

They were met with the databases, drivers and libraries below this one; what they have in common is that nothing raises.
"""

import asyncio
import logging
import sqlite3
import time
from contextlib import contextmanager
from decimal import Decimal

import pytest
from ids import shown
from provoked import AT_ONCE, KILL, METADATA, RAISE_ONCE, THINGS, assert_aborted, insert_thing, written
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    NullPool,
    Numeric,
    StaticPool,
    String,
    Table,
    create_engine,
    event,
    select,
    text,
)

from batchwrite import BatchWriter, RetryPolicy, Status
from batchwrite.sinks.postgresql import bulk, wire
from batchwrite.sinks.postgresql.rules import PostgresqlRules
from batchwrite.sinks.sql import SqlSink

GOOD_AND_BAD = ({"id": 1}, {"id": 2, "checked": 0}, {"id": 3})


def fast(engine):
    return BatchWriter(engine, retry=AT_ONCE)


def generic(engine):
    """A writer that goes through SQLAlchemy alone."""
    writer = BatchWriter(engine, retry=AT_ONCE)
    writer._runs._sink = SqlSink(engine, PostgresqlRules())
    return writer


# ---- 1: COMMIT of an aborted transaction "succeeds", and the rows are gone


@pytest.mark.parametrize("with_copy", [False, True])
def test_trap_1_a_commit_that_was_a_rollback_is_not_taken_for_one(postgres, monkeypatch, with_copy):
    """A bug of ours that swallowed the error of a statement would have COMMIT answered by ROLLBACK."""
    monkeypatch.setattr(wire, "_raise_if_failed", lambda *_: None)
    monkeypatch.setattr(bulk, "_FEWEST_FOR_COPY", 1 if with_copy else 1_000)
    result = BatchWriter(postgres, retry=AT_ONCE).run(GOOD_AND_BAD, insert_thing)
    assert written(postgres) == []
    assert (result.written, result.failed, result.status) == (0, 0, Status.ABORTED)
    assert "rollback" in result.abort.message or "committed" in result.abort.message


def test_trap_1_an_error_that_is_swallowed_on_sqlalchemys_path_leaves_nothing_to_commit(postgres, monkeypatch):
    original = SqlSink._run

    def swallowing(self, connection, step):
        try:
            original(self, connection, step)
        except Exception:
            logging.getLogger(__name__).debug("swallowed")

    monkeypatch.setattr(SqlSink, "_run", swallowing)
    result = generic(postgres).run(GOOD_AND_BAD, insert_thing)
    assert written(postgres) == []
    assert (result.written, result.status, result.abort.reason) == (0, Status.ABORTED, "fatal")
    assert "INERROR" in result.abort.message


# ---- 2: SQLAlchemy compiles the first row's keys, and drops what the others have more


@pytest.mark.parametrize("rows", [[{"id": 1}, {"id": 2, "small": 3}], [{"id": 1, "short": "a"}, {"id": 2, "small": 3}]])
def test_trap_2_a_column_that_the_first_row_does_not_have_is_not_dropped(database, rows):
    assert BatchWriter(database).run(rows, insert_thing).written == 2
    with database.connect() as connection:
        assert connection.scalar(select(THINGS.c.small).where(THINGS.c.id == 2)) == 3
        assert connection.scalar(select(THINGS.c.short).where(THINGS.c.id == 1)) == rows[0].get("short")


def test_trap_2_a_key_that_is_no_column_is_not_ignored(database):
    result = BatchWriter(database).run([{"id": 1}, {"id": 2, "smal": 3}, {"id": 3}], insert_thing)
    assert [(failure.index, failure.column) for failure in result.failures] == [(1, "smal")]
    assert written(database) == [1, 3]


# ---- 3: UPDATE … FROM applies one of several deltas of a key


@pytest.mark.parametrize("chunk_size", [1, 2, 5])
def test_trap_3_all_increments_of_a_key_are_applied(database, chunk_size):
    with database.begin() as connection:
        connection.execute(THINGS.insert(), [{"id": 1, "small": 0}, {"id": 2, "small": 0}])
    deltas = [(1, 5), (1, 7), (2, 1), (1, 9), (99, 100)]

    def map_item(item, out):
        out.increment(THINGS, {"id": item[0]}, small=item[1])

    result = BatchWriter(database, chunk_size=chunk_size).run(deltas, map_item)
    assert (result.written, result.failed) == (4, 1)
    with database.connect() as connection:
        assert list(connection.scalars(select(THINGS.c.small).order_by(THINGS.c.id))) == [21, 1]


# ---- 4: a COMMIT that fails on SQLite leaves the transaction open, and the pool gets the connection back inside it


@contextmanager
def reading(path):
    """A reader, which keeps others from committing."""
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM things").fetchall()
    try:
        yield
    finally:
        reader.execute("ROLLBACK")
        reader.close()


def assert_nothing_is_open(engine):
    raw = engine.raw_connection()
    assert not raw.dbapi_connection.in_transaction
    raw.close()


def test_trap_4_a_commit_that_is_refused_for_a_reader_leaves_nothing_open(tmp_path):
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    engine = create_engine(url, connect_args={"timeout": 0, "check_same_thread": False}, poolclass=StaticPool)
    METADATA.create_all(engine)
    with reading(tmp_path / "busy.db"):
        assert_aborted(engine, "transient", "SQLITE_BUSY")
        assert_nothing_is_open(engine)
    assert written(engine) == []
    assert BatchWriter(engine).run([{"id": 1}], insert_thing).written == 1
    engine.dispose()


def test_trap_4_a_commit_that_is_refused_for_a_deferred_key_leaves_nothing_open(tmp_path):
    """A table that SQLAlchemy does not know waits for COMMIT: its row comes from a trigger."""
    url = f"sqlite:///{tmp_path / 'deferred.db'}"
    engine = create_engine(url, connect_args={"check_same_thread": False}, poolclass=StaticPool)
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
    engine.dispose()
    metadata = MetaData()
    node = Table(
        "node",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("p", ForeignKey("node.id", deferrable=True, initially="DEFERRED")),
    )
    metadata.create_all(engine)
    rows = [{"id": 1, "p": 1}, {"id": 2, "p": 99}, {"id": 3, "p": 1}]
    result = BatchWriter(engine, retry=AT_ONCE).run(rows, lambda row, out: out.insert(node, row))
    assert [failure.index for failure in result.failures] == [1]
    assert_nothing_is_open(engine)
    with engine.connect() as connection:
        assert list(connection.scalars(select(node.c.id))) == [1, 3]
    engine.dispose()


# ---- 5: what SQLite takes without a word: texts of any length, texts as numbers, NaN as NULL (MariaDB: see its tests)


def test_trap_5_sqlite_stores_a_text_that_is_too_long_whole(sqlite):
    assert BatchWriter(sqlite).run([{"id": 1, "short": "longer"}], insert_thing).written == 1
    with sqlite.connect() as connection:
        assert connection.scalar(select(THINGS.c.short)) == "longer"


@pytest.mark.parametrize("value", [float("nan"), Decimal("NaN")], ids=shown)
@pytest.mark.parametrize("column", ["money", "required", "small"])
def test_trap_5_nan_does_not_become_null(sqlite, value, column):
    result = BatchWriter(sqlite).run([{"id": 1}, {"id": 2, column: value}, {"id": 3}], insert_thing)
    assert [failure.index for failure in result.failures] == [1]
    assert written(sqlite) == [1, 3]


def test_trap_5_a_strict_table_refuses_a_text_as_a_number(sqlite_engine):
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE strict (id INTEGER PRIMARY KEY, n INTEGER) STRICT")
    table = Table("strict", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    rows = [{"id": 1, "n": 1}, {"id": 2, "n": "x"}, {"id": 3, "n": 3}]
    result = BatchWriter(sqlite_engine).run(rows, lambda row, out: out.insert(table, row))
    assert [failure.index for failure in result.failures] == [1]


# ---- 6: PostgreSQL rounds, and numeric takes NaN


NUMBERS = Table(
    "numbers",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("whole", Integer),
    Column("money", Numeric(5, 2)),
    Column("label", String(5)),
)


def stored_by(engine, rows, write):
    NUMBERS.create(engine)
    try:
        write(rows)
        with engine.connect() as connection:
            return connection.execute(select(NUMBERS).order_by(NUMBERS.c.id)).all()
    finally:
        NUMBERS.drop(engine)


@pytest.mark.parametrize("with_copy", [False, True])
@pytest.mark.parametrize("values", [{"whole": 1.6}, {"money": Decimal("1.239")}, {"money": 1.239}, {"money": "1.239"}])
def test_trap_6_a_number_is_rounded_once_and_as_sqlalchemy_has_it_rounded(
    postgres_engine, monkeypatch, values, with_copy
):
    """The database's own rounding is no loss of ours; a second one, or another, would be."""
    monkeypatch.setattr(bulk, "_FEWEST_FOR_COPY", 1 if with_copy else 1_000)
    rows = [{"id": number, **values} for number in range(1, 4)]

    def by_sqlalchemy(rows):
        with postgres_engine.begin() as connection:
            for row in rows:
                connection.execute(NUMBERS.insert().values(row))

    def by_us(rows):
        assert BatchWriter(postgres_engine).run(rows, lambda row, out: out.insert(NUMBERS, row)).written == 3

    assert stored_by(postgres_engine, rows, by_us) == stored_by(postgres_engine, rows, by_sqlalchemy)


@pytest.mark.parametrize("value", [Decimal("NaN"), float("nan"), Decimal("Infinity")], ids=shown)
def test_trap_6_nan_is_refused_for_money(postgres, value):
    result = BatchWriter(postgres).run([{"id": 1}, {"id": 2, "money": value}, {"id": 3}], insert_thing)
    assert [failure.index for failure in result.failures] == [1]
    assert written(postgres) == [1, 3]


# ---- 7: COPY does not begin a transaction of SQLAlchemy's, and a killed backend leaves its connection in the pool


@pytest.fixture
def always_copy(monkeypatch):
    monkeypatch.setattr(bulk, "_FEWEST_FOR_COPY", 1)


@pytest.mark.usefixtures("always_copy")
def test_trap_7_what_is_copied_is_committed(postgres, caplog):
    caplog.set_level(logging.DEBUG, logger="batchwrite.sql")
    assert BatchWriter(postgres).run([{"id": 1}, {"id": 2}], insert_thing).written == 2
    assert any("COPY" in record.getMessage() for record in caplog.records)
    other = create_engine(postgres.url, poolclass=NullPool)
    assert written(other) == [1, 2]
    other.dispose()


@pytest.mark.usefixtures("always_copy")
def test_trap_7_what_is_copied_before_something_fails_is_undone(postgres):
    def map_item(row, out):
        out.insert(THINGS, {"id": row["id"], "small": 0})
        out.increment(THINGS, {"id": row["counts"]}, small=1)

    rows = [{"id": 1, "counts": 1}, {"id": 2, "counts": 99}, {"id": 3, "counts": 1}]
    result = BatchWriter(postgres).run(rows, map_item)
    assert [failure.index for failure in result.failures] == [1]
    assert written(postgres) == [1, 3]


@pytest.mark.usefixtures("always_copy")
def test_trap_7_a_backend_killed_in_a_copy_leaves_no_dead_connection_in_the_pool(postgres):
    with postgres.begin() as connection:
        connection.exec_driver_sql(RAISE_ONCE.format(action=KILL, times=1))
    rows = [{"id": 1}, {"id": 2, "small": 7}]
    assert BatchWriter(postgres, retry=AT_ONCE).run(rows, insert_thing).written == 2
    with postgres.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    assert written(postgres) == [1, 2]


# ---- 8: retries that block an event loop, and cancellation that is no Exception


def test_trap_8_a_run_in_a_thread_leaves_the_event_loop_alone_while_it_waits(postgres):
    """Waiting for the next attempt is the thread's own; elsewhere nothing stands still."""
    with postgres.begin() as connection:
        connection.exec_driver_sql(RAISE_ONCE.format(action="RAISE EXCEPTION USING ERRCODE = '40001'", times=1))
    slow = RetryPolicy(attempts=3, first_wait=0.5, longest_wait=0.5)

    async def run():
        writing = asyncio.create_task(
            asyncio.to_thread(BatchWriter(postgres, retry=slow).run, [{"id": 1, "small": 7}], insert_thing)
        )
        longest, last = 0.0, time.monotonic()
        while not writing.done():
            await asyncio.sleep(0.001)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        return (await writing).written, longest

    landed, longest = asyncio.run(run())
    assert landed == 1
    assert longest < 0.4


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, GeneratorExit])
def test_trap_8_what_is_no_exception_undoes_the_chunk_it_comes_in(database, error):
    def map_item(row, out):
        if row["id"] == 4:
            raise error
        insert_thing(row, out)

    with pytest.raises(error):
        BatchWriter(database, chunk_size=2, workers=0).run([{"id": number} for number in range(1, 6)], map_item)
    assert written(database) == [1, 2]
    assert database.pool.checkedout() == 0


# ---- Spring Batch #5079: an item that is not to be skipped is dropped, and the job goes on as if nothing had happened


@pytest.mark.parametrize("bad", [{"checked": 0}, {"required": None}, {"colour": []}], ids=shown)
@pytest.mark.parametrize("options", [{"on_failure": "stop"}, {"max_failures": 0}, {"max_failure_ratio": 0.0}], ids=str)
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_spring_5079_an_item_that_may_not_fail_ends_the_run_and_is_accounted_for(database, bad, options, chunk_size):
    rows = [{"id": 1}, {"id": 2}, {"id": 3} | bad, *({"id": number} for number in range(4, 8))]
    result = BatchWriter(database, chunk_size=chunk_size, retry=AT_ONCE, **options).run(rows, insert_thing)
    assert (result.status, result.abort.reason) == (Status.ABORTED, "failure_limit")
    assert [failure.index for failure in result.failures] == [2]
    assert result.received == result.written + result.failed + result.unattempted
    assert len(written(database)) == result.written
    with pytest.raises(Exception, match="aborted"):
        result.raise_for_failures()


def test_spring_5079_an_item_that_raises_in_map_where_none_may_fail_ends_the_run(database):
    def map_item(row, out):
        if row["id"] == 3:
            raise ValueError
        insert_thing(row, out)

    result = BatchWriter(database, on_failure="stop").run([{"id": number} for number in range(1, 8)], map_item)
    assert (result.abort.reason, [failure.index for failure in result.failures]) == ("failure_limit", [2])
    assert written(database) == [1, 2]


def test_spring_5079_a_chunk_whose_attempts_are_used_up_is_not_passed_by(postgres):
    with postgres.begin() as connection:
        connection.exec_driver_sql(RAISE_ONCE.format(action="RAISE EXCEPTION USING ERRCODE = '40001'", times=1_000))
    rows = [{"id": 1}, {"id": 2}, {"id": 3, "small": 7}, {"id": 4}, {"id": 5}, {"id": 6}]
    result = BatchWriter(postgres, chunk_size=2, retry=AT_ONCE).run(rows, insert_thing)
    assert (result.written, result.failed, result.abort.reason) == (2, 0, "transient")
    assert result.unattempted == result.received - 2
    assert written(postgres) == [1, 2]


# ---- Spring Batch #5091: an error that no item can be skipped for has the whole chunk written again, item by item


@contextmanager
def statements(engine, caplog):
    """What is sent to the database."""
    sent = []

    def note(connection, cursor, statement, parameters, context, executemany):
        sent.append(statement)

    caplog.set_level(logging.DEBUG, logger="batchwrite.sql")
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)
        sent += [record.getMessage() for record in caplog.records if record.name == "batchwrite.sql"]


WEATHER_AND_DAMAGE = ["40001", "53100", "XX001", "XX002", "58030"]


@pytest.mark.parametrize("code", WEATHER_AND_DAMAGE)
@pytest.mark.parametrize("path", [fast, generic])
def test_spring_5091_what_is_no_items_fault_has_no_item_tried_by_itself(postgres, caplog, code, path):
    with postgres.begin() as connection:
        connection.exec_driver_sql(RAISE_ONCE.format(action=f"RAISE EXCEPTION USING ERRCODE = '{code}'", times=1_000))
    rows = [{"id": 1}, {"id": 2, "small": 7}, {"id": 3}]
    with statements(postgres, caplog) as sent:
        result = path(postgres).run(rows, insert_thing)
    assert (result.written, result.failed, result.unattempted, result.fallbacks) == (0, 0, 3, 0)
    assert not [sql for sql in sent if sql.startswith(("SAVEPOINT", "DO "))]
    assert not any(getattr(record, "action", "") == "fallback" for record in caplog.records)
    assert sum(sql.startswith(("INSERT", "COPY")) for sql in sent) <= 2 * AT_ONCE.attempts  # rows of two shapes
    assert written(postgres) == []


def test_spring_5091_a_lost_connection_has_no_item_tried_by_itself(postgres, caplog):
    with postgres.begin() as connection:
        connection.exec_driver_sql(RAISE_ONCE.format(action=KILL, times=1))
    with statements(postgres, caplog) as sent:
        result = BatchWriter(postgres, retry=AT_ONCE).run([{"id": 1}, {"id": 2, "small": 7}], insert_thing)
    assert (result.written, result.fallbacks) == (2, 0)
    assert not [sql for sql in sent if sql.startswith(("SAVEPOINT", "DO "))]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_spring_5091_good_items_are_written_once_whatever_their_chunk_goes_through(postgres, workers):
    """What is written counts its rows in a table that no rollback empties twice."""
    with postgres.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE seen (id int); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO seen VALUES (NEW.id); RETURN NEW; END $$; "
            "CREATE TRIGGER s AFTER INSERT ON things FOR EACH ROW EXECUTE FUNCTION see()"
        )
    rows = [{"id": number} | ({"checked": 0} if number % 5 == 0 else {}) for number in range(1, 31)]
    result = BatchWriter(postgres, chunk_size=7, workers=workers).run(rows, insert_thing)
    assert (result.written, result.failed) == (24, 6)
    with postgres.connect() as connection:
        assert list(connection.scalars(text("SELECT id FROM seen ORDER BY id"))) == written(postgres)
