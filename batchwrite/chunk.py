"""Cutting the stream of mapped items into chunks, each flushed in one transaction. Pure: the clock is passed in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from batchwrite.errors import ConfigurationError
from batchwrite.recorded import Recorded
from batchwrite.size import row_size

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from batchwrite.result import ItemFailure
    from batchwrite.write import AnyShape, Write


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

    Source: measured on PostgreSQL 15 over a local socket, rows of nine columns, the same run: chunks of 1,000 items
        72,000 rows/s, 5,000 94,000, 10,000 94,000; what a chunk adds (BEGIN, COMMIT, the disk) is spread thin at 5,000,
        and a flush takes about 50 ms.
    """

    items: int = 5_000
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


DUPLICATE = "duplicate"
"""Why an item is skipped whose idempotency key has been seen before."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item left out on purpose."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedItem:
    """An item that is put off to the end of the run.

    Attributes:
        index: Its position in the input.
        item: The item.
        writes: What is to be written for it.
        key: Its idempotency key, if it has one.
        verdict: Set where mapping it again has already decided what becomes of it.
    """

    index: int
    item: Any = field(repr=False)
    writes: Sequence[Write] = field(repr=False)
    key: str | None = None
    verdict: ItemFailure | Skipped | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The items of one flush, in input order.

    Attributes:
        number: Position of the chunk in the run, from 0.
        first_index: Position of its first item in the input, from 0.
        items: The items.
        writes: The writes of each.
        verdicts: What mapping has already decided, by position in the chunk: these items are not flushed.
        keys: The idempotency key of each item, `None` for one that has none; nothing where items have no keys. In a
            chunk all are different.
        indexes: Position in the input of each item, where they are not consecutive: then `first_index` is negative,
            and belongs to this chunk alone.
        began: When its first item was added, on the clock that only goes up.
    """

    number: int
    first_index: int
    items: Sequence[Any] = field(repr=False)
    writes: Recorded = field(repr=False)
    verdicts: Mapping[int, ItemFailure | Skipped] = field(repr=False, default_factory=dict)
    keys: Sequence[str | None] = field(repr=False, default=())
    indexes: Sequence[int] = field(repr=False, default=())
    began: float = field(repr=False, default=0.0)

    @classmethod
    def of_parked(cls, number: int, parked: Sequence[ParkedItem]) -> Chunk:
        """A chunk of items that were put off."""
        return cls(
            number=number,
            first_index=-1 - parked[0].index,
            items=[each.item for each in parked],
            writes=Recorded([None] * len(parked), [each.writes for each in parked]),
            verdicts={place: each.verdict for place, each in enumerate(parked) if each.verdict is not None},
            keys=[each.key for each in parked] if any(each.key is not None for each in parked) else (),
            indexes=[each.index for each in parked],
        )

    def index_of(self, position: int) -> int:
        """Position in the input of an item of the chunk."""
        return self.indexes[position] if self.indexes else self.first_index + position

    def __str__(self) -> str:
        return f"chunk {self.number} (items {self.index_of(0)} to {self.index_of(len(self) - 1)})"

    def __len__(self) -> int:
        return len(self.items)

    def halves(self) -> tuple[Chunk, Chunk]:
        """The chunk as two, of at least one item each; it must have two or more."""
        middle = len(self) // 2
        return self._part(0, middle), self._part(middle, len(self))

    def _part(self, start: int, stop: int) -> Chunk:
        return replace(
            self,
            first_index=-1 - self.indexes[start] if self.indexes else self.first_index + start,
            items=self.items[start:stop],
            writes=self.writes[start:stop],
            verdicts={place - start: verdict for place, verdict in self.verdicts.items() if start <= place < stop},
            keys=self.keys[start:stop],
            indexes=self.indexes[start:stop],
        )

    def without(self, keys: Collection[str]) -> Chunk:
        """The chunk with the items that have one of some keys left out as duplicates."""
        duplicates = {
            place: Skipped(DUPLICATE)
            for place, key in enumerate(self.keys)
            if key in keys and place not in self.verdicts
        }
        return replace(self, verdicts={**self.verdicts, **duplicates}) if duplicates else self

    def to_flush(self) -> tuple[Sequence[int], Recorded]:
        """Positions of the items to be flushed, and their writes."""
        if not self.verdicts:
            return range(len(self.items)), self.writes
        positions = [position for position in range(len(self.items)) if position not in self.verdicts]
        return positions, self.writes.only(positions)


