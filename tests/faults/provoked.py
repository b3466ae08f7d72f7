"""What the tests of faults share: tables, and ways of provoking an error among good items."""

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
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    select,
    text,
)

from batchwrite import BatchWriter, RetryPolicy, Status

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
    Column("checked", Integer),
    Column("parent", ForeignKey("parent.id")),
    Column("short", String(3)),
    Column("long", Text),
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
    CheckConstraint("checked > 0", name="ck_checked"),
    Index("ix_long", "long", mariadb_length=100),  # which has no index over the whole of a long text
)


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


def circular():
    made = []
    made.append(made)
    return made


def nested():
    made = []
    for _ in range(100_000):
        made = [made]
    return made


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


RAISE_ONCE = """
CREATE SEQUENCE attempts;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
IF nextval('attempts') <= {times} THEN {action}; END IF; RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW WHEN (NEW.small = 7) EXECUTE FUNCTION refuse();
"""


KILL = "PERFORM pg_terminate_backend(pg_backend_pid())"


def increment_thing(key, out):
    out.increment(THINGS, {"id": key}, small=1)


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
