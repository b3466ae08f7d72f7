"""How many failures a run survives, exact to the item."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from items import KINDS, METADATA, accounted, counts, ids, numbered, write_one
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
)

from batchwrite import (
    BatchWriter,
    Status,
)


@dataclass
class Expected:
    written: int = 0
    failed: int = 0
    skipped: int = 0


def expected_of(items, most):
    """What a run that stops at the item that exceeds the limit has done."""
    expected = Expected()
    for number in items:
        if number is None:
            expected.skipped += 1
        elif isinstance(number, str) or number < 0:
            expected.failed += 1
        else:
            expected.written += 1
        if expected.failed > most:
            break
    return expected


@given(kinds=KINDS, most=st.integers(0, 4), chunk_size=st.integers(1, 12))
def test_max_failures_is_exact_to_the_item_and_independent_of_the_chunk(
    shared_engine, emptied, kinds, most, chunk_size
):
    items = numbered(kinds)
    expected = expected_of(items, most)
    with emptied(METADATA):
        result = BatchWriter(shared_engine, chunk_size=chunk_size, max_failures=most).run(items, write_one)
        accounted(result, shared_engine)
    assert (result.written, result.failed, result.skipped) == (expected.written, expected.failed, expected.skipped)
    assert (result.status is Status.ABORTED) == (expected.failed > most)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 100])
def test_a_map_failure_after_a_refused_item_ends_the_run_before_the_next(database, chunk_size):
    writer = BatchWriter(database, max_failures=1, chunk_size=chunk_size)
    result = accounted(writer.run([-1, "x", 3], write_one), database)
    assert (result.written, result.failed) == (0, 2)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 100])
@pytest.mark.parametrize("bad", [-3, "3"])
def test_on_failure_stop_ends_the_run_at_the_first(database, chunk_size, bad):
    writer = BatchWriter(database, on_failure="stop", chunk_size=chunk_size)
    result = accounted(writer.run([1, 2, bad, 4, 5], write_one), database)
    assert (result.status, result.written, result.failed) == (Status.ABORTED, 2, 1)
    assert result.abort.reason == "failure_limit"
    assert ids(database) == [1, 2]


def test_a_limit_is_exact_although_commit_finds_what_is_wrong(engine, created):
    metadata = MetaData()
    key = ForeignKey("node.id", deferrable=True, initially="DEFERRED")
    node = Table("node", metadata, Column("id", Integer, primary_key=True), Column("p", Integer, key))
    rows = [{"id": 1, "p": 99}, {"id": 2}, {"id": 2}, {"id": 3}, {"id": 3}, {"id": 4}]
    with created(engine, metadata):
        writer = BatchWriter(engine, max_failures=3)
        result = writer.run(rows, lambda row, out: out.insert(node, row))
    assert counts(result) == (3, 3, 0, 0, 0)
    assert [failure.index for failure in result.failures] == [0, 2, 4]


def test_a_share_of_failures_ends_the_run_after_the_chunk(database):
    writer = BatchWriter(database, chunk_size=4, max_failure_ratio=0.25)
    result = accounted(writer.run([1, -2, 3, 4, -5, -6, 7, 8, 9], write_one), database)
    assert counts(result) == (5, 3, 0, result.received - 8, 0)
    assert result.abort.reason == "failure_limit"


def test_a_share_of_1_never_ends_a_run(database):
    writer = BatchWriter(database, chunk_size=2, max_failure_ratio=1)
    assert writer.run([-1, -2, -3, 4], write_one).status is Status.PARTIAL_SUCCESS


@pytest.mark.parametrize("kept", [0, 1, 3])
@pytest.mark.parametrize("chunk_size", [2, 100])
def test_failures_kept_are_bounded_and_the_counts_exact(database, kept, chunk_size):
    writer = BatchWriter(database, keep_failures=kept, chunk_size=chunk_size)
    result = accounted(writer.run([-1, 2, "x", -4, -5], write_one), database)
    assert result.failed == 4
    assert [failure.index for failure in result.failures] == [0, 2, 3, 4][:kept]
    assert sorted(result.failure_counts.values()) == [1, 3]


def test_reasons_kept_are_bounded(database):
    def map_item(item, out):
        raise type(f"Error{item}", (Exception,), {})

    result = BatchWriter(database).run(range(1_500), map_item)
    assert len(result.failure_counts) <= 1_001
    assert sum(result.failure_counts.values()) == result.failed == 1_500
