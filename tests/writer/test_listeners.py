"""Listeners are told what the result tells, and change nothing of it."""

import dataclasses
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from items import AT_ONCE, ITEMS, KINDS, METADATA, accounted, ids, interrupt, numbered, on_statement, write_one
from sqlalchemy import Column, Integer, MetaData, Table, func

from batchwrite import (
    BatchWriter,
    ChunkDetails,
    ConfigurationError,
    FailureDetails,
    FallbackDetails,
    Listener,
    LoggingListener,
    RetryDetails,
    RunInterrupted,
    SlowPathDetails,
)

PARTS = ("written", "failed", "skipped", "parked", "unattempted", "unknown")


class Told(Listener):
    """Keeps all that it is told."""

    def __init__(self):
        self.details = []

    def on_chunk(self, chunk):
        self.details.append(chunk)

    on_failure = on_retry = on_fallback = on_slow_path = on_chunk

    def of(self, kind):
        return [each for each in self.details if type(each) is kind]


class Broken:
    """Raises whatever it is told, and counts."""

    def __init__(self):
        self.calls = 0

    def on_chunk(self, _details):
        self.calls += 1
        raise RuntimeError("secret value")

    on_failure = on_retry = on_fallback = on_slow_path = on_chunk


@given(KINDS, st.integers(1, 6), st.integers(0, 2))
def test_what_is_told_adds_up_to_the_result(shared_engine, emptied, kinds, size, workers):
    with emptied(METADATA):
        told = Told()
        writer = BatchWriter(shared_engine, chunk_size=size, workers=workers, listeners=[told])
        result = writer.run(numbered(kinds), write_one)
        chunks = told.of(ChunkDetails)
        for name in ("written", "failed", "skipped", "unattempted", "unknown"):
            assert sum(getattr(chunk, name) for chunk in chunks) == getattr(result, name)
        assert all(chunk.items == sum(getattr(chunk, part) for part in PARTS) for chunk in chunks)
        assert [chunk.first_index for chunk in chunks] == list(range(0, len(kinds), size))
        assert sum(chunk.fell_back for chunk in chunks) == result.fallbacks == len(told.of(FallbackDetails))
        assert [each.failure for each in told.of(FailureDetails)] == list(result.failures)
        assert len({each.run_id for each in told.details}) <= 1
        assert {chunk.tables for chunk in chunks} <= {(), ("items",)}


def test_chunks_left_undone_are_told(engine):
    METADATA.create_all(engine)
    told = Told()
    result = accounted(
        BatchWriter(engine, chunk_size=2, on_failure="stop", listeners=told).run([1, -2, 3, 4], write_one), engine
    )
    assert (result.written, result.failed) == (1, 1)
    assert sum(chunk.unattempted for chunk in told.of(ChunkDetails)) == result.unattempted


def test_an_interrupted_run_tells_of_every_item_that_was_mapped(engine):
    METADATA.create_all(engine)
    told = Told()

    def map_item(item, out):
        if item == 5:
            interrupt()
        write_one(item, out)

    with pytest.raises(RunInterrupted) as caught:
        BatchWriter(engine, chunk_size=2, listeners=[told]).run(range(1, 9), map_item)
    accounted(caught.value.result, engine)
    chunks = told.of(ChunkDetails)
    assert sum(chunk.items for chunk in chunks) == caught.value.result.received - 1  # not the one in the map function
    assert sum(chunk.written for chunk in chunks) == caught.value.result.written


def test_retries_are_told(postgres, killer):
    told = Told()
    with on_statement(postgres, "INSERT", killer):
        result = BatchWriter(postgres, retry=AT_ONCE, listeners=[told]).run([1, 2, 3], write_one)
    accounted(result, postgres)
    (retry,) = told.of(RetryDetails)
    assert (retry.items, retry.attempt, retry.wait, retry.kind) == (3, 1, 0, "lost")


