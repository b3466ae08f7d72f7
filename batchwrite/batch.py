"""Runs that their caller feeds or follows item by item."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batchwrite.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from batchwrite.chunk import Chunk
    from batchwrite.collector import Collector
    from batchwrite.engine import Run
    from batchwrite.result import BatchResult, ItemOutcome


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
        with self._run.host.deferred():
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
        with self._run.host.deferred():
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
                with self._run.host.deferred():
                    parked = self._run.parked()
                self._flush(parked)
            else:
                self._stop(kind)
        finally:
            with self._run.host.deferred():
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
            with self._run.host.deferred():
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
