"""Idempotency keys: an item whose key has landed is skipped, within a run, across runs, and between processes."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from booked import ITEMS, LEDGER, assert_landed, counts, entries, ids, rows_of, total, write_one, writer
from sqlalchemy import Column, ForeignKey, Integer, MetaData, NullPool, Table, create_engine, event, select

from batchwrite import BatchWriter, IdempotencyKey, OutcomeStatus, RetryPolicy, Stage
from batchwrite.faults import Fault, FaultKind, FlushFailed


def by_value(number):
    return abs(number) if isinstance(number, int) else None


def keyed(engine, **options):
    return writer(engine, **{"key": by_value} | options)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 100])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_item_seen_before_in_the_run_is_skipped(database, chunk_size, workers):
    items = [1, 2, 1, 3, 3, 2, 4, 1]
    result = keyed(database, chunk_size=chunk_size, workers=workers).run(items, write_one)
    assert counts(result) == (4, 0, 4, 0, 0)
    assert_landed(database, [1, 2, 3, 4])


def test_the_reason_is_duplicate(database):
    outcomes = list(keyed(database).stream([1, 1, None, 1], write_one))
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [
        (OutcomeStatus.WRITTEN, None),
        (OutcomeStatus.SKIPPED, "duplicate"),
        (OutcomeStatus.SKIPPED, "nothing there"),
        (OutcomeStatus.SKIPPED, "duplicate"),
    ]


def test_an_item_seen_before_in_another_run_is_skipped(database):
    keyed(database).run([1, 2, 3], write_one)
    assert counts(keyed(database).run([2, 3, 4, 5], write_one)) == (2, 0, 2, 0, 0)
    assert_landed(database, [1, 2, 3, 4, 5])


def test_only_what_has_landed_counts_as_seen(database):
    """The first of a key fails, is skipped, or is refused: the next one of that key is written."""
    items = [-1, 1, "two", 3, -3, 4]
    result = keyed(database).run(items, write_one)
    assert counts(result) == (3, 2, 1, 0, 0)
    assert_landed(database, [1, 3, 4])
    assert len(rows_of(database, LEDGER.keys)) == 3


def test_an_item_without_a_key_is_written_whatever_came_before(database):
    with_none = keyed(database, key=lambda number: None)
    assert counts(with_none.run([1, 2, 3, 4], write_one)) == (4, 0, 0, 0, 0)
    assert counts(with_none.run([1, 5], write_one)) == (1, 1, 0, 0, 0)
    assert rows_of(database, LEDGER.keys) == []


def test_items_with_and_without_keys_may_be_mixed(database):
    some = keyed(database, key=lambda number: number if number % 2 else None, chunk_size=5)
    assert counts(some.run([1, 2, 4, 1, 6, 3, 8, 3], write_one)) == (6, 0, 2, 0, 0)
    assert_landed(database, [1, 2, 4, 6, 3, 8])


def test_equal_keys_of_two_scopes_are_two_keys(database):
    for scope, number in (("one", 1), ("two", 2), ("one", 3)):
        keyed(database, key=IdempotencyKey(of=lambda _: "same", scope=scope)).run([number], write_one)
    assert_landed(database, [1, 2])
    assert sorted(row["scope"] for row in rows_of(database, LEDGER.keys)) == ["one", "two"]


def age_keys(engine, days):
    with engine.begin() as connection:
        landed = datetime.now(UTC) - timedelta(days=days)
        connection.execute(LEDGER.keys.update().values(landed_at=landed))


def test_keys_are_forgotten_when_their_retention_is_over(database):
    week = IdempotencyKey(of=by_value, scope="week", retention=timedelta(days=7))
    ever = IdempotencyKey(of=by_value, scope="ever")
    keyed(database, key=week).run([1], write_one)
    keyed(database, key=ever).run([2], write_one)
    age_keys(database, 6)
    assert keyed(database, key=week).run([1], write_one).skipped == 1
    age_keys(database, 8)
    assert counts(keyed(database, key=week).run([1], write_one)) == (0, 1, 0, 0, 0)  # its row is still there
    assert keyed(database, key=ever).run([2], write_one).skipped == 1
    assert {row["scope"] for row in rows_of(database, LEDGER.keys)} == {"ever"}


def test_keys_may_be_forgotten_by_hand(database):
    keyed(database).run([1, 2], write_one)
    assert LEDGER.forget_keys(database, older_than=timedelta(hours=1)) == 0
    age_keys(database, 1)
    assert LEDGER.forget_keys(database, scope="other", older_than=timedelta(hours=1)) == 0
    assert LEDGER.forget_keys(database, older_than=timedelta(hours=1)) == 2


def test_a_key_function_that_raises_fails_its_item(database):
    def key(number):
        return 6 // number

    result = keyed(database, key=key).run([1, 0, 2], write_one)
    assert [(failure.index, failure.stage, failure.error_type) for failure in result.failures] == [
        (1, Stage.MAP, "ZeroDivisionError")
    ]
    assert_landed(database, [1, 2])


def test_a_key_that_might_be_taken_for_another_fails_its_item(database):
    result = keyed(database, key=lambda number: complex(number, 1)).run([1, 2], write_one)
    assert (result.written, result.failed) == (0, 2)
    assert result.failures[0].message.startswith("an idempotency key is a text")


def test_an_item_that_is_put_off_has_not_landed_and_is_no_duplicate_of_itself(engine, created):
    metadata = MetaData()
    node = Table("node", metadata, Column("id", Integer, primary_key=True), Column("p", ForeignKey("node.id")))
    LEDGER.create(engine)
    rows = [{"id": 1, "p": None}, {"id": 2, "p": 3}, {"id": 3, "p": 1}, {"id": 2, "p": 1}]
    with created(engine, metadata):
        late = keyed(engine, key=lambda row: row["id"], defer_foreign_keys=True, chunk_size=2)
        result = late.run(rows, lambda row, out: out.insert(node, row), run_id="x")
        assert counts(result) == (3, 0, 1, 0, 0)
        with engine.connect() as connection:
            assert list(connection.scalars(select(node.c.id).order_by(node.c.id))) == [1, 2, 3]


def test_a_batch_has_keys_too(database):
    with keyed(database, key=lambda item: None if item is None else item % 3).collect() as batch:
        for number in (1, 2, 3, 4, None):
            with batch.item(number) as out:
                write_one(7 if number is None else number, out)
        with batch.item("x") as out:
            write_one(9, out)
    assert counts(batch.result) == (4, 1, 1, 0, 0)
    assert_landed(database, [1, 2, 3, 7])


def test_keys_of_any_length_and_kind_serve(database):
    keys = ["x" * 1_000, "x" * 1_001, ("a", 1), ("a", "1"), "é\0\ud800", b"x", 1, "1", 1.5, datetime(2026, 1, 1)]  # noqa: DTZ001

    def insert(place, out):
        out.insert(ITEMS, {"id": place, "n": place})

    by_place = keyed(database, key=lambda place: keys[place])
    assert by_place.run(range(len(keys)), insert).written == len(keys)
    assert by_place.run(range(len(keys)), insert).skipped == len(keys)


def test_keys_and_a_run_that_goes_on_do_not_get_into_each_others_way(database):
    items = [1, 2, 1, 3, 2, 4]
    keyed(database, chunk_size=2).run(items[:4], write_one, run_id="x")
    result = keyed(database, chunk_size=5).run(items, write_one, run_id="x")
    assert (result.resumed, counts(result)) == (4, (1, 0, 1, 0, 0))
    assert_landed(database, [1, 2, 3, 4])
    assert sum(entry[4] for entry in entries(database, "x")) == 2


def test_items_behind_a_limit_of_failures_leave_no_keys(database):
    result = keyed(database, max_failures=0, chunk_size=10).run([1, -2, 3, 4], write_one)
    assert counts(result) == (1, 1, 0, 2, 0)
    assert counts(keyed(database).run([1, 3, 4], write_one)) == (2, 0, 1, 0, 0)


def overtaken(engine, numbers, *, after):
    """Another client writes some numbers after this one's look-up, and before its own keys are written."""
    other = create_engine(engine.url, poolclass=NullPool)
    done = []

    def look(connection, cursor, statement, parameters, context, executemany):
        if "batchwrite_keys" in statement and statement.startswith("SELECT") and not done:
            done.append(keyed(other).run(numbers, write_one))

    event.listen(engine, "after_cursor_execute", look)
    try:
        return after(), done[0]
    finally:
        event.remove(engine, "after_cursor_execute", look)
        other.dispose()


