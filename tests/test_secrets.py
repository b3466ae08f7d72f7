"""Secrets: neither a value of a row nor a password is in a log, an exception, a repr or a result not asked for it."""

import json
import logging
import traceback

import pytest
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Integer,
    MetaData,
    NullPool,
    Numeric,
    String,
    Table,
    TypeDecorator,
    Uuid,
    create_engine,
)

from batchwrite import (
    BatchFailed,
    BatchWriteError,
    BatchWriter,
    ConfigurationError,
    RetryPolicy,
    RunInterrupted,
    SourceError,
)

PLANTED = "planted-4711"
PASSWORD = "planted-Pa55/w@rd:%#?"  # noqa: S105 - what the tests look for
AT_ONCE = RetryPolicy(attempts=2, first_wait=0, longest_wait=0)


class Talkative(TypeDecorator):
    """A type whose errors quote the value, as many do."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        kind = {"value": ValueError, "runtime": RuntimeError, "own": Exception}.get((value or "").partition(" ")[0])
        if kind is not None:
            raise kind(f"{value} is bad")
        return value


METADATA = MetaData()
PEOPLE = Table(
    "people",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(20), unique=True),
    Column("number", Integer),
    Column("money", Numeric(5, 2)),
    Column("day", Date),
    Column("uuid", Uuid),
    Column("document", JSON),
    Column("boss", ForeignKey("people.name")),
    Column("late", ForeignKey("people.name", deferrable=True, initially="DEFERRED")),
    Column("talkative", Talkative),
    Column("required", Integer, nullable=False, default=1),
    CheckConstraint("name <> 'planted-4711'", name="ck_name"),
)


@pytest.fixture
def database(engine):
    METADATA.create_all(engine)
    return engine


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.DEBUG, logger="batchwrite")
    return caplog


def shown_by(result):
    """Everything that a program may print of a result without asking for values."""
    yield repr(result)
    yield str(result)
    yield json.dumps(result.to_dict())
    yield repr(result.abort)
    yield from map(str, result.failure_counts)
    yield from map(repr, result.failure_counts)
    for failure in result.failures:
        yield f"{failure!r} {failure} {failure.message} {failure.reason} {json.dumps(failure.to_dict())}"
    try:
        result.raise_for_failures()
    except BatchFailed as error:
        yield "".join(traceback.format_exception(error))


def logged(caplog):
    for record in caplog.records:
        yield record.getMessage()
        yield repr(vars(record))


def assert_silent(secret, result, caplog):
    for said in [*shown_by(result), *logged(caplog)]:
        assert secret not in said


def insert_row(row, out):
    out.insert(PEOPLE, row)


REFUSED = {
    "check": {"name": PLANTED},
    "too long": {"name": PLANTED * 3},
    "not null": {"document": PLANTED, "required": None},
    "foreign key": {"boss": PLANTED},
    "deferred foreign key": {"late": PLANTED},
    "number": {"number": [PLANTED]},
    "adapt": {"number": {PLANTED}},
    "money": {"money": PLANTED},
    "date": {"day": PLANTED},
    "uuid": {"uuid": PLANTED},
    "json": {"document": {PLANTED: object()}},
    "surrogate": {"name": f"{PLANTED}\ud800"},
    "value error": {"talkative": f"value {PLANTED}"},
    "runtime error": {"talkative": f"runtime {PLANTED}"},
    "own error": {"talkative": f"own {PLANTED}"},
}


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("alone", [True, False])
def test_a_refused_row_shows_no_value(database, log, row, alone):
    rows = [{"id": 2, **row}] if alone else [{"id": 1}, {"id": 2, **row}, {"id": 3}]
    if "name" in row and len(row["name"]) > 20 and database.dialect.name == "sqlite":
        rows[-1] = {"id": 3, "boss": PLANTED}  # SQLite takes texts of any length
    result = BatchWriter(database, retry=AT_ONCE).run(rows, insert_row)
    assert result.failed + result.unattempted > 0
    assert_silent(PLANTED, result, log)


def test_a_unique_key_taken_shows_no_value(database, log):
    rows = [{"id": 1, "name": "another-planted"}, {"id": 2, "name": "another-planted"}]
    result = BatchWriter(database).run(rows, insert_row)
    assert result.failed == 1
    assert_silent("another-planted", result, log)


def quote(item, out):
    raise ValueError(f"cannot read {item}")


def refuse_chained(item, out):
    try:
        quote(item, out)
    except ValueError as error:
        raise RuntimeError(item) from error


MAPS = {
    "raises": quote,
    "chained": refuse_chained,
    "key error": lambda item, out: {}[item],
    "unknown column": lambda item, out: out.insert(PEOPLE, {"colour": item}),
    "no row": lambda item, out: out.insert(PEOPLE, item),
    "no table": lambda item, out: out.insert(item, {}),
    "no instance": lambda item, out: out.add(item),
    "unhashable key": lambda item, out: out.delete(PEOPLE, {"id": [item]}),
    "no number": lambda item, out: out.increment(PEOPLE, {"id": 1}, number=item),
    "missing": lambda item, out: out.update(PEOPLE, {"name": item}, number=1),
    "missing increment": lambda item, out: out.increment(PEOPLE, {"name": item}, number=1),
    "missing delete": lambda item, out: out.delete(PEOPLE, {"name": item}),
}


@pytest.mark.parametrize("map_item", MAPS.values(), ids=MAPS)
def test_a_failure_in_map_shows_no_value(database, log, map_item):
    result = BatchWriter(database).run([PLANTED], map_item)
    assert result.failed == 1
    assert_silent(PLANTED, result, log)


def test_values_are_there_where_asked_for(database):
    result = BatchWriter(database).run([{"id": 1, "boss": PLANTED}, {"id": 2}], insert_row)
    assert PLANTED in repr(result.to_dict(values=True))
    assert result.failures[0].item["boss"] == PLANTED


def test_the_outcomes_of_a_stream_show_no_value(database):
    rows = [{"id": 1, "boss": PLANTED}, {"id": 2, "talkative": PLANTED}]
    for outcome in BatchWriter(database).stream(rows, insert_row):
        assert PLANTED not in f"{outcome!r} {outcome}"


@pytest.mark.parametrize("spoil", ["DROP TABLE people", "ALTER TABLE people RENAME COLUMN talkative TO other"])
def test_an_abort_shows_no_value(database, log, spoil):
    with database.begin() as connection:
        connection.exec_driver_sql(spoil)
    rows = [{"id": 1, "talkative": PLANTED}, {"id": 2, "talkative": PLANTED}]
    result = BatchWriter(database).run(rows, insert_row)
    assert result.abort is not None
    assert_silent(PLANTED, result, log)


@pytest.mark.parametrize(
    "code", ["P0001", "40001", "53100", "57014", "42501", "42P01", "25006", "0A000", "XX000", "55000"]
)
def test_the_text_of_a_trigger_is_not_shown(postgres_engine, log, code):
    """A trigger's text may quote the row, whatever code it chooses."""
    METADATA.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'bad %%', NEW.talkative"
            f" USING ERRCODE = '{code}', DETAIL = NEW.talkative, HINT = NEW.talkative; END $$;"
            "CREATE TRIGGER t BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION tell()"
        )
    rows = [{"id": 1, "talkative": PLANTED}]
    result = BatchWriter(postgres_engine, retry=AT_ONCE).run(rows, insert_row)
    assert result.written == 0
    assert_silent(PLANTED, result, log)


