"""How late an event loop is for others while rows are written: a task wakes up every millisecond and notes it."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from databases import async_engine_for
from figures import tell
from sqlalchemy import Column, Engine, Integer, MetaData, Numeric, String, Table

from batchwrite import BatchResult
from batchwrite.aio import AsyncBatchWriter

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("machine")]

ROWS = Table(
    "rows",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(50)),
    Column("price", Numeric(10, 2)),
    Column("count", Integer),
)
INTERVAL = 0.001
# Seconds, several times what they are beside others that take all cores. Were chunks written in the loop itself, each
# wake-up would be late by as long as one takes.
MOST_AT_MEDIAN = 0.02
MOST_AT_99 = 0.5


def record(number, out):
    out.insert(ROWS, {"id": number, "name": f"item {number}", "price": "9.99", "count": number % 7})


@asynccontextmanager
async def noted_lags():
    """A list that grows by how late the loop is, in seconds, for as long as the block takes."""
    lags = []

    async def tick():
        while True:
            began = time.perf_counter()
            await asyncio.sleep(INTERVAL)
            lags.append(time.perf_counter() - began - INTERVAL)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.1)
    lags.clear()
    yield lags
    await asyncio.sleep(INTERVAL)  # the last one is noted as well, however late it is
    ticking.cancel()


async def written(engine: Engine, items: int) -> tuple[BatchResult, float, list[float]]:
    """The result of writing so many items, the seconds it took, and the lags meanwhile, the least first."""
    aengine = async_engine_for(engine)
    async with noted_lags() as lags:
        began = time.perf_counter()
        result = await AsyncBatchWriter(aengine).run(range(items), record)
        seconds = time.perf_counter() - began
    await aengine.dispose()
    return result, seconds, sorted(lags)


def test_the_loop_is_on_time_for_others(engine, created, soak_minutes):
    items = int(soak_minutes * 10_000)
    with created(engine, ROWS.metadata):
        result, seconds, lags = asyncio.run(written(engine, items))
    median, at_99 = lags[len(lags) // 2], lags[int(len(lags) * 0.99)]
    figures = {
        "items written": result.written,
        "seconds": f"{seconds:.2f}",
        "lag at the median": f"{median * 1_000:.1f} ms",
        "lag at the 99th percentile": f"{at_99 * 1_000:.1f} ms",
        "longest lag": f"{lags[-1] * 1_000:.1f} ms",
        "wake-ups": len(lags),
    }
    tell(engine, figures)
    assert result.written == items
    assert median < MOST_AT_MEDIAN
    assert at_99 < MOST_AT_99
