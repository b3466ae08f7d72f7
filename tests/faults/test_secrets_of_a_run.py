"""Secrets: whatever a failing run logs, raises, shows, prints or books, no value of a row and no password is in it.

The dead letters' columns `item` and `detail` are the place for values, and the only one.
"""

import json
import logging
import traceback

import pytest
from command_runner import separating_runner
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, String, Table, create_engine, text

from batchwrite import (
    BatchFailed,
    BatchWriter,
    DeadLetterFile,
    DeadLetters,
    Ledger,
    LedgerMismatch,
    RetryPolicy,
    RunInterrupted,
    SourceError,
)
from batchwrite.cli.app import cli
from batchwrite.sinks.ledger import SqlLedger

VALUE = "planted-value-4711"
PASSWORD = "planted-password-4711"  # noqa: S105 - what the tests look for
METADATA = MetaData()
PEOPLE = Table(
    "people",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(40), nullable=False),
    Column("number", Integer, unique=True),
    CheckConstraint("name NOT LIKE 'planted%%'", name="ck_name"),
)
# What makes a user with that password, and takes it away.
USER_STATEMENTS = {
    "postgresql": (
        ["DROP ROLE IF EXISTS bw_secret", f"CREATE ROLE bw_secret SUPERUSER LOGIN PASSWORD '{PASSWORD}'"],
        ["REASSIGN OWNED BY bw_secret TO CURRENT_USER", "DROP OWNED BY bw_secret", "DROP ROLE bw_secret"],
    ),
    "mariadb": (
        [f"CREATE OR REPLACE USER bw_secret IDENTIFIED BY '{PASSWORD}'", "GRANT ALL ON *.* TO bw_secret"],
        ["DROP USER bw_secret"],
    ),
}
LEDGER = Ledger()
AT_ONCE = RetryPolicy(attempts=2, first_wait=0, longest_wait=0)
ROWS = [
    {"id": 1, "name": "good", "number": 1},
    {"id": 2, "name": VALUE, "number": 2},
    {"id": 3, "name": None, "number": VALUE},
    {"id": 4, "name": "taken", "number": 1},
    {"id": 5, "name": VALUE, "number": 5, "raise": True},
    {"id": 6, "name": "good", VALUE: 6},
    {"id": 7, "name": "good", "number": 7},
]


def insert_row(row, out):
    if "raise" in row:
        raise ValueError(row["name"])
    out.insert(PEOPLE, {"id": row["id"], "name": row["name"], "number": row.get("number")})
    if VALUE in row:
        out.update(PEOPLE, {"number": row["id"] * 1_000}, name=VALUE)


@pytest.fixture
def database(engine):
    """A database that one gets at by a password, which a statement of its log could show."""
    if engine.dialect.name == "sqlite":
        METADATA.create_all(engine)
        LEDGER.create(engine)
        yield engine
        return
    before, after = USER_STATEMENTS[engine.dialect.name]
    execute(engine, before)
    own = create_engine(engine.url.set(username="bw_secret", password=PASSWORD))
    METADATA.create_all(own)
    LEDGER.create(own)
    yield own
    own.dispose()
    execute(engine, after)


