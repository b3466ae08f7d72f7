"""Both coalescers: each caller gets the outcome of his own item, whatever becomes of his neighbours."""

import asyncio
import random
import threading
import time

import pytest
from coalescers import KINDS, Shared
from rows import ROWS, ids, write
from sqlalchemy import NullPool, create_engine, text

from batchwrite import (
    CoalescerClosed,
    ConfigurationError,
    IdempotencyKey,
    Ledger,
    OutcomeStatus,
    QueueFull,
    RetryPolicy,
)

WRITTEN, FAILED, UNATTEMPTED = OutcomeStatus.WRITTEN, OutcomeStatus.FAILED, OutcomeStatus.UNATTEMPTED
AT_ONCE = RetryPolicy(attempts=2, first_wait=0, longest_wait=0)
KILLS = 15


@pytest.fixture(params=list(KINDS))
def shared(request, prepared, aengine):
    return Shared(request.param, prepared, aengine)


@pytest.fixture(params=list(KINDS))
def on_postgres(request, postgres_engine, postgres):
    return Shared(request.param, postgres_engine, postgres)


class Chunks:
    def __init__(self):
        self.sizes = []

    def on_chunk(self, chunk):
        self.sizes.append(chunk.items)


class Stopping:
    """A map function that stops at an item until it is told to go on; blocks threads, and awaits in event loops."""

    def __init__(self, shared, at):
        self._at = at
        self._waits = shared.kind == "tasks"
        self.reached, self.go_on = threading.Event(), threading.Event()

    @property
    def map(self):
        return self._later if self._waits else self._now

    def _now(self, item, out):
        if item == self._at:
            self.reached.set()
            assert self.go_on.wait(30)
        write(item, out)

    async def _later(self, item, out):
        if item == self._at:
            self.reached.set()
            while not self.go_on.is_set():
                await asyncio.sleep(0.001)
        write(item, out)

    async def until_reached(self):
        while not self.reached.is_set():
            await asyncio.sleep(0.001)


def expected_status(item):
    if item is None:
        return OutcomeStatus.SKIPPED
    return FAILED if isinstance(item, str) or item < 0 else WRITTEN


def test_everybody_gets_his_own_outcome(loop, shared, seed):
    chance = random.Random(seed)
    items = [*range(1, 301)]
    items = [chance.choice([item, item, item, item, -item, str(item), None]) for item in items]

    async def one(coalescer, item):
        await asyncio.sleep(chance.expovariate(20))
        return await coalescer.submit(item)

    async def scenario():
        async with shared.open(write, chunk_size=40) as coalescer:
            return await asyncio.gather(*[one(coalescer, item) for item in items])

    outcomes = loop.run(scenario())
    for item, outcome in zip(items, outcomes, strict=True):
        assert outcome.item is item
        assert outcome.status is expected_status(item)
        if isinstance(item, int) and item < 0:
            assert outcome.failure.constraint == "ck_n"
        if isinstance(item, str):
            assert outcome.failure.stage == "map"
    assert ids(shared.engine) == [item for item in items if isinstance(item, int) and item > 0]


def test_of_two_that_want_the_same_the_first_gets_it(loop, shared):
    async def scenario():
        async with shared.open(write) as coalescer:
            return await asyncio.gather(*[coalescer.submit(7) for _ in range(50)])

    outcomes = loop.run(scenario())
    assert [outcome.status for outcome in outcomes] == [WRITTEN] + [FAILED] * 49
    assert ids(shared.engine) == [7]


def test_a_lone_caller_does_not_wait_for_others(loop, shared):
    async def scenario():
        async with shared.open(write, max_delay=20.0) as coalescer:
            began = time.monotonic()
            for item in range(20):
                assert (await coalescer.submit(item)).status is WRITTEN
            return time.monotonic() - began

    assert loop.run(scenario()) < 20.0


