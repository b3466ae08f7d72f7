"""The public face: `BatchWriter`, and the loops that feed a run."""

from __future__ import annotations

import inspect
import time
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar
from uuid import uuid4

import sqlalchemy
from sqlalchemy import Engine, event
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.engine import URL, make_url

from batchwrite.chunk import Chunk, ChunkLimits
from batchwrite.collector import Collector
from batchwrite.engine import Run
from batchwrite.errors import ConfigurationError, RunInterrupted, SourceError
from batchwrite.faults import FlushFailed
from batchwrite.interrupts import deferred_interrupts
from batchwrite.ledger import Bookkeeper
from batchwrite.resume import behind
from batchwrite.retry import RetryPolicy
from batchwrite.settings import FailurePolicy, RunSettings
from batchwrite.sinks.choose import sink_for
from batchwrite.sinks.ledger import MOST_OF_A_RUN_ID, Ledger, SqlLedger
from batchwrite.sinks.options import SinkOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from batchwrite.result import BatchResult, ItemOutcome
    from batchwrite.sinks.options import Classify
    from batchwrite.tally import ChunkReport

# More connections than this keep no database busier.
_MOST_WORKERS = 64

Item_contra = TypeVar("Item_contra", contravariant=True)
Item = TypeVar("Item")


class MapFunction(Protocol[Item_contra]):
    """What turns an item into writes: called once an item, in input order, on one thread."""

    def __call__(self, item: Item_contra, out: Collector, /) -> object:
        """Record the item's writes on `out`; an exception makes the item a failure of stage `map`."""