def execute(engine, statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture
def log(caplog):
    """Every logger of the library and of the driver; SQLAlchemy's own log of statements is the user's to switch on."""
    caplog.set_level(logging.DEBUG)
    for name in ("batchwrite", "batchwrite.sql", "psycopg", "psycopg.pool", "tenacity"):
        caplog.set_level(logging.DEBUG, logger=name)
    caplog.set_level(logging.WARNING, logger="sqlalchemy")
    return caplog


def shown_by_run(result):
    yield from (
        repr(result),
        str(result),
        json.dumps(result.to_dict()),
        repr(result.abort),
        repr(result.failure_counts),
    )
    for failure in result.failures:
        yield f"{failure!r} {failure} {failure.reason} {json.dumps(failure.to_dict())}"
    try:
        result.raise_for_failures()
    except BatchFailed as error:
        yield "".join(traceback.format_exception(error))


def logged(log):
    for record in log.records:
        yield record.getMessage()
        yield repr(vars(record))


def booked(engine):
    """All rows of the ledger, but for the columns that are the place for values."""
    with engine.connect() as connection:
        for table in LEDGER.metadata.sorted_tables:
            for row in connection.execute(table.select()).mappings():
                yield repr({name: value for name, value in row.items() if name not in {"item", "detail"}})


def assert_silent(said):
    texts = list(said)
    assert texts
    for each in texts:
        assert "planted" not in each


@pytest.mark.parametrize("kind", ["table", "file"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_run_shows_no_secret(database, log, tmp_path, kind, workers):
    box = DeadLetters() if kind == "table" else DeadLetterFile(tmp_path / "letters.jsonl")
    writer = BatchWriter(
        database,
        retry=AT_ONCE,
        chunk_size=4,
        workers=workers,
        ledger=LEDGER,
        dead_letters=box,
        key=lambda row: row["id"],
    )
    result = writer.run(ROWS, insert_row, run_id="nightly")
    assert (result.written, result.failed) == (2, 5)
    again = writer.retry("nightly", insert_row)
    assert again.failed == 5
    store = SqlLedger(LEDGER, writer._sink.read)
    letters = list(writer._books.letters("nightly"))
    assert any(VALUE in letter.item for letter in letters)
    objects = [writer, writer._books, writer._settings, LEDGER, store, box, *letters, *store.entries("nightly")]
    assert_silent([*shown_by_run(result), *shown_by_run(again), *map(repr, objects), *logged(log), *booked(database)])


def failing_with(error):
    yield ROWS[0]
    raise error


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (lambda: failing_with(ValueError(VALUE)), SourceError),
        (lambda: failing_with(KeyboardInterrupt(VALUE)), RunInterrupted),
        (lambda: [{"id": 1, "name": VALUE}], LedgerMismatch),
    ],
    ids=["source", "interrupt", "another input"],
)
def test_what_ends_a_run_shows_no_secret_itself(database, log, source, kind):
    writer = BatchWriter(database, retry=AT_ONCE, ledger=LEDGER, dead_letters=DeadLetters())
    if kind is LedgerMismatch:
        writer.run(ROWS[1:], insert_row, run_id="x")
    with pytest.raises(kind) as caught:
        writer.run(source(), insert_row, run_id="x")
    result = getattr(caught.value, "result", None)
    said = [str(caught.value), repr(caught.value), *(shown_by_run(result) if result else [])]
    assert_silent([*said, *logged(log), *booked(database)])


SPOILT = {
    "no table": "DROP TABLE people",
    "no ledger": "DROP TABLE batchwrite_keys",
    "no letters": "ALTER TABLE batchwrite_dead_letters RENAME TO elsewhere",
    "no column": "ALTER TABLE people RENAME COLUMN name TO other",
}


@pytest.mark.parametrize("statement", SPOILT.values(), ids=SPOILT)
def test_a_run_that_is_aborted_shows_no_secret(database, log, statement):
    writer = BatchWriter(database, retry=AT_ONCE, ledger=LEDGER, dead_letters=DeadLetters(), key=lambda row: row["id"])
    writer.run([], insert_row)
    with database.begin() as connection:
        connection.exec_driver_sql(statement)
    result = writer.run(ROWS, insert_row)
    assert result.abort is not None
    assert_silent([*shown_by_run(result), *logged(log)])


def test_a_connection_that_is_refused_shows_no_password(postgres_engine, log):
    wrong = create_engine(postgres_engine.url.set(username="nobody_at_all", password=PASSWORD))
    writer = BatchWriter(wrong, retry=AT_ONCE, ledger=LEDGER, dead_letters=DeadLetters())
    result = writer.run(ROWS, insert_row, run_id="x")
    assert result.abort.reason == "lost"
    assert_silent([*shown_by_run(result), *logged(log), repr(writer)])
    wrong.dispose()


def invoke(*arguments):
    result = separating_runner().invoke(cli, list(map(str, arguments)))
    return result.exit_code, f"{result.stdout} {result.stderr}"


@pytest.mark.parametrize("form", [["--json"], []], ids=["json", "text"])
def test_the_command_line_prints_no_secret(database, log, tmp_path, form):
    path = tmp_path / "in.csv"
    lines = ["id,name,number", "1,good,1", f"2,{VALUE},2", f"3,good,{VALUE}", "4,taken,1", f"5,{VALUE}", f"{VALUE},x,6"]
    path.write_text("\n".join(lines) + "\n")
    url = database.url.render_as_string(hide_password=False)
    options = ["--to", url, "--table", "people", "--run-id", "nightly", *form]
    status, loaded = invoke("load", path, *options)
    assert status == 3
    status, retried = invoke("retry", "nightly", "--to", url, *form)
    assert status == 1
    path.write_text("\n".join([lines[0], f"9,{VALUE},9"]))
    status, refused = invoke("load", path, *options)
    assert status == 1
    status, misused = invoke("load", path, "--to", url, "--table", "nowhere", *form)
    assert status == 2
    assert_silent([loaded, retried, refused, misused, *logged(log), *booked(database)])
    with database.connect() as connection:
        assert VALUE in connection.execute(text("SELECT item FROM batchwrite_dead_letters")).scalars().all()[0]
