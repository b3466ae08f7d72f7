"""Every public call, as a typed program makes it: checked by mypy --strict and by pyright, never run."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_type

from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import batchwrite
from batchwrite import (
    Abort,
    Batch,
    BatchFailed,
    BatchResult,
    BatchWriteError,
    BatchWriter,
    ChunkDetails,
    Coalescer,
    CoalescerClosed,
    Collector,
    ConfigurationError,
    DeadLetterFile,
    DeadLetters,
    EarlierStarts,
    FailureDetails,
    FailureReason,
    FallbackDetails,
    Fault,
    FaultKind,
    IdempotencyKey,
    ItemFailure,
    ItemOutcome,
    ItemRefused,
    ItemStream,
    Ledger,
    LedgerMismatch,
    Letter,
    Listener,
    LoggingListener,
    OutcomeStatus,
    PartialFailure,
    QueueFull,
    ReadLetter,
    Repository,
    RetryDetails,
    RetryPolicy,
    RunInterrupted,
    SeekableSource,
    SlowPathDetails,
    SourceError,
    Stage,
    Status,
    SubmittedItem,
    WriterStats,
    batched,
)
from batchwrite.aio import (
    AsyncBatch,
    AsyncBatchWriter,
    AsyncCoalescer,
    AsyncItemStream,
    RunCancelled,
)
from batchwrite.integrations.otel import OpenTelemetryListener
from batchwrite.integrations.progress import RichProgressListener

ORDERS = Table("orders", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))


class Order:
    """An item."""

    number: int = 1


class Following(Listener):
    """A listener of one's own."""

    def on_chunk(self, chunk: ChunkDetails, /) -> None:
        assert_type(chunk.written, int)
        assert_type(chunk.tables, tuple[str, ...])

    def on_failure(self, failure: FailureDetails, /) -> None:
        assert_type(failure.failure, ItemFailure)

    def on_retry(self, retry: RetryDetails, /) -> None:
        assert_type(retry.wait, float)

    def on_fallback(self, fallback: FallbackDetails, /) -> None:
        assert_type(fallback.table, str | None)

    def on_slow_path(self, slow_path: SlowPathDetails, /) -> None:
        assert_type(slow_path.reason, str)


class Source:
    """An input that can seek."""

    def __iter__(self) -> Iterator[Order]:
        yield Order()

    def from_item(self, index: int, /) -> Iterator[Order]:
        yield Order()


def record(order: Order, out: Collector) -> None:
    """What a map function does."""
    out.insert(ORDERS, {"id": order.number})
    out.upsert(ORDERS, {"id": order.number, "n": 1}, key="id", set=("n",))
    out.update(ORDERS, {"id": 1}, n=2)
    out.update(ORDERS, {"id": 1}, {"n": 2})
    out.increment(ORDERS, {"id": 1}, n=1)
    out.delete(ORDERS, {"id": 2}, missing_ok=True)
    out.add(order)
    out.skip("not today")
    raise ItemRefused("no", table="orders", column="n", constraint=None)


async def record_later(order: Order, out: Collector) -> None:
    """What an awaited map function does."""
    await asyncio.sleep(0)
    record(order, out)


def classify(error: BaseException) -> Fault | FaultKind | None:
    """The user's word on an exception."""
    return FaultKind.TRANSIENT if isinstance(error, TimeoutError) else None


def look_at(result: BatchResult) -> None:
    """What a result gives."""
    assert_type(result.status, Status)
    assert_type(result.failures, tuple[ItemFailure, ...])
    assert_type(result.failure_counts, Mapping[FailureReason, int])
    assert_type(result.abort, Abort | None)
    assert_type(result.earlier, EarlierStarts)
    assert_type(result.earlier.failures, tuple[ItemFailure, ...])
    assert_type(result.to_dict(values=True), dict[str, Any])
    for failure in result.failures:
        assert_type(failure.stage, Stage)
        assert_type(failure.sqlstate, str | None)
        assert_type(failure.reason, FailureReason)
    result.raise_for_failures()


def write_all(engine: Engine) -> None:
    """A writer with all its options, and what it gives."""
    ledger = Ledger(schema=None)
    ledger.create(engine)
    writer = BatchWriter(
        engine,
        chunk_size=1_000,
        chunk_rows=20_000,
        chunk_bytes=1 << 20,
        chunk_seconds=None,
        on_failure="continue",
        max_failures=None,
        max_failure_ratio=0.5,
        keep_failures=10,
        retry=RetryPolicy(attempts=3, first_wait=0.1, longest_wait=1.0, total_seconds=60),
        workers=2,
        ledger=ledger,
        dead_letters=DeadLetters(),
        key=IdempotencyKey(of=lambda order: order.number, scope="orders", retention=timedelta(days=7)),
        defer_foreign_keys=False,
        chunk_timeout=30.0,
        classify=classify,
        listeners=[Following(), LoggingListener(logging.getLogger("orders"), chunk_level=logging.DEBUG)],
    )
    with writer:
        look_at(writer.run([Order()], record, run_id="today", replay_map=True))
        look_at(writer.run(Source(), record))
        look_at(writer.run([Order()]))
        look_at(writer.retry("today", record))
        stream = writer.stream([Order()], record)
        assert_type(stream, ItemStream)
        for outcome in stream:
            assert_type(outcome, ItemOutcome)
            assert_type(outcome.status, OutcomeStatus)
        stream.stop()
        look_at(stream.result)
        assert_type(writer.stats(), WriterStats)
        with writer.collect(flush_after=1.0) as batch:
            assert_type(batch, Batch)
            with batch.item(Order()) as out:
                assert_type(out, Collector)
            look_at(batch.flush())
        look_at(batch.result)


