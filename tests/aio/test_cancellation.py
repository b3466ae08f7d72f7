"""Tasks that are cancelled: every item accounted for, no connection kept, nothing both failed and there."""

import asyncio
import random

import pytest
from awaited import one_by_one
from rows import ROWS, ids, write, write_later

from batchwrite.aio import AsyncBatchWriter


def test_a_cancelled_run_tells_what_it_has_written(loop, aengine, prepared):
    async def endless():
        number = 0
        while True:
            await asyncio.sleep(0)
            yield number
            number += 1

    async def cancelled():
        task = asyncio.create_task(AsyncBatchWriter(aengine, chunk_size=5).run(endless(), write_later))
        while not ids(prepared):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert task.cancelled()
        return caught.value.result

    result = loop.run(cancelled())
    assert ids(prepared) == list(range(result.written))
    assert result.received == result.written + result.unattempted
    assert result.abort.reason == "interrupted"


def test_a_thousand_tasks_cancelled_at_random_leave_nothing_open_and_nothing_twice(
    loop, postgres, postgres_engine, seed
):
    """Each task has its own numbers; one in ten is refused."""
    chance = random.Random(seed)
    most, tasks = 20, 1_000

    async def one(number):
        items = [number * most + place for place in range(most)]
        items = [-item if item % 10 == 3 else item for item in items]
        writer = AsyncBatchWriter(postgres, chunk_size=chance.choice([1, 3, 7, 50]))
        task = asyncio.create_task(writer.run(one_by_one(items), write_later))
        await asyncio.sleep(chance.expovariate(200))
        for _ in range(chance.choice([1, 1, 2])):
            task.cancel()
            await asyncio.sleep(0)
        try:
            return items, await task
        except asyncio.CancelledError as error:
            return items, getattr(error, "result", None)  # nothing before the run had begun

    async def all_of_them():
        slots = asyncio.Semaphore(8)

        async def in_turn(number):
            async with slots:
                return await one(number)

        return await asyncio.gather(*map(in_turn, range(1, tasks + 1)))

    told = loop.run(all_of_them())
    assert postgres.sync_engine.pool.checkedout() == 0
    landed = set(ids(postgres_engine))
    for items, result in told:
        there = [item for item in items if item in landed]
        if result is None:
            assert not there
            continue
        failed = {abs(failure.item) for failure in result.failures}
        assert failed.isdisjoint(there)
        assert result.written <= len(there) <= result.written + result.unknown
        assert result.received == result.written + result.failed + result.skipped + result.unattempted + result.unknown
    reasons = {result.abort.reason for _, result in told if result is not None and result.abort}
    assert reasons <= {"interrupted", "caller", "in_doubt"}, reasons  # the last two where it was cancelled twice
    assert "interrupted" in reasons


def test_a_cancellation_waits_for_the_end_of_a_chunk(loop, postgres, postgres_engine):
    """The server takes its time over the chunk; it is committed all the same, and counted."""
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$;"
            "CREATE TRIGGER t BEFORE INSERT ON rows_of_aio FOR EACH STATEMENT EXECUTE FUNCTION slow()"
        )

    async def cancelled():
        task = asyncio.create_task(AsyncBatchWriter(postgres).run([1, 2], write))
        await asyncio.sleep(0.25)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return caught.value.result

    result = loop.run(cancelled())
    assert (result.written, result.unknown) == (2, 0)
    assert ids(postgres_engine) == [1, 2]


def test_cancelled_twice_it_does_not_wait(loop, postgres, postgres_engine):
    with postgres_engine.connect() as connection:
        connection.execute(ROWS.insert(), {"id": 1, "n": 1})  # and does not commit

        async def cancelled():
            task = asyncio.create_task(AsyncBatchWriter(postgres).run([1, 2], write))
            await asyncio.sleep(0.3)
            task.cancel()
            await asyncio.sleep(0.1)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            return caught.value.result

        result = loop.run(cancelled())
        connection.rollback()
    assert (result.written, result.failed) == (0, 0)
    assert ids(postgres_engine) == []


@pytest.mark.parametrize("where", ["flush", "item", "exit"])
def test_a_batch_that_is_cancelled_while_it_is_flushed_ends_its_task_and_nothing_else(
    loop, postgres, postgres_engine, where
):
    with postgres_engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE rows_of_aio")

        async def feed():
            async with AsyncBatchWriter(postgres, chunk_size=1 if where == "item" else 10).collect() as batch:
                async with batch.item(1) as out:
                    write(1, out)
                if where == "flush":
                    await batch.flush()

        async def cancelled():
            task = asyncio.create_task(feed())
            await asyncio.sleep(0.3)
            task.cancel()
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        loop.run(cancelled())
    assert ids(postgres_engine) == []


def test_a_timeout_around_a_run_is_a_timeout(loop, aengine):
    async def slow():
        for number in range(100):
            await asyncio.sleep(0.05)
            yield number

    async def timed():
        async with asyncio.timeout(0.2):
            await AsyncBatchWriter(aengine).run(slow(), write)

    with pytest.raises(TimeoutError):
        loop.run(timed())


def test_what_map_waits_for_may_be_cancelled_without_the_run(loop, aengine, prepared):
    async def map_item(item, out):
        if item == 2:
            other = asyncio.ensure_future(asyncio.sleep(9))
            other.cancel()
            await other
        write(item, out)

    result = loop.run(AsyncBatchWriter(aengine).run([1, 2, 3], map_item))
    assert (result.written, result.failed) == (2, 1)
    assert ids(prepared) == [1, 3]