class BatchWriter:
    """Writes items in bulk, and by themselves where a bulk write fails, and says what became of each.

    Items are mapped to writes one after the other, gathered into chunks, and each chunk is written in one
    transaction. A chunk that fails because of an item in it is written again item by item, in order, each whole or
    not at all. A writer may be used for many runs, one after the other; it is no thread's own, but a run is.

    Args:
        database: A SQLAlchemy `Engine`, or a database URL, for which the writer opens (and `close` disposes of) an
            engine of its own, SQLite with foreign keys enforced.
        chunk_size: Most items of a chunk, at least 1.
        chunk_rows: Most writes of a chunk, at least 1; exceeded only by a single item that is larger.
        chunk_bytes: Most bytes of a chunk, estimated, at least 1; exceeded only by a single item that is larger.
        chunk_seconds: Longest time that an item waits for its chunk to fill, looked at when items are collected;
            `None` for no such bound.
        on_failure: `"continue"` writes on after an item that fails, `"stop"` ends the run at the first.
        max_failures: Number of failed items that a run survives; one more ends it. Everything before that item is
            committed, nothing after it. `None` for no bound.
        max_failure_ratio: Share of failed items, from 0 to 1, that a run survives; looked at after each chunk.
        keep_failures: Most failures that a result holds; the counts are exact past that.
        retry: When to replay a chunk that the weather has undone.
        ledger: Records each chunk in the chunk's own transaction; its tables must be there (see `Ledger.create`).
            With it a COMMIT without an answer is looked up, and a run can be started again by its `run_id`.
        chunk_timeout: Longest time, in seconds, that one attempt to write a chunk may take, COMMIT included; then its
            connection is shut down, which is a lost one like any other. `None` for no such bound. For databases that
            are reached through a socket.
        classify: Called first with each exception of the driver; says by a `FaultKind` (or a whole `Fault`) what it
            means, or by `None` that the library is to say so.
        workers: Most chunks on their way, each on a connection of its own, while the next is collected. Chunks are
            committed in their order, and writes whose order matters keep it: a chunk that does more than insert
            waits for those before it. 0 writes each chunk before anything more is read or mapped, so that a map
            function finds all rows of the chunks before in the database. Only PostgreSQL through psycopg has chunks
            on their way; with other databases this makes no difference.

    Raises:
        ConfigurationError: An argument is out of range, or the URL cannot be used.
    """

    def __init__(
        self,
        database: Engine | URL | str,
        *,
        chunk_size: int = 5_000,
        chunk_rows: int = 20_000,
        chunk_bytes: int = 16 * 1024 * 1024,
        chunk_seconds: float | None = 5.0,
        on_failure: Literal["continue", "stop"] = "continue",
        max_failures: int | None = None,
        max_failure_ratio: float | None = None,
        keep_failures: int = 1_000,
        retry: RetryPolicy | None = None,
        workers: int = 1,
        ledger: Ledger | None = None,
        chunk_timeout: float | None = None,
        classify: Classify | None = None,
    ) -> None:
        if on_failure not in {"continue", "stop"}:
            raise ConfigurationError('on_failure must be "continue" or "stop"')
        if on_failure == "stop":
            if max_failures:
                raise ConfigurationError('on_failure="stop" ends a run at the first failure: leave max_failures out')
            max_failures = 0
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise ConfigurationError(f"retry must be a RetryPolicy, not a {type(retry).__name__}")
        if isinstance(workers, bool) or not isinstance(workers, int) or not 0 <= workers <= _MOST_WORKERS:
            raise ConfigurationError(f"workers must be a whole number from 0 to {_MOST_WORKERS}")
        if ledger is not None and not isinstance(ledger, Ledger):
            raise ConfigurationError(f"ledger must be a Ledger, not a {type(ledger).__name__}")
        if keep_failures < 0:
            raise ConfigurationError("keep_failures must be at least 0")
        self._settings = RunSettings(
            limits=ChunkLimits(items=chunk_size, rows=chunk_rows, bytes=chunk_bytes, seconds=chunk_seconds),
            policy=FailurePolicy(most=max_failures, ratio=max_failure_ratio),
            retry=retry or RetryPolicy(),
            keep_failures=keep_failures,
            workers=workers,
        )
        options = SinkOptions(chunk_timeout=chunk_timeout, classify=classify)
        if isinstance(database, Engine):
            self._sink = sink_for(database, options=options)
        elif isinstance(database, (str, URL)):
            self._sink = sink_for(create_engine_for(database), owns_engine=True, options=options)
        else:
            raise ConfigurationError(f"a {type(database).__name__} is neither an Engine nor a database URL")
        self._ledger = ledger
        self._has_ledger = False  # whether its tables are known to be there

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Dispose of the engine that the writer has opened; an engine that it was given stays as it is."""
        self._sink.close()

    def run(
        self,
        items: Iterable[Item],
        map: MapFunction[Item],  # noqa: A002
        /,
        *,
        run_id: str | None = None,
        replay_map: bool = False,
    ) -> BatchResult:
        """Write all items and say what became of them.

        Args:
            items: The input; read once, item by item, no further ahead than a chunk beside those on their way.
            map: Called with each item and the collector to record its writes on.
            run_id: Names the run in the ledger, at most 200 characters. A run that is started again under its name,
                with the same input, goes on behind the last chunk that it has committed: the input is read forward
                to there, or asked to seek where it is a `SeekableSource`. Default a name of its own.
            replay_map: Call `map` also for the items that are passed over, and throw away what it records: for map
                functions that learn from earlier items.

        Returns:
            The result. A run that had to stop (`BatchResult.abort`) returns too, with what it had not written
            counted as unattempted.

        Raises:
            ConfigurationError: There is no ledger for a `run_id`, or its tables are not there.
            LedgerMismatch: The run was started before with another input.
            SourceError: Reading `items` raised; what its `result` counts as written is committed.
            RunInterrupted: Ctrl-C; likewise.
        """
        run, left = self._started(items, map, run_id, replay_map=replay_map)
        for _ in _reports(run, left, map):
            pass
        return run.result()

    def stream(
        self,
        items: Iterable[Item],
        map: MapFunction[Item],  # noqa: A002
        /,
        *,
        run_id: str | None = None,
        replay_map: bool = False,
    ) -> ItemStream:
        """Write all items, and give one outcome an item in input order, as soon as it is decided.

        Memory depends on the chunk, not on the input. Nothing is read or written but while the stream is iterated
        over.

        Args:
            items: The input; read once.
            map: Called with each item and the collector to record its writes on.
            run_id: As for `run`; there is no outcome for items that earlier starts have decided.
            replay_map: As for `run`.

        Raises:
            ConfigurationError: As `run`.
            LedgerMismatch: As `run`.
        """
        run, left = self._started(items, map, run_id, replay_map=replay_map)
        reports = _reports(run, left, map)
        return ItemStream(run, (outcome for report in reports for outcome in report.outcomes()))

    def collect(self) -> Batch:
        """A batch to feed item by item, for code that has no map function.

        Use it as a context manager: leaving the block flushes the rest, unless by an exception.
        """
        return Batch(self._new_run())

    def _new_run(self, bookkeeper: Bookkeeper | None = None, resumed: int = 0) -> Run:
        return Run(self._sink, self._settings, time.monotonic, bookkeeper or self._bookkeeper(None), resumed)

    def _started(
        self, items: Iterable[Item], map_item: MapFunction[Item], run_id: str | None, *, replay_map: bool
    ) -> tuple[Run, Iterator[Item]]:
        """A run, and what is left to it of the input."""
        _check_map(map_item)
        bookkeeper = self._bookkeeper(run_id)
        if bookkeeper is None or run_id is None:
            return self._new_run(bookkeeper), iter(items)
        try:
            entries = self._settings.retry.run(lambda: list(bookkeeper.entries()))
        except FlushFailed as error:
            run = self._new_run(bookkeeper)
            run.stop(str(error.fault.kind), error.fault.message, error.fault.error_type)
            return run, iter(())
        replay = _replaying(Collector(self._sink), map_item) if replay_map else None
        left, resumed = behind(entries, items, replay)
        return self._new_run(bookkeeper, resumed), left

    def _bookkeeper(self, run_id: str | None) -> Bookkeeper | None:
        if self._ledger is None:
            if run_id is not None:
                raise ConfigurationError("a run_id needs a ledger: BatchWriter(…, ledger=Ledger())")
            return None
        if run_id is not None and not (isinstance(run_id, str) and 0 < len(run_id) <= MOST_OF_A_RUN_ID):
            raise ConfigurationError(f"a run_id is a text of 1 to {MOST_OF_A_RUN_ID} characters")
        if not self._has_ledger:
            self._sink.require(self._ledger)
            self._has_ledger = True
        return Bookkeeper(SqlLedger(self._ledger, self._sink.read), run_id or uuid4().hex)


class ItemStream:
    """The outcomes of a run, in input order; what `BatchWriter.stream` returns.

    Iterating raises what `BatchWriter.run` raises, but only after the outcomes of all items received.
    """

    def __init__(self, run: Run, outcomes: Iterator[ItemOutcome]) -> None:
        self._run = run
        self._outcomes = outcomes

    def __iter__(self) -> Iterator[ItemOutcome]:
        # Not `self`: between a generator and a for loop no Ctrl-C can lose an outcome, in a method here it could.
        return self._outcomes

    def __next__(self) -> ItemOutcome:
        return next(self._outcomes)

    @property
    def result(self) -> BatchResult:
        """The result so far; complete when the stream has ended. Waits for what is on its way."""
        with deferred_interrupts():
            self._run.settle()
        return self._run.result()

    def stop(self) -> None:
        """Take no more input and flush nothing more; iterating on yields what is left, the rest as unattempted."""
        self._run.stop("caller", "the caller stopped the run")


class Batch:
    """A run fed item by item; what `BatchWriter.collect` returns.

    Attributes:
        result: The result so far; complete when the block has ended.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._is_in_item = False
        self._is_open = False
        self._has_ended = False

    @property
    def result(self) -> BatchResult:
        """The result so far; complete when the block has ended. Waits for what is on its way."""
        with deferred_interrupts():
            self._run.settle()
        return self._run.result()

    def __enter__(self) -> Self:
        if self._is_open or self._has_ended:
            raise ConfigurationError("a batch is opened once: collect() again for another")
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self._has_ended = True
        try:
            if kind is None:
                self._flush(self._run.rest())
            else:
                self._stop(kind)
        finally:
            with deferred_interrupts():
                self._run.settle()
            self._run.end()

    @contextmanager
    def item(self, item: Any = None) -> Iterator[Collector]:
        """Record the writes of one item in a block.

        An exception in the block makes the item a failure of stage `map`, and goes no further.

        Args:
            item: What to call the item by in failures.

        Raises:
            BatchFailed: The run has stopped, by its limits or by the database's loss; its `result` says why.
            ConfigurationError: There is no batch open, or the block of another item is.
        """
        if not self._is_open or self._is_in_item:
            raise ConfigurationError("item() belongs in the block of a batch, and not in that of another item")
        if self._run.abort is not None:
            self._run.result().raise_for_failures()
        error = None
        self._is_in_item = True
        self._run.receive()
        try:
            yield self._run.collector
        except Exception as raised:  # noqa: BLE001 - it is the item's failure
            error = raised
        except BaseException as raised:
            self._run.collector.take()
            self._stop(type(raised))
            raise
        finally:
            self._is_in_item = False
        self._flush(self._run.collect(item, error))

    def _stop(self, kind: type[BaseException]) -> None:
        if issubclass(kind, KeyboardInterrupt):
            self._run.stop("interrupted", "the run was interrupted")
        else:
            self._run.stop("caller", f"{kind.__name__} was raised in the block")

    def _flush(self, chunks: list[Chunk]) -> None:
        try:
            with deferred_interrupts():
                for chunk in chunks:
                    if self._run.abort is None:
                        self._run.flush(chunk)
                if not chunks and self._run.is_busy:
                    self._run.advance()
        except BaseException as raised:
            self._stop(type(raised))
            raise
        for _ in self._run.take_reports():
            pass


