"""Writing under asyncio. Needs the extra `async`."""

from batchwrite.aio.coalescer import AsyncCoalescer
from batchwrite.aio.guard import RunCancelled
from batchwrite.aio.writer import AsyncBatch, AsyncBatchWriter, AsyncItemStream, AsyncMapFunction

__all__ = ["AsyncBatch", "AsyncBatchWriter", "AsyncCoalescer", "AsyncItemStream", "AsyncMapFunction", "RunCancelled"]
