"""The loops that feed a run: read, map, flush, and what happens when one of them is interrupted."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from batchwrite.errors import ConfigurationError, RunInterrupted, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchwrite.chunk import Chunk
    from batchwrite.collector import Collector
    from batchwrite.engine import Run
    from batchwrite.resume import Reading
    from batchwrite.tally import ChunkReport

Item_contra = TypeVar("Item_contra", contravariant=True)
Item = TypeVar("Item")


class MapFunction(Protocol[Item_contra]):
    """What turns an item into writes: called once an item, in input order, on one thread."""

    def __call__(self, item: Item_contra, out: Collector, /) -> object:
        """Record the item's writes on `out`; an exception makes the item a failure of stage `map`."""


# Looking after the chunks on their way takes some 10 us: nothing among so many items, and soon enough for the database.
ITEMS_BETWEEN_PAUSES = 250


def add_item(item: Any, out: Collector) -> None:
    """The map function of items that are themselves what is to be written."""
    out.add(item)


class _SourceStopped(Exception):
    """Reading the input raised."""


_NOT_AT_ONCE = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def check_map(map_item: object) -> None:
    """Make sure that a map function can be called once an item.

    Raises:
        ConfigurationError: It cannot.
    """
    if not callable(map_item):
        raise ConfigurationError("map must be a function of an item and a collector")
    called = map_item if inspect.isroutine(map_item) else type(map_item).__call__
    if any(is_later(called) for is_later in _NOT_AT_ONCE):
        raise ConfigurationError("map must be a plain function: calling this one only makes a coroutine or a generator")


def check_items(items: object) -> None:
    """Make sure that an input can be read.

    Raises:
        ConfigurationError: It cannot.
    """
    if not isinstance(items, Iterable):
        raise ConfigurationError(f"items must be something to iterate over, and a {type(items).__name__} is not")


def reports_of(run: Run, reading: Reading[Item], map_item: MapFunction[Item]) -> Iterator[ChunkReport]:
    """Feed a run and give its reports; raise what stopped it after the last of them. However it ends, close its input.

    Raises:
        SourceError: Reading the input raised, or closing it.
        RunInterrupted: Ctrl-C.
    """
    try:
        yield from _reports(run, reading.items, map_item)
    except BaseException:
        reading.close_quietly()
        raise
    try:
        with run.host.deferred():
            reading.close()
    except KeyboardInterrupt as error:
        raise RunInterrupted(_summary(run), result=run.result()) from error
    except Exception as error:
        text = f"closing the input raised {type(error).__name__}; {_summary(run)}"
        raise SourceError(text, result=run.result()) from error


def _reports(run: Run, items: Iterator[Item], map_item: MapFunction[Item]) -> Iterator[ChunkReport]:
    stopped: BaseException | None = None
    try:
        for chunk in _chunks(run, items, map_item):
            with run.host.deferred():
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
            with run.host.deferred() if interrupt is None else nullcontext():
                run.settle()
        except KeyboardInterrupt as error:
            run.stop("interrupted", "the run was interrupted")
            interrupt = error
    return interrupt


def _chunks(run: Run, items: Iterator[Item], map_item: MapFunction[Item]) -> Iterator[Chunk | None]:
    """Read and map items; the chunks to be flushed, each before more is read, and now and then a pause."""
    take_in = run.take_in
    until_pause = ITEMS_BETWEEN_PAUSES
    while run.abort is None:
        while until_pause:
            until_pause -= 1
            try:
                item = next(items)
            except StopIteration:
                yield from run.rest()
                with run.host.deferred():
                    parked = run.parked()
                yield from parked
                return
            except Exception as error:
                raise _SourceStopped from error
            chunks = take_in(item, map_item)
            if chunks:
                break
        else:
            until_pause = ITEMS_BETWEEN_PAUSES
            run.host.breathe()
            if run.wants_attention:
                yield None
            continue
        for chunk in chunks:
            if run.abort is None:
                yield chunk


def _summary(run: Run) -> str:
    result = run.result()
    return f"{result.written} items written, {result.failed} failed, {result.unattempted} not attempted"