def test_callers_that_come_back_together_are_written_together(loop, shared):
    chunks = Chunks()

    async def client(coalescer, number):
        for turn in range(10):
            assert (await coalescer.submit(number * 100 + turn)).status is WRITTEN

    async def scenario():
        async with shared.open(write, max_delay=1.0, listeners=[chunks]) as coalescer:
            await asyncio.gather(*[client(coalescer, number) for number in range(20)])

    loop.run(scenario())
    assert sum(chunks.sizes) == 200
    assert len(chunks.sizes) <= 25  # ten rounds, but for the beginning


def test_after_a_crowd_one_waits_no_longer_than_the_delay(loop, shared):
    async def scenario():
        async with shared.open(write, max_delay=0.3) as coalescer:
            await asyncio.gather(*[coalescer.submit(item) for item in range(10)])
            began = time.monotonic()
            await coalescer.submit(10)
            first = time.monotonic() - began
            for item in range(11, 31):
                await coalescer.submit(item)
            return first, time.monotonic() - began - first

    first, others = loop.run(scenario())
    assert first >= 0.29
    assert others < 20 * 0.3


@pytest.mark.parametrize("bound", [{"chunk_size": 5}, {"chunk_rows": 5}, {"chunk_bytes": 4 * 16 + 8}])
def test_a_full_chunk_is_written_at_once(loop, shared, bound):
    chunks = Chunks()

    async def scenario():
        stopping = Stopping(shared, at=0)
        async with shared.open(stopping.map, max_delay=0.8, listeners=[chunks], **bound) as coalescer:
            first = asyncio.create_task(coalescer.submit(0))
            await stopping.until_reached()
            others = [asyncio.create_task(coalescer.submit(item)) for item in range(1, 20)]
            await asyncio.sleep(0.05)
            stopping.go_on.set()
            await asyncio.gather(first, *others)

    began = time.monotonic()
    loop.run(scenario())
    assert time.monotonic() - began < 2 * 0.8  # only the last may have to wait for more
    assert chunks.sizes in ([5] * 4, [4] * 5)  # as many items, or the last ones that have room


def test_a_full_queue_makes_wait(loop, shared):
    async def scenario():
        stopping = Stopping(shared, at=0)
        async with shared.open(stopping.map, max_queue=3) as coalescer:
            first = asyncio.create_task(coalescer.submit(0))
            await stopping.until_reached()
            others = [asyncio.create_task(coalescer.submit(item)) for item in range(1, 4)]
            await asyncio.sleep(0.02)
            with pytest.raises(QueueFull, match=r"3 items"):
                await coalescer.submit(4, timeout=0)
            with pytest.raises(QueueFull):
                await coalescer.submit(4, timeout=0.05)
            stopping.go_on.set()
            return await asyncio.gather(first, *others)

    assert all(outcome.status is WRITTEN for outcome in loop.run(scenario()))
    assert ids(shared.engine) == [0, 1, 2, 3]


def test_a_full_queue_raises_where_it_is_told_to(loop, shared):
    async def scenario():
        stopping = Stopping(shared, at=0)
        async with shared.open(stopping.map, max_queue=1, when_full="raise") as coalescer:
            first = asyncio.create_task(coalescer.submit(0))
            await stopping.until_reached()
            second = asyncio.create_task(coalescer.submit(1))
            await asyncio.sleep(0.02)
            with pytest.raises(QueueFull):
                await coalescer.submit(2)
            stopping.go_on.set()
            await asyncio.gather(first, second)

    loop.run(scenario())
    assert ids(shared.engine) == [0, 1]


def test_closing_writes_what_waits_and_takes_nothing_more(loop, shared):
    async def scenario():
        coalescer = shared.make(write, max_delay=0.2)
        tasks = [asyncio.create_task(coalescer.submit(item)) for item in range(100)]
        await asyncio.sleep(0)
        left = await coalescer.close()
        with pytest.raises(CoalescerClosed):
            await coalescer.submit(1_000)
        assert await coalescer.close() == left
        return left, await asyncio.gather(*tasks)

    left, outcomes = loop.run(scenario())
    assert left == 0
    assert all(outcome.status is WRITTEN for outcome in outcomes)
    assert ids(shared.engine) == [*range(100)]


