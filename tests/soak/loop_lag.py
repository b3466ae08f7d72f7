"""Run by hand: how late the event loop is for others while 100,000 items are written.

    python tests/soak/loop_lag.py URL [ITEMS]

A task wakes up every millisecond and notes how late it is. The URL is one for an asyncio driver, or names none.
"""

import asyncio
import sys
import time

from sqlalchemy import Column, Integer, MetaData, Numeric, String, Table
from sqlalchemy.ext.asyncio import create_async_engine

from batchwrite.aio import AsyncBatchWriter

ROWS = Table(
    "loop_lag",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String(50)),
    Column("price", Numeric(10, 2)),
    Column("count", Integer),
)


async def measure(url, items):
    lags = []

    async def tick():
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append(time.perf_counter() - began - 0.001)

    def record(number, out):
        out.insert(ROWS, {"id": number, "name": f"item {number}", "price": "9.99", "count": number % 7})

    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(ROWS.metadata.drop_all)
        await connection.run_sync(ROWS.metadata.create_all)
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.1)
    lags.clear()
    began = time.perf_counter()
    result = await AsyncBatchWriter(engine).run(range(items), record)
    seconds = time.perf_counter() - began
    ticking.cancel()
    lags.sort()
    at = {name: lags[int(len(lags) * share)] * 1_000 for name, share in (("p50", 0.5), ("p99", 0.99))}
    worst = lags[-1] * 1_000
    shown = ", ".join(f"{name} {value:.1f} ms" for name, value in at.items())
    print(f"{result.written} written in {seconds:.2f} s; {len(lags)} ticks late by {shown}, max {worst:.1f} ms")
    async with engine.begin() as connection:
        await connection.run_sync(ROWS.metadata.drop_all)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100_000))
