"""`AsyncBatchWriter`: what `BatchWriter` does, awaited: the same code, in a greenlet that awaits the event loop.

Needs the extra `async`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from inspect import isasyncgenfunction, isawaitable, isgeneratorfunction
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn

from batchwrite.aio.guard import Guard
from batchwrite.arguments import check_seconds
from batchwrite.batch import Batch
from batchwrite.database import keep_foreign_keys, made_of
from batchwrite.errors import ConfigurationError, ItemRefused
from batchwrite.feeding import add_item, reports_of
from batchwrite.resume import ClosingIterator
from batchwrite.sinks.choose import sink_for
from batchwrite.sinks.lent import Lender, check_transaction, is_transaction
from batchwrite.sinks.repository import Repository, RepositorySink
from batchwrite.writer_base import WriterBase

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from batchwrite.collector import Collector
    from batchwrite.result import BatchResult, ItemOutcome
    from batchwrite.sinks.choose import AnySink
    from batchwrite.sinks.options import SinkOptions
    from batchwrite.tally import ChunkReport

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
    "sqlite": "sqlite+aiosqlite",
}

_LAZY = (isgeneratorfunction, isasyncgenfunction)

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Value = TypeVar("Value")


class AsyncMapFunction(Protocol[Item_contra]):
    """What turns an item into writes: a plain function or a coroutine function, called once an item, in input order."""

    def __call__(self, item: Item_contra, out: Collector, /) -> object:
        """Record the item's writes on `out`; an exception makes the item a failure of stage `map`."""


class _Items(ClosingIterator[Item]):
    """The items of an event loop's input; when nobody reads it any more, it is closed.

    No end of a `for`, and no last reference, closes an asynchronous generator in time: it would stay where it is, with
    its tasks, its files and its locks, until the event loop comes to it.
    """

    def __init__(self, items: AsyncIterable[Item], guard: Guard) -> None:
        self._given, self._guard = items, guard
        self._items: AsyncIterator[Item] | None = None

    def __next__(self) -> Item:
        try:
            if self._items is None:
                self._items = aiter(self._given)
            item: Item = self._guard.wait_for(anext(self._items))
        except StopAsyncIteration:
            raise StopIteration from None
        return item

    def close(self) -> None:
        items = self._given if self._items is None and isinstance(self._given, AsyncIterator) else self._items
        aclose = getattr(items, "aclose", None)
        found = aclose() if callable(aclose) else None
        if isawaitable(found):
            self._guard.wait_for(found)


class _Input(Generic[Item]):
    """An input of an event loop's, as an iterable."""

    def __init__(self, items: AsyncIterable[Item], guard: Guard) -> None:
        self._items, self._guard = items, guard

    def __iter__(self) -> Iterator[Item]:
        return _Items(self._items, self._guard)


class _SeekableInput(_Input[Item]):
    """One that can seek."""

    def from_item(self, index: int, /) -> Iterable[Item]:
        source: Any = self._items
        return _as_iterable(source.from_item(index), self._guard)


def _as_iterable(items: AsyncIterable[Item] | Iterable[Item], guard: Guard) -> Iterable[Item]:
    if not isinstance(items, AsyncIterable):
        return items
    return _SeekableInput(items, guard) if hasattr(items, "from_item") else _Input(items, guard)


def as_map(map_item: AsyncMapFunction[Item], guard: Guard) -> Callable[[Item, Collector], object]:
    """A map function that waits for what another gives, where that is to be awaited."""
    if not callable(map_item):
        raise ConfigurationError("map must be a function of an item and a collector")

    if any(is_lazy(called) for called in (map_item, type(map_item).__call__) for is_lazy in _LAZY):
        raise ConfigurationError("map must be a function: calling this one only makes a generator")

    def awaited(item: Item, out: Collector) -> None:
        found = map_item(item, out)
        if isawaitable(found):
            try:
                guard.wait_for(found)
            except asyncio.CancelledError as error:
                if guard.task is None or guard.task.cancelling():
                    raise
                # Something else that it waits for was cancelled: that is the item's misfortune, and nobody else's.
                raise ItemRefused("what the map function waited for was cancelled") from error

    return awaited