def test_what_is_not_written_in_time_is_counted_and_answered(loop, shared):
    async def scenario():
        stopping = Stopping(shared, at=0)
        coalescer = shared.make(stopping.map)
        tasks = [asyncio.create_task(coalescer.submit(item)) for item in range(10)]
        await stopping.until_reached()
        left = await coalescer.close(timeout=0.1)
        stopping.go_on.set()
        return left, await asyncio.gather(*tasks)

    left, outcomes = loop.run(scenario())
    assert left == 10
    late = [outcome for outcome in outcomes if outcome.status is not WRITTEN]
    assert all(outcome.status is UNATTEMPTED and "closed" in outcome.reason for outcome in late[1:])
    assert len(late) >= 9  # the one in the map function is written yet, where a thread cannot be stopped
    assert len(ids(shared.engine)) == 10 - len(late)


def test_an_item_that_is_withdrawn_in_time_is_not_written(loop, shared):
    async def scenario():
        stopping = Stopping(shared, at=0)
        async with shared.open(stopping.map) as coalescer:
            tasks = [asyncio.create_task(coalescer.submit(item)) for item in range(5)]
            await stopping.until_reached()
            await asyncio.sleep(0.02)
            tasks[0].cancel()
            tasks[3].cancel()
            await asyncio.sleep(0.02)
            stopping.go_on.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = loop.run(scenario())
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [True, False, False, True, False]
    assert ids(shared.engine) == [0, 1, 2, 4]  # the first had been taken up


def test_a_thousand_callers_cancelled_at_random_leave_nothing_open_and_no_lie(loop, on_postgres, seed):
    chance = random.Random(seed)

    async def one(coalescer, number):
        await asyncio.sleep(chance.uniform(0, 2))
        task = asyncio.create_task(coalescer.submit(-number if number % 10 == 3 else number))
        await asyncio.sleep(chance.expovariate(100))
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        return None if isinstance(outcome, asyncio.CancelledError) else outcome

    async def scenario():
        async with on_postgres.open(write) as coalescer:
            return await asyncio.gather(*[one(coalescer, number) for number in range(1, 1_001)])

    told = [outcome for outcome in loop.run(scenario()) if outcome is not None]
    there = set(ids(on_postgres.engine))
    assert all((abs(outcome.item) in there) == (outcome.status is WRITTEN) for outcome in told)
    assert {outcome.status for outcome in told} <= {WRITTEN, FAILED}
    assert on_postgres.engine.pool.checkedout() == on_postgres.aengine.sync_engine.pool.checkedout() == 0
    assert 0 < len(told) < 1_000


@pytest.mark.parametrize("books", [{}, {"ledger": Ledger()}])
def test_while_the_server_ends_connections_everybody_gets_a_true_answer(loop, on_postgres, seed, books):
    chance = random.Random(seed)
    engine = on_postgres.engine
    retry = AT_ONCE
    if books:
        books["ledger"].create(engine)
        # A look-up whose connections are ended, the last one too, leaves a doubt: there are more than are killed.
        retry = RetryPolicy(attempts=KILLS + 1, first_wait=0, longest_wait=0)

    async def killing():
        for _ in range(KILLS):
            await asyncio.sleep(chance.expovariate(20))
            await asyncio.to_thread(kill_others, engine.url)

    async def client(coalescer, number):
        return [await coalescer.submit(number * 1_000 + turn) for turn in range(50)]

    async def scenario():
        async with on_postgres.open(write, retry=retry, **books) as coalescer:
            killer = asyncio.create_task(killing())
            told = await asyncio.gather(*[client(coalescer, number) for number in range(20)])
            await killer
            return [outcome for some in told for outcome in some]

    told = loop.run(scenario())
    engine.dispose()  # of connections that are dead
    there = set(ids(engine))
    assert len(told) == 1_000
    for outcome in told:
        if outcome.status is not OutcomeStatus.UNKNOWN:
            assert (outcome.item in there) == (outcome.status is WRITTEN)
        if outcome.status is not WRITTEN:
            assert outcome.reason
    if books:
        assert all(outcome.status is not OutcomeStatus.UNKNOWN for outcome in told)