def test_slow_paths_are_told_once(engine):
    METADATA.create_all(engine)
    told = Told()
    writer = BatchWriter(engine, chunk_size=2, listeners=[told])
    result = writer.run(range(1, 7), lambda n, out: out.insert(ITEMS, {"id": n, "n": func.abs(n)}))
    accounted(result, engine)
    assert [each.table for each in told.of(SlowPathDetails)] == ["items"]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_a_listener_raises_is_logged_and_changes_nothing(engine, caplog, workers):
    METADATA.create_all(engine)
    broken, told = Broken(), Told()
    writer = BatchWriter(engine, chunk_size=2, workers=workers, listeners=[broken, told])
    result = accounted(writer.run([1, -2, 3, "x", 5], write_one), engine)
    assert (result.written, result.failed, result.abort) == (3, 2, None)
    assert ids(engine) == [1, 3, 5]
    assert broken.calls == len(told.details) > 4
    records = [each for each in caplog.records if getattr(each, "action", "") == "listener"]
    assert len(records) == broken.calls
    assert "RuntimeError" in records[0].getMessage()
    assert "secret" not in caplog.text


def test_details_are_frozen(engine):
    METADATA.create_all(engine)
    told = Told()
    BatchWriter(engine, listeners=[told]).run([1], write_one)
    with pytest.raises(dataclasses.FrozenInstanceError):
        told.details[0].written = 7


@pytest.mark.parametrize("listeners", [[object()], [print], [Told], Told, [None], None, 5])
def test_what_listens_to_nothing_is_refused(engine, listeners):
    with pytest.raises(ConfigurationError, match="a listener is an object with one of on_chunk"):
        BatchWriter(engine, listeners=listeners)


def test_any_object_with_a_hook_listens(engine):
    METADATA.create_all(engine)

    class Mine:
        def __init__(self):
            self.failures = []

        def on_failure(self, details):
            self.failures.append(details.failure.index)

    mine = Mine()
    BatchWriter(engine, listeners=mine, keep_failures=1).run([1, -2, -3, -4], write_one)
    assert mine.failures == [1, 2, 3]  # also those that the result does not keep


def test_the_logging_listener_logs_fields_and_no_values(engine, caplog):
    METADATA.create_all(engine)
    logger = logging.getLogger("mine")
    with caplog.at_level(logging.INFO, "mine"):
        BatchWriter(engine, listeners=[LoggingListener(logger)]).run([1, -4711, 3], write_one)
    chunk, failure = (record for record in caplog.records if record.name == "mine")
    assert (chunk.action, chunk.written, chunk.failed, chunk.items, chunk.fell_back) == ("chunk", 2, 1, 3, True)
    assert chunk.levelno == logging.INFO
    assert chunk.seconds >= 0
    assert (failure.action, failure.item_index, failure.stage) == ("item_failed", 1, "write")
    assert failure.levelno == logging.WARNING
    assert failure.run_id == chunk.run_id
    assert "4711" not in caplog.text
    assert "4711" not in str(failure.__dict__)


def test_tables_of_all_writes_are_told(engine):
    metadata = MetaData()
    tables = [Table(name, metadata, Column("id", Integer, primary_key=True)) for name in ("b", "a")]
    metadata.create_all(engine)
    told = Told()

    def map_item(number, out):
        for table in tables:
            out.insert(table, {"id": number})

    BatchWriter(engine, listeners=[told]).run([1, 2], map_item)
    assert told.of(ChunkDetails)[0].tables == ("a", "b")


class Hidden:
    """Raises where its hooks are looked up."""

    def __getattr__(self, name):
        raise ValueError("secret")


def test_a_listener_whose_hooks_cannot_be_found_changes_nothing(engine, caplog):
    METADATA.create_all(engine)
    result = accounted(BatchWriter(engine, listeners=[Hidden()]).run([1, -2], write_one), engine)
    assert (result.written, result.failed, result.abort) == (1, 1, None)
    assert "secret" not in caplog.text


def test_a_listener_cannot_end_the_program(engine):
    METADATA.create_all(engine)

    class Leaving:
        def on_chunk(self, _chunk):
            raise SystemExit

    assert BatchWriter(engine, listeners=[Leaving()]).run([1], write_one).written == 1


def test_a_listener_that_is_to_be_awaited_is_refused(engine):
    class Later:
        async def on_chunk(self, _chunk):
            pass

    with pytest.raises(ConfigurationError, match="awaited"):
        BatchWriter(engine, listeners=[Later()])


@pytest.mark.parametrize("options", [{"logger": "x"}, {"chunk_level": "INFO"}])
def test_a_logging_listener_is_told_where_to(options):
    with pytest.raises(ConfigurationError):
        LoggingListener(**options)
