"""Going on where earlier starts of a run have ended: reads the input forward to behind the last chunk committed."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

from batchwrite.errors import LedgerMismatch
from batchwrite.ledger import fingerprint
from batchwrite.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet
    from typing import Any

    from batchwrite.ledger import Entry
    from batchwrite.result import EarlierStarts

_log = logging.getLogger("batchwrite")

Item_co = TypeVar("Item_co", covariant=True)
Item = TypeVar("Item")


@runtime_checkable
class SeekableSource(Protocol[Item_co]):
    """An input that need not be read from its beginning."""

    def from_item(self, index: int, /) -> Iterable[Item_co]:
        """The items from a position on, counted from 0."""


class ClosingIterator(Iterator[Item_co]):
    """An iterator that a run closes at its end."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what it holds."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[Item]):
    """An input that is being read, to be closed when nobody reads it any more.

    Attributes:
        items: Gives the items.
        is_own: Whether it was made for this reading. A generator that was made before, and given as the input, is its
            maker's to close, as after a `for` that is left: he may want to go on with it.
    """

    items: Iterator[Item]
    is_own: bool

    @classmethod
    def of(cls, items: Iterable[Item]) -> Reading[Item]:
        """The reading of an input from its beginning."""
        iterator = iter(items)
        return cls(iterator, iterator is not items)

    def close(self) -> None:
        """Close it, where that is the reader's to do; raises whatever that raises."""
        if self.is_own and isinstance(self.items, (Generator, ClosingIterator)):
            self.items.close()

    def close_quietly(self) -> None:
        """Close it behind an error, which alone is to be raised."""
        try:
            self.close()
        except Exception as error:  # noqa: BLE001 - the error that led here is the one to report
            _log.warning("closing the input raised %s", type(error).__name__, extra={"action": "input"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest(Generic[Item]):
    """What is left of an input.

    Attributes:
        reading: The items that have not been seen.
        done: Number of the items before them.
        parked: Those of these that were put off, with their positions.
    """

    reading: Reading[Item]
    done: int
    parked: Sequence[tuple[int, Item]]


def behind(
    entries: Sequence[Entry],
    items: Iterable[Item],
    replay: Callable[[Item], object] | None,
    on_passed: Callable[[Entry, Sequence[Item]], object] | None = None,
) -> Rest[Item]:
    """What is left of an input, which is closed where that cannot be told.

    Args:
        entries: What has been committed, in order.
        items: The input from its beginning. A `SeekableSource` is asked to seek, unless there is `replay`, or items
            have been put off.
        replay: Called with each item that is passed over.
        on_passed: Called with each entry that is passed, and its items: where the input can seek, the last alone.

    Raises:
        LedgerMismatch: The input is not the one that the entries were made of.
    """
    if replay is None and isinstance(items, SeekableSource) and entries and not any(each.parked for each in entries):
        entries = entries[-1:]  # that it is the same input is told by the last chunk
        start = entries[0].first_item
        reading = Reading(iter(items.from_item(start)), is_own=True)
    else:
        start = 0
        reading = Reading.of(items)
    try:
        return _passed(entries, reading, replay, on_passed, start)
    except BaseException:
        reading.close_quietly()
        raise


def _passed(
    entries: Sequence[Entry],
    reading: Reading[Item],
    replay: Callable[[Item], object] | None,
    on_passed: Callable[[Entry, Sequence[Item]], object] | None,
    done: int,
) -> Rest[Item]:
    parked: list[tuple[int, Item]] = []
    for entry in entries:
        if entry.first_item != done:
            raise LedgerMismatch(
                f"the ledger of run {entry.run_id!r} has no entry for item {done}, but for later ones:"
                " its rows have been changed or deleted, and it cannot be told what was written"
            )
        chunk = list(islice(reading.items, entry.items))
        if len(chunk) < entry.items or fingerprint(chunk) != entry.fingerprint:
            raise LedgerMismatch(
                f"run {entry.run_id!r} has written other items than these from item {done} on:"
                " start it with the same input, or use another run_id for this one"
            )
        if on_passed is not None:
            on_passed(entry, chunk)
        if replay is not None:
            for item in chunk:
                replay(item)
        parked += [(done + position, chunk[position]) for position in sorted(entry.parked)]
        done += entry.items
    return Rest(reading=reading, done=done, parked=parked)


class Passed:
    """What earlier starts of a run have decided, added up from their entries.

    Args:
        keep_failures: Most failures that are held.
        landed_since: Positions of items that have failed, and have been written by a retry.
    """

    def __init__(self, keep_failures: int, landed_since: AbstractSet[int] = frozenset()) -> None:
        self._keep_failures = keep_failures
        self._landed_since = landed_since
        self._items: dict[int, Any] = {}  # those that have failed, by position in the input

    def note(self, entry: Entry, items: Sequence[Any]) -> None:
        """Hold on to the failed items of an entry that is passed."""
        for position in sorted(entry.failures):
            index = entry.first_item + position
            if len(self._items) < self._keep_failures and index not in self._landed_since:
                self._items[index] = items[position]

    def total(
        self, entries: Sequence[Entry], of_parked: Sequence[Entry], parked: Sequence[tuple[int, Any]]
    ) -> EarlierStarts:
        """What has become of all items.

        Args:
            entries: The entries, in order.
            of_parked: Those for items put off, in order.
            parked: The items put off, with their positions, from the first.

        Raises:
            LedgerMismatch: More items were decided than had been put off.
        """
        tally = Tally(self._keep_failures)
        for entry in entries:
            first = entry.first_item
            self._count(tally, entry, [(first + place, self._items.get(first + place)) for place in range(entry.items)])
        done = 0
        for entry in of_parked:
            some = parked[done : done + entry.items]
            if len(some) < entry.items:
                raise LedgerMismatch(f"the ledger of run {entry.run_id!r} has been changed: items put off are missing")
            self._count(tally, entry, some)
            done += entry.items
        return tally.earlier()

    def _count(self, tally: Tally, entry: Entry, items: Sequence[tuple[int, Any]]) -> None:
        tally.written += entry.written
        tally.skipped += entry.skipped
        for _, failure in sorted(entry.failures_told(items.__getitem__).items()):
            if failure.index in self._landed_since:
                tally.written += 1
            else:
                tally.failed += 1
                tally.keep(failure)
