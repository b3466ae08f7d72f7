"""What bounds and steers attempts: chunk_timeout, classify=, the seconds in total of a retry policy."""

import threading
import time
from contextlib import closing

import pytest
from booked import ITEMS, assert_landed, counts, entries, ids, insert_row, write_one, writer
from hole import READABLE, Hole
from sqlalchemy import Column, ForeignKey, Integer, MetaData, NullPool, Table, create_engine, event, text

from batchwrite import BatchWriter, ConfigurationError, Fault, FaultKind, Ledger, RetryPolicy, Status
from batchwrite.faults import FlushFailed


@pytest.fixture
def hole(postgres):
    with closing(Hole(postgres.url.port)) as hole:
        yield hole


@pytest.fixture
def through_hole(postgres, hole):
    engine = create_engine(postgres.url.set(port=hole.port), poolclass=NullPool, connect_args=READABLE)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("items", [[1, 2, 3], [1, -2, 3]])
def test_a_commit_whose_answer_never_comes_is_looked_up_when_its_time_is_over(postgres, through_hole, hole, items):
    began = time.monotonic()
    result = writer(through_hole, chunk_timeout=1).run(items, write_one)
    assert hole.swallowed.is_set()
    assert time.monotonic() - began < 10
    landed = [number for number in items if number > 0]
    assert counts(result) == (len(landed), len(items) - len(landed), 0, 0, 0)
    assert_landed(postgres, landed)
    assert len(entries(postgres, result.run_id)) == 1


def test_without_a_ledger_such_a_chunk_is_unknown(postgres, through_hole, hole):
    result = writer(through_hole, ledger=None, chunk_timeout=1).run([1, 2, 3], write_one)
    assert hole.swallowed.is_set()
    assert (result.status, result.unknown, result.written) == (Status.UNKNOWN, 3, 0)


@pytest.fixture
def locked(postgres):
    """Another session, that has inserted 2 and not committed."""
    other = create_engine(postgres.url, poolclass=NullPool)
    with other.connect() as connection:
        connection.execute(ITEMS.insert(), {"id": 2, "n": 2})
        yield connection
    other.dispose()


def test_a_chunk_that_waits_for_a_lock_too_long_is_tried_again(postgres, locked, caplog):
    threading.Timer(1.0, locked.rollback).start()
    patient = RetryPolicy(attempts=40, first_wait=0.02, longest_wait=0.02)
    result = writer(postgres, chunk_timeout=0.3, retry=patient).run([1, 2, 3], write_one)
    assert counts(result) == (3, 0, 0, 0, 0)
    assert_landed(postgres, [1, 2, 3])
    assert any(getattr(record, "action", "") == "timeout" for record in caplog.records)


def test_a_lock_that_is_not_given_up_makes_no_item_fail(postgres, locked):
    result = writer(postgres, chunk_timeout=0.2).run([1, 2, 3, 4], write_one)
    assert counts(result) == (0, 0, 0, 4, 0) or result.unattempted == result.received
    assert "chunk_timeout" in result.abort.message
    locked.rollback()
    assert ids(postgres) == []
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    assert locked.scalar(text(blocked)) == 0  # nobody waits on the server for what the client has given up


def test_a_chunk_in_time_is_left_alone(database, caplog):
    before = threading.active_count()
    assert writer(database, chunk_timeout=60).run(range(1, 8), write_one).written == 7
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert not any(getattr(record, "action", "") == "timeout" for record in caplog.records)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 1e300, "5", True])
def test_a_time_that_is_none_is_refused(sqlite_engine, seconds):
    with pytest.raises(ConfigurationError, match="chunk_timeout"):
        BatchWriter(sqlite_engine, chunk_timeout=seconds)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_attempt_that_cannot_begin_is_one_attempt(postgres, monkeypatch, workers):
    """Each would have its `chunk_timeout` to itself: looking the table up is no attempt beside the one it is for."""
    asked = []

    def lose(connection, name):
        asked.append(name)
        raise OSError("the network is gone")

    monkeypatch.setattr("batchwrite.sinks.postgresql.sink.look_up", lose)
    policy = RetryPolicy(attempts=2, first_wait=0, longest_wait=0)
    with BatchWriter(postgres, workers=workers, retry=policy) as few:
        assert few.run([{"id": 1, "n": 1}], insert_row).abort.reason == "lost"
    assert len(asked) == 2


# ---- classify=


def refused_as(word):
    """Says so of what a check constraint refuses, and nothing of anything else."""

    def classify(error):
        return word if "ck_n" in str(error) else None

    return classify


ROWS = [{"id": 1, "n": 1}, {"id": 2, "n": -2}, {"id": 3, "n": 3}, {"id": 1, "n": 4}]


@pytest.mark.parametrize("kind", [FaultKind.FATAL, FaultKind.TRANSIENT, FaultKind.CAPACITY])
def test_the_users_word_goes_before_the_librarys(database, kind):
    result = writer(database, classify=refused_as(kind)).run(ROWS, insert_row)
    assert (result.written, result.failed, result.abort.reason) == (0, 0, str(kind))
    assert result.unattempted == result.received


def test_without_a_word_of_the_user_the_library_decides(database):
    result = writer(database, classify=lambda error: None).run(ROWS, insert_row)
    assert counts(result) == (2, 2, 0, 0, 0)


def test_the_user_may_say_more_than_the_kind(database):
    fault = Fault(kind=FaultKind.ITEM, error_type="Refused", message="no negative stock", sqlstate="BW001")
    result = writer(database, classify=refused_as(fault)).run(ROWS, insert_row)
    assert counts(result) == (2, 2, 0, 0, 0)
    told = {failure.index: (failure.error_type, failure.message, failure.sqlstate) for failure in result.failures}
    assert told[1] == ("Refused", "no negative stock", "BW001")