class AsyncItemStream:
    """The outcomes of a run, in input order, for `async for`; what `AsyncBatchWriter.stream` returns."""

    def __init__(self, guard: Guard, begin: Callable[[], Iterator[ChunkReport]]) -> None:
        self._guard = guard
        self._is_stopped = False
        self._outcomes = self._read(begin)

    def __aiter__(self) -> AsyncIterator[ItemOutcome]:
        return self._outcomes

    async def __anext__(self) -> ItemOutcome:
        return await anext(self._outcomes)

    async def aclose(self) -> None:
        """End the run early: what is on its way is brought to its end, the rest stays unattempted."""
        await self._outcomes.aclose()

    @property
    def result(self) -> BatchResult:
        """The result so far; complete when the stream has ended."""
        return self._guard.result()

    def stop(self) -> None:
        """Take no more input and flush nothing more; iterating on yields what is left, the rest as unattempted."""
        self._is_stopped = True
        if self._guard.guarded is not None:
            self._guard.guarded.stop("caller", "the caller stopped the run")

    async def _read(self, begin: Callable[[], Iterator[ChunkReport]]) -> AsyncGenerator[ItemOutcome]:
        reports: Any = await self._guard.run(begin)
        if self._is_stopped:  # before anything was read
            self.stop()
        try:
            while (report := await self._guard.run(next, reports, None)) is not None:
                for outcome in report.outcomes():
                    yield outcome
        finally:
            await self._guard.run(reports.close)


class AsyncBatch:
    """A run fed item by item; what `AsyncBatchWriter.collect` gives. It may be fed by one task at a time."""

    def __init__(self, guard: Guard, batch: Batch) -> None:
        self._guard, self._batch = guard, batch
        self._lock = asyncio.Lock()  # between the caller's task and the one that flushes

    @property
    def result(self) -> BatchResult:
        """The result so far; complete when the block has ended."""
        return self._guard.result()

    @asynccontextmanager
    async def item(self, item: Any = None) -> AsyncIterator[Collector]:
        """Record the writes of one item in a block, `async with batch.item(order) as out`; as `Batch.item`.

        Args:
            item: What to call the item by in failures.

        Raises:
            BatchFailed: As `Batch.item`.
            ConfigurationError: As `Batch.item`.
        """
        recording = self._batch.item(item)
        out = await self._run(recording.__enter__)
        try:
            yield out
        except BaseException as error:
            if not await self._run(recording.__exit__, type(error), error, error.__traceback__):
                raise
        else:
            await self._run(recording.__exit__, None, None, None)

    async def flush(self) -> BatchResult:
        """Write the items collected so far, and wait for it; as `Batch.flush`.

        Raises:
            BatchFailed: As `Batch.flush`.
            ConfigurationError: As `Batch.flush`.
        """
        return await self._run(self._batch.flush)

    async def keep_flushing(self, seconds: float, is_stopped: asyncio.Event) -> None:
        """Flush, until told to stop, what has waited so long for more; for the writer.

        Args:
            seconds: How long an item may wait, at most, before it is on its way.
            is_stopped: Set when there is nothing more to flush.
        """
        while not is_stopped.is_set():
            since = self._batch.collected_since
            wait = seconds if since is None else max(0.0, since + seconds - time.monotonic())
            with suppress(TimeoutError):
                await asyncio.wait_for(is_stopped.wait(), wait)
            if not (is_stopped.is_set() or await self._run(self._batch.flush_old, time.monotonic() - seconds)):
                return

    async def _run(self, function: Callable[..., Value], *arguments: object) -> Value:
        async with self._lock:
            return await self._guard.run(function, *arguments)


AsyncTarget = AsyncEngine | URL | str | Repository | AsyncSession | AsyncConnection


