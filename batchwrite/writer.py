"""The public face: `BatchWriter`."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

from sqlalchemy import Engine
from sqlalchemy.engine import URL

from batchwrite.batch import Batch, ItemStream
from batchwrite.bookkeeping import Books, IdempotencyKey
from batchwrite.chunk import ChunkLimits
from batchwrite.collector import Collector
from batchwrite.database import create_engine_for
from batchwrite.engine import Run
from batchwrite.errors import BatchWriteError, ConfigurationError, ItemRefused, SourceError
from batchwrite.faults import FlushFailed
from batchwrite.feeding import check_items, check_map, reports_of
from batchwrite.resume import behind
from batchwrite.retry import RetryPolicy
from batchwrite.settings import FailurePolicy, RunSettings
from batchwrite.sinks.choose import sink_for
from batchwrite.sinks.options import SinkOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from batchwrite.feeding import MapFunction
    from batchwrite.ledger import Bookkeeper
    from batchwrite.letters import DeadLetters, ReadLetter
    from batchwrite.result import BatchResult
    from batchwrite.sinks.ledger import Ledger
    from batchwrite.sinks.options import Classify

Item = TypeVar("Item")


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
        dead_letters: Where failed items are kept to be looked at and written again by `retry`: `DeadLetters` in a
            table of the ledger, `DeadLetterFile` in a file.
        key: A function that gives an item's idempotency key, or an `IdempotencyKey` with a scope and a retention. An
            item whose key has landed before, in this run or another, is skipped with the reason `duplicate`; needs a
            ledger. Costs a look-up a chunk, of one round trip for each 500 keys.
        defer_foreign_keys: Whether an item that refers to a row which is not there is put off, and tried once more
            after the last chunk: for inputs in which children may come before their parents. At most 10,000 items are
            put off; they are written in their order, behind all others, and so do their outcomes come.
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
        dead_letters: DeadLetters | None = None,
        key: IdempotencyKey | Callable[[Any], object] | None = None,
        defer_foreign_keys: bool = False,
        chunk_timeout: float | None = None,
        classify: Classify | None = None,
    ) -> None:
        if on_failure not in ("continue", "stop"):
            raise ConfigurationError('on_failure must be "continue" or "stop"')
        if on_failure == "stop":
            if max_failures:
                raise ConfigurationError('on_failure="stop" ends a run at the first failure: leave max_failures out')
            max_failures = 0
        identity = IdempotencyKey(of=key) if key is not None and not isinstance(key, IdempotencyKey) else key
        self._settings = RunSettings(
            limits=ChunkLimits(items=chunk_size, rows=chunk_rows, bytes=chunk_bytes, seconds=chunk_seconds),
            policy=FailurePolicy(most=max_failures, ratio=max_failure_ratio),
            retry=RetryPolicy() if retry is None else retry,
            keep_failures=keep_failures,
            workers=workers,
            defer_foreign_keys=defer_foreign_keys,
            key=identity.of if identity else None,
        )
        if not isinstance(defer_foreign_keys, bool):
            raise ConfigurationError("defer_foreign_keys must be True or False")
        options = SinkOptions(chunk_timeout=chunk_timeout, classify=classify)
        if isinstance(database, Engine):
            self._sink = sink_for(database, options=options)
        elif isinstance(database, (str, URL)):
            self._sink = sink_for(create_engine_for(database), owns_engine=True, options=options)
        else:
            raise ConfigurationError(f"a {type(database).__name__} is neither an Engine nor a database URL")
        self._books = Books(self._sink, ledger, dead_letters, identity, self._settings.retry)

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
        for _ in reports_of(run, left, map):
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
        reports = reports_of(run, left, map)
        return ItemStream(run, (outcome for report in reports for outcome in report.outcomes()))

    def collect(self) -> Batch:
        """A batch to feed item by item, for code that has no map function.

        Use it as a context manager: leaving the block flushes the rest, unless by an exception.
        """
        try:
            return Batch(self._new_run(self._bookkeeper(None)))
        except FlushFailed as error:
            return Batch(self._stopped_run(error))

    def retry(self, run_id: str, map: MapFunction[Item], /) -> BatchResult:  # noqa: A002
        """Write the failed items of a run again; those that land leave the dead letters.

        Args:
            run_id: The run that they failed in.
            map: Called with each item, as its letter gives it back, and the collector to record its writes on.

        Returns:
            The result. Its failures' items are `ReadLetter` objects, and its indexes count the letters.

        Raises:
            ConfigurationError: The writer keeps no dead letters.
            SourceError: A letter cannot be read; what its `result` counts as written is committed.
            RunInterrupted: Ctrl-C; likewise.
        """
        check_map(map)
        letters, table = self._books.letters(run_id), self._books.letters_table
        read = self._books.dead_letters.read if self._books.dead_letters else None

        def map_letter(each: ReadLetter, out: Collector) -> None:
            if each.problem is not None:
                raise ItemRefused(each.problem)
            map(each.item, out)
            if table is not None:
                letter = each.letter
                key = {"run_id": letter.run_id, "item_index": letter.item_index, "attempt": letter.attempt}
                out.update(table, key, landed_at=datetime.now(UTC))

        try:
            run = self._new_run(self._bookkeeper(None), of_letters=True)
        except FlushFailed as error:
            run = self._stopped_run(error)
        for _ in reports_of(run, (read(letter) for letter in letters if read), map_letter):
            pass
        return run.result()

    def _new_run(self, bookkeeper: Bookkeeper | None, resumed: int = 0, *, of_letters: bool = False) -> Run:
        settings, key = self._settings, self._settings.key
        if of_letters and key is not None:
            settings = replace(settings, key=lambda letter: key(letter.item) if letter.problem is None else None)
        listener = self._books.listener(bookkeeper.run_id if bookkeeper else uuid4().hex)
        return Run(self._sink, settings, time.monotonic, bookkeeper, resumed, listener)

    def _stopped_run(self, error: FlushFailed) -> Run:
        """A run that writes nothing, because its books cannot be opened."""
        run = self._new_run(None)
        run.stop(str(error.fault.kind), error.fault.message, error.fault.error_type, error.fault.sqlstate)
        return run

    def _bookkeeper(self, run_id: str | None) -> Bookkeeper | None:
        return self._settings.retry.run(lambda: self._books.bookkeeper(run_id))

    def _started(
        self, items: Iterable[Item], map_item: MapFunction[Item], run_id: str | None, *, replay_map: bool
    ) -> tuple[Run, Iterator[Item]]:
        """A run, and what is left to it of the input."""
        check_map(map_item)
        check_items(items)
        try:
            bookkeeper = self._bookkeeper(run_id)
            if bookkeeper is None or run_id is None:
                return self._new_run(bookkeeper), iter(items)
            entries = self._settings.retry.run(lambda: list(bookkeeper.entries()))
            parked_done = self._settings.retry.run(bookkeeper.parked_done)
        except FlushFailed as error:
            return self._stopped_run(error), iter(())
        replay = _replaying(Collector(self._sink), map_item) if replay_map else None
        try:
            rest = behind(entries, items, replay, self._books.mender(run_id))
        except BatchWriteError:
            raise
        except Exception as error:
            text = f"reading the input forward raised {type(error).__name__}; nothing was written"
            raise SourceError(text, result=self._new_run(bookkeeper).result()) from error
        run = self._new_run(bookkeeper, rest.done)
        for index, item in rest.parked[parked_done:]:
            run.park(index, item, map_item)
        return run, rest.items


def _replaying(collector: Collector, map_item: MapFunction[Item]) -> Callable[[Item], None]:
    def replay(item: Item) -> None:
        with suppress(Exception):  # it was the item's failure, and is recorded
            collector.record(item, map_item)

    return replay
