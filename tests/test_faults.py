"""Faults: real errors of both databases, each ending as a failed item, as a retry or as an abort, as promised."""

import sqlite3
import threading
from decimal import Decimal

import psycopg
import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Enum,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    NullPool,
    Numeric,
    SmallInteger,
    StaticPool,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy import exc as sqlalchemy_errors

from batchwrite import BatchWriter, RetryPolicy, Stage, Status
from batchwrite.faults import SQLSTATE_CLASS_KINDS, SQLSTATE_KINDS, FaultKind, classify

AT_ONCE = RetryPolicy(attempts=3, first_wait=0, longest_wait=0)


class Odd(Exception):
    """An exception of the user's own, raised while a value is converted."""


class Picky(TypeDecorator):
    """A type that refuses a value in its own way."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        if value == "odd":
            raise Odd(value)
        if value == "lookup":
            raise KeyError(value)
        return value


METADATA = MetaData()
PARENT = Table("parent", METADATA, Column("id", Integer, primary_key=True, autoincrement=False))
THINGS = Table(
    "things",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("required", Integer, nullable=False, default=1),
    Column("single", Integer, unique=True),
    Column("checked", Integer, CheckConstraint("checked > 0", name="ck_checked")),
    Column("parent", ForeignKey("parent.id")),
    Column("short", String(3)),
    Column("long", Text, index=True),
    Column("small", SmallInteger),
    Column("money", Numeric(5, 2)),
    Column("day", Date),
    Column("moment", DateTime),
    Column("flag", Boolean),
    Column("data", LargeBinary),
    Column("document", JSON),
    Column("uuid", Uuid),
    Column("colour", Enum("red", "green", name="colour")),
    Column("picky", Picky),
)


@pytest.fixture
def database(engine):
    METADATA.create_all(engine)
    return engine


@pytest.fixture
def postgres(postgres_engine):
    METADATA.create_all(postgres_engine)
    return postgres_engine


@pytest.fixture
def sqlite(sqlite_engine):
    METADATA.create_all(sqlite_engine)
    return sqlite_engine


def insert_thing(row, out):
    out.insert(THINGS, row)


def written(engine):
    with engine.connect() as connection:
        return list(connection.scalars(select(THINGS.c.id).order_by(THINGS.c.id)))


def fail_among_good(engine, bad, map_item=insert_thing):
    """The failure of one bad row between two good ones, in the middle of a chunk."""
    rows = [{"id": 1}, {"id": 2} | bad, {"id": 3}]
    result = BatchWriter(engine, retry=AT_ONCE).run(rows, map_item)
    assert result.abort is None, result.abort
    assert (result.written, result.failed) == (2, 1)
    assert written(engine) == [1, 3]
    (failure,) = result.failures
    assert failure.index == 1
    return failure


def assert_aborted(engine, reason, sqlstate=None, *, rows=({"id": 1}, {"id": 2}), **options):
    """A run that stops with everything unattempted."""
    result = BatchWriter(engine, retry=AT_ONCE, **options).run(rows, insert_thing)
    assert result.status is Status.ABORTED
    assert (result.written, result.failed, result.unattempted) == (0, 0, len(rows))
    assert (result.abort.reason, result.abort.sqlstate) == (reason, sqlstate)
    return result


# ---- the item's own, on both databases


@pytest.mark.parametrize(
    ("bad", "codes", "column"),
    [
        ({"required": None}, ("23502", "SQLITE_CONSTRAINT_NOTNULL"), "required"),
        ({"id": 1}, ("23505", "SQLITE_CONSTRAINT_PRIMARYKEY"), "id"),
        ({"checked": 0}, ("23514", "SQLITE_CONSTRAINT_CHECK"), None),
        ({"parent": 99}, ("23503", "SQLITE_CONSTRAINT_FOREIGNKEY"), "parent"),
    ],
)
def test_a_constraint_that_refuses_a_row_is_named(database, bad, codes, column):
    failure = fail_among_good(database, bad)
    is_postgres = database.dialect.name == "postgresql"
    assert failure.sqlstate == codes[0 if is_postgres else 1]
    assert failure.stage is Stage.WRITE
    if is_postgres or "FOREIGNKEY" not in failure.sqlstate:
        assert failure.table == "things" or failure.constraint == "ck_checked"
    if is_postgres or column != "parent":
        assert failure.column == column or failure.constraint == "ck_checked"


def test_a_foreign_key_that_refuses_a_row_names_at_least_its_table(sqlite):
    assert fail_among_good(sqlite, {"parent": 99}).table == "things"


def test_a_unique_key_taken_by_an_earlier_item_is_named(database):
    rows = [{"id": 1, "single": 7}, {"id": 2, "single": 7}, {"id": 3}]
    result = BatchWriter(database).run(rows, insert_thing)
    (failure,) = result.failures
    assert (failure.index, failure.table, failure.column) == (1, "things", "single")
    assert failure.sqlstate in {"23505", "SQLITE_CONSTRAINT_UNIQUE"}


@pytest.mark.parametrize(
    "bad",
    [
        {"required": [1]},
        {"required": {"a": 1}},
        {"required": object()},
        {"small": 2**80},
        {"required": 2**70},
        {"short": "\ud800"},
        {"day": "someday"},
        {"moment": 5},
        {"flag": "maybe"},
        {"data": "text"},
        {"document": object()},
        {"document": {"a": object()}},
        {"document": {1: {2}}},
        {"uuid": "no uuid"},
        {"uuid": 5},
        {"colour": []},
        {"picky": "lookup"},
        {"money": "much"},
        {"money": object()},
        {"money": Decimal("NaN")},
        {"money": Decimal("sNaN")},
        {"money": float("inf")},
        {"money": float("nan")},
    ],
    ids=repr,
)
def test_a_value_that_the_column_cannot_hold_fails_its_item(database, bad):
    failure = fail_among_good(database, bad)
    assert failure.stage is Stage.WRITE


def circular():
    made = []
    made.append(made)
    return made


def nested():
    made = []
    for _ in range(100_000):
        made = [made]
    return made


@pytest.mark.parametrize(
    "bad", [{"picky": "odd"}, {"document": circular()}, {"document": nested()}], ids=["own", "circular", "nested"]
)
def test_whatever_the_conversion_of_a_value_raises_fails_its_item(database, bad):
    fail_among_good(database, bad)


def test_an_unknown_column_fails_its_item_by_name(database):
    failure = fail_among_good(database, {"colur": "red"})
    assert (failure.stage, failure.table, failure.column) == (Stage.MAP, "things", "colur")


@pytest.mark.parametrize("method", ["update", "increment", "delete"])
def test_a_row_that_does_not_exist_fails_its_item(database, method):
    def map_item(row, out):
        out.insert(THINGS, {"id": row["id"]})
        if "key" in row:
            values = {} if method == "delete" else {"small": 1}
            getattr(out, method)(THINGS, {"id": row["key"]}, **values)

    failure = fail_among_good(database, {"key": 99}, map_item)
    assert (failure.table, failure.column) == ("things", "id")
    assert "no row has this key" in failure.message


def test_an_increment_of_nothing_fails_its_item(database):
    def map_item(row, out):
        out.insert(THINGS, {"id": row["id"]})
        if "small" in row:
            out.increment(THINGS, {"id": row["id"]}, small=1)

    failure = fail_among_good(database, {"small": 1}, map_item)
    assert failure.column == "small"
    assert failure.message.startswith("the column to be incremented (small) is NULL")


# ---- the item's own, on PostgreSQL


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"short": "long"}, "22001"),
        ({"small": 2**20}, "22003"),
        ({"money": 12345}, "22003"),
        ({"required": "x"}, "22P02"),
        ({"flag": "maybe"}, None),
        ({"colour": "blue"}, "22P02"),
        ({"required": 2**40}, "22003"),
        ({"required": [1]}, "42846"),
        ({"short": "a\0"}, None),
        ({"document": {"a": "\0"}}, None),
    ],
    ids=repr,
)
def test_postgresql_says_by_code_what_it_refuses(postgres, bad, code):
    if bad == {"document": {"a": "\0"}}:
        with postgres.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE things ALTER document TYPE jsonb")
        code = "22P05"
    assert fail_among_good(postgres, bad).sqlstate == code


def test_a_value_too_large_for_an_index_fails_its_item(postgres):
    import random

    value = "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    assert fail_among_good(postgres, {"long": value}).sqlstate == "54000"


def raise_by_trigger(engine, code, *, column="small", value=7, when="BEFORE"):
    """Rows with that value are refused with that code."""
    deferred = "DEFERRABLE INITIALLY DEFERRED" if when == "CONSTRAINT" else ""
    timing = "CONSTRAINT TRIGGER t AFTER" if when == "CONSTRAINT" else f"TRIGGER t {when}"
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted'"
            f" USING ERRCODE = '{code}'; END $$; CREATE {timing} INSERT ON things {deferred}"
            f" FOR EACH ROW WHEN (NEW.{column} = {value}) EXECUTE FUNCTION refuse()"
        )


@pytest.mark.parametrize(
    "code",
    [
        "P0001",
        "P0002",
        "BW001",
        "HV000",
        "22000",
        "22008",
        "22012",
        "23000",
        "23P01",
        "23001",
        "44000",
        "21000",
        "54001",
    ],
)
@pytest.mark.parametrize("when", ["BEFORE", "CONSTRAINT"])
def test_what_a_trigger_raises_fails_the_item(postgres, code, when):
    raise_by_trigger(postgres, code, when=when)
    failure = fail_among_good(postgres, {"small": 7})
    assert failure.sqlstate == code
    assert failure.stage is (Stage.COMMIT if when == "CONSTRAINT" else Stage.WRITE)


def test_a_deferred_foreign_key_is_blamed_on_its_item(engine, created):
    metadata = MetaData()
    key = ForeignKey("node.id", deferrable=True, initially="DEFERRED")
    node = Table("node", metadata, Column("id", Integer, primary_key=True), Column("p", Integer, key))
    rows = [{"id": 1, "p": 1}, {"id": 2, "p": 99}, {"id": 3}]
    with created(engine, metadata):
        result = BatchWriter(engine).run(rows, lambda row, out: out.insert(node, row))
    assert [(failure.index, failure.stage) for failure in result.failures] == [(1, Stage.COMMIT)]


# ---- the item's own, on SQLite


def test_a_trigger_of_sqlite_fails_the_item(sqlite):
    with sqlite.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER t BEFORE INSERT ON things WHEN NEW.small = 7 BEGIN SELECT RAISE(ABORT, 'planted'); END"
        )
    assert fail_among_good(sqlite, {"small": 7}).sqlstate == "SQLITE_CONSTRAINT_TRIGGER"


def test_a_trigger_of_sqlite_that_rolls_back_loses_no_other_item(sqlite):
    """RAISE(ROLLBACK) and ON CONFLICT ROLLBACK end the whole transaction, savepoints and all."""
    with sqlite.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER t BEFORE INSERT ON things WHEN NEW.small = 7 BEGIN SELECT RAISE(ROLLBACK, 'planted'); END"
        )
    rows = [{"id": 1}, {"id": 2, "small": 7}, {"id": 3}]
    result = BatchWriter(sqlite, retry=AT_ONCE).run(rows, insert_thing)
    assert written(sqlite) == list(range(1, 1 + 2 * result.written, 2))[: result.written]
    assert result.written + result.failed + result.unattempted == 3
    assert result.failed <= 1


def test_a_strict_table_of_sqlite_fails_the_item(sqlite_engine):
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE strict (id INTEGER PRIMARY KEY, n INTEGER) STRICT")
    table = Table("strict", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    rows = [{"id": 1, "n": 1}, {"id": 2, "n": "x"}, {"id": 3, "n": 3}]
    result = BatchWriter(sqlite_engine).run(rows, lambda row, out: out.insert(table, row))
    assert [failure.index for failure in result.failures] == [1]


def test_a_text_in_the_rowid_of_sqlite_fails_the_item(sqlite):
    assert fail_among_good(sqlite, {"id": "x"}).sqlstate == "SQLITE_MISMATCH"


def test_a_value_too_large_for_sqlite_fails_the_item(sqlite):
    @event.listens_for(sqlite, "connect")
    def limit(raw, record):
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)

    sqlite.dispose()
    assert fail_among_good(sqlite, {"long": "x" * 20_000}).sqlstate == "SQLITE_TOOBIG"


# ---- weather that passes


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "57014"])
@pytest.mark.parametrize("when", ["BEFORE", "CONSTRAINT"])
def test_what_passes_is_tried_again_and_then_ends_the_run(postgres, caplog, code, when):
    raise_by_trigger(postgres, code, when=when)
    result = assert_aborted(postgres, "transient", code, rows=({"id": 1}, {"id": 2, "small": 7}))
    assert sum(getattr(record, "action", "") == "retry" for record in caplog.records) == 2
    assert result.abort.message


RAISE_ONCE = """
CREATE SEQUENCE attempts;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
IF nextval('attempts') <= {times} THEN {action}; END IF; RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW WHEN (NEW.small = 7) EXECUTE FUNCTION refuse();
"""
KILL = "PERFORM pg_terminate_backend(pg_backend_pid())"


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
    assert_aborted(postgres, "lost", "57P01", rows=({"id": 1}, {"id": 2, "small": 7}))


@pytest.fixture
def second(postgres):
    """Another session, in a transaction that has locked row 1."""
    with postgres.begin() as connection:
        connection.execute(THINGS.insert(), [{"id": 1, "small": 0}, {"id": 2, "small": 0}])
    engine = create_engine(postgres.url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(THINGS.update().where(THINGS.c.id == 1).values(small=1))
        yield connection
    engine.dispose()


def increment_thing(key, out):
    out.increment(THINGS, {"id": key}, small=1)


@pytest.mark.parametrize(("setting", "code"), [("lock_timeout", "55P03"), ("statement_timeout", "57014")])
def test_a_lock_that_is_not_given_up_in_time_ends_the_run(postgres, second, setting, code):
    impatient = create_engine(postgres.url, connect_args={"options": f"-c {setting}=50ms"}, poolclass=NullPool)
    result = BatchWriter(impatient, retry=AT_ONCE).run([1, 2], increment_thing)
    assert (result.unattempted, result.abort.reason, result.abort.sqlstate) == (2, "transient", code)


def wait_until_blocked(connection):
    """Until another session of the database waits for a lock."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(1_000):
        connection.execute(text("SELECT pg_stat_clear_snapshot(), pg_sleep(0.01)"))
        if connection.scalar(query):
            return
    pytest.fail("nobody waits for a lock")


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


