"""MariaDB: real errors, each ending as a failed item, as a retry or as an abort; and what it does without a word."""

import logging
import threading
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from provoked import (
    AT_ONCE,
    PARENT,
    THINGS,
    assert_aborted,
    fail_among_good,
    insert_thing,
    written,
)
from sqlalchemy import (
    JSON,
    TIMESTAMP,
    Column,
    DateTime,
    Integer,
    MetaData,
    NullPool,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.dialects.mysql import DATETIME, VARCHAR

from batchwrite import BatchWriter, RetryPolicy, Status
from batchwrite.codes import MYSQL_NUMBERS
from batchwrite.faults import FaultKind, classify


def rows_of(engine, table):
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]


def run(engine, statement):
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


# ---- the item's


@pytest.mark.parametrize(
    ("bad", "number", "column", "constraint"),
    [
        ({"required": None}, "1048", "required", None),
        ({"id": 1}, "1062", "id", "PRIMARY"),
        ({"checked": 0}, "4025", None, "ck_checked"),
        ({"parent": 99}, "1452", "parent", "things_ibfk_1"),
        ({"short": "long"}, "1406", "short", None),
        ({"small": 2**20}, "1264", "small", None),
        ({"money": 12345}, "1264", "money", None),
        ({"required": "x"}, "1366", "required", None),
        ({"day": "someday"}, "1292", "day", None),
        ({"colour": "blue"}, "1265", "colour", None),
        ({"data": b"x" * 70_000}, "1406", "data", None),
        ({"short": "' for key 'x'"}, "1406", "short", None),
        ({"required": "x' for column `a`.`b`.`c` at row 1"}, "1366", "required", None),
    ],
    ids=repr,
)
def test_a_row_that_is_refused_says_where(mariadb, bad, number, column, constraint):
    failure = fail_among_good(mariadb, bad)
    assert (failure.sqlstate, failure.table) == (number, "things")
    assert (failure.column, failure.constraint) == (column, constraint)


def test_a_value_that_is_not_given_is_missed(mariadb):
    run(mariadb, "ALTER TABLE things ADD COLUMN needed INT NOT NULL")
    result = BatchWriter(mariadb).run([{"id": 1}], insert_thing)
    assert [failure.sqlstate for failure in result.failures] == ["1364"]


def test_a_parent_with_children_cannot_be_deleted(mariadb):
    with mariadb.begin() as connection:
        connection.execute(PARENT.insert(), [{"id": 1}, {"id": 2}])
        connection.execute(THINGS.insert(), [{"id": 1, "parent": 1}])
    result = BatchWriter(mariadb).run([1, 2], lambda key, out: out.delete(PARENT, {"id": key}))
    (failure,) = result.failures
    assert (failure.index, failure.sqlstate, failure.table, failure.constraint) == (
        0,
        "1451",
        "things",
        "things_ibfk_1",
    )


@pytest.mark.parametrize(
    ("raised", "number"), [("", "1644"), (", MYSQL_ERRNO = 30001", "30001"), (", MYSQL_ERRNO = 1062", "1062")]
)
def test_what_a_trigger_raises_fails_the_item(mariadb, raised, number):
    run(
        mariadb,
        "CREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW IF NEW.small = 7 THEN "
        f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'planted'{raised}; END IF",
    )
    failure = fail_among_good(mariadb, {"small": 7})
    assert failure.sqlstate == number
    assert "planted" not in failure.message


def test_a_sum_out_of_range_fails_its_item(mariadb):
    rows = [{"id": 1, "small": 32_000}, {"id": 2, "small": 1}]
    BatchWriter(mariadb).run(rows, insert_thing)
    result = BatchWriter(mariadb).run(
        [(1, 700), (1, 1_000), (2, 5)], lambda item, out: out.increment(THINGS, {"id": item[0]}, small=item[1])
    )
    assert [(failure.index, failure.sqlstate) for failure in result.failures] == [(1, "1264")]
    with mariadb.connect() as connection:
        assert connection.execute(select(THINGS.c.small).order_by(THINGS.c.id)).scalars().all() == [32_700, 6]


