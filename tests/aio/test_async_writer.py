"""`AsyncBatchWriter`: inputs, map functions, streams, batches, books, and what is refused."""

import asyncio
import time
from contextlib import closing

import pytest
from awaited import one_by_one
from databases import async_engine_for
from hole import READABLE, Hole
from rows import METADATA, ROWS, ids, write, write_later
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from batchwrite import (
    BatchFailed,
    BatchWriter,
    Coalescer,
    ConfigurationError,
    DeadLetters,
    Ledger,
    OutcomeStatus,
    RetryPolicy,
    SourceError,
    Status,
)
from batchwrite.aio import AsyncBatchWriter, AsyncCoalescer

ITEMS = [1, -2, None, "x", 5]


def counts(result):
    return (result.written, result.failed, result.skipped, result.unattempted, result.unknown)


@pytest.mark.parametrize("map_item", [write, write_later])
@pytest.mark.parametrize("source", [list, one_by_one], ids=["for", "async for"])
def test_items_land_or_fail_as_they_do_without_a_loop(loop, aengine, prepared, source, map_item):
    result = loop.run(AsyncBatchWriter(aengine, chunk_size=2).run(source(ITEMS), map_item))
    assert (result.status, counts(result)) == (Status.PARTIAL_SUCCESS, (2, 2, 1, 0, 0))
    assert [(failure.index, failure.item) for failure in result.failures] == [(1, -2), (3, "x")]
    assert ids(prepared) == [1, 5]


def test_a_stream_gives_outcomes_in_order(loop, aengine):
    async def outcomes():
        stream = AsyncBatchWriter(aengine, chunk_size=2).stream(one_by_one(ITEMS), write_later)
        found = [(outcome.index, outcome.status) async for outcome in stream]
        return found, stream.result

    found, result = loop.run(outcomes())
    written, failed = OutcomeStatus.WRITTEN, OutcomeStatus.FAILED
    assert found == [(0, written), (1, failed), (2, OutcomeStatus.SKIPPED), (3, failed), (4, written)]
    assert result.received == 5


def test_a_stream_that_is_left_ends_its_run(loop, aengine, prepared):
    async def first():
        stream = AsyncBatchWriter(aengine, chunk_size=2).stream(one_by_one(range(10)), write)
        first_of_all = await anext(stream)
        await stream.aclose()
        return first_of_all.index, stream.result

    index, result = loop.run(first())
    assert (index, result.abort.reason) == (0, "caller")
    assert ids(prepared) == list(range(result.written))
    assert result.written < 10


def test_a_batch_is_fed_item_by_item(loop, aengine, prepared):
    async def feed():
        async with AsyncBatchWriter(aengine, chunk_size=2).collect() as batch:
            for item in ITEMS:
                async with batch.item(item) as out:
                    await write_later(item, out)
        return batch.result

    assert counts(loop.run(feed())) == (2, 2, 1, 0, 0)
    assert ids(prepared) == [1, 5]


def test_a_batch_that_has_ended_early_takes_no_more(loop, aengine):
    async def feed():
        async with AsyncBatchWriter(aengine, chunk_size=1, on_failure="stop").collect() as batch:
            for item in (1, -2, 3):
                async with batch.item(item) as out:
                    write(item, out)

    with pytest.raises(BatchFailed):
        loop.run(feed())


def test_an_exception_in_the_block_of_a_batch_ends_it(loop, aengine, prepared):
    async def feed():
        async with AsyncBatchWriter(aengine, chunk_size=1).collect() as batch:
            async with batch.item(1) as out:
                write(1, out)
            raise LookupError

    with pytest.raises(LookupError):
        loop.run(feed())
    assert ids(prepared) == [1]


def test_an_input_that_raises_ends_the_run_with_what_was_written(loop, aengine, prepared):
    async def numbers():
        for number in range(5):
            yield number
        raise OSError("gone")

    with pytest.raises(SourceError) as caught:
        loop.run(AsyncBatchWriter(aengine, chunk_size=2).run(numbers(), write))
    assert caught.value.result.written == len(ids(prepared)) >= 4


