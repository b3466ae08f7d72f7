"""The promises, compared with the sequential reference on generated tables, items and bad items."""

import pytest
from generated import cases, contents, map_for, metadata_for, plant
from hypothesis import given
from reference import write_sequentially

from batchwrite import BatchWriter, OutcomeStatus
from batchwrite.sinks.choose import sink_for
from batchwrite.sinks.postgresql import bulk, fallback
from batchwrite.sinks.sql import SqlSink


def described(outcome) -> str:
    """An outcome in the reference's words."""
    if outcome.status is not OutcomeStatus.FAILED:
        return str(outcome.status)
    failure = outcome.failure
    if failure.error_type == "ItemRefused" and "no row has this key" in failure.message:
        return "failed Missing"
    return f"failed {failure.sqlstate or failure.error_type}"


def compare(engine, emptied, case, *, sink=None):
    """Require that the library does what the reference does; `sink` stands in for the real one."""
    metadata = metadata_for(case.shapes)
    map_item = map_for(metadata)
    with emptied(metadata):
        plant(engine, metadata, case.planted)
        expected = write_sequentially(engine, case.items, map_item)
        expected_rows = contents(engine, metadata)
    with emptied(metadata):
        plant(engine, metadata, case.planted)
        writer = BatchWriter(engine, chunk_size=case.chunk_size, workers=case.workers)
        if sink is not None:
            writer._runs._sink = sink(engine)
        stream = writer.stream(case.items, map_item)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bulk, "_FEWEST_FOR_COPY", case.fewest_for_copy)
            patch.setattr(fallback, "_WINDOW", case.window)
            outcomes = [described(outcome) for outcome in stream]
        rows = contents(engine, metadata)
    assert outcomes == expected
    assert rows == expected_rows
    result = stream.result
    assert result.received == len(case.items) == result.written + result.failed + result.skipped
    assert result.written == expected.count("written")


@given(case=cases())
def test_a_run_does_what_its_items_do_one_by_one(shared_engine, emptied, case):
    compare(shared_engine, emptied, case)


@given(case=cases())
def test_a_run_through_another_driver_does_too(shared_engine, emptied, case):
    """The path of drivers that have no pipelines, and the general way of a fallback."""
    compare(shared_engine, emptied, case, sink=lambda engine: SqlSink(engine, sink_for(engine)._rules))


class WithoutOnConflict(SqlSink):
    """What databases get that have no INSERT with ON CONFLICT."""

    def __init__(self, engine):
        super().__init__(engine, sink_for(engine)._rules)
        self._rules.insert = lambda table: None


@given(case=cases())
def test_upserts_by_hand_do_what_on_conflict_does(shared_engine, emptied, case):
    compare(shared_engine, emptied, case, sink=WithoutOnConflict)


@given(case=cases(deferred=True))
def test_deferred_foreign_keys_are_blamed_on_the_right_item(shared_engine, emptied, case):
    compare(shared_engine, emptied, case)