@pytest.mark.parametrize("value", [[1], (1,), {1}, {"a": 1}, object(), Decimal("NaN")], ids=repr)
def test_what_the_driver_would_send_as_something_else_fails_its_item(mariadb, value):
    fail_among_good(mariadb, {"short": value})


def test_values_that_are_numbers_of_a_class_of_their_own_land(mariadb):
    import enum

    class Size(enum.IntEnum):
        LARGE = 7

    result = BatchWriter(mariadb).run([{"id": 1, "small": Size.LARGE, "money": Size.LARGE}], insert_thing)
    assert result.written == 1
    with mariadb.connect() as connection:
        assert connection.execute(select(THINGS.c.small, THINGS.c.money)).all() == [(7, Decimal("7.00"))]


# ---- what it would do without a word


@pytest.mark.parametrize("mode", ["", "ANSI_QUOTES", "NO_ENGINE_SUBSTITUTION"])
def test_a_database_that_is_not_strict_is_refused(mariadb, mode):
    engine = create_engine(mariadb.url, poolclass=NullPool, connect_args={"sql_mode": mode})
    result = assert_aborted(engine, "fatal")
    assert "STRICT_TRANS_TABLES" in result.abort.message
    assert written(mariadb) == []


@pytest.mark.parametrize("mode", ["TRADITIONAL", "STRICT_ALL_TABLES", "STRICT_TRANS_TABLES,NO_BACKSLASH_ESCAPES"])
def test_any_strict_mode_will_do(mariadb, mode):
    engine = create_engine(mariadb.url, poolclass=NullPool, connect_args={"sql_mode": mode})
    result = BatchWriter(engine).run([{"id": 1, "short": "\\'"}, {"id": 2, "short": "long"}], insert_thing)
    assert (result.written, result.failed) == (1, 1)
    with mariadb.connect() as connection:
        assert connection.scalar(select(THINGS.c.short)) == "\\'"


@pytest.mark.parametrize("name", ["MyISAM", "Aria"])
def test_a_table_that_knows_no_transactions_is_refused_and_nothing_is_written(mariadb, name):
    log = Table("log", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False), mariadb_engine=name)
    log.create(mariadb)

    def map_item(row, out):
        out.insert(THINGS, row)
        out.insert(log, row)

    result = BatchWriter(mariadb).run([{"id": 1}, {"id": 2}], map_item)
    assert (result.status, result.abort.reason, result.unattempted) == (Status.ABORTED, "fatal", 2)
    assert name in result.abort.message
    assert (written(mariadb), rows_of(mariadb, log)) == ([], [])


def test_a_transaction_that_something_has_ended_is_not_taken_for_whole(mariadb):
    @event.listens_for(mariadb, "before_cursor_execute")
    def ddl(connection, cursor, statement, parameters, context, executemany):
        if statement.startswith("INSERT INTO things"):
            cursor.execute("CREATE TABLE other (id INT)")

    result = assert_aborted(mariadb, "fatal", rows=[{"id": 1}])
    assert "may have been written" in result.abort.message


def test_an_engine_that_commits_every_statement_is_refused(mariadb):
    result = assert_aborted(mariadb.execution_options(isolation_level="AUTOCOMMIT"), "fatal")
    assert "AUTOCOMMIT" in result.abort.message


@pytest.fixture
def people(mariadb_engine):
    table = Table(
        "people",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("email", String(20), unique=True),
        Column("nick", String(20)),
        Column("n", Integer),
        UniqueConstraint("nick", name="uq_nick"),
    )
    table.create(mariadb_engine)
    with mariadb_engine.begin() as connection:
        rows = [{"id": 1, "email": "a", "nick": "x", "n": 0}, {"id": 2, "email": "b", "nick": "y", "n": 0}]
        connection.execute(table.insert(), rows)
    return table


@pytest.mark.parametrize("chunk_size", [1, 10])
@pytest.mark.parametrize("changed", [("n",), ()])
def test_an_upsert_changes_no_row_of_another_key(mariadb_engine, people, chunk_size, changed):
    def map_item(row, out):
        out.upsert(people, row, key="email", set=changed)

    rows = [
        {"email": "c", "nick": "x", "n": 7},  # another's nick, and a new key
        {"email": "a", "nick": "y", "n": 7},  # another's nick, and a key that is there
        {"email": "d", "nick": "z", "n": 7},
    ]
    result = BatchWriter(mariadb_engine, chunk_size=chunk_size).run(rows, map_item)
    (failure,) = result.failures
    assert (failure.index, failure.sqlstate, failure.constraint, failure.column) == (0, "1062", "uq_nick", "nick")
    found = {email: (nick, n) for _, email, nick, n in rows_of(mariadb_engine, people)}
    assert found == {"a": ("x", 7 if changed else 0), "b": ("y", 0), "d": ("z", 7)}