def test_books_are_kept_and_a_run_goes_on(loop, aengine, prepared):
    ledger = Ledger()
    ledger.create(prepared)
    writer = AsyncBatchWriter(aengine, chunk_size=2, ledger=ledger, dead_letters=DeadLetters())

    async def cut(at):
        for number in range(1, 8):
            if number == at:
                raise OSError("the lights went out")
            yield number if number != 3 else -3

    with pytest.raises(SourceError):
        loop.run(writer.run(cut(6), write, run_id="x"))
    result = loop.run(writer.run(cut(None), write_later, run_id="x", replay_map=True))
    assert (result.abort, result.resumed, result.written) == (None, 4, 3)
    assert (result.status, result.earlier.written, result.earlier.failed) == (Status.PARTIAL_SUCCESS, 3, 1)
    assert [(failure.index, failure.item) for failure in result.earlier.failures] == [(2, -3)]
    assert ids(prepared) == [1, 2, 4, 5, 6, 7]
    again = loop.run(writer.retry("x", lambda number, out: out.insert(ROWS, {"id": 3, "n": 3})))
    assert counts(again) == (1, 0, 0, 0, 0)
    assert ids(prepared) == list(range(1, 8))


def test_an_input_of_the_loops_that_seeks_is_asked_to(loop, aengine, prepared):
    class Numbers:
        asked: int | None = None

        def __aiter__(self):
            return one_by_one(range(10))

        def from_item(self, index):
            self.asked = index
            return one_by_one(range(index, 10))

    ledger, numbers = Ledger(), Numbers()
    ledger.create(prepared)
    writer = AsyncBatchWriter(aengine, chunk_size=4, ledger=ledger)
    loop.run(writer.run(numbers, write, run_id="x"))
    assert loop.run(writer.run(numbers, write, run_id="x")).resumed == 10
    assert numbers.asked == 8


def test_waiting_for_better_weather_leaves_the_loop_alone(loop, postgres):
    policy = RetryPolicy(attempts=2, first_wait=1.0)
    writer = AsyncBatchWriter(async_engine_for(postgres.sync_engine, connect_args={"port": 1}), retry=policy)

    async def both():
        task = asyncio.create_task(writer.run([1], write))
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return task.result(), ticks

    result, ticks = loop.run(both())
    assert result.unattempted == 1
    assert ticks > 10 * result.seconds


def test_runs_side_by_side_do_not_get_into_each_others_way(loop, aengine, prepared):
    async def all_of_them():
        writer = AsyncBatchWriter(aengine, chunk_size=7, retry=RetryPolicy(attempts=50, first_wait=0.01))
        runs = [writer.run(one_by_one(range(start, 200, 5)), write_later) for start in range(5)]
        return await asyncio.gather(*runs)

    assert [result.written for result in loop.run(all_of_them())] == [40] * 5
    assert ids(prepared) == list(range(200))


def test_a_writer_opens_and_closes_an_engine_of_its_own(loop, tmp_path):
    async def make_and_write():
        async with AsyncBatchWriter(f"sqlite:///{tmp_path / 'own.db'}") as writer:
            return await writer.run([1], lambda number, out: out.insert(ROWS, {"id": number, "n": number}))

    assert loop.run(make_and_write()).abort.reason == "fatal"  # there is no such table


@pytest.mark.parametrize("items", [None, 5])
def test_what_cannot_be_read_is_refused(loop, aengine, items):
    with pytest.raises(ConfigurationError, match="items"):
        loop.run(AsyncBatchWriter(aengine).run(items, write))


def test_an_engine_that_blocks_is_refused(prepared):
    with pytest.raises(ConfigurationError, match="AsyncEngine"):
        AsyncBatchWriter(prepared)


def test_a_map_that_cannot_be_called_is_refused(loop, aengine):
    with pytest.raises(ConfigurationError, match="map"):
        loop.run(AsyncBatchWriter(aengine).run([1], None))


