"""Faults: real errors of both databases, each ending as a failed item, as a retry or as an abort, as promised."""

import sqlite3
import threading

import pytest
from provoked import (
    AT_ONCE,
    KILL,
    METADATA,
    RAISE_ONCE,
    THINGS,
    assert_aborted,
    increment_thing,
    insert_thing,
    raise_by_trigger,
    wait_until_blocked,
    written,
)
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    NullPool,
    StaticPool,
    Table,
    create_engine,
    event,
    text,
)

from batchwrite import BatchWriter


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "57014"])
@pytest.mark.parametrize("when", ["BEFORE", "CONSTRAINT"])
def test_what_passes_is_tried_again_and_then_ends_the_run(postgres, caplog, code, when):
    raise_by_trigger(postgres, code, when=when)
    result = assert_aborted(postgres, "transient", code, rows=({"id": 1, "small": 7}, {"id": 2, "small": 7}))
    halves = 1 if code == "57014" else 0  # a chunk that is cancelled twice goes on in halves
    actions = [getattr(record, "action", "") for record in caplog.records]
    assert actions.count("isolate") == halves
    assert actions.count("retry") == 2 + halves
    assert result.abort.message


@pytest.mark.parametrize("action", [KILL, *(f"RAISE EXCEPTION USING ERRCODE = '{c}'" for c in ("40001", "40P01"))])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("bad", [{}, {"checked": 0}])
def test_what_passes_in_time_costs_nothing(postgres, action, times, bad):
    with postgres.begin() as connection:
        connection.exec_driver_sql(RAISE_ONCE.format(action=action, times=times))
    rows = [{"id": 1}, {"id": 2, "small": 7}, {"id": 3} | bad]
    result = BatchWriter(postgres, retry=AT_ONCE).run(rows, insert_thing)
    assert (result.written, result.failed, result.abort) == (3 - len(bad), len(bad), None)


def test_a_connection_that_is_lost_each_time_ends_the_run(postgres):
    with postgres.begin() as connection:
        connection.exec_driver_sql(RAISE_ONCE.format(action=KILL, times=99))
    assert_aborted(postgres, "lost", "57P01", rows=({"id": 1, "small": 7}, {"id": 2, "small": 7}))


def test_an_item_that_costs_the_connection_each_time_fails_alone(postgres):
    with postgres.begin() as connection:
        connection.exec_driver_sql(RAISE_ONCE.format(action=KILL, times=99))
    rows = [{"id": 1}, {"id": 2, "small": 7}, {"id": 3}]
    result = BatchWriter(postgres, retry=AT_ONCE).run(rows, insert_thing)
    assert (result.written, result.abort, written(postgres)) == (2, None, [1, 3])
    assert [(failure.index, failure.error_type) for failure in result.failures] == [(1, "ConnectionLost")]


def test_the_first_item_that_costs_the_connection_each_time_fails_alone(postgres):
    with postgres.begin() as connection:
        connection.exec_driver_sql(RAISE_ONCE.format(action=KILL, times=99))
    rows = [{"id": 1, "small": 7}, {"id": 2}, {"id": 3}]
    result = BatchWriter(postgres, retry=AT_ONCE).run(rows, insert_thing)
    assert (result.written, result.failed, result.abort, written(postgres)) == (2, 1, None, [2, 3])


@pytest.mark.parametrize(("setting", "code"), [("lock_timeout", "55P03"), ("statement_timeout", "57014")])
def test_a_lock_that_is_not_given_up_in_time_ends_the_run(postgres, second, setting, code):
    impatient = create_engine(postgres.url, connect_args={"options": f"-c {setting}=50ms"}, poolclass=NullPool)
    result = BatchWriter(impatient, retry=AT_ONCE).run([1, 2], increment_thing)
    assert (result.unattempted, result.abort.reason, result.abort.sqlstate) == (2, "transient", code)


def test_a_deadlock_with_another_session_is_tried_again(postgres, caplog):
    """The other session inserts 20 and then 10, the run 10 and then 20: the run has waited longer, and is chosen."""
    results = []
    rows = [{"id": 20}, {"id": 10}]
    thread = threading.Thread(target=lambda: results.append(BatchWriter(postgres).run(rows, insert_thing)))
    other = create_engine(postgres.url, poolclass=NullPool)
    with other.connect() as connection:
        connection.execute(text("SET deadlock_timeout = '10s'"))
        connection.execute(THINGS.insert(), {"id": 20})
        thread.start()
        wait_until_blocked(connection)
        connection.execute(THINGS.insert(), {"id": 10})
        connection.rollback()
    thread.join()
    assert (results[0].written, results[0].abort) == (2, None)
    assert [record.sqlstate for record in caplog.records if getattr(record, "action", "") == "retry"] == ["40P01"]


