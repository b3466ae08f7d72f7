"""Orders of many requests, written in bulk: one transaction for as many as are there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from batchwrite import CoalescerClosed, OutcomeStatus, QueueFull
from batchwrite.aio import AsyncBatchWriter, AsyncCoalescer

from .answers import Answer, refused, unavailable, written
from .tables import record_order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from batchwrite import ChunkDetails

    from .models import NewOrder

# Seconds after which a database that says nothing is given up: somebody waits for each answer.
CHUNK_TIMEOUT = 10.0


class _Chunks:
    """Counts what is written; a listener."""

    def __init__(self) -> None:
        self.chunks = self.items = self.fallbacks = 0

    def on_chunk(self, chunk: ChunkDetails) -> None:
        self.chunks += 1
        self.items += chunk.items
        self.fallbacks += chunk.fell_back


class CoalescedOrders:
    """Writes orders through a coalescer."""

    def __init__(self, coalescer: AsyncCoalescer[NewOrder], chunks: _Chunks) -> None:
        self._coalescer = coalescer
        self._chunks = chunks

    async def write(self, order: NewOrder) -> Answer:
        """Have an order written with others, and say what has become of it."""
        try:
            outcome = await self._coalescer.submit(order)
        except (QueueFull, CoalescerClosed) as error:
            return unavailable(str(error))
        if outcome.status is OutcomeStatus.WRITTEN:
            return written(order)
        if (failure := outcome.failure) is not None:
            return refused(failure.message, failure.table, failure.column, failure.constraint)
        return unavailable(outcome.reason)

    def figures(self) -> dict[str, Any]:
        """Counts since the beginning."""
        return {
            "chunks": self._chunks.chunks,
            "orders_in_chunks": self._chunks.items,
            "chunks_one_by_one": self._chunks.fallbacks,
        }


@asynccontextmanager
async def coalesced(engine: AsyncEngine, max_delay: float, max_queue: int) -> AsyncIterator[CoalescedOrders]:
    """A coalescer for as long as the block lasts; at its end what waits is written."""
    chunks = _Chunks()
    writer = AsyncBatchWriter(engine, chunk_timeout=CHUNK_TIMEOUT, listeners=[chunks])
    # Who comes to a full queue is told so at once: to wait for room would only make the queue longer.
    async with AsyncCoalescer(
        writer, record_order, max_delay=max_delay, max_queue=max_queue, when_full="raise"
    ) as coalescer:
        yield CoalescedOrders(coalescer, chunks)
