"""The public face: `BatchWriter`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, scoped_session

from batchwrite.arguments import check_seconds
from batchwrite.batch import Batch, ItemStream
from batchwrite.database import create_engine_for
from batchwrite.errors import ConfigurationError
from batchwrite.feeding import add_item, reports_of
from batchwrite.sinks.choose import sink_for
from batchwrite.sinks.lent import Lender, check_transaction, is_transaction
from batchwrite.sinks.repository import Repository, RepositorySink
from batchwrite.writer_base import WriterBase

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from batchwrite.feeding import MapFunction
    from batchwrite.result import BatchResult
    from batchwrite.sinks.choose import AnySink
    from batchwrite.sinks.options import SinkOptions

Item = TypeVar("Item")


Target = Engine | URL | str | Repository | Session | scoped_session[Any] | Connection


class BatchWriter(WriterBase[Target]):
    """Writes items in bulk, and by themselves where a bulk write fails, and says what became of each.

    Items are mapped to writes one after the other, gathered into chunks, and each chunk is written in one
    transaction. A chunk that fails because of an item in it is written again item by item, in order, each whole or
    not at all. A writer may be used for many runs, one after the other; it is no thread's own, but a run is.

    Args:
        database: A SQLAlchemy `Engine`, or a database URL, for which the writer opens (and `close` disposes of) an
            engine of its own, SQLite with foreign keys enforced; or a `Repository` (see `for_repository`), or a session
            or a connection (see `in_session`).
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
        listeners: Told of chunks, failures, retries, fallbacks and slow paths; see `Listener`.
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

    @classmethod
    def in_session(cls, session: Session | scoped_session[Any] | Connection, **options: Any) -> Self:
        """A writer in a transaction of one's own, that of a session or a connection.

        Each chunk is written under a savepoint; nothing is ever committed. `written` means: in the transaction, and
        gone with it when it is rolled back. What the session holds itself is flushed before each chunk (unless its
        `autoflush` is off), and what it has loaded is not refreshed. Constraints that are deferred wait for its
        commit. Where the weather has undone the transaction the run stops (see `BatchResult.abort`), and nothing can
        be done but to roll back.

        Args:
            session: The session, or the connection; used in the thread that calls the writer.
            options: As for `BatchWriter`, but for what needs a transaction of the chunk's own: `retry`, `ledger`
                (and with it `key` and `DeadLetters`) and `chunk_timeout`.

        Raises:
            ConfigurationError: As `BatchWriter`; or the session is bound to several engines.
        """
        check_transaction(session)
        return cls(session, **options)

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
        map: MapFunction[Item] = add_item,  # noqa: A002
        /,
        *,
        run_id: str | None = None,
        replay_map: bool = False,
    ) -> BatchResult:
        """Write all items and say what became of them.

        Args:
            items: The input; read once, item by item, no further ahead than a chunk beside those on their way. A
                generator that its `iter()` makes for the run is closed when the run ends, however it ends; one that is
                itself given as the input stays its maker's, as in a `for`.
            map: Called with each item and the collector to record its writes on; default `Collector.add`, for items
                that are ORM instances, or a repository's entities.
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
        run, left = self._runs.of_items(items, map, run_id, replay_map=replay_map)
        for _ in reports_of(run, left, map):
            pass
        return run.result()

    def stream(
        self,
        items: Iterable[Item],
        map: MapFunction[Item] = add_item,  # noqa: A002
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
            map: As for `run`.
            run_id: As for `run`; there is no outcome for items that earlier starts have decided.
            replay_map: As for `run`.

        Raises:
            ConfigurationError: As `run`.
            LedgerMismatch: As `run`.
        """
        run, left = self._runs.of_items(items, map, run_id, replay_map=replay_map)
        reports = reports_of(run, left, map)
        return ItemStream(run, (outcome for report in reports for outcome in report.outcomes()))

    def collect(self, *, flush_after: float | None = None) -> Batch:
        """A batch to feed item by item, for code that has no map function.

        Use it as a context manager: leaving the block flushes the rest, unless by an exception.

        Args:
            flush_after: For batches that stay open: a thread flushes what has been collected as soon as the first of
                it has waited so long, in seconds above 0, whether or not more comes. `None` for no such thread: then
                items wait for others, or for `flush`.

        Raises:
            ConfigurationError: `flush_after` is out of range, or another thread cannot write to the database.
        """
        if flush_after is not None:
            check_seconds("flush_after", flush_after)
            self.check_writable_by_thread()
        return Batch(self._runs.collected(), flush_after)

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
        run, letters, map_letter = self._runs.of_letters(run_id, map)
        for _ in reports_of(run, letters, map_letter):
            pass
        return run.result()

    def _sink_for(self, database: Target, options: SinkOptions) -> AnySink:
        if is_transaction(database):
            lender = Lender(database, is_awaited=False)
            return sink_for(lender.engine, options=options, lender=lender)
        if isinstance(database, Repository):
            return RepositorySink(database, options)
        if isinstance(database, Engine):
            return sink_for(database, options=options)
        if isinstance(database, (str, URL)):
            return sink_for(create_engine_for(database), owns_engine=True, options=options)
        raise ConfigurationError(f"a {type(database).__name__} is neither an Engine nor a database URL")