def test_sqlite_that_is_busy_ends_the_run(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'busy.db'}", connect_args={"timeout": 0})
    METADATA.create_all(engine)
    other = sqlite3.connect(tmp_path / "busy.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert_aborted(engine, "transient", "SQLITE_BUSY")
    other.execute("ROLLBACK")
    other.close()
    assert BatchWriter(engine).run([{"id": 1}], insert_thing).written == 1
    engine.dispose()


def test_sqlite_that_is_busy_for_a_while_costs_nothing(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'busy.db'}", connect_args={"timeout": 0})
    METADATA.create_all(engine)
    other = sqlite3.connect(tmp_path / "busy.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    @event.listens_for(engine, "handle_error")
    def release(context):
        if other.in_transaction:
            other.execute("ROLLBACK")

    result = BatchWriter(engine, retry=AT_ONCE).run([{"id": 1}, {"id": 2, "checked": 0}], insert_thing)
    assert (result.written, result.failed) == (1, 1)
    other.close()
    engine.dispose()


def test_a_reader_that_keeps_sqlite_from_committing_ends_the_run_and_leaves_nothing_open(tmp_path):
    """COMMIT itself is refused with BUSY, and SQLite leaves the transaction open."""
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    engine = create_engine(url, connect_args={"timeout": 0, "check_same_thread": False}, poolclass=StaticPool)
    METADATA.create_all(engine)
    reader = sqlite3.connect(tmp_path / "busy.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM things").fetchall()
    assert_aborted(engine, "transient", "SQLITE_BUSY")
    raw = engine.raw_connection()
    assert not raw.dbapi_connection.in_transaction
    raw.close()
    reader.execute("ROLLBACK")
    reader.close()
    assert written(engine) == []
    assert BatchWriter(engine).run([{"id": 1}], insert_thing).written == 1
    engine.dispose()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("53100", "capacity"),
        ("53200", "capacity"),
        ("53300", "capacity"),
        ("53400", "capacity"),
        ("58030", "capacity"),
        ("XX001", "fatal"),
        ("XX002", "fatal"),
    ],
)
@pytest.mark.parametrize("when", ["BEFORE", "CONSTRAINT"])
@pytest.mark.parametrize("bad", [{}, {"checked": 0}])
def test_what_no_item_is_to_blame_for_ends_the_run(postgres, code, reason, when, bad):
    raise_by_trigger(postgres, code, when=when)
    assert_aborted(postgres, reason, code, rows=({"id": 1} | bad, {"id": 2, "small": 7}, {"id": 3}))


def test_a_disk_that_is_full_for_temporary_files_ends_the_run(postgres):
    with postgres.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION hungry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "SET LOCAL work_mem = '64kB'; SET LOCAL temp_file_limit = '100kB'; "
            "PERFORM count(*) FROM (SELECT g FROM generate_series(1, 200000) g ORDER BY g DESC) s; "
            "RETURN NEW; END $$; "
            "CREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION hungry()"
        )
    assert_aborted(postgres, "capacity", "53400")


@pytest.mark.parametrize("rows", [[{"id": 1}, {"id": 2}], [{"id": 1}, {"id": 1}]])
def test_a_table_that_is_missing_ends_the_run(engine, rows):
    code = {"postgresql": "42P01", "mariadb": "1146"}.get(engine.dialect.name, "SQLITE_ERROR")
    result = assert_aborted(engine, "fatal", code, rows=rows)
    assert "things" in result.abort.message


def test_a_column_that_is_missing_ends_the_run(database):
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE things DROP COLUMN small")
    code = {"postgresql": "42703", "mariadb": "1054"}.get(database.dialect.name, "SQLITE_ERROR")
    result = assert_aborted(database, "fatal", code, rows=[{"id": 1, "small": 1}, {"id": 2, "small": 2}])
    assert "small" in result.abort.message


def test_a_table_that_goes_missing_leaves_what_was_written(database):
    def map_item(row, out):
        if row["id"] == 3:
            with database.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE things RENAME TO elsewhere")
        insert_thing(row, out)

    rows = [{"id": number} for number in range(1, 7)]
    result = BatchWriter(database, chunk_size=2).run(rows, map_item)
    assert (result.written, result.failed) == (2, 0)
    assert result.unattempted == result.received - 2


