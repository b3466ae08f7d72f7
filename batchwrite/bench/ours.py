"""This library as a contender."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from batchwrite.bench.peers import connected_engine
from batchwrite.bench.tables import NotWrittenError
from batchwrite.writer import BatchWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Table

    from batchwrite.bench.place import Place
    from batchwrite.bench.task import Task
    from batchwrite.bench.timing import Contender, Write
    from batchwrite.feeding import MapFunction

WORKERS = 4
NAME = "batchwrite"
NAME_WITH_WORKERS = f"batchwrite, workers={WORKERS}"


def contenders(
    task: Task, items: Sequence[Any], map_of_run: Callable[[], MapFunction[Any]], landing: int, **options: Any
) -> list[Contender]:
    """Ours with default settings, and with workers.

    Args:
        task: The rows that are to land.
        items: What the writer is given.
        map_of_run: Gives the map function, for each run anew: it may remember what it has seen.
        landing: How many of the items it must report as written.
        options: The writer's.
    """
    opened = partial(writing, task.place, items, map_of_run, landing, **options)
    has_workers = "workers" in inspect.signature(BatchWriter).parameters
    return [
        task.contender(NAME, opened),
        task.contender(
            NAME_WITH_WORKERS,
            partial(opened, workers=WORKERS),
            absent=None if has_workers else "this version has no workers",
        ),
    ]


@contextmanager
def writing(
    place: Place, items: Sequence[Any], map_of_run: Callable[[], MapFunction[Any]], landing: int, **options: Any
) -> Iterator[Write]:
    """A writer, new but with its connections made, and a run of it; `options` are the writer's."""
    with connected_engine(place.url, options.get("workers", 1)) as engine, BatchWriter(engine, **options) as writer:
        map_item = map_of_run()
        yield lambda: run(writer, items, map_item, landing)


def run(writer: BatchWriter, items: Sequence[Any], map_item: MapFunction[Any], landing: int) -> None:
    """Run a writer, and require that its result says what has become of the items.

    Raises:
        NotWrittenError: It does not.
    """
    result = writer.run(items, map_item)
    if (result.written, result.failed) != (landing, len(items) - landing):
        ended = f"; {result.abort.message}" if result.abort else ""
        raise NotWrittenError(f"the result says {result.written} written, and {landing} should be{ended}")


def inserting(table: Table) -> MapFunction[Any]:
    """The map function of items that are rows of a table."""
    return lambda item, out: out.insert(table, item)


class AcceptingWriter(BatchWriter):
    """A writer whose database takes every chunk and keeps nothing: what is left is map, collect and result."""

    def __init__(self) -> None:
        super().__init__("sqlite://")  # describes tables as ever; nobody connects to it
        self._sink.write = lambda *_chunk: ()  # type: ignore[method-assign]
