"""The ledger's tables: made, required, filled with what each chunk has become."""

import json
from datetime import timedelta

import pytest
from booked import ITEMS, LEDGER, METADATA, SUMS, counts, entries, ids, rows_of, write_one, writer
from sqlalchemy import NullPool, create_engine, event, inspect

from batchwrite import BatchFailed, BatchWriter, ConfigurationError, DeadLetters, IdempotencyKey, Ledger, Status


def test_create_makes_the_tables_and_may_be_called_again(engine):
    LEDGER.create(engine)
    LEDGER.create(engine)
    LEDGER.require(engine)
    made = set(inspect(engine).get_table_names())
    assert made == {"batchwrite_chunks", "batchwrite_dead_letters", "batchwrite_keys", "batchwrite_runs"}


def test_the_tables_may_have_another_prefix(engine):
    ledger = Ledger(prefix="books_")
    METADATA.create_all(engine)
    ledger.create(engine)
    result = BatchWriter(engine, ledger=ledger).run([{"id": 1, "n": 1}], lambda row, out: out.insert(ITEMS, row))
    assert [row["run_id"] for row in rows_of(engine, ledger.chunks)] == [result.run_id]


def test_the_tables_may_be_in_a_schema(postgres):
    ledger = Ledger(schema="books")
    with pytest.raises(ConfigurationError, match=r"books\.batchwrite_chunks does not exist"):
        writer(postgres, ledger=ledger).run([1], write_one)
    with postgres.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA books")
    ledger.create(postgres)
    with_all = {"ledger": ledger, "dead_letters": DeadLetters(), "key": abs}
    assert counts(writer(postgres, **with_all).run([1, 2, -3], write_one)) == (2, 1, 0, 0, 0)
    assert [len(rows_of(postgres, table)) for table in (ledger.chunks, ledger.dead_letters, ledger.keys)] == [1, 1, 2]


@pytest.fixture
def tenants(engine, tmp_path):
    """A database with two schemas, `one` and `two`; an engine for each tenant, which translates to them."""
    names = {name: ("batchwrite_" if engine.dialect.name == "mariadb" else "") + name for name in ("one", "two")}
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def attach(raw, _record):
            for name in ("one", "two"):
                raw.execute(f"ATTACH '{tmp_path / name}.db' AS {name}")

        engine.dispose()
    else:
        with engine.begin() as connection:
            for name in names.values():
                connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(SUMS.insert(), {"id": 0, "total": 0})
    yield names, [engine.execution_options(schema_translate_map={"books": name}) for name in names.values()]
    if engine.dialect.name == "mariadb":
        with engine.begin() as connection:
            for name in names.values():
                connection.exec_driver_sql(f"DROP SCHEMA {name}")


def test_a_schema_is_translated_wherever_the_ledger_is_read_and_written(tenants):
    """Tenants with a schema each: made there, required there, written there, read from there, and nowhere else."""
    names, (one, two) = tenants
    ledger = Ledger(schema="books")
    with pytest.raises(ConfigurationError, match=rf"{names['one']}\.batchwrite_chunks does not exist"):
        writer(one, ledger=ledger).run([1], write_one)
    with pytest.raises(ConfigurationError, match="does not exist"):
        ledger.require(one)
    ledger.create(one)
    ledger.require(one)
    with pytest.raises(ConfigurationError, match=rf"{names['two']}\.batchwrite_chunks does not exist"):
        ledger.require(two)
    ledger.create(two)
    key = IdempotencyKey(of=abs, retention=timedelta(days=1))
    with_all = {"ledger": ledger, "dead_letters": DeadLetters(), "key": key}
    tables = (ledger.chunks, ledger.dead_letters, ledger.keys)
    first = writer(one, **with_all).run([1, 2, -3, 4], write_one, run_id="nightly")
    assert counts(first) == (3, 1, 0, 0, 0)
    assert [len(rows_of(one, table)) for table in tables] == [2, 1, 3]
    assert [len(rows_of(two, table)) for table in tables] == [0, 0, 0]
    again = writer(one, **with_all).run([1, 2, -3, 4, 5], write_one, run_id="nightly")
    assert (again.resumed, again.written, again.earlier.failed) == (4, 1, 1)
    assert counts(writer(one, **with_all).run([1, 2], write_one)) == (0, 0, 2, 0, 0)  # by their keys
    result = writer(one, **with_all).retry("nightly", lambda number, out: out.insert(ITEMS, {"id": 100, "n": 0}))
    assert result.written == 1
    assert rows_of(one, ledger.dead_letters)[0]["landed_at"] is not None
    assert ledger.remember(two, "nightly", "job") == ledger.job(two, "nightly") == "job"
    assert ledger.job(one, "nightly") is None
    assert ledger.forget_keys(two, older_than=timedelta(days=-1)) == 0
    assert ledger.forget_keys(one, older_than=timedelta(days=-1)) == 5


