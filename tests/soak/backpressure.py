"""Run by hand: producers far faster than the database, held back for a minute by a coalescer's queue; memory is flat.

    python tests/soak/backpressure.py URL [SECONDS]

The database is put 20 ms away, and chunks are small, so that it takes a few thousand rows a second; four threads submit
as fast as they are let, and could do more than ten times that. Prints, every five seconds, the memory of the process.
"""

import resource
import sys
import threading
import time
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, func, make_url, select

from batchwrite import BatchWriter, Coalescer
from batchwrite.bench.proxy import DelayProxy

ROWS = Table("backpressure", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(200)))
PAGE = resource.getpagesize()


def memory():
    """Memory of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def unheld_rate():
    """How many items a second four threads could submit to somebody who takes all of them."""
    taken = [0] * 4
    stop = threading.Event()

    def produce(own):
        while not stop.is_set():
            {"id": taken[own], "text": "x" * 100}
            taken[own] += 1

    threads = [threading.Thread(target=produce, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(taken)


def soak(url, seconds):
    target = make_url(url)
    where = (target.host or "127.0.0.1", target.port or 5432)
    if "host" in target.query:
        where = f"{target.query['host']}/.s.PGSQL.{target.query.get('port', 5432)}"
    local = create_engine(target)
    ROWS.metadata.drop_all(local)
    ROWS.metadata.create_all(local)
    stop, accepted = threading.Event(), [0] * 4
    with DelayProxy(where, 0.02) as proxy:
        far = target.set(host="127.0.0.1", port=proxy.port, query={})
        writer = BatchWriter(create_engine(far), chunk_size=100)
        with Coalescer(writer, lambda row, out: out.insert(ROWS, row), max_queue=5_000) as coalescer:

            def produce(own):
                while not stop.is_set():
                    coalescer.submit({"id": accepted[own] * 4 + own, "text": "x" * 100})
                    accepted[own] += 1

            threads = [threading.Thread(target=produce, args=(own,)) for own in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(seconds // 5):
                time.sleep(5)
                stats = coalescer.stats()
                print(
                    f"{memory():6.1f} MiB, {stats.waiting} waiting, {stats.written_per_second:.0f} written/s",
                    flush=True,
                )
            stop.set()
            for thread in threads:
                thread.join()
            left = coalescer.close(timeout=60)
    with local.connect() as connection:
        there = connection.scalar(select(func.count()).select_from(ROWS))
    print(f"{sum(accepted)} accepted, {there} in the table, {left} left; unheld, a second: {unheld_rate()}")
    ROWS.metadata.drop_all(local)


if __name__ == "__main__":
    soak(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60)