def test_an_upsert_whose_change_another_row_stands_in_the_way_of_fails(mariadb_engine, people):
    rows = [{"email": "a", "nick": "y"}, {"email": "b", "nick": "w"}]
    result = BatchWriter(mariadb_engine).run(rows, lambda row, out: out.upsert(people, row, key="email"))
    assert [(failure.index, failure.constraint) for failure in result.failures] == [(0, "uq_nick")]
    assert [row[2] for row in rows_of(mariadb_engine, people)] == ["x", "w"]


def test_an_upsert_needs_a_unique_index_over_its_key(mariadb_engine, people):
    result = BatchWriter(mariadb_engine).run([{"n": 1}], lambda row, out: out.upsert(people, row, key="n"))
    assert (result.abort.reason, result.unattempted) == ("fatal", 1)
    assert "unique index" in result.abort.message


@pytest.mark.parametrize(
    ("key", "value"),
    [("email", 5), ("id", "1x"), ("id", "x"), ("id", "1_0"), ("id", "\uff11"), ("id", b"1"), ("id", "1e"), ("id", "")],
)
@pytest.mark.parametrize("method", ["update", "delete", "increment"])
def test_a_key_of_another_type_names_no_row(mariadb_engine, people, method, key, value):
    run(mariadb_engine, "UPDATE people SET email = CASE id WHEN 1 THEN '5' ELSE '05' END")
    values = {} if method == "delete" else {"n": 1}
    before = rows_of(mariadb_engine, people)
    result = BatchWriter(mariadb_engine).run([1], lambda _, out: getattr(out, method)(people, {key: value}, **values))
    assert [failure.column for failure in result.failures] == [key]
    assert rows_of(mariadb_engine, people) == before


def test_0_is_not_replaced_by_the_next_number(mariadb_engine, people):
    rows = [{"id": 5, "n": 1}, {"id": 0, "n": 2}, {"n": 3}]
    result = BatchWriter(mariadb_engine).run(rows, lambda row, out: out.insert(people, row))
    assert [(failure.index, failure.column) for failure in result.failures] == [(1, "id")]
    engine = create_engine(
        mariadb_engine.url,
        poolclass=NullPool,
        connect_args={"sql_mode": "STRICT_TRANS_TABLES,NO_AUTO_VALUE_ON_ZERO"},
    )
    assert BatchWriter(engine).run(rows[1:2], lambda row, out: out.insert(people, row)).written == 1
    assert rows_of(mariadb_engine, people)[0][0] == 0


def test_a_text_that_is_a_number_names_the_row_with_that_number(mariadb_engine, people):
    result = BatchWriter(mariadb_engine).run(["1", "2.0"], lambda key, out: out.increment(people, {"id": key}, n=1))
    assert result.written == 2
    assert [row[3] for row in rows_of(mariadb_engine, people)] == [1, 1]


def test_bytes_are_not_stored_as_another_number(mariadb):
    assert fail_among_good(mariadb, {"small": b"5"}).column == "small"


def test_null_is_not_replaced_by_the_time(mariadb_engine):
    stamps = Table(
        "stamps",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("at", TIMESTAMP, nullable=False),
    )
    command = {"init_command": "SET explicit_defaults_for_timestamp = 0"}
    engine = create_engine(mariadb_engine.url, connect_args=command, poolclass=NullPool)
    stamps.create(engine)
    rows = [{"id": 1, "at": datetime(2026, 1, 1)}, {"id": 2, "at": None}]  # noqa: DTZ001 - no zone there
    result = BatchWriter(engine).run(rows, lambda row, out: out.insert(stamps, row))
    assert [(failure.index, failure.column) for failure in result.failures] == [(1, "at")]
    assert len(rows_of(engine, stamps)) == 1


