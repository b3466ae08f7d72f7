"""`Coalescer` shared by threads, and by several event loops at a time."""

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from rows import ROWS, ids, write
from sqlalchemy import MetaData, Table, create_engine
from sqlalchemy.pool import StaticPool

from batchwrite import BatchWriter, Coalescer, CoalescerClosed, ConfigurationError, OutcomeStatus, QueueFull
from batchwrite.coalescing import Pace

WRITTEN, FAILED = OutcomeStatus.WRITTEN, OutcomeStatus.FAILED


def test_every_thread_gets_its_own_outcomes(prepared, seed):
    chance = random.Random(seed)
    numbers = [number if chance.random() < 0.8 else -number for number in range(1, 1_001)]

    def one(coalescer, number):
        time.sleep(chance.expovariate(500))
        return coalescer.submit(number).result()

    with Coalescer(BatchWriter(prepared), write) as coalescer, ThreadPoolExecutor(30) as pool:
        outcomes = list(pool.map(lambda number: one(coalescer, number), numbers))
    assert [outcome.item for outcome in outcomes] == numbers
    assert all(outcome.status is (WRITTEN if outcome.item > 0 else FAILED) for outcome in outcomes)
    assert ids(prepared) == [number for number in numbers if number > 0]


def test_items_of_one_thread_are_written_in_its_order(postgres_engine):
    ROWS.metadata.create_all(postgres_engine)

    def map_item(item, out):
        out.upsert(ROWS, {"id": item[0], "n": item[1]})

    def count(coalescer, own):
        futures = [coalescer.submit((own, n)) for n in range(200)]
        assert all(future.result().status is WRITTEN for future in futures)

    with Coalescer(BatchWriter(postgres_engine), map_item) as coalescer, ThreadPoolExecutor(8) as pool:
        wait([pool.submit(count, coalescer, own) for own in range(8)])
    with postgres_engine.connect() as connection:
        assert {row.n for row in connection.execute(ROWS.select())} == {199}


def test_threads_and_event_loops_share_one(prepared):
    def loop_of_its_own(coalescer, first):
        async def all_of_them():
            return await asyncio.gather(*[coalescer.submit(item) for item in range(first, first + 50)])

        return asyncio.run(all_of_them())

    def thread(coalescer, first):
        return [coalescer.submit(item).result() for item in range(first, first + 50)]

    with Coalescer(BatchWriter(prepared), write) as coalescer, ThreadPoolExecutor(4) as pool:
        told = [
            pool.submit(work, coalescer, 100 * number)
            for number, work in enumerate([loop_of_its_own, thread, loop_of_its_own, thread])
        ]
        outcomes = [outcome for future in told for outcome in future.result()]
    assert all(outcome.status is WRITTEN for outcome in outcomes)
    assert len(ids(prepared)) == 200


def test_a_fast_producer_waits_for_room(prepared):
    waiting = []

    def slow(item, out):
        waiting.append(coalescer._inbox.waiting)
        time.sleep(0.0002)
        write(item, out)

    with Coalescer(BatchWriter(prepared, chunk_size=20), slow, max_queue=10) as coalescer:
        futures = [coalescer.submit(item) for item in range(300)]
    assert all(future.result().status is WRITTEN for future in futures)
    assert max(waiting) <= 10


def test_in_an_event_loop_a_full_queue_is_told_at_once(prepared):
    gate = threading.Event()

    def stop(item, out):
        assert gate.wait(30)
        write(item, out)

    async def scenario(coalescer):
        coalescer.submit(0)
        while coalescer._inbox.waiting:
            await asyncio.sleep(0.001)
        coalescer.submit(1)
        with pytest.raises(QueueFull):
            coalescer.submit(2, timeout=None)
        gate.set()

    with Coalescer(BatchWriter(prepared), stop, max_queue=1) as coalescer:
        asyncio.run(scenario(coalescer))
    assert ids(prepared) == [0, 1]


def test_those_who_wait_for_room_are_told_that_it_was_closed(prepared):
    gate = threading.Event()

    def stop(item, out):
        assert gate.wait(30)
        write(item, out)

    coalescer = Coalescer(BatchWriter(prepared), stop, max_queue=1)
    first = coalescer.submit(0)
    while coalescer._inbox.waiting:
        time.sleep(0.001)
    second = coalescer.submit(1)
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(coalescer.submit, 2)
        time.sleep(0.05)
        assert coalescer.close(timeout=0) == 2
        assert isinstance(third.exception(), CoalescerClosed)
    gate.set()
    assert first.result().status is WRITTEN
    assert second.result().status is OutcomeStatus.UNATTEMPTED
    coalescer.close()
    assert ids(prepared) == [0]