@pytest.mark.parametrize("url", ["mysql+pymysql://somebody:secret@host/name", "sqlite+pysqlite:///secret"])
def test_a_driver_that_cannot_be_awaited_is_refused(url):
    with pytest.raises(ConfigurationError, match=r"cannot be awaited") as caught:
        AsyncBatchWriter(url)
    assert "secret" not in str(caught.value)


def test_a_batch_that_stays_open_is_flushed_in_the_background(loop, aengine, prepared):
    async def until(expected):
        async with asyncio.timeout(20):
            while await asyncio.to_thread(ids, prepared) != expected:
                await asyncio.sleep(0.01)

    async def scenario():
        async with AsyncBatchWriter(aengine).collect(flush_after=0.05) as batch:
            for number in (1, -2, 3):
                async with batch.item(number) as out:
                    write(number, out)
            await until([1, 3])
            async with batch.item(4) as out:
                write(4, out)
                await asyncio.sleep(0.2)
                assert await asyncio.to_thread(ids, prepared) == [1, 3]
            assert (await batch.flush()).written == 3
        return batch.result

    result = loop.run(scenario())
    assert (result.written, result.failed) == (3, 1)


def test_a_cancelled_batch_ends_what_flushes_it(loop, aengine):
    async def scenario():
        async with AsyncBatchWriter(aengine).collect(flush_after=0.01) as batch:
            async with batch.item(1) as out:
                write(1, out)
            await asyncio.sleep(60)

    async def cancelled():
        task = asyncio.create_task(scenario())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(asyncio.all_tasks())

    assert loop.run(cancelled()) == 1


def test_a_coalescer_tells_figures(loop, aengine):
    async def scenario():
        writer = AsyncBatchWriter(aengine)
        async with AsyncCoalescer(writer, write) as coalescer:
            await asyncio.gather(*[coalescer.submit(number) for number in (1, -2, 3)])
            return coalescer.stats(), writer.stats()

    of_coalescer, of_writer = loop.run(scenario())
    assert (of_coalescer.written, of_coalescer.failed, of_coalescer.waiting) == (2, 1, 0)
    assert of_writer.received == 3


def lazily(item, out):
    yield write(item, out)


async def lazily_later(item, out):
    yield write(item, out)


@pytest.mark.parametrize("map_item", [lazily, lazily_later])
def test_a_map_that_only_makes_a_generator_is_refused(loop, aengine, map_item):
    with pytest.raises(ConfigurationError, match="generator"):
        loop.run(AsyncBatchWriter(aengine).run([1], map_item))
    with pytest.raises(ConfigurationError, match="generator"):
        AsyncCoalescer(AsyncBatchWriter(aengine), map_item)


def test_a_stream_stopped_before_it_is_read_writes_nothing(loop, aengine, prepared):
    async def scenario():
        stream = AsyncBatchWriter(aengine).stream([1, 2, 3], write)
        stream.stop()
        return [outcome async for outcome in stream], stream.result

    outcomes, result = loop.run(scenario())
    assert (outcomes, result.received, result.abort.reason) == ([], 0, "caller")
    assert ids(prepared) == []


def test_a_coalescer_needs_the_writer_of_its_kind(aengine, prepared):
    with pytest.raises(ConfigurationError, match="needs an AsyncBatchWriter, not a BatchWriter"):
        AsyncCoalescer(BatchWriter(prepared), write)
    for other in (AsyncBatchWriter(aengine), None, prepared):
        with pytest.raises(ConfigurationError, match="needs a BatchWriter"):
            Coalescer(other, write)


def test_a_commit_whose_answer_never_comes_is_waited_for_no_longer_than_its_time(loop, postgres_engine):
    METADATA.create_all(postgres_engine)
    with closing(Hole(postgres_engine.url.port)) as hole:
        url = postgres_engine.url.set(port=hole.port)
        engine = create_async_engine(url, poolclass=NullPool, connect_args=READABLE)
        began = time.monotonic()
        result = loop.run(AsyncBatchWriter(engine, chunk_timeout=1).run([1, 2, 3], write))
        loop.run(engine.dispose())
    assert (result.status, result.unknown) == (Status.UNKNOWN, 3)
    assert time.monotonic() - began < 10
    assert ids(postgres_engine) == [1, 2, 3]
