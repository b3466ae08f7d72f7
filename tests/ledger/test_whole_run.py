"""What is told of a run that was started again: the counts of this start, and the status of all of it."""

from contextlib import suppress

import pytest
from booked import LEDGER, METADATA, SUMS, Crash, crashing_at, ids, insert_row, write_one, writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

from batchwrite import BatchFailed, BatchWriter, DeadLetterFile, DeadLetters, EarlierStarts, LedgerMismatch, Status

pytestmark = pytest.mark.one_database

ITEMS = [1, -2, 3, None, "x", 6, 7]


def start(engine, items=ITEMS, map_item=write_one, **options):
    return writer(engine, **options).run(items, map_item, run_id="nightly")


def told(failures):
    return [(failure.index, failure.item, failure.message, failure.table) for failure in failures]


def test_a_run_with_failures_that_is_started_again_has_not_become_a_success(database):
    first = start(database)
    again = start(database)
    assert (first.status, again.status) == (Status.PARTIAL_SUCCESS, Status.PARTIAL_SUCCESS)
    assert (again.received, again.written, again.failed, again.resumed) == (0, 0, 0, len(ITEMS))
    earlier = again.earlier
    assert (
        (earlier.written, earlier.failed, earlier.skipped) == (first.written, first.failed, first.skipped) == (4, 2, 1)
    )
    assert told(earlier.failures) == told(first.failures)
    assert earlier.failure_counts == first.failure_counts
    assert first.earlier == EarlierStarts()


def test_a_run_of_which_nothing_has_landed_stays_failed(database):
    for _ in range(3):
        assert start(database, [-1, "x"]).status is Status.FAILED
    assert start(database, [-1, "x", 3]).status is Status.PARTIAL_SUCCESS


def test_a_run_without_failures_stays_a_success(database):
    assert [start(database, [1, 2, None]).status for _ in range(2)] == [Status.SUCCESS, Status.SUCCESS]


def test_what_asks_for_a_success_is_told_of_earlier_failures(database):
    start(database, [1, -2, 3])
    again = start(database, [1, -2, 3, 4])
    with pytest.raises(BatchFailed) as caught:
        again.raise_for_failures()
    text = str(caught.value)
    assert text.startswith("partial_success: 1 of 1 items written, 0 failed; by earlier starts 2 written, 1 failed; ")
    assert "first failure: item 1: a check constraint refused the row" in text


def test_it_is_told_as_json_too_and_without_values(database):
    start(database, [1, {"planted": 4711}])
    document = start(database, [1, {"planted": 4711}]).to_dict()
    assert (document["status"], document["resumed"], document["earlier"]["failed"]) == ("partial_success", 2, 1)
    assert [failure["index"] for failure in document["earlier"]["failures"]] == [1]
    assert [each["count"] for each in document["earlier"]["failure_counts"]] == [1]
    assert "planted" not in str(document)


def test_a_stream_has_the_status_of_the_whole_run(database):
    start(database)
    stream = writer(database).stream([*ITEMS, 8], write_one, run_id="nightly")
    assert [outcome.item for outcome in stream] == [8]
    assert (stream.result.status, stream.result.earlier.failed) == (Status.PARTIAL_SUCCESS, 2)


def test_failures_kept_are_bounded_and_the_counts_exact(database):
    items = [-number for number in range(1, 11)]
    first = start(database, items, keep_failures=3)
    again = start(database, items, keep_failures=3)
    assert (again.earlier.failed, sum(again.earlier.failure_counts.values())) == (10, 10)
    assert told(again.earlier.failures) == told(first.failures)
    assert len(again.earlier.failures) == 3
    assert start(database, items, keep_failures=0).earlier.failures == ()


def test_an_input_that_seeks_tells_of_failures_without_their_items(database):
    class Seekable(list):
        def from_item(self, index):
            return iter(self[index:])

    start(database)
    earlier = start(database, Seekable(ITEMS)).earlier
    assert [failure.index for failure in earlier.failures] == [1, 4]
    assert earlier.failed == 2