def test_the_text_of_a_trigger_of_sqlite_is_not_shown(sqlite_engine, log):
    METADATA.create_all(sqlite_engine)
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TRIGGER t BEFORE INSERT ON people BEGIN SELECT RAISE(ABORT, 'bad {PLANTED}'); END"
        )
    result = BatchWriter(sqlite_engine).run([{"id": 1}], insert_row)
    assert result.failed == 1
    assert_silent(PLANTED, result, log)


def failing_source(error):
    yield {"id": 1, "talkative": PLANTED}
    raise error


@pytest.mark.parametrize(("error", "kind"), [(ValueError(PLANTED), SourceError), (KeyboardInterrupt(), RunInterrupted)])
def test_an_exception_that_ends_a_run_shows_no_value_itself(database, log, error, kind):
    with pytest.raises(kind) as caught:
        BatchWriter(database).run(failing_source(error), insert_row)
    assert PLANTED not in f"{caught.value} {caught.value!r}"
    assert_silent(PLANTED, caught.value.result, log)


def test_the_log_of_a_slow_path_and_a_fallback_shows_no_value(database, log):
    rows = [{"id": number, "talkative": PLANTED, "number": number} for number in (1, 2, 2, 3)]

    def map_item(row, out):
        out.insert(PEOPLE, row)
        out.update(PEOPLE, {"number": row["number"]}, {"document": PLANTED})

    result = BatchWriter(database).run(rows, map_item)
    assert result.fallbacks == 1
    assert log.records
    assert_silent(PLANTED, result, log)


