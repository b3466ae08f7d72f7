"""How the runs of a writer begin: their books opened, their input read forward to where an earlier start has ended."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from batchwrite.collector import Collector
from batchwrite.engine import Run
from batchwrite.errors import BatchWriteError, ItemRefused, SourceError
from batchwrite.faults import FlushFailed
from batchwrite.feeding import check_items, check_map
from batchwrite.host import BLOCKING, Host
from batchwrite.resume import Passed, Reading, behind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from batchwrite.bookkeeping import Books
    from batchwrite.feeding import MapFunction
    from batchwrite.ledger import Bookkeeper, Entry
    from batchwrite.letters import ReadLetter
    from batchwrite.meter import Meter
    from batchwrite.result import EarlierStarts
    from batchwrite.settings import RunSettings
    from batchwrite.sink import Sink

Item = TypeVar("Item")


class Runs:
    """Begins the runs of one writer.

    Args:
        sink: Where chunks go.
        settings: Bounds and policies.
        books: Opens the books of a run.
        meter: Told of each run.
    """

    def __init__(self, sink: Sink, settings: RunSettings, books: Books, meter: Meter) -> None:
        self._sink = sink
        self._settings = settings
        self._books = books
        self._meter = meter

    def collected(self, host: Host = BLOCKING) -> Run:
        """A run that its caller feeds.

        Raises:
            ConfigurationError: The ledger's tables are not there.
        """
        try:
            return self._new(host, self._bookkeeper(None, host))
        except FlushFailed as error:
            return self._stopped(host, error)

    def shared(self, host: Host) -> Run:
        """A run for many callers, each of whom is told of his own items: it keeps no failures.

        Raises:
            ConfigurationError: The ledger's tables are not there.
        """
        try:
            return self._new(host, self._bookkeeper(None, host), keep_failures=0)
        except FlushFailed as error:
            return self._stopped(host, error)

    def of_items(
        self,
        items: Iterable[Item],
        map_item: MapFunction[Item],
        run_id: str | None,
        *,
        replay_map: bool,
        host: Host = BLOCKING,
    ) -> tuple[Run, Reading[Item]]:
        """A run, and what is left to it of the input, to be closed at its end.

        Raises:
            ConfigurationError: There is no ledger for a `run_id`, or its tables are not there.
            LedgerMismatch: The run was started before with another input.
            SourceError: Reading `items` raised.
        """
        check_map(map_item)
        check_items(items)
        retry = self._settings.retry
        try:
            bookkeeper = self._bookkeeper(run_id, host)
            if bookkeeper is None or run_id is None:
                return self._new(host, bookkeeper), Reading.of(items)
            entries = retry.run(lambda: list(bookkeeper.entries()), sleep=host.sleep)
            of_parked = retry.run(bookkeeper.entries_of_parked, sleep=host.sleep)
            has_failed = any(entry.failures for entry in (*entries, *of_parked))
            landed_since = self._books.landed_since(run_id, host.sleep) if has_failed else set()
        except FlushFailed as error:
            return self._stopped(host, error), Reading.of(items)
        replay = _replaying(Collector(self._sink), map_item) if replay_map else None
        passed = Passed(self._settings.keep_failures, landed_since)
        try:
            rest = behind(entries, items, replay, _both(passed.note, self._books.mender(run_id)))
        except BatchWriteError:
            raise
        except Exception as error:
            text = f"reading the input forward raised {type(error).__name__}; nothing was written"
            raise SourceError(text, result=self._new(host, bookkeeper).result()) from error
        try:
            earlier = passed.total(entries, of_parked, rest.parked)
            run = self._new(host, bookkeeper, rest.done, earlier)
            for index, item in rest.parked[sum(entry.items for entry in of_parked) :]:
                run.park(index, item, map_item)
        except BaseException:
            rest.reading.close_quietly()
            raise
        return run, rest.reading

    def of_letters(
        self, run_id: str, map_item: MapFunction[Any], host: Host = BLOCKING
    ) -> tuple[Run, Reading[ReadLetter], MapFunction[ReadLetter]]:
        """A run that writes the failed items of another again, its input, and how that is mapped.

        Raises:
            ConfigurationError: No dead letters are kept.
        """
        check_map(map_item)
        letters, table = self._books.letters(run_id, host.sleep), self._books.letters_table
        read = self._books.dead_letters.read if self._books.dead_letters else None

        def map_letter(each: ReadLetter, out: Collector) -> None:
            if each.problem is not None:
                raise ItemRefused(each.problem)
            map_item(each.item, out)
            if table is not None:
                letter = each.letter
                key = {"run_id": letter.run_id, "item_index": letter.item_index, "attempt": letter.attempt}
                out.update(table, key, landed_at=datetime.now(UTC))

        try:
            run = self._new(host, self._bookkeeper(None, host), of_letters=True)
        except FlushFailed as error:
            run = self._stopped(host, error)
        return run, Reading((read(letter) for letter in letters if read), is_own=True), map_letter

    def _new(
        self,
        host: Host,
        bookkeeper: Bookkeeper | None,
        resumed: int = 0,
        earlier: EarlierStarts | None = None,
        *,
        of_letters: bool = False,
        keep_failures: int | None = None,
    ) -> Run:
        key, workers = self._settings.key, self._settings.workers if host.has_threads else 0
        run_id = bookkeeper.run_id if bookkeeper else uuid4().hex
        settings = replace(
            self._settings, host=host, workers=workers, listeners=self._settings.listeners.of_run(run_id)
        )
        if keep_failures is not None:
            settings = replace(settings, keep_failures=keep_failures)
        if of_letters and key is not None:
            settings = replace(settings, key=lambda letter: key(letter.item) if letter.problem is None else None)
        run = Run(self._sink, settings, time.monotonic, bookkeeper, resumed, earlier, self._books.listener(run_id))
        self._meter.watch(run)
        return run

    def _stopped(self, host: Host, error: FlushFailed) -> Run:
        """A run that writes nothing, because its books cannot be opened."""
        run = self._new(host, None)
        run.stop(str(error.fault.kind), error.fault.message, error.fault.error_type, error.fault.sqlstate)
        return run

    def _bookkeeper(self, run_id: str | None, host: Host) -> Bookkeeper | None:
        return self._settings.retry.run(lambda: self._books.bookkeeper(run_id), sleep=host.sleep)


def _replaying(collector: Collector, map_item: MapFunction[Item]) -> Callable[[Item], None]:
    def replay(item: Item) -> None:
        with suppress(Exception):  # it was the item's failure, and is recorded
            collector.record(item, map_item)

    return replay


def _both(
    first: Callable[[Entry, Sequence[Any]], object], second: Callable[[Entry, Sequence[Any]], object] | None
) -> Callable[[Entry, Sequence[Any]], object]:
    """What calls two functions that are told of entries passed, or the one that there is."""
    if second is None:
        return first

    def call(entry: Entry, items: Sequence[Any]) -> None:
        first(entry, items)
        second(entry, items)

    return call
