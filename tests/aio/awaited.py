"""What the tests of asyncio share: a face of `AsyncBatchWriter` for the tests of `BatchWriter`."""

import asyncio
from contextlib import contextmanager

from databases import async_engine_for

from batchwrite.aio import AsyncBatchWriter


async def one_by_one(items):
    for item in items:
        yield item


class Awaited:
    """`BatchWriter` by its face, `AsyncBatchWriter` below it, each call in an event loop of its own."""

    driver = None

    def __init__(self, engine, **options):
        self._engine = async_engine_for(engine, self.driver)
        self._writer = AsyncBatchWriter(self._engine, **options)

    def run(self, items, map_item, **options):
        return self._awaited(self._writer.run(one_by_one(items), map_item, **options))

    def retry(self, run_id, map_item):
        return self._awaited(self._writer.retry(run_id, map_item))

    def collect(self, **options):
        return Collected(self, self._writer.collect(**options))

    def stats(self):
        return self._writer.stats()

    def stream(self, items, map_item, **options):
        return Streamed(self, self._writer.stream(one_by_one(items), map_item, **options))

    def _awaited(self, awaitable):
        async def awaiting():
            try:
                return await awaitable
            finally:
                await self.give_back()

        return asyncio.run(awaiting())

    async def give_back(self):
        """Make sure that no connection is out, and close them all: the next event loop cannot use them."""
        assert self._engine.sync_engine.pool.checkedout() == 0
        await self._engine.dispose()


class AwaitedByAsyncpg(Awaited):
    """Likewise, by the general path."""

    driver = "postgresql+asyncpg"


class Streamed:
    """A stream, all of it awaited at once."""

    def __init__(self, writer, stream):
        self._writer, self._stream = writer, stream

    def __iter__(self):
        async def outcomes():
            return [outcome async for outcome in self._stream]

        return iter(self._writer._awaited(outcomes()))

    @property
    def result(self):
        return self._stream.result


class Collected:
    """A batch, each step of it awaited, in one event loop."""

    def __init__(self, writer, context):
        self._writer, self._context = writer, context

    def __enter__(self):
        self._runner = asyncio.Runner()
        self._batch = self._await(self._context.__aenter__())
        return self

    def __exit__(self, *exception):
        try:
            self._await(self._context.__aexit__(*exception))
        finally:
            self._await(self._writer.give_back())
            self._runner.close()

    @contextmanager
    def item(self, item=None):
        recording = self._batch.item(item)
        out = self._await(recording.__aenter__())
        try:
            yield out
        except BaseException as error:
            if not self._await(recording.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self._await(recording.__aexit__(None, None, None))

    def flush(self):
        return self._await(self._batch.flush())

    @property
    def result(self):
        return self._batch.result

    def _await(self, awaitable):
        async def awaiting():
            return await awaitable

        return self._runner.run(awaiting())
