"""What the tests of asyncio share: engines, and a face of `AsyncBatchWriter` for the tests of `BatchWriter`."""

import asyncio
import weakref

from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from batchwrite.aio import AsyncBatchWriter

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "mariadb": "mariadb+aiomysql"}


def async_engine_for(engine, **options):
    """An engine for asyncio, to the database of another."""
    made = create_async_engine(engine.url.set(drivername=DRIVERS[engine.dialect.name]), **options)
    if engine.dialect.name == "sqlite":

        @event.listens_for(made.sync_engine, "connect")
        def enforce_foreign_keys(connection, _record):
            cursor = connection.cursor()
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()

    return made


async def one_by_one(items):
    for item in items:
        yield item


class Awaited:
    """`BatchWriter` by its face, `AsyncBatchWriter` below it, in an event loop of its own."""

    def __init__(self, engine, **options):
        self._runner = asyncio.Runner()
        self._engine = async_engine_for(engine)
        self._writer = AsyncBatchWriter(self._engine, **options)
        weakref.finalize(self, self._runner.close)

    def run(self, items, map_item, **options):
        return self._awaited(self._writer.run(one_by_one(items), map_item, **options))

    def retry(self, run_id, map_item):
        return self._awaited(self._writer.retry(run_id, map_item))

    def stream(self, items, map_item, **options):
        return Streamed(self, self._writer.stream(one_by_one(items), map_item, **options))

    def _awaited(self, awaitable):
        async def awaiting():
            try:
                return await awaitable
            finally:
                assert self._engine.sync_engine.pool.checkedout() == 0
                await self._engine.dispose()

        return self._runner.run(awaiting())


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
