"""Cutting the stream of mapped items into chunks, each flushed in one transaction. Pure: the clock is passed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from batchwrite.errors import ConfigurationError
from batchwrite.shape import row_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchwrite.collector import Write
    from batchwrite.result import ItemFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLimits:
    """When a chunk is full: whichever of the bounds comes first.

    Attributes:
        items: Most items of a chunk, at least 1.
        rows: Most writes of a chunk, at least 1. Like `bytes`, exceeded only by a single item that is larger.
        bytes: Most bytes of a chunk, at least 1, estimated: the lengths of texts and byte strings, and 8 for any
            other value.
        seconds: Longest time between a chunk's first item and its flush, above 0, looked at whenever an item has
            been collected; `None` for no such bound.
    """

    items: int = 1_000
    rows: int = 20_000
    bytes: int = 16 * 1024 * 1024
    seconds: float | None = 5.0

    def __post_init__(self) -> None:
        for name in ("items", "rows", "bytes"):
            bound = getattr(self, name)
            if not isinstance(bound, int) or isinstance(bound, bool) or bound < 1:
                raise ConfigurationError(f"a chunk's bound of {name} must be a whole number of at least 1")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigurationError("a chunk's bound of seconds must be above 0, or None")


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item left out on purpose."""

    reason: str


class Entry(NamedTuple):
    """One mapped item in a chunk.

    Attributes:
        item: The item.
        writes: What is to be written for it.
        verdict: Set where mapping has already decided what becomes of it: it is not flushed then.
    """

    item: Any
    writes: list[Write]
    verdict: ItemFailure | Skipped | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The items of one flush.

    Attributes:
        number: Position of the chunk in the run, from 0.
        first_index: Position of its first item in the input, from 0.
        entries: Its items, in input order.
    """

    number: int
    first_index: int
    entries: tuple[Entry, ...] = field(repr=False)


class ChunkBuilder:
    """Gathers entries and says when a chunk is full.

    Args:
        limits: The bounds.
        clock: Seconds that only go up, e.g. `time.monotonic`.
    """

    def __init__(self, limits: ChunkLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._number = 0
        self._first_index = 0
        self._entries: list[Entry] = []
        self._rows = 0
        self._bytes = 0
        self._started = 0.0

    def add(self, entry: Entry) -> list[Chunk]:
        """Take one entry; the chunks that are complete now, in order: none, one, or two.

        Two where the entry is too large for the chunk so far, and so large that it fills the next by itself.
        """
        size = 0
        writes = entry.writes
        for write in writes:
            shape = write.shape
            size += row_size(write.values) if shape is None else shape.size_of(write.values)
        limits = self._limits
        full: list[Chunk] = []
        if self._bytes + size > limits.bytes or self._rows + len(writes) > limits.rows:
            full = self.cut()
        entries = self._entries
        if not entries:
            self._started = self._clock()
        entries.append(entry)
        self._rows += len(writes)
        self._bytes += size
        if (
            len(entries) >= limits.items
            or self._rows >= limits.rows
            or self._bytes >= limits.bytes
            or (limits.seconds is not None and self._clock() - self._started >= limits.seconds)
        ):
            full += self.cut()
        return full

    def cut(self) -> list[Chunk]:
        """The entries gathered so far as one chunk, or none where there are none."""
        if not self._entries:
            return []
        chunk = Chunk(number=self._number, first_index=self._first_index, entries=tuple(self._entries))
        self._number += 1
        self._first_index += len(self._entries)
        self._entries = []
        self._rows = self._bytes = 0
        return [chunk]