# ---- weather that does not pass


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("53100", "capacity"),
        ("53200", "capacity"),
        ("53300", "capacity"),
        ("53400", "capacity"),
        ("58030", "capacity"),
        ("42501", "fatal"),
        ("42P01", "fatal"),
        ("42703", "fatal"),
        ("0A000", "fatal"),
        ("25006", "fatal"),
        ("25P02", "fatal"),
        ("28000", "fatal"),
        ("XX000", "fatal"),
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
    code = "42P01" if engine.dialect.name == "postgresql" else "SQLITE_ERROR"
    result = assert_aborted(engine, "fatal", code, rows=rows)
    assert "things" in result.abort.message


def test_a_column_that_is_missing_ends_the_run(database):
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE things DROP COLUMN small")
    code = "42703" if database.dialect.name == "postgresql" else "SQLITE_ERROR"
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
    assert (result.written, result.failed, result.unattempted) == (2, 0, 2)


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


def test_a_value_for_a_generated_column_ends_the_run(engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE g (id int primary key, n int GENERATED ALWAYS AS (id + 1) STORED)")
    table = Table("g", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    result = BatchWriter(engine).run([{"id": 1, "n": 5}], lambda row, out: out.insert(table, row))
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


# ---- the rules by themselves


def test_every_known_code_has_a_kind():
    errors = psycopg.errors
    codes = {getattr(value, "sqlstate", None) for value in vars(errors).values()}
    codes = {code for code in codes if isinstance(code, str)}
    assert len(codes) > 200
    assert {code[:2] for code in codes} - SQLSTATE_CLASS_KINDS.keys() <= {
        *("0F", "10", "0L", "0P", "0Z", "20", "24", "27", "2B", "2D", "2F", "34", "38", "39", "3B", "72", "F0", "HV")
    }


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, FaultKind.ITEM) for code in ("23502", "23505", "23514", "23503", "23P01", "22001", "22P02", "54000")),
        *((code, FaultKind.TRANSIENT) for code in ("40001", "40P01", "55P03", "57014")),
        *((code, FaultKind.LOST) for code in ("57P01", "57P02", "57P03", "25P03", "08006")),
        *((code, FaultKind.CAPACITY) for code in ("53100", "53200", "53300")),
        *((code, FaultKind.FATAL) for code in ("42P01", "42703", "42601", "42804", "42P10", "42501", "428C9", "25006")),
        ("25P02", FaultKind.FATAL),
    ],
)
def test_a_code_decides_whatever_the_class_of_the_exception(code, kind):
    error = psycopg.OperationalError()
    error.sqlstate = code
    wrapped = sqlalchemy_errors.OperationalError("SELECT", {}, error)
    assert classify(wrapped).kind is classify(error).kind is kind


@pytest.mark.parametrize("code", ["25001", "26000", "3B001"])
def test_what_only_a_bug_of_ours_can_raise_is_no_items_fault(code):
    error = psycopg.errors.lookup(code)()
    assert classify(error).kind is FaultKind.FATAL


@pytest.mark.parametrize("error", [MemoryError(), AssertionError("x"), RuntimeError("x"), NotImplementedError("x")])
def test_an_exception_from_nowhere_is_nobodys_item(error):
    assert classify(error).kind is FaultKind.FATAL


def test_a_lost_connection_is_lost_whatever_the_code():
    error = psycopg.errors.UniqueViolation()
    assert classify(error, is_disconnect=True).kind is FaultKind.LOST


def test_codes_and_classes_are_of_the_right_length():
    assert {len(code) for code in SQLSTATE_KINDS} == {5}
    assert {len(code) for code in SQLSTATE_CLASS_KINDS} == {2}
