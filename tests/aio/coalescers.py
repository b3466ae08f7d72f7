"""One face of both coalescers for the tests: to be awaited, whichever it is."""

import asyncio
from contextlib import asynccontextmanager

from batchwrite import BatchWriter, Coalescer
from batchwrite.aio import AsyncBatchWriter, AsyncCoalescer

WRITER_OPTIONS = {"chunk_size", "chunk_bytes", "chunk_rows", "retry", "ledger", "key", "listeners"}


class Threads:
    """A `Coalescer`, whose thread does the work."""

    def __init__(self, engine, _aengine, map_item, writer_options, options):
        self.coalescer = Coalescer(BatchWriter(engine, **writer_options), map_item, **options)

    async def submit(self, item, **options):
        return await self.coalescer.submit(item, **options)

    async def close(self, timeout=30.0):
        return await asyncio.to_thread(self.coalescer.close, timeout)


class Tasks:
    """An `AsyncCoalescer`."""

    def __init__(self, _engine, aengine, map_item, writer_options, options):
        self.coalescer = AsyncCoalescer(AsyncBatchWriter(aengine, **writer_options), map_item, **options)

    async def submit(self, item, **options):
        return await self.coalescer.submit(item, **options)

    async def close(self, timeout=30.0):
        return await self.coalescer.close(timeout)


KINDS = {"threads": Threads, "tasks": Tasks}


class Shared:
    """Makes coalescers of one kind over one database."""

    def __init__(self, kind, engine, aengine):
        self.kind, self.engine, self.aengine = kind, engine, aengine

    def make(self, map_item, **options):
        of_writer = {name: options.pop(name) for name in WRITER_OPTIONS & options.keys()}
        return KINDS[self.kind](self.engine, self.aengine, map_item, of_writer, options)

    @asynccontextmanager
    async def open(self, map_item, **options):
        coalescer = self.make(map_item, **options)
        try:
            yield coalescer
        finally:
            await coalescer.close()