class AsyncBatchWriter(WriterBase[AsyncTarget]):
    """`BatchWriter` for asyncio: the same promises, arguments and result.

    Arguments are those of `BatchWriter`, but that the database is an `AsyncEngine`, or a URL, for which psycopg or
    aiosqlite are taken where it names no driver, or a `Repository`, whose methods may be coroutine functions. Chunks
    are written before more is read, whatever `workers` says.

    A task that is cancelled while a chunk is flushed waits for the end of that; cancelled twice, it does not. Either
    way no connection stays out of the pool, and what is raised is a `RunCancelled` with the result so far.

    Raises:
        ConfigurationError: An argument is out of range, or the URL cannot be used.
    """

    @classmethod
    def in_session(cls, session: AsyncSession | AsyncConnection, **options: Any) -> Self:
        """A writer in a transaction of one's own, as `BatchWriter.in_session`.

        Args:
            session: The session, or the connection; to be used by nobody else while a run lasts.
            options: As for `BatchWriter.in_session`.

        Raises:
            ConfigurationError: As `BatchWriter.in_session`.
        """
        check_transaction(session)
        return cls(session, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Dispose of the engine that the writer has opened; an engine that it was given stays as it is."""
        await greenlet_spawn(self._sink.close)

    async def run(
        self,
        items: AsyncIterable[Item] | Iterable[Item],
        map: AsyncMapFunction[Item] = add_item,  # noqa: A002
        /,
        *,
        run_id: str | None = None,
        replay_map: bool = False,
    ) -> BatchResult:
        """Write all items and say what became of them; as `BatchWriter.run`.

        Args:
            items: The input, for `async for` or `for`; read once. What is read by `async for` and has an `aclose`, as
                asynchronous generators have, is closed when the run ends, however it ends; other inputs as by
                `BatchWriter.run`.
            map: Called, and awaited where it is a coroutine function, with each item and the collector.
            run_id: As for `BatchWriter.run`.
            replay_map: As for `BatchWriter.run`.

        Raises:
            ConfigurationError: As `BatchWriter.run`.
            LedgerMismatch: As `BatchWriter.run`.
            SourceError: As `BatchWriter.run`.
            RunCancelled: The task was cancelled; what its `result` counts as written is committed.
        """
        guard = Guard()

        def run_all() -> BatchResult:
            for _ in self._reports(guard, items, map, run_id, replay_map=replay_map):
                pass
            return guard.result()

        return await guard.run(run_all)

    def _reports(
        self,
        guard: Guard,
        items: AsyncIterable[Item] | Iterable[Item],
        map_item: AsyncMapFunction[Item],
        run_id: str | None,
        *,
        replay_map: bool,
    ) -> Iterator[ChunkReport]:
        mapped = as_map(map_item, guard)
        source = _as_iterable(items, guard)
        guard.guarded, left = self._runs.of_items(source, mapped, run_id, replay_map=replay_map, host=guard.host)
        return reports_of(guard.guarded, left, mapped)

    def stream(
        self,
        items: AsyncIterable[Item] | Iterable[Item],
        map: AsyncMapFunction[Item] = add_item,  # noqa: A002
        /,
        *,
        run_id: str | None = None,
        replay_map: bool = False,
    ) -> AsyncItemStream:
        """Write all items, and give one outcome an item in input order, for `async for`; as `BatchWriter.stream`.

        Args:
            items: As for `run`.
            map: As for `run`.
            run_id: As for `run`.
            replay_map: As for `run`.
        """
        guard = Guard()
        return AsyncItemStream(guard, lambda: self._reports(guard, items, map, run_id, replay_map=replay_map))

    @asynccontextmanager
    async def collect(self, *, flush_after: float | None = None) -> AsyncIterator[AsyncBatch]:
        """A batch to feed item by item: `async with writer.collect() as batch`; as `BatchWriter.collect`.

        Args:
            flush_after: As for `BatchWriter.collect`; a task flushes, not a thread, and an item may wait twice as long.

        Raises:
            ConfigurationError: `flush_after` is out of range.
        """
        if flush_after is not None:
            check_seconds("flush_after", flush_after)
            self.check_unlent()
        guard = Guard()
        guard.guarded = await guard.run(self._runs.collected, guard.host)
        batch = Batch(guard.guarded)
        await guard.run(batch.__enter__)
        shown, is_stopped, flushing = AsyncBatch(guard, batch), asyncio.Event(), None
        if flush_after is not None:
            flushing = asyncio.create_task(shown.keep_flushing(flush_after, is_stopped))
        try:
            yield shown
        except BaseException as error:
            is_stopped.set()
            if flushing is not None:
                await asyncio.wait({flushing})
            await guard.run(batch.__exit__, type(error), error, error.__traceback__)
            raise
        is_stopped.set()
        if flushing is not None:
            await flushing
        await guard.run(batch.__exit__, None, None, None)

    async def retry(self, run_id: str, map: AsyncMapFunction[Any], /) -> BatchResult:  # noqa: A002
        """Write the failed items of a run again; as `BatchWriter.retry`.

        Args:
            run_id: The run that they failed in.
            map: As for `run`.
        """
        guard = Guard()

        def run_all() -> BatchResult:
            guard.guarded, letters, map_letter = self._runs.of_letters(run_id, as_map(map, guard), guard.host)
            for _ in reports_of(guard.guarded, letters, map_letter):
                pass
            return guard.result()

        return await guard.run(run_all)

    def _sink_for(self, database: AsyncTarget, options: SinkOptions) -> AnySink:
        if is_transaction(database):
            lender = Lender(database, is_awaited=True)
            return sink_for(lender.engine, options=options, lender=lender)
        if isinstance(database, Repository):
            return RepositorySink(database, options, wait_for=await_only)
        if isinstance(database, AsyncEngine):
            return sink_for(database.sync_engine, options=options)
        if isinstance(database, (str, URL)):
            engine = made_of(database, create_async_engine, _DRIVERS, extra="async").sync_engine
            keep_foreign_keys(engine)
            return sink_for(engine, owns_engine=True, options=options)
        raise ConfigurationError(f"a {type(database).__name__} is no AsyncEngine, database URL or AsyncSession")