def share(engine: Engine) -> None:
    """A coalescer of threads."""
    with Coalescer(BatchWriter(engine), record, max_delay=0.01, max_queue=100, when_full="raise") as coalescer:
        coalescer.close_on_signal(signal.SIGTERM, timeout=10)
        submitted = coalescer.submit(Order(), timeout=1.0)
        assert_type(submitted, SubmittedItem)
        plain: Future[ItemOutcome] = submitted
        assert_type(plain.result(), ItemOutcome)
        assert_type(coalescer.stats().lag, float)
        assert_type(coalescer.close(timeout=None), int)


class Orders:
    """A repository."""

    def create(self, order: Order) -> None:
        """Write one."""

    @batched("create", atomic=True, chunk_size=100)
    def create_all(self, orders: Sequence[Order]) -> None:
        """Write many."""
        raise PartialFailure({0: "no", 1: ValueError()}, unattempted=[2])

    async def create_later(self, order: Order) -> None:
        """Write one."""

    @batched("create_later", atomic=True)
    async def create_all_later(self, orders: Sequence[Order]) -> None:
        """Write many."""


async def wrap(orders: Orders) -> None:
    """Repositories."""
    assert_type(orders.create_all([Order()]), BatchResult)
    assert_type(await orders.create_all_later([Order()]), BatchResult)
    writer = BatchWriter.for_repository(
        insert_many=lambda entities: None,
        insert_one=orders.create,
        atomic=False,
        idempotent=True,
        failures_of=lambda entities, answer: {0: "no"},
        chunk_size=10,
    )
    assert_type(writer, BatchWriter)
    look_at(writer.run([Order()]))
    look_at(BatchWriter(Repository(insert_many=print, insert_one=orders.create)).run([Order()]))
    awaited = AsyncBatchWriter.for_repository(insert_many=orders.create_all_later, insert_one=orders.create_later)
    assert_type(awaited, AsyncBatchWriter)
    look_at(await awaited.run([Order()]))


def in_a_session(session: Session) -> None:
    """The caller's own transaction."""
    writer = BatchWriter.in_session(session, chunk_size=100)
    assert_type(writer, BatchWriter)
    look_at(writer.run([Order()], record))
    look_at(BatchWriter.in_session(session.connection()).run([Order()], record))


async def one_by_one() -> AsyncIterator[Order]:
    """An input to be awaited."""
    yield Order()


async def under_asyncio(session: AsyncSession) -> None:
    """A writer for asyncio, and a coalescer of tasks."""
    async with AsyncBatchWriter(create_async_engine("sqlite+aiosqlite://"), chunk_size=10) as writer:
        look_at(await writer.run(one_by_one(), record_later, run_id=None))
        look_at(await writer.run([Order()], record))
        look_at(await writer.retry("today", record))
        stream = writer.stream(one_by_one(), record)
        assert_type(stream, AsyncItemStream)
        async for outcome in stream:
            assert_type(outcome, ItemOutcome)
        await stream.aclose()
        async with writer.collect(flush_after=0.5) as batch:
            assert_type(batch, AsyncBatch)
            async with batch.item(Order()) as out:
                record(Order(), out)
            look_at(await batch.flush())
        async with AsyncCoalescer(writer, record_later, max_queue=10, when_full="wait") as coalescer:
            coalescer.close_on_signal()
            assert_type(await coalescer.submit(Order(), timeout=1), ItemOutcome)
            assert_type(coalescer.stats(), WriterStats)
            assert_type(await coalescer.close(), int)
    look_at(await AsyncBatchWriter.in_session(session).run([Order()], record))
    await asyncio.wrap_future(Coalescer(BatchWriter("sqlite://"), record).submit(Order()))


def keep_letters(engine: Engine, path: Path) -> None:
    """Dead letters in a file."""
    letters = DeadLetterFile(path)
    BatchWriter(engine, dead_letters=letters).run([Order()], record)
    for letter in letters.letters("today"):
        assert_type(letter, Letter)
        assert_type(letters.read(letter), ReadLetter)


def handle() -> None:
    """Exceptions."""
    try:
        write_all(create_engine("sqlite://"))
    except BatchFailed as error:
        look_at(error.result)
    except SourceError as error:
        look_at(error.result)
    except RunInterrupted as error:
        look_at(error.result)
    except (ConfigurationError, LedgerMismatch, QueueFull, CoalescerClosed):
        raise
    except BatchWriteError:
        raise
    except RunCancelled as error:
        look_at(error.result)


def follow() -> None:
    """Listeners of the integrations."""
    with RichProgressListener("orders", total=100) as progress:
        BatchWriter("sqlite://", listeners=[OpenTelemetryListener(database="sqlite"), progress])


def version() -> str:
    """Which it is."""
    source: SeekableSource[Order] = Source()
    assert list(source.from_item(3))
    return batchwrite.__version__