@pytest.mark.parametrize("bad", [[], [-9]])
def test_a_key_that_another_client_has_just_written_is_a_duplicate(postgres, bad):
    def write():
        return keyed(postgres, chunk_size=10, workers=0).run([1, 2, 3, *bad, 4], write_one)

    result, other = overtaken(postgres, [2, 4], after=write)
    assert other.written == 2
    assert counts(result) == (2, len(bad), 2, 0, 0)
    assert_landed(postgres, [1, 2, 3, 4])


def test_many_clients_that_write_the_same_items_write_each_once(database):
    """The losers meet the keys of the winners in the middle of their chunks."""
    numbers = list(range(1, 121))
    results = []

    def write(place):
        patient = RetryPolicy(attempts=30, first_wait=0.01, longest_wait=0.1)
        with BatchWriter(database.url, ledger=LEDGER, key=by_value, chunk_size=10 + place, retry=patient) as own:
            results.append(own.run(numbers[place * 20 :] + numbers[: place * 20], write_one))

    threads = [threading.Thread(target=write, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.abort for result in results] == [None] * 4
    assert sum(result.written for result in results) == len(numbers)
    assert sum(result.skipped for result in results) == 3 * len(numbers)
    assert ids(database) == numbers
    assert total(database) == sum(numbers)
    assert len(rows_of(database, LEDGER.keys)) == len(numbers)


def test_a_duplicate_is_found_by_the_replay_after_a_commit_without_an_answer(postgres):
    """The chunk had been committed: its own keys make no duplicates of its items."""
    writer_of_all = keyed(postgres, chunk_size=4, workers=0)
    sink, lost = writer_of_all._sink, []
    original = sink.write

    def write(items, books=None):
        refused = original(items, books)
        if not lost:
            lost.append(True)
            raise FlushFailed(Fault(kind=FaultKind.IN_DOUBT, error_type="Lost", message="no answer"))
        return refused

    sink.write = write
    sink.begin = lambda *arguments, **options: None
    result = writer_of_all.run([1, 2, 3, 4, 1], write_one)
    assert counts(result) == (4, 0, 1, 0, 0)
    assert_landed(postgres, [1, 2, 3, 4])