def test_texts_are_equal_as_the_collation_says_and_the_earlier_item_wins(mariadb_engine, people):
    rows = [{"email": "New", "n": 1}, {"email": "new", "n": 2}, {"email": "new ", "n": 3}]
    result = BatchWriter(mariadb_engine).run(rows, lambda row, out: out.insert(people, row))
    assert [failure.index for failure in result.failures] == [1, 2]
    result = BatchWriter(mariadb_engine).run(rows, lambda row, out: out.increment(people, {"email": row["email"]}, n=1))
    assert result.written == 3
    assert rows_of(mariadb_engine, people)[-1][1:] == ("New", None, 4)


def test_digits_behind_the_seconds_are_not_dropped_without_a_word(mariadb_engine, caplog):
    caplog.set_level(logging.WARNING, logger="batchwrite")
    moments = Table(
        "moments",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("whole", DateTime),
        Column("exact", DATETIME(fsp=6)),
    )
    moments.create(mariadb_engine)
    moment = datetime(2026, 1, 1, 0, 0, 0, 123_456)  # noqa: DTZ001 - columns without a zone
    for rows in ([{"exact": moment}], [{"whole": moment.replace(microsecond=0)}], [{"whole": moment}] * 3):
        assert BatchWriter(mariadb_engine).run(rows, lambda row, out: out.insert(moments, row)).failed == 0
    (record,) = [record for record in caplog.records if getattr(record, "action", "") == "rounded"]
    assert (record.table, record.column) == ("moments", "whole")


def test_an_update_that_changes_nothing_has_found_its_row(mariadb_engine, people):
    def map_item(key, out):
        out.update(people, {"id": key}, n=0)
        out.increment(people, {"id": key}, n=0)

    result = BatchWriter(mariadb_engine).run([1, 2, 3], map_item)
    assert [failure.index for failure in result.failures] == [2]
    assert "no row has this key" in result.failures[0].message


# ---- the weather's