def test_cancelling_is_for_what_has_not_been_taken_up(prepared):
    gate, reached = threading.Event(), threading.Event()

    def stop(item, out):
        reached.set()
        assert gate.wait(30)
        write(item, out)

    with Coalescer(BatchWriter(prepared), stop) as coalescer:
        first = coalescer.submit(0)
        assert reached.wait(30)
        second = coalescer.submit(1)
        assert not first.cancel()
        assert second.cancel()
        gate.set()
    assert first.result().status is WRITTEN
    assert second.cancelled()
    assert ids(prepared) == [0]


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError])
def test_a_map_function_cannot_end_the_coalescer_of_all(prepared, error):
    def leave(item, out):
        if item == 3:
            raise error
        write(item, out)

    with Coalescer(BatchWriter(prepared), leave) as coalescer:
        futures = [coalescer.submit(item) for item in range(6)]
    failure = futures[3].result().failure
    assert failure.message == f"map raised {error.__name__}"
    assert ids(prepared) == [0, 1, 2, 4, 5]


def test_a_callback_that_raises_costs_nobody_his_answer(prepared, caplog):
    def leave(_future):
        raise SystemExit

    with Coalescer(BatchWriter(prepared), write, max_delay=0.2) as coalescer:
        futures = [coalescer.submit(item) for item in range(6)]
        for future in futures:
            future.add_done_callback(leave) if not future.done() else None
    assert [future.result().status for future in futures] == [WRITTEN] * 6
    assert ids(prepared) == list(range(6))


@pytest.mark.parametrize("timeout", ["x", -1, True, 1e300])
def test_a_time_that_makes_no_sense_is_refused(prepared, timeout):
    with Coalescer(BatchWriter(prepared), write) as coalescer:
        with pytest.raises(ConfigurationError, match="timeout"):
            coalescer.submit(1, timeout=timeout)
        with pytest.raises(ConfigurationError, match="timeout"):
            coalescer.close(timeout)
        assert coalescer.submit(1).result().status is WRITTEN


@pytest.mark.parametrize(
    "options", [{"on_failure": "stop"}, {"max_failures": 3}, {"max_failure_ratio": 0.5}, {"defer_foreign_keys": True}]
)
def test_a_writer_whose_runs_end_by_items_cannot_be_shared(prepared, options):
    with pytest.raises(ConfigurationError, match=r"leave out"):
        Coalescer(BatchWriter(prepared, **options), write)


def test_a_database_that_only_one_thread_sees_is_refused():
    engine = create_engine("sqlite://")
    with pytest.raises(ConfigurationError, match="thread"):
        Coalescer(BatchWriter(engine), write)
    engine.dispose()


def test_a_database_in_memory_that_all_threads_see_will_do():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    ROWS.metadata.create_all(engine)
    with Coalescer(BatchWriter(engine), write) as coalescer:
        assert coalescer.submit(1).result().status is WRITTEN
    assert ids(engine) == [1]
    engine.dispose()


def test_a_map_function_that_is_awaited_is_refused(prepared):
    async def later(item, out):
        write(item, out)

    with pytest.raises(ConfigurationError, match="plain function"):
        Coalescer(BatchWriter(prepared), later)


def test_instances_need_no_map_function(prepared):
    from sqlalchemy.orm import registry

    mapped = registry(metadata=MetaData())
    table = Table(ROWS.name, mapped.metadata, *[column._copy() for column in ROWS.columns])

    class Row:
        def __init__(self, id, n):  # noqa: A002 - the column's name
            self.id, self.n = id, n

    mapped.map_imperatively(Row, table)
    with Coalescer(BatchWriter(prepared)) as coalescer:
        assert coalescer.submit(Row(1, 2)).result().status is WRITTEN
        assert coalescer.submit(Row(1, 3)).result().status is FAILED
        assert coalescer.submit("no row").result().failure.stage == "map"
    assert ids(prepared) == [1]


def test_nobody_is_expected_but_those_who_were_just_there():
    pace = Pace(0.005)
    assert pace.is_enough(1)
    pace.note(3)
    assert not pace.is_enough(2)
    assert pace.is_enough(3)
    pace.note(0)
    assert pace.is_enough(1)
    assert pace.deadline(7.0) == 7.005


def test_a_map_function_may_submit_but_not_wait_for_room(prepared):
    refused, followers = [], []

    def map_item(item, out):
        write(item, out)
        if item < 3:
            for follower in (10 * item, 10 * item + 1):
                try:
                    followers.append(coalescer.submit(follower))
                except QueueFull:
                    refused.append(follower)

    with Coalescer(BatchWriter(prepared), map_item, max_queue=1) as coalescer:
        assert coalescer.submit(1).result().status is WRITTEN
        assert [follower.result().item for follower in followers] == [10]
    assert refused == [11]
    assert ids(prepared) == [1, 10]


def test_a_callback_may_close(prepared):
    coalescer = Coalescer(BatchWriter(prepared), write)
    closed = []
    future = coalescer.submit(1)
    future.add_done_callback(lambda _future: closed.append(coalescer.close()))
    future.result()
    assert coalescer.close() == 0
    assert closed == [0]
    assert ids(prepared) == [1]


def test_an_outcome_that_somebody_else_has_set_harms_nobody(prepared):
    gate = threading.Event()

    def stop(item, out):
        assert gate.wait(30)
        write(item, out)

    with Coalescer(BatchWriter(prepared), stop) as coalescer:
        first, second = coalescer.submit(1), coalescer.submit(2)
        first.set_result(None)
        gate.set()
        assert second.result().status is WRITTEN
    assert ids(prepared) == [1, 2] or ids(prepared) == [2]
