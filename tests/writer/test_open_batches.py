"""Batches that stay open: flushed in the background, flushed when asked, and watched."""

import time

import pytest
from items import AT_ONCE, accounted, counts, ids, write_one
from sqlalchemy import create_engine

from batchwrite import BatchFailed, BatchWriter, ConfigurationError
from batchwrite.listeners import ChunkDetails
from batchwrite.meter import Meter


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def put(batch, number):
    with batch.item(number) as out:
        write_one(number, out)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_waits_is_written_without_anything_more_coming(database, workers):
    writer = BatchWriter(database, chunk_size=100, workers=workers)
    with writer.collect(flush_after=0.1) as batch:
        for number in (1, 2, -3):
            put(batch, number)
        until(lambda: ids(database) == [1, 2])
        put(batch, 4)
        until(lambda: ids(database) == [1, 2, 4])
        assert counts(batch.result) == (3, 1, 0, 0, 0)
    assert counts(accounted(batch.result, database)) == (3, 1, 0, 0, 0)


def test_nothing_waits_longer_than_it_may(database):
    with BatchWriter(database).collect(flush_after=0.2) as batch:
        began = time.monotonic()
        put(batch, 1)
        until(lambda: ids(database))
        assert 0.2 <= time.monotonic() - began < 5


def test_an_item_that_is_being_recorded_is_not_written_half(database):
    with BatchWriter(database).collect(flush_after=0.05) as batch:
        put(batch, 1)
        with batch.item(2) as out:
            write_one(2, out)
            until(lambda: ids(database) == [1])
            time.sleep(0.2)
            assert ids(database) == [1]
        until(lambda: ids(database) == [1, 2])
    assert counts(batch.result) == (2, 0, 0, 0, 0)


def test_flush_writes_what_was_collected(database):
    with BatchWriter(database).collect() as batch:
        put(batch, 1)
        put(batch, -2)
        result = batch.flush()
        assert counts(result) == (1, 1, 0, 0, 0)
        assert ids(database) == [1]
        assert batch.flush().received == 2
        put(batch, 3)
    assert ids(database) == [1, 3]
    with pytest.raises(ConfigurationError, match="no batch open"):
        batch.flush()


def test_a_run_that_has_stopped_in_the_background_is_told_at_the_next_item(database):
    with BatchWriter(database, on_failure="stop").collect(flush_after=0.05) as batch:
        put(batch, -1)
        until(lambda: batch.result.abort)
        with pytest.raises(BatchFailed):
            put(batch, 2)
        with pytest.raises(BatchFailed):
            batch.flush()
    assert (batch.result.failed, batch.result.received) == (1, 1)


def test_what_the_background_raises_is_raised_to_the_caller(database):
    writer = BatchWriter(database)

    def broken(*_arguments, **_options):
        raise ZeroDivisionError

    writer._sink.write = writer._sink.begin = broken
    batch = writer.collect(flush_after=0.05)
    with batch:
        put(batch, 1)
        until(lambda: batch._flusher._error is not None)
        with pytest.raises(ZeroDivisionError):
            put(batch, 2)
    assert batch.result.received == 1


def test_a_connection_lost_in_the_background_costs_nothing(postgres, killer):
    with BatchWriter(postgres, retry=AT_ONCE).collect(flush_after=0.05) as batch:
        for number in range(1, 20):
            put(batch, number)
            if number % 5 == 0:
                killer()
                time.sleep(0.1)
    assert counts(accounted(batch.result, postgres)) == (19, 0, 0, 0, 0)


@pytest.mark.parametrize("flush_after", [0, -1, "1", True])
def test_a_time_that_makes_no_sense_is_refused(database, flush_after):
    with pytest.raises(ConfigurationError, match="flush_after"):
        BatchWriter(database).collect(flush_after=flush_after)


def test_a_database_of_one_thread_is_not_flushed_by_another():
    engine = create_engine("sqlite://")
    with pytest.raises(ConfigurationError, match="thread"):
        BatchWriter(engine).collect(flush_after=1)
    engine.dispose()


# ---- figures


def test_figures_of_a_writer(database):
    writer = BatchWriter(database, chunk_size=2)
    assert (writer.stats().waiting, writer.stats().lag, writer.stats().received) == (0, 0, 0)
    with writer.collect() as batch:
        for number in (1, -2, 3):
            put(batch, number)
        batch.result  # noqa: B018 - waits for what is on its way
        time.sleep(0.05)
        stats = writer.stats()
        assert (stats.waiting, stats.received, stats.written, stats.failed) == (1, 3, 1, 1)
        assert 0.05 <= stats.lag < 10
    writer.run([4, 5, None], write_one)
    stats = writer.stats()
    assert (stats.waiting, stats.lag, stats.received, stats.written, stats.skipped) == (0, 0, 6, 4, 1)
    assert stats.fallbacks == 1
    assert stats.chunks == 4
    assert stats.written_per_second == 4
    assert stats.seconds_in_chunks > 0
    assert stats.to_dict()["written"] == 4


def test_items_put_off_wait(database):
    writer = BatchWriter(database, chunk_size=2, defer_foreign_keys=True)
    writer.run([1, -2], write_one)
    assert writer.stats().waiting == 0


def chunk_of(written):
    return ChunkDetails(
        run_id="",
        number=0,
        first_index=0,
        items=written,
        written=written,
        failed=0,
        skipped=0,
        parked=0,
        unattempted=0,
        unknown=0,
        fell_back=False,
        seconds=0.0,
        tables=(),
    )


def test_the_rate_is_that_of_the_last_minute():
    clock = [1_000.0]
    meter = Meter(lambda: clock[-1])
    for moment in (1_000.0, 1_000.5, 1_030.0):
        clock.append(moment)
        meter.on_chunk(chunk_of(300))
    assert meter.stats().written_per_second == 30
    clock.append(1_070.0)
    assert meter.stats().written_per_second == 5
    clock.append(1_200.0)
    assert meter.stats().written_per_second == 0
    assert meter.stats().written == 900