# ---- passwords


def unreachable(url, **change):
    return create_engine(url.set(password=PASSWORD, **change), poolclass=NullPool)


@pytest.mark.parametrize(
    "change",
    [{"port": 1}, {"host": "no-such-host.invalid"}, {"username": "nobody"}, {"database": "none"}],
    ids=lambda change: next(iter(change)),
)
def test_a_connection_that_fails_shows_no_password(postgres_server, log, change):
    result = BatchWriter(unreachable(postgres_server.url, **change), retry=AT_ONCE).run([{"id": 1}], insert_row)
    assert result.abort.reason == "lost"
    assert_silent(PASSWORD, result, log)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{PASSWORD}@localhost:port/db",
        f"postgresql://u:{PASSWORD}@127.0.0.1:1/db",
        f"postgresql:/u:{PASSWORD}@localhost/db",
        f"postgresql//u:{PASSWORD}@localhost/db",
        f"nodialect://u:{PASSWORD}@localhost/db",
        f"postgresql+nodriver://u:{PASSWORD}@localhost/db",
        f"{PASSWORD}",
        f"sqlite://u:{PASSWORD}@localhost/x",
    ],
)
def test_a_malformed_url_shows_no_password(url, log):
    with pytest.raises(BatchWriteError) as caught:
        BatchWriter(url)
    said = "".join(traceback.format_exception(caught.value))
    assert "planted" not in said
    assert "w@rd" not in said


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@127.0.0.1:1/db?password=planted-query",
        "postgresql://127.0.0.1:1/db?user=u&password=planted-query&sslmode=bad",
    ],
)
def test_a_url_whose_password_is_in_the_wrong_place_shows_it_nowhere(url, log):
    with BatchWriter(url, retry=AT_ONCE) as writer:
        result = writer.run([{"id": 1}], insert_row)
    assert result.abort is not None
    for said in [*shown_by(result), *logged(log)]:
        assert "planted-" not in said
        assert "w@rd" not in said


def test_a_url_with_an_unescaped_at_sign_in_its_password_is_refused():
    with pytest.raises(ConfigurationError) as caught:
        BatchWriter("postgresql://u:first@planted-second@127.0.0.1:1/db")
    assert "planted-" not in str(caught.value)
    assert "%40" in str(caught.value)


def test_a_short_password_does_not_mangle_the_message(postgres_server):
    engine = create_engine(postgres_server.url.set(password="a", port=1), poolclass=NullPool)  # noqa: S106
    result = BatchWriter(engine, retry=AT_ONCE).run([{"id": 1}], insert_row)
    assert "connection" in result.abort.message
    assert "failed" in result.abort.message
