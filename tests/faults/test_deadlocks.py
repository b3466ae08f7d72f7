"""Deadlocks: none of our own making, whatever the order of several processes' items; those of others are replayed."""

import multiprocessing
import random
import threading

import pytest
from sqlalchemy import Column, Integer, MetaData, NullPool, Table, create_engine, exc, func, select, text

from batchwrite import BatchWriter, Ledger, RetryPolicy

COUNTERS = Table(
    "counters",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("total", Integer, nullable=False),
    Column("hits", Integer, nullable=False),
)
KEYS, PROCESSES, ROUNDS = 300, 4, 3
TRANSACTIONS = 4  # of another program, each of which may cost us some attempts
LEDGER = Ledger()


@pytest.fixture
def counters(own_postgres):
    engine = create_engine(own_postgres.url, poolclass=NullPool)
    COUNTERS.create(engine)
    LEDGER.create(engine)
    with engine.begin() as connection:
        connection.execute(COUNTERS.insert(), [{"id": key, "total": 0, "hits": 0} for key in range(KEYS)])
    yield engine
    engine.dispose()


@pytest.fixture
def seed():
    chosen = random.randrange(2**32)
    print(f"seed {chosen}")  # noqa: T201 - shown where the test fails
    return chosen


def increment(item, out):
    """The keys of an item, one or two; of each round one item asks for a key that is none."""
    for key in item:
        out.increment(COUNTERS, {"id": key}, total=key + 1, hits=1)


def items_of(seed):
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        keys = chance.sample(range(KEYS), KEYS)
        while keys:
            yield tuple(keys.pop() for _ in range(min(len(keys), chance.choice([1, 2, 2]))))
        yield (chance.randrange(KEYS), KEYS + 1)


def write(url, seed, workers, results):
    engine = create_engine(url)
    patient = RetryPolicy(attempts=50, first_wait=0.01, longest_wait=0.1)
    options = {"chunk_size": 40, "retry": patient, "ledger": LEDGER, "workers": workers}
    result = BatchWriter(engine, **options).run(items_of(seed), increment)
    engine.dispose()
    results.put((result.received, result.written, result.failed, result.unknown, result.abort))


def written_by_processes(engine, seed, workers):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    url = engine.url.render_as_string(hide_password=False)
    processes = [
        context.Process(target=write, args=(url, seed + place, workers, results)) for place in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    told = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    results.close()
    return told


def assert_right(engine, told):
    """Each key was hit once in each round of each process; what failed has left nothing."""
    assert all((failed, unknown, abort) == (ROUNDS, 0, None) for _, _, failed, unknown, abort in told), told
    assert all(received == written + failed for received, written, failed, _, _ in told)
    with engine.connect() as connection:
        wrong = select(func.count()).where(
            (COUNTERS.c.hits != ROUNDS * PROCESSES) | (COUNTERS.c.total != COUNTERS.c.hits * (COUNTERS.c.id + 1))
        )
        assert connection.scalar(wrong) == 0


def deadlocks(server):
    return server.log_path.read_text(errors="replace").count("deadlock detected")


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_that_increment_the_same_keys_never_deadlock(own_postgres, counters, seed, workers):
    told = written_by_processes(counters, seed, workers)
    assert_right(counters, told)
    assert deadlocks(own_postgres) == 0


def lock_backwards(url, stop):
    """Another program, which takes rows from the last to the first, and has us chosen; it begins when we have."""
    engine = create_engine(url, poolclass=NullPool)
    chance = random.Random(7)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(select(func.max(COUNTERS.c.hits))) and not stop.wait(0.01):
            pass
    for _ in range(TRANSACTIONS):
        if stop.is_set():
            break
        low = chance.randrange(KEYS - 60)
        try:
            with engine.begin() as connection:
                connection.execute(text("SET LOCAL deadlock_timeout = '10s'"))
                for key in range(low + 50, low, -7):
                    connection.execute(select(COUNTERS).where(COUNTERS.c.id == key).with_for_update())
                    connection.execute(text("SELECT pg_sleep(0.002)"))
        except exc.OperationalError:
            continue
        stop.wait(0.05)
    engine.dispose()


def test_deadlocks_that_another_program_causes_cost_nothing(own_postgres, counters, seed):
    with counters.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ALTER SYSTEM SET deadlock_timeout = '10ms'")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    stop = threading.Event()
    other = threading.Thread(target=lock_backwards, args=(counters.url, stop))
    other.start()
    try:
        told = written_by_processes(counters, seed, workers=1)
    finally:
        stop.set()
        other.join()
    assert_right(counters, told)
    assert deadlocks(own_postgres) > 0
