"""Producers far faster than the database, held back by the queue of a coalescer: memory is flat, nothing is dropped.

The database is 20 ms away and chunks are small, so that it takes less than a thousand rows a second; four threads
submit as fast as they are let, and could do more than a thousand times that.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from databases import watched
from figures import tell
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, create_engine, func, select

from batchwrite import BatchWriter, Coalescer
from batchwrite.bench.proxy import DelayProxy

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("machine")]

ROWS = Table(
    "rows",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("text", String(200)),
)
THREADS = 4
QUEUE = 5_000
SAMPLES = 12
MOST_GROWTH = 8.0  # MiB; unbounded, it would be some hundred a second


class Producers:
    """Threads that submit items as fast as they are let, until the end of the block."""

    def __init__(self, submit: Callable[[dict[str, Any]], object]) -> None:
        self._submit = submit
        self._accepted = [0] * THREADS
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._produce, args=(own,)) for own in range(THREADS)]

    @property
    def accepted(self) -> int:
        return sum(self._accepted)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _produce(self, own: int) -> None:
        for number in itertools.count(own, THREADS):
            if self._stop.is_set():
                return
            self._submit({"id": number, "text": "x" * 100})
            self._accepted[own] += 1


def unheld_rate() -> int:
    """How many items a second the producers could submit to somebody who takes all of them."""
    with Producers(lambda item: None) as producers:
        time.sleep(1)
    return producers.accepted


@pytest.fixture
def database(own_postgres):
    with watched(create_engine(own_postgres.url)) as engine:
        ROWS.metadata.create_all(engine)
        yield engine


@contextmanager
def at_a_distance(engine: Engine) -> Iterator[Engine]:
    """The same database, 20 ms away in each direction."""
    proxy = DelayProxy((engine.url.host, engine.url.port), 0.02)
    with proxy, watched(create_engine(engine.url.set(port=proxy.port))) as far:
        yield far


@contextmanager
def held_back(database: Engine) -> Iterator[Coalescer]:
    """A coalescer that writes to a database far away."""
    with (
        at_a_distance(database) as far,
        BatchWriter(far, chunk_size=100) as writer,
        Coalescer(writer, lambda row, out: out.insert(ROWS, row), max_queue=QUEUE) as coalescer,
    ):
        yield coalescer


def memory() -> float:
    """Memory of this process, in MiB."""
    return psutil.Process().memory_info().rss / 2**20


def sampled(coalescer: Coalescer, seconds: float) -> list[float]:
    """The memory of the process, in equal distances of time."""
    samples = []
    for _ in range(SAMPLES):
        time.sleep(seconds / SAMPLES)
        stats = coalescer.stats()
        samples.append(memory())
        print(
            f"{samples[-1]:.1f} MiB, {stats.waiting:,} waiting, {stats.written_per_second:,.0f} written/s", flush=True
        )
    return samples


def test_memory_is_flat_and_all_that_was_accepted_is_there(database, soak_minutes):
    seconds = soak_minutes * 6
    with held_back(database) as coalescer:
        with Producers(coalescer.submit) as producers:
            samples = sampled(coalescer, seconds)
        left = coalescer.close(timeout=60)
    with database.connect() as connection:
        there = connection.scalar(select(func.count()).select_from(ROWS))
    unheld = unheld_rate()
    figures = {
        "items accepted": producers.accepted,
        "of these in the table": there,
        "accepted a second": int(producers.accepted / seconds),
        "accepted a second by nobody who holds them back": unheld,
        f"memory after {seconds / SAMPLES:.1f} s": f"{samples[0]:.1f} MiB",
        f"memory after {seconds:.0f} s": f"{samples[-1]:.1f} MiB",
        "most memory": f"{max(samples):.1f} MiB",
    }
    tell(database, figures)
    assert left == 0
    assert there == producers.accepted > QUEUE
    assert unheld > 10 * producers.accepted / seconds, "they were not held back"
    assert max(samples) - samples[0] < MOST_GROWTH