@pytest.mark.parametrize("kept", ["table", "file"])
def test_failures_that_have_landed_by_a_retry_are_none_any_more(database, tmp_path, kept):
    """A retry mends the run: once all letters have landed, it is a success."""
    letters = DeadLetters() if kept == "table" else DeadLetterFile(tmp_path / "letters")

    def mended(number, out):
        if number == -2:
            return out.skip("still bad")
        return insert_row({"id": 100, "n": 0}, out)

    options = {"dead_letters": letters}
    assert start(database, **options).failed == 2
    assert writer(database, **options).retry("nightly", mended).written == 1
    half = start(database, **options)
    assert (half.status, half.earlier.written, half.earlier.failed) == (Status.PARTIAL_SUCCESS, 5, 1)
    assert [failure.item for failure in half.earlier.failures] == [-2]
    assert writer(database, **options).retry("nightly", lambda _, out: insert_row({"id": 101, "n": 0}, out)).written
    whole = start(database, **options)
    assert (whole.status, whole.earlier.written, whole.earlier.failed, whole.resumed) == (Status.SUCCESS, 6, 0, 7)


def test_failures_of_items_that_were_put_off_count(engine, created):
    metadata = MetaData()
    nodes = Table(
        "nodes",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("parent", ForeignKey("nodes.id")),
    )
    LEDGER.create(engine)
    items = [(1, 2), (3, 4), (2, None), (5, 6), (7, None)]  # 1 comes before its parent, those of 3 and 5 never come

    def write(item, out):
        out.insert(nodes, {"id": item[0], "parent": item[1]})

    with created(engine, metadata):
        options = {"defer_foreign_keys": True, "chunk_size": 1}
        first = start(engine, items, write, **options)
        again = start(engine, items, write, **options)
        assert [failure.index for failure in first.failures] == [1, 3]
        assert (again.resumed, again.earlier.written, again.earlier.failed) == (5, 3, 2)
        assert told(again.earlier.failures) == told(first.failures)


def test_a_ledger_without_an_entry_for_items_put_off_is_refused(database):
    start(database, [1, 2, 3])
    with database.begin() as connection:
        row = {"run_id": "nightly", "first_item": -2, "items": 1, "fingerprint": "", "failures": "[]"}
        connection.execute(LEDGER.chunks.insert(), row | {"written": 1, "failed": 0, "skipped": 0})
    with pytest.raises(LedgerMismatch, match="items put off are missing"):
        start(database, [1, 2, 3])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["good", "good", "refused", "raises", "skipped"]), max_size=20),
    starts=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 7)), max_size=4),
    keep_failures=st.integers(0, 5),
)
def test_all_starts_together_tell_what_one_would_have_told(database, kinds, starts, keep_failures):
    made = {"good": lambda n: n, "refused": lambda n: -n, "raises": str, "skipped": lambda n: None}
    items = [made[kind](number) for number, kind in enumerate(kinds, 1)]
    empty(database)
    once = BatchWriter(database, chunk_size=3, keep_failures=keep_failures).run(items, write_one)
    empty(database)
    for at, size in starts:
        with suppress(Crash):
            start(database, crashing_at(items, at), chunk_size=size)
    last = start(database, items, keep_failures=keep_failures)
    earlier = last.earlier
    assert last.status is once.status
    assert last.resumed == earlier.written + earlier.failed + earlier.skipped
    for name in ("written", "failed", "skipped"):
        assert getattr(last, name) + getattr(earlier, name) == getattr(once, name)
    kept = [*earlier.failures, *last.failures]
    assert told(kept[:keep_failures]) == told(once.failures)
    assert ids(database) == [number for number, kind in enumerate(kinds, 1) if kind == "good"]


def empty(engine):
    with engine.begin() as connection:
        for table in (LEDGER.chunks, LEDGER.dead_letters, METADATA.tables["items"]):
            connection.execute(table.delete())
        connection.execute(SUMS.update().values(total=0))