@pytest.fixture
def second(mariadb):
    """Another session, in a transaction that has locked row 1."""
    with mariadb.begin() as connection:
        connection.execute(THINGS.insert(), [{"id": 1, "small": 0}, {"id": 2, "small": 0}])
    engine = create_engine(mariadb.url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(THINGS.update().where(THINGS.c.id == 1).values(small=1))
        yield connection


def impatient(engine):
    command = {"init_command": "SET innodb_lock_wait_timeout = 1"}
    return create_engine(engine.url, connect_args=command, poolclass=NullPool)


def test_a_lock_that_is_not_given_up_in_time_ends_the_run_and_leaves_nothing(mariadb, second):
    engine = impatient(mariadb)

    def map_item(key, out):
        out.insert(THINGS, {"id": key + 10})
        out.increment(THINGS, {"id": key}, small=1)

    result = BatchWriter(engine, retry=RetryPolicy(attempts=1)).run([1, 2], map_item)
    assert (result.unattempted, result.abort.reason, result.abort.sqlstate) == (2, "transient", "1205")
    assert written(mariadb) == [1, 2]


def wait_until_blocked(connection):
    query = text("SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
    for _ in range(1_000):
        connection.execute(text("DO SLEEP(0.01)"))
        if connection.scalar(query):
            return
    pytest.fail("nobody waits for a lock")


@pytest.mark.parametrize("bad", [{}, {"checked": 0}])
def test_a_deadlock_with_another_session_is_tried_again(mariadb, caplog, bad):
    """The other session inserts 20 and then 10, the run 10 and then 20; the other has written more, and goes on."""
    results = []
    rows = [{"id": 20}, {"id": 10}, {"id": 30} | bad]
    thread = threading.Thread(target=lambda: results.append(BatchWriter(mariadb).run(rows, insert_thing)))
    other = create_engine(mariadb.url, poolclass=NullPool)
    with other.connect() as connection:
        connection.execute(THINGS.insert(), [{"id": number} for number in (20, *range(100, 200))])
        thread.start()
        wait_until_blocked(connection)
        connection.execute(THINGS.insert(), {"id": 10})
        connection.rollback()
    thread.join()
    assert (results[0].written, results[0].abort) == (3 - len(bad), None)
    assert {record.sqlstate for record in caplog.records if getattr(record, "action", "") == "retry"} == {"1213"}
    assert written(mariadb) == ([10, 20] if bad else [10, 20, 30])


def killing(engine, times):
    """Kills the connection while it inserts into the table, so many times."""
    left = [times]

    @event.listens_for(engine, "before_cursor_execute")
    def kill(connection, cursor, statement, parameters, context, executemany):
        if statement.startswith("INSERT INTO things") and left[0] > 0:
            left[0] -= 1
            number = connection.connection.dbapi_connection.thread_id()
            other = create_engine(engine.url, poolclass=NullPool)
            with other.connect() as outer:
                outer.exec_driver_sql(f"KILL {number}")


@pytest.mark.parametrize("bad", [{}, {"checked": 0}])
def test_a_connection_that_is_killed_is_made_anew(mariadb, bad):
    killing(mariadb, times=1)
    result = BatchWriter(mariadb, retry=AT_ONCE).run([{"id": 1}, {"id": 2} | bad, {"id": 3}], insert_thing)
    assert (result.written, result.failed, result.abort) == (3 - len(bad), len(bad), None)


def test_a_connection_that_is_killed_each_time_ends_the_run(mariadb):
    killing(mariadb, times=99)
    result = BatchWriter(mariadb, retry=RetryPolicy(attempts=2, first_wait=0)).run([{"id": 1}], insert_thing)
    assert (result.unattempted, result.abort.reason) == (1, "lost")
    assert written(mariadb) == []


def test_a_table_that_is_missing_ends_the_run(mariadb_engine):
    result = assert_aborted(mariadb_engine, "fatal", "1146")
    assert "things" in result.abort.message


def test_a_right_that_is_refused_ends_the_run(mariadb, mariadb_server):
    name = mariadb.url.database
    run(mariadb, "CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'x'")
    run(mariadb, f"GRANT SELECT ON {name}.* TO reader@'127.0.0.1'")
    try:
        engine = create_engine(mariadb.url.set(username="reader", password="x"), poolclass=NullPool)  # noqa: S106
        assert_aborted(engine, "fatal", "1142")
    finally:
        run(mariadb, "DROP USER reader@'127.0.0.1'")


def test_a_transaction_that_may_only_read_ends_the_run(mariadb):
    command = {"init_command": "SET SESSION TRANSACTION READ ONLY"}
    engine = create_engine(mariadb.url, connect_args=command, poolclass=NullPool)
    assert_aborted(engine, "fatal", "1792")


@pytest.mark.parametrize(
    ("change", "reason", "number"),
    [
        ({"port": 1}, "lost", "2003"),
        ({"username": "nobody_at_all"}, "fatal", "1045"),
        ({"database": "no_such_database"}, "fatal", "1049"),
    ],
)
def test_a_server_that_cannot_be_reached_ends_the_run(mariadb_server, change, reason, number):
    engine = create_engine(mariadb_server.url.set(**change), poolclass=NullPool)
    assert_aborted(engine, reason, number)


# ---- poison


def test_a_row_larger_than_a_packet_fails_alone(mariadb):
    run(mariadb, "ALTER TABLE things MODIFY `long` LONGTEXT")
    rows = [{"id": number} for number in range(1, 21)]
    rows[7]["long"] = "x" * (17 * 1024 * 1024)
    result = BatchWriter(mariadb, retry=RetryPolicy(first_wait=0)).run(rows, insert_thing)
    assert (result.written, result.failed, result.abort) == (19, 1, None)
    assert [failure.index for failure in result.failures] == [7]
    assert len(written(mariadb)) == 19


# ---- numbers


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        *((number, FaultKind.ITEM) for number in (1062, 1048, 1452, 1406, 1264, 1366, 1265, 1292, 1364, 1365, 1644)),
        *((number, FaultKind.ITEM) for number in (4025, 45000)),
        *((number, FaultKind.TRANSIENT) for number in (1213, 1205, 1969)),
        *((number, FaultKind.LOST) for number in (2006, 2013, 2003, 1053, 1927)),
        *((number, FaultKind.CAPACITY) for number in (1040, 1114)),
        *((number, FaultKind.FATAL) for number in (1146, 1054, 1064, 1136, 1142, 1045, 1049, 1792, 3999)),
    ],
)
@pytest.mark.parametrize("name", ["OperationalError", "IntegrityError", "InternalError"])
def test_a_number_decides_whatever_the_class_of_the_exception(number, kind, name):
    import pymysql

    fault = classify(getattr(pymysql.err, name)(number, "planted"))
    assert (fault.kind, fault.sqlstate) == (kind, str(number))