class ChunkBuilder:
    """Gathers mapped items and says when a chunk is full.

    Args:
        limits: The bounds.
        clock: Seconds that only go up, e.g. `time.monotonic`.
        first_index: Position of the first item in the input.
        is_keyed: Whether items have idempotency keys: each is given by `set_key` before the item is added.
    """

    def __init__(
        self, limits: ChunkLimits, clock: Callable[[], float], first_index: int = 0, *, is_keyed: bool = False
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._number = 0
        self._first_index = first_index
        self._items: list[Any] = []
        self._shapes: list[AnyShape | None] = []
        self._recorded: list[Any] = []
        self._verdicts: dict[int, ItemFailure | Skipped] = {}
        self._keys: dict[str | int, str | None] | None = {} if is_keyed else None
        self._key: str | None = None
        self._rows = 0
        self._bytes = 0
        self._began = 0.0

    @property
    def oldest(self) -> float | None:
        """When the first of the items gathered was added, if there are any."""
        return self._began if self._items else None

    def set_key(self, key: str | None) -> list[Chunk]:
        """The idempotency key of the item to come; the chunk so far, where it has an item with the same."""
        self._key = key
        return self.cut() if self._keys and key in self._keys else []

    def add(self, item: Any, writes: list[Write], verdict: ItemFailure | Skipped | None = None) -> list[Chunk]:
        """Take one mapped item; the chunks that are complete now, in order: none, one, or two.

        Two where the item is too large for the chunk so far, and so large that it fills the next by itself.

        Args:
            item: The item.
            writes: What is to be written for it.
            verdict: Set where mapping has already decided what becomes of it.
        """
        size = 0
        for write in writes:
            shape = write.shape
            if shape is not None and type(write.data) is tuple:
                size += shape.size_of(write.data)
            else:
                size += row_size(write.values.values())
        return self._add(item, None, writes, len(writes), size, verdict)

    def add_alike(self, item: Any, shape: AnyShape, data: tuple[Any, ...]) -> list[Chunk]:
        """As `add`, for an item that is one write which a shape makes of values.

        Args:
            item: The item.
            shape: The shape.
            data: The values.
        """
        return self._add(item, shape, data, 1, shape.size_of(data), None)

    def _add(
        self,
        item: Any,
        shape: AnyShape | None,
        recorded: Any,
        rows: int,
        size: int,
        verdict: ItemFailure | Skipped | None,
    ) -> list[Chunk]:
        limits = self._limits
        all_rows, total = self._rows + rows, self._bytes + size
        full: list[Chunk] = []
        if total > limits.bytes or all_rows > limits.rows:
            full = self.cut()
            all_rows, total = rows, size
        items = self._items
        if not items:
            self._began = self._clock()
        if verdict is not None:
            self._verdicts[len(items)] = verdict
        if self._keys is not None:
            self._keys[len(items) if self._key is None else self._key] = self._key  # one without a key has a number
            self._key = None
        items.append(item)
        self._shapes.append(shape)
        self._recorded.append(recorded)
        self._rows, self._bytes = all_rows, total
        if (
            len(items) >= limits.items
            or all_rows >= limits.rows
            or total >= limits.bytes
            or (limits.seconds is not None and self._clock() >= self._began + limits.seconds)
        ):
            full += self.cut()
        return full

    def cut(self) -> list[Chunk]:
        """The items gathered so far as one chunk, or none where there are none."""
        if not self._items:
            return []
        chunk = Chunk(
            number=self._number,
            first_index=self._first_index,
            items=self._items,
            writes=Recorded(self._shapes, self._recorded),
            verdicts=self._verdicts,
            keys=tuple(self._keys.values()) if self._keys else (),
            began=self._began,
        )
        if self._keys:
            self._keys = {}
        self._number += 1
        self._first_index += len(self._items)
        self._items = []
        self._shapes = []
        self._recorded = []
        self._verdicts = {}
        self._rows = self._bytes = 0
        return [chunk]
