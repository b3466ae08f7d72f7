"""Several processes that increment the same few rows, in random order, with bad items among them."""

import multiprocessing
import random

from sqlalchemy import Column, Integer, MetaData, Table, create_engine, func, select

from batchwrite import BatchWriter, Ledger, RetryPolicy

COUNTERS = Table(
    "counters",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("total", Integer, nullable=False),
    Column("hits", Integer, nullable=False),
)
KEYS, PROCESSES, ROUNDS = 300, 4, 3
LEDGER = Ledger()


def prepare(engine):
    """The tables, with a row for each key."""
    COUNTERS.create(engine)
    LEDGER.create(engine)
    with engine.begin() as connection:
        connection.execute(COUNTERS.insert(), [{"id": key, "total": 0, "hits": 0} for key in range(KEYS)])


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
