"""What MariaDB would do without a word: cut, convert, replace, commit, change another row. None of it happens."""

import logging
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from ids import shown
from on_mariadb import rows_of, run
from provoked import (
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
)
from sqlalchemy.dialects.mysql import DATETIME, VARCHAR

from batchwrite import BatchWriter, Status


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


@pytest.mark.parametrize("zero", ["0", " 00", "-0", "0e5", "0.4", 0.3, Decimal("0.49"), b"0"], ids=shown)
def test_what_becomes_0_is_not_replaced_by_the_next_number(mariadb_engine, people, zero):
    result = BatchWriter(mariadb_engine).run([zero], lambda key, out: out.insert(people, {"id": key, "email": "x"}))
    assert (result.written, result.failed) == (0, 1)
    assert all(row[1] != "x" for row in rows_of(mariadb_engine, people))


@pytest.mark.parametrize("value", [Fraction(1, 3), JSON.NULL], ids=shown)
@pytest.mark.parametrize("column", ["small", "long", "money"])
def test_a_number_of_a_kind_that_no_column_has_is_not_sent_as_another(mariadb, value, column):
    fail_among_good(mariadb, {column: value})