def test_keys_that_have_landed_are_told_so(loop, on_postgres):
    ledger = Ledger()
    ledger.create(on_postgres.engine)

    async def scenario():
        async with on_postgres.open(write, ledger=ledger, key=IdempotencyKey(of=lambda item: item)) as coalescer:
            return await asyncio.gather(*[coalescer.submit(item) for item in [1, 2, 1, 3, 2]])

    outcomes = loop.run(scenario())
    assert sorted(outcome.reason or "" for outcome in outcomes) == ["", "", "", "duplicate", "duplicate"]
    assert ids(on_postgres.engine) == [1, 2, 3]


def test_what_is_nobodys_fault_is_raised_to_everybody_and_does_not_end_the_coalescer(loop, on_postgres):
    ledger = Ledger()

    async def scenario():
        async with on_postgres.open(write, ledger=ledger) as coalescer:
            found = await asyncio.gather(*[coalescer.submit(item) for item in range(5)], return_exceptions=True)
            assert all(isinstance(error, ConfigurationError) for error in found)
            await asyncio.to_thread(ledger.create, on_postgres.engine)
            assert (await coalescer.submit(9)).status is WRITTEN
            assert await coalescer.close() == 5

    loop.run(scenario())
    assert ids(on_postgres.engine) == [9]


def test_a_database_that_is_away_is_told_to_everybody(loop, on_postgres):
    async def scenario():
        async with on_postgres.open(write, retry=RetryPolicy(attempts=1)) as coalescer:
            await asyncio.to_thread(_rename, on_postgres.engine, "rows_of_aio", "elsewhere")
            gone = await asyncio.gather(*[coalescer.submit(item) for item in range(5)])
            await asyncio.to_thread(_rename, on_postgres.engine, "elsewhere", "rows_of_aio")
            back = await coalescer.submit(9)
            assert await coalescer.close() == 5
            return gone, back

    gone, back = loop.run(scenario())
    assert all(outcome.status is UNATTEMPTED and outcome.reason for outcome in gone)
    assert back.status is WRITTEN
    assert ids(on_postgres.engine) == [9]


def kill_others(url):
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def _rename(engine, name, to):
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {to}")


def test_a_producer_that_is_too_fast_is_held_back(loop, postgres_engine, postgres):
    most = 0

    async def slow(item, out):
        nonlocal most
        most = max(most, coalescer.coalescer._inbox.waiting)
        await asyncio.sleep(0.0001)
        write(item, out)

    coalescer = Shared("tasks", postgres_engine, postgres).make(slow, max_queue=10, chunk_size=20)

    async def scenario():
        await asyncio.gather(*[coalescer.submit(item) for item in range(500)])
        return await coalescer.close()

    assert loop.run(scenario()) == 0
    assert most <= 10
    assert len(ids(postgres_engine)) == 500


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_delay": -1}, "max_delay"),
        ({"max_delay": None}, "max_delay"),
        ({"max_queue": 0}, "max_queue"),
        ({"max_queue": 2.5}, "max_queue"),
        ({"when_full": "drop"}, "when_full"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(shared, options, problem):
    with pytest.raises(ConfigurationError, match=problem):
        shared.make(write, **options)


def test_rows_are_what_was_submitted(loop, shared):
    async def scenario():
        async with shared.open(lambda item, out: out.insert(ROWS, item)) as coalescer:
            return await coalescer.submit({"id": 1, "n": 2, "text": "three"})

    assert loop.run(scenario()).status is WRITTEN
    with shared.engine.connect() as connection:
        assert connection.execute(ROWS.select()).all() == [(1, 2, "three")]
