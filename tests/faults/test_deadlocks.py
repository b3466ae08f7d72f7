"""Deadlocks: none of our own making, whatever the order of several processes' items; those of others are replayed."""

import random
import threading

import pytest
from hot_keys import COUNTERS, KEYS, assert_right, prepare, written_by_processes
from sqlalchemy import NullPool, create_engine, exc, func, select, text

pytestmark = pytest.mark.xdist_group("machine")

MOST_DEADLOCKS = 2  # with another program, each of which may cost us an attempt


@pytest.fixture
def counters(own_postgres):
    engine = create_engine(own_postgres.url, poolclass=NullPool)
    prepare(engine)
    yield engine
    engine.dispose()


def deadlocks(server):
    return server.log_path.read_text(errors="replace").count("deadlock detected")


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_that_increment_the_same_keys_never_deadlock(own_postgres, counters, seed, workers):
    told = written_by_processes(counters, seed, workers)
    assert_right(counters, told)
    assert deadlocks(own_postgres) == 0


def lock_backwards(server, url, stop):
    """Another program, which takes rows from the last to the first, and has us chosen; it begins when we have.

    Whether one of its transactions meets ours is chance: it goes on until some have.
    """
    engine = create_engine(url, poolclass=NullPool)
    chance = random.Random(7)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(select(func.max(COUNTERS.c.hits))) and not stop.wait(0.01):
            pass
    while deadlocks(server) < MOST_DEADLOCKS and not stop.is_set():
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
    other = threading.Thread(target=lock_backwards, args=(own_postgres, counters.url, stop))
    other.start()
    try:
        told = written_by_processes(counters, seed, workers=1)
    finally:
        stop.set()
        other.join()
    assert_right(counters, told)
    assert deadlocks(own_postgres) > 0
