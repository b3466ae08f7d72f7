"""Tasks that are cancelled: every item accounted for, no connection kept, nothing both failed and there."""

import asyncio
import random

import pytest
from awaited import one_by_one
from rows import ROWS, ids, write, write_later

from batchwrite.aio import AsyncBatchWriter, RunCancelled


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
        with pytest.raises(RunCancelled) as caught:
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
        except RunCancelled as error:
            return items, error.result
        except asyncio.CancelledError:
            return items, None  # before the run had begun

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
        with pytest.raises(RunCancelled) as caught:
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
            with pytest.raises(RunCancelled) as caught:
                await task
            return caught.value.result

        result = loop.run(cancelled())
        connection.rollback()
    assert (result.written, result.failed) == (0, 0)
    assert ids(postgres_engine) == []
