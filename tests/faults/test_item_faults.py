"""Faults: real errors of both databases, each ending as a failed item, as a retry or as an abort, as promised."""

import sqlite3
from decimal import Decimal

import pytest
from ids import shown
from provoked import (
    AT_ONCE,
    THINGS,
    circular,
    fail_among_good,
    insert_thing,
    nested,
    raise_by_trigger,
    written,
)
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    event,
)

from batchwrite import BatchWriter, Stage

# Codes that say that the program is wrong, and that data can cause: by a trigger, a CHECK, a cast that looks a name up.
PROGRAMS = ("42501", "42P01", "42703", "42601", "42704", "0A000", "25006", "25P02", "28000", "3F000", "55000", "XX000")


@pytest.mark.drawn(12)
@pytest.mark.parametrize("code", PROGRAMS)
@pytest.mark.parametrize("when", ["BEFORE", "CONSTRAINT"])
@pytest.mark.parametrize("bad", [{}, {"checked": 0}])
def test_what_holds_for_one_item_only_is_its_fault_whatever_the_code(postgres, code, when, bad):
    raise_by_trigger(postgres, code, when=when)
    result = BatchWriter(postgres).run([{"id": 1} | bad, {"id": 2, "small": 7}, {"id": 3}], insert_thing)
    assert result.abort is None
    assert [failure.sqlstate for failure in result.failures if failure.index == 1] == [code]
    assert (result.written, result.failed) == (2 - bool(bad), 1 + bool(bad))
    assert "planted" not in "".join(failure.message for failure in result.failures)


@pytest.mark.parametrize(
    ("bad", "codes", "column"),
    [
        ({"required": None}, {"23502", "SQLITE_CONSTRAINT_NOTNULL", "1048"}, "required"),
        ({"id": 1}, {"23505", "SQLITE_CONSTRAINT_PRIMARYKEY", "1062"}, "id"),
        ({"checked": 0}, {"23514", "SQLITE_CONSTRAINT_CHECK", "4025"}, None),
        ({"parent": 99}, {"23503", "SQLITE_CONSTRAINT_FOREIGNKEY", "1452"}, "parent"),
    ],
)
def test_a_constraint_that_refuses_a_row_is_named(database, bad, codes, column):
    failure = fail_among_good(database, bad)
    assert failure.sqlstate in codes
    assert failure.stage is Stage.WRITE
    if failure.sqlstate != "SQLITE_CONSTRAINT_FOREIGNKEY":
        assert failure.table == "things" or failure.constraint == "ck_checked"
        assert failure.column == column or failure.constraint == "ck_checked"


def test_a_foreign_key_that_refuses_a_row_names_at_least_its_table(sqlite):
    assert fail_among_good(sqlite, {"parent": 99}).table == "things"


def test_a_unique_key_taken_by_an_earlier_item_is_named(database):
    rows = [{"id": 1, "single": 7}, {"id": 2, "single": 7}, {"id": 3}]
    result = BatchWriter(database).run(rows, insert_thing)
    (failure,) = result.failures
    assert (failure.index, failure.table, failure.column) == (1, "things", "single")
    assert failure.sqlstate in {"23505", "SQLITE_CONSTRAINT_UNIQUE", "1062"}


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
    ids=shown,
)
def test_a_value_that_the_column_cannot_hold_fails_its_item(database, bad):
    failure = fail_among_good(database, bad)
    assert failure.stage is Stage.WRITE


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
    ids=shown,
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
    stage = Stage.WRITE if engine.dialect.name == "mariadb" else Stage.COMMIT  # it checks them at once
    assert [(failure.index, failure.stage) for failure in result.failures] == [(1, stage)]


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


def test_a_text_in_the_rowid_of_sqlite_fails_the_item(sqlite):
    assert fail_among_good(sqlite, {"id": "x"}).sqlstate == "SQLITE_MISMATCH"


def test_a_value_too_large_for_sqlite_fails_the_item(sqlite):
    @event.listens_for(sqlite, "connect")
    def limit(raw, record):
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)

    sqlite.dispose()
    assert fail_among_good(sqlite, {"long": "x" * 20_000}).sqlstate == "SQLITE_TOOBIG"


@pytest.mark.parametrize("chunk_size", [1, 100])
def test_a_partition_is_its_table_to_those_who_write(postgres, chunk_size):
    with postgres.begin() as connection:
        for statement in (
            "CREATE TABLE p (id integer, n integer NOT NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
            "CREATE TABLE p_low PARTITION OF p (CHECK (n < 50)) FOR VALUES FROM (0) TO (100)",
        ):
            connection.exec_driver_sql(statement)
    table = Table("p", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer, nullable=False))
    rows = [{"id": 1, "n": 1}, {"id": 1, "n": 2}, {"id": 500, "n": 3}, {"id": 2, "n": None}, {"id": 3, "n": 70}]
    result = BatchWriter(postgres, chunk_size=chunk_size).run(rows, lambda row, out: out.insert(table, row))
    assert [(failure.table, failure.column, failure.message) for failure in result.failures] == [
        ("p", "id", "a row with the same unique key exists"),
        ("p", None, "the table has no partition for the row"),
        ("p", "n", "a value is missing for a column that must have one"),
        ("p", "n", "a check constraint refused the row"),
    ]
