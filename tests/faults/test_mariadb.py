"""MariaDB: real errors, each ending as a failed item, as a retry or as an abort."""

import logging
import threading
from decimal import Decimal

import pytest
from ids import shown
from on_mariadb import run
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
    NullPool,
    create_engine,
    event,
    select,
    text,
)

from batchwrite import BatchWriter, RetryPolicy
from batchwrite.codes import MYSQL_NUMBERS
from batchwrite.faults import FaultKind, classify

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
    ids=shown,
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


@pytest.mark.parametrize("value", [[1], (1,), {1}, {"a": 1}, object(), Decimal("NaN")], ids=shown)
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
    for _ in range(100):
        # InnoDB answers anew only where nobody has asked for 0.1 seconds, and else what it has answered before.
        connection.execute(text("DO SLEEP(0.15)"))
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


@pytest.mark.parametrize("number", [1205, 1213, 1146, 2006, 1040])
def test_what_a_trigger_says_under_a_number_of_the_servers_is_not_shown(mariadb, number, caplog):
    caplog.set_level(logging.DEBUG)
    signal = f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO={number}, MESSAGE_TEXT=NEW.short"
    run(mariadb, f"CREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW IF NEW.short = 'zap' THEN {signal}; END IF")
    result = BatchWriter(mariadb, retry=AT_ONCE).run([{"id": 1}, {"id": 2, "short": "zap"}], insert_thing)
    assert "zap" not in f"{result!r} {result.abort} {caplog.text}"