def test_the_user_may_make_weather_an_items_fault(postgres):
    with postgres.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.n = 2 THEN RAISE EXCEPTION USING ERRCODE = '55P03'; END IF; RETURN NEW; END $$; "
            "CREATE TRIGGER t BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION refuse()"
        )

    def classify(error):
        return FaultKind.ITEM if getattr(error, "sqlstate", "") == "55P03" else None

    assert writer(postgres).run([1, 2, 3], write_one).abort.reason == "transient"
    assert counts(writer(postgres, classify=classify).run([1, 2, 3], write_one)) == (2, 1, 0, 0, 0)
    assert_landed(postgres, [1, 3])


def test_a_classify_that_raises_is_passed_by_and_said_so(database, caplog):
    def classify(error):
        raise ValueError("planted-4711")

    result = writer(database, classify=classify).run(ROWS, insert_row)
    assert counts(result) == (2, 2, 0, 0, 0)
    told = [record.getMessage() for record in caplog.records if getattr(record, "action", "") == "classify"]
    assert told
    assert not any("planted" in text for text in told)


def test_a_classify_that_says_anything_else_is_passed_by(database):
    assert counts(writer(database, classify=lambda error: "item").run(ROWS, insert_row)) == (2, 2, 0, 0, 0)


# ---- the seconds in total


def failing(times, seconds):
    """A flush that fails so often, and takes so long."""
    calls = []

    def attempt():
        calls.append(time.monotonic())
        time.sleep(seconds)
        if len(calls) <= times:
            raise FlushFailed(Fault(kind=FaultKind.TRANSIENT, error_type="X", message="again"))
        return len(calls)

    return attempt, calls


def test_no_attempt_is_begun_when_the_seconds_in_total_are_over():
    attempt, calls = failing(1_000, 0.02)
    policy = RetryPolicy(attempts=1_000, first_wait=0, longest_wait=0, total_seconds=0.2)
    began = time.monotonic()
    with pytest.raises(FlushFailed):
        policy.run(attempt)
    assert 2 <= len(calls) <= 15
    assert calls[-1] - began <= 0.25


def test_attempts_within_the_seconds_in_total_go_on():
    attempt, _ = failing(5, 0)
    assert RetryPolicy(attempts=10, first_wait=0, longest_wait=0, total_seconds=60).run(attempt) == 6


def test_the_number_of_attempts_bounds_too():
    attempt, calls = failing(5, 0)
    with pytest.raises(FlushFailed):
        RetryPolicy(attempts=3, first_wait=0, longest_wait=0, total_seconds=60).run(attempt)
    assert len(calls) == 3


def test_a_wait_that_would_end_too_late_is_not_begun():
    attempt, calls = failing(1_000, 0)
    began = time.monotonic()
    with pytest.raises(FlushFailed):
        RetryPolicy(attempts=1_000, first_wait=30, longest_wait=30, total_seconds=0.05).run(attempt)
    assert time.monotonic() - began < 1
    assert len(calls) < 20


@pytest.mark.parametrize(
    "options",
    [{"total_seconds": 0}, {"total_seconds": -1}, {"total_seconds": "x"}, {"attempts": 0}, {"first_wait": -1}],
)
def test_a_policy_that_makes_no_sense_is_refused(options):
    with pytest.raises(ConfigurationError):
        RetryPolicy(**options)


def test_a_run_gives_up_when_the_seconds_in_total_are_over(postgres_server):
    engine = create_engine(postgres_server.url.set(port=1), poolclass=NullPool)
    policy = RetryPolicy(attempts=10_000, first_wait=0.01, longest_wait=0.01, total_seconds=0.3)
    began = time.monotonic()
    result = BatchWriter(engine, retry=policy).run([1], write_one)
    assert result.abort.reason == "lost"
    assert 0.1 < time.monotonic() - began < 5


def test_a_look_into_the_ledger_that_gets_no_answer_is_in_doubt_of_nothing(postgres):
    is_armed = threading.Event()
    killer = create_engine(postgres.url, poolclass=NullPool)

    @event.listens_for(postgres, "commit")
    def kill_once(connection):
        if is_armed.is_set():
            is_armed.clear()
            pid = connection.connection.dbapi_connection.info.backend_pid
            with killer.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    try:
        is_armed.set()
        result = writer(postgres, retry=RetryPolicy(first_wait=0)).run(range(30), write_one, run_id="looked up")
    finally:
        event.remove(postgres, "commit", kill_once)
    assert not is_armed.is_set()
    assert (result.abort, result.unknown) == (None, 0)
    assert result.written + result.failed + result.skipped == 30


def test_a_chunk_without_writes_is_booked_where_everything_goes_item_by_item(sqlite_engine):
    """Foreign keys that wait for COMMIT send each chunk of SQLite that way, also one of whose items all have failed."""
    metadata = MetaData()
    parent = Table("parents", metadata, Column("id", Integer, primary_key=True))
    key = ForeignKey(parent.c.id, deferrable=True, initially="DEFERRED")
    Table("children", metadata, Column("id", Integer, primary_key=True), Column("p", Integer, key))
    metadata.create_all(sqlite_engine)
    ledger = Ledger()
    ledger.create(sqlite_engine)
    result = BatchWriter(sqlite_engine, ledger=ledger).run(
        [1, 2], lambda item, out: out.increment(parent, {"id": 1}, {})
    )
    assert (result.failed, result.abort) == (2, None)
    assert len(entries(sqlite_engine, result.run_id)) == 1