@pytest.mark.parametrize("table", LEDGER.metadata.sorted_tables, ids=str)
def test_a_table_that_is_missing_is_named_before_anything_is_read(database, table):
    table.drop(database)
    items = iter([1])
    with pytest.raises(ConfigurationError, match=f"{table.name} does not exist.*batchwrite ledger create"):
        writer(database).run(items, write_one)
    assert list(items) == [1]


def test_each_chunk_has_an_entry_of_what_became_of_it(database):
    items = [1, 2, 3, 4, -5, None, "x", 8]
    result = writer(database).run(items, write_one)
    assert entries(database, result.run_id) == [(0, 3, 3, 0, 0), (3, 3, 1, 1, 1), (6, 2, 1, 1, 0)]
    kept = [json.loads(row["failures"]) for row in rows_of(database, LEDGER.chunks)]
    assert [[failure[:2] for failure in chunk] for chunk in kept] == [[], [[1, "write"]], [[0, "map"]]]


def test_a_chunk_of_which_nothing_is_written_has_an_entry_too(database):
    result = writer(database).run([None, "x", None, -1, -2, -3], write_one)
    assert entries(database, result.run_id) == [(0, 3, 0, 1, 2), (3, 3, 0, 3, 0)]


def test_an_entry_ends_where_the_run_was_ended_by_its_failures(database):
    result = writer(database, max_failures=0, chunk_size=10).run([1, 2, -3, 4, 5], write_one)
    assert counts(result) == (2, 1, 0, 2, 0)
    assert entries(database, result.run_id) == [(0, 3, 2, 1, 0)]


def test_runs_without_a_name_have_names_of_their_own(database):
    results = [writer(database).run([number], write_one) for number in (1, 2)]
    assert len({result.run_id for result in results}) == 2
    assert {row["run_id"] for row in rows_of(database, LEDGER.chunks)} == {result.run_id for result in results}


def test_a_batch_and_a_stream_keep_books_too(database):
    with writer(database).collect() as batch, batch.item() as out:
        write_one(1, out)
    stream = writer(database).stream([2, 3], write_one)
    assert len(list(stream)) == 2
    assert len(entries(database, batch.result.run_id)) == len(entries(database, stream.result.run_id)) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ledger": "yes"}, "ledger must be a Ledger"),
        ({"dead_letters": "yes"}, "dead_letters must be"),
        ({"ledger": None, "dead_letters": DeadLetters()}, "DeadLetters are kept in a table of the ledger"),
        ({"ledger": None, "key": abs}, "key= needs one"),
        ({"key": 5}, "key must be a function"),
        ({"chunk_timeout": 0}, "chunk_timeout"),
        ({"classify": "yes"}, "classify"),
    ],
)
def test_books_that_do_not_go_together_are_refused(sqlite_engine, options, text):
    with pytest.raises(ConfigurationError, match=text):
        writer(sqlite_engine, **options)


@pytest.mark.parametrize("scope", [5, "x" * 101, "a\0b", "\ud800"])
def test_a_scope_that_cannot_be_stored_is_refused(scope):
    with pytest.raises(ConfigurationError, match="scope"):
        IdempotencyKey(of=abs, scope=scope)


@pytest.fixture
def nowhere(postgres_server):
    return create_engine(postgres_server.url.set(port=1), poolclass=NullPool)


def test_a_server_that_is_gone_ends_a_run_with_books_as_it_ends_any_other(nowhere):
    result = writer(nowhere).run([1], write_one, run_id="x")
    assert (result.status, result.abort.reason, result.received) == (Status.ABORTED, "lost", 0)


def test_a_server_that_is_gone_ends_a_batch_with_books_as_it_ends_any_other(nowhere):
    with writer(nowhere).collect() as batch, pytest.raises(BatchFailed), batch.item():
        pytest.fail("there is nobody to write to")
    assert batch.result.abort.reason == "lost"


def test_a_server_that_is_gone_ends_a_retry(nowhere):
    result = writer(nowhere, dead_letters=DeadLetters()).retry("x", write_one)
    assert (result.abort.reason, result.received) == ("lost", 0)


def test_connections_of_the_pool_that_have_died_cost_a_run_with_books_nothing(postgres):
    with postgres.connect() as connection:
        pid = connection.connection.driver_connection.info.backend_pid
    other = create_engine(postgres.url, poolclass=NullPool)
    with other.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid}), pg_sleep(0.1)")
    result = writer(postgres).run([1, 2], write_one, run_id="x")
    assert (result.written, ids(postgres)) == (2, [1, 2])
    other.dispose()