def create_engine_for(url: URL | str) -> Engine:
    """An engine for a database URL: psycopg for PostgreSQL, foreign keys enforced on SQLite, no values in errors.

    Raises:
        ConfigurationError: The URL is malformed, or its driver is not installed. The text holds no password.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgres", "postgresql"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        if "@" in (parsed.host or ""):
            raise ValueError  # what stands before it is the rest of a password, and would be told as part of the host
        engine = sqlalchemy.create_engine(parsed, hide_parameters=True)
    except (ImportError, sqlalchemy_errors.NoSuchModuleError):
        hint = "; install batchwrite[binary]" if parsed.get_backend_name() == "postgresql" else ""
        raise ConfigurationError(f"no driver for {parsed.drivername} can be loaded{hint}") from None
    except (sqlalchemy_errors.ArgumentError, ValueError, TypeError, AttributeError):
        # The parser's own text may quote the URL, and with it the password.
        form = "dialect://user:password@host:port/database, with @, : and / of a password written %40, %3A and %2F"
        raise ConfigurationError(f"this is no database URL of the form {form}") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _enforce_foreign_keys)
    return engine


def _enforce_foreign_keys(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys=ON")


# Looking after the chunks on their way takes some 10 us: nothing among so many items, and soon enough for the database.
_ITEMS_BETWEEN_PAUSES = 250


class _SourceStopped(Exception):
    """Reading the input raised."""


_NOT_AT_ONCE = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def _replaying(collector: Collector, map_item: MapFunction[Item]) -> Callable[[Item], None]:
    def replay(item: Item) -> None:
        with suppress(Exception):  # it was the item's failure, and is recorded
            collector.record(item, map_item)

    return replay


def _check_map(map_item: object) -> None:
    if not callable(map_item):
        raise ConfigurationError("map must be a function of an item and a collector")
    called = map_item if inspect.isroutine(map_item) else type(map_item).__call__
    if any(is_later(called) for is_later in _NOT_AT_ONCE):
        raise ConfigurationError("map must be a plain function: calling this one only makes a coroutine or a generator")


def _reports(run: Run, items: Iterator[Item], map_item: MapFunction[Item]) -> Iterator[ChunkReport]:
    """Feed a run and give its reports; raise what stopped it after the last of them."""
    stopped: BaseException | None = None
    try:
        for chunk in _chunks(run, items, map_item):
            with deferred_interrupts():
                if chunk is None:
                    run.advance()
                else:
                    run.flush(chunk)
            yield from run.take_reports()
    except KeyboardInterrupt as error:
        run.stop("interrupted", "the run was interrupted")
        stopped = error
    except _SourceStopped as error:
        cause = error.__cause__
        run.stop("source", f"reading the input raised {type(cause).__name__}", type(cause).__name__)
        stopped = cause
    except BaseException as error:
        run.stop("caller", f"{type(error).__name__} ended the run")
        _settle(run)
        run.end()
        raise
    stopped = _settle(run, stopped) or stopped
    run.end()
    yield from run.take_reports()
    if isinstance(stopped, KeyboardInterrupt):
        raise RunInterrupted(_summary(run), result=run.result()) from stopped
    if stopped is not None:
        text = f"reading the input raised {type(stopped).__name__}; {_summary(run)}"
        raise SourceError(text, result=run.result()) from stopped


def _settle(run: Run, interrupt: BaseException | None = None) -> KeyboardInterrupt | None:
    """Bring to its end what is on its way; the last Ctrl-C that came, if one did.

    Args:
        run: The run.
        interrupt: The Ctrl-C that has come before, if so: the next is a second one, and not held back.
    """
    interrupt = interrupt if isinstance(interrupt, KeyboardInterrupt) else None
    while run.is_busy:
        try:
            with deferred_interrupts() if interrupt is None else nullcontext():
                run.settle()
        except KeyboardInterrupt as error:
            run.stop("interrupted", "the run was interrupted")
            interrupt = error
    return interrupt


def _chunks(run: Run, items: Iterator[Item], map_item: MapFunction[Item]) -> Iterator[Chunk | None]:
    """Read and map items; the chunks to be flushed, each before more is read, and now and then a pause."""
    take_in = run.take_in
    until_pause = _ITEMS_BETWEEN_PAUSES
    while run.abort is None:
        while until_pause:
            until_pause -= 1
            try:
                item = next(items)
            except StopIteration:
                yield from run.rest()
                return
            except Exception as error:
                raise _SourceStopped from error
            chunks = take_in(item, map_item)
            if chunks:
                break
        else:
            until_pause = _ITEMS_BETWEEN_PAUSES
            if run.wants_attention:
                yield None
            continue
        for chunk in chunks:
            if run.abort is None:
                yield chunk


def _summary(run: Run) -> str:
    result = run.result()
    return f"{result.written} items written, {result.failed} failed, {result.unattempted} not attempted"