def test_numbers_are_numbers():
    assert all(number.isdecimal() and len(number) == 4 for number in MYSQL_NUMBERS)


def test_a_statement_that_is_quoted_is_not_shown(mariadb):
    with mariadb.connect() as connection, pytest.raises(Exception, match="planted") as caught:
        connection.exec_driver_sql("INSERT INTO things VALUES 'planted'")
    assert "planted" not in classify(caught.value).message


# ---- what a breaking session found


@pytest.mark.parametrize("chunk_size", [1, 10])
@pytest.mark.parametrize("as_uuid", [True, False])
def test_an_upsert_may_have_a_uuid_for_its_key(mariadb_engine, chunk_size, as_uuid):
    kinds = Table("kinds", MetaData(), Column("k", Uuid(as_uuid=as_uuid), primary_key=True), Column("n", Integer))
    kinds.create(mariadb_engine)
    keys = [UUID(int=number) if as_uuid else str(UUID(int=number)) for number in (1, 2, 1)]
    rows = [{"k": key, "n": number} for number, key in enumerate(keys)]
    result = BatchWriter(mariadb_engine, chunk_size=chunk_size).run(rows, lambda row, out: out.upsert(kinds, row))
    assert (result.written, result.failures) == (3, ())
    assert rows_of(mariadb_engine, kinds) == [(keys[0], 2), (keys[1], 1)]


@pytest.mark.parametrize("method", ["update", "increment", "upsert"])
def test_a_key_in_characters_that_its_column_cannot_hold_fails_alone(mariadb_engine, method):
    words = Table(
        "words", MetaData(), Column("k", VARCHAR(9, charset="utf8mb3"), primary_key=True), Column("n", Integer)
    )
    words.create(mariadb_engine)
    run(mariadb_engine, "INSERT INTO words VALUES ('a', 1), ('b', 1)")

    def change(key, out):
        if method == "upsert":
            out.upsert(words, {"k": key, "n": 5})
        else:
            getattr(out, method)(words, {"k": key}, n=5)

    result = BatchWriter(mariadb_engine).run(["b", "\U0001f600", "a"], change)
    assert (result.abort, result.written, [failure.index for failure in result.failures]) == (None, 2, [1])
    assert {n for _, n in rows_of(mariadb_engine, words)} == {6 if method == "increment" else 5}


@pytest.mark.parametrize("zero", ["0", " 00", "-0", "0e5", "0.4", 0.3, Decimal("0.49"), b"0"], ids=repr)
def test_what_becomes_0_is_not_replaced_by_the_next_number(mariadb_engine, people, zero):
    result = BatchWriter(mariadb_engine).run([zero], lambda key, out: out.insert(people, {"id": key, "email": "x"}))
    assert (result.written, result.failed) == (0, 1)
    assert all(row[1] != "x" for row in rows_of(mariadb_engine, people))


@pytest.mark.parametrize("value", [Fraction(1, 3), JSON.NULL], ids=repr)
@pytest.mark.parametrize("column", ["small", "long", "money"])
def test_a_number_of_a_kind_that_no_column_has_is_not_sent_as_another(mariadb, value, column):
    fail_among_good(mariadb, {column: value})


@pytest.mark.parametrize("number", [1205, 1213, 1146, 2006, 1040])
def test_what_a_trigger_says_under_a_number_of_the_servers_is_not_shown(mariadb, number, caplog):
    caplog.set_level(logging.DEBUG)
    signal = f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO={number}, MESSAGE_TEXT=NEW.short"
    run(mariadb, f"CREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW IF NEW.short = 'zap' THEN {signal}; END IF")
    result = BatchWriter(mariadb, retry=AT_ONCE).run([{"id": 1}, {"id": 2, "short": "zap"}], insert_thing)
    assert "zap" not in f"{result!r} {result.abort} {caplog.text}"