def test_a_key_without_a_unique_constraint_ends_the_run(database):
    def map_item(row, out):
        out.upsert(THINGS, row | {"short": "x"}, key="short")

    result = BatchWriter(database).run([{"id": 1}, {"id": 2}], map_item)
    assert (result.unattempted, result.abort.reason) == (2, "fatal")


def test_a_right_that_is_refused_ends_the_run(postgres):
    with postgres.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE bw_faults LOGIN PASSWORD 'x'")
    url = postgres.url.set(username="bw_faults", password="x")  # noqa: S106 - a test's role
    engine = create_engine(url, poolclass=NullPool)
    try:
        assert_aborted(engine, "fatal", "42501")
    finally:
        with postgres.begin() as connection:
            connection.exec_driver_sql("DROP ROLE bw_faults")


def test_a_database_that_may_only_be_read_ends_the_run(postgres):
    options = {"options": "-c default_transaction_read_only=on"}
    engine = create_engine(postgres.url, connect_args=options, poolclass=NullPool)
    assert_aborted(engine, "fatal", "25006")


def test_a_sqlite_file_that_may_only_be_read_ends_the_run(tmp_path, sqlite):
    engine = create_engine(f"sqlite:///file:{sqlite.url.database}?mode=ro&uri=true", poolclass=NullPool)
    assert_aborted(engine, "fatal", "SQLITE_READONLY")


def test_a_sqlite_file_that_cannot_be_opened_ends_the_run(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'no' / 'where.db'}", poolclass=NullPool)
    assert_aborted(engine, "fatal", "SQLITE_CANTOPEN")


def test_a_file_that_is_no_database_ends_the_run(tmp_path):
    path = tmp_path / "no.db"
    path.write_bytes(b"this is no database" * 100)
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    assert_aborted(engine, "fatal", "SQLITE_NOTADB")


@pytest.mark.parametrize("bad", [{}, {"checked": 0}])
def test_a_sqlite_file_that_is_full_ends_the_run(sqlite, bad):
    @event.listens_for(sqlite, "connect")
    def limit(raw, record):
        raw.execute(f"PRAGMA max_page_count = {raw.execute('PRAGMA page_count').fetchone()[0] + 2}").fetchall()

    sqlite.dispose()
    rows = [{"id": 1} | bad, *({"id": number, "long": "x" * 4_000} for number in range(2, 20))]
    assert_aborted(sqlite, "capacity", "SQLITE_FULL", rows=rows)
    assert written(sqlite) == []


def test_a_value_for_a_generated_column_fails_its_item_where_there_is_a_code_for_it(engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE g (id int primary key, n int GENERATED ALWAYS AS (id + 1) STORED)")
    table = Table("g", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    result = BatchWriter(engine).run([{"id": 1, "n": 5}], lambda row, out: out.insert(table, row))
    if engine.dialect.name != "sqlite":
        code = "428C9" if engine.dialect.name == "postgresql" else "1906"
        assert [failure.sqlstate for failure in result.failures] == [code]
    else:  # SQLite has one code for this and for all that is wrong with a statement
        assert (result.abort.reason, result.unattempted) == ("fatal", 1)


@pytest.mark.parametrize(
    "change",
    [
        {"port": 1},
        {"host": "no-such-host.invalid"},
        {"username": "nobody_at_all"},
        {"database": "no_such_database"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_server_that_cannot_be_reached_ends_the_run(postgres_server, change):
    engine = create_engine(postgres_server.url.set(**change), poolclass=NullPool)
    result = assert_aborted(engine, "lost")
    assert result.abort.error_type == "OperationalError"


def test_a_full_pool_ends_the_run(postgres):
    engine = create_engine(postgres.url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    with engine.connect():
        result = BatchWriter(engine, retry=AT_ONCE).run([{"id": 1}], insert_thing)
    assert (result.unattempted, result.failed) == (1, 0)
    assert result.abort.reason != "in_doubt"
    engine.dispose()


def test_a_connection_of_another_thread_is_no_items_fault():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": True})
    METADATA.create_all(engine)
    results = []
    writer = BatchWriter(engine, retry=AT_ONCE)
    thread = threading.Thread(target=lambda: results.append(writer.run([{"id": 1}, {"id": 2}], insert_thing)))
    thread.start()
    thread.join()
    assert (results[0].failed, results[0].unattempted) == (0, 2)
    engine.dispose()
