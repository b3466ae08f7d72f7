"""How one chunk lands: by the attempt on its way, in bulk, or item by item, and its books with it. Knows no SQL."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import replace
from typing import TYPE_CHECKING

from batchwrite.fault import Fault, FaultKind, FlushFailed
from batchwrite.flight import LOSSES_OF_AN_ITEM, map_failures, note_fallback, write_failure
from batchwrite.tally import ChunkReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from batchwrite.chunk import Chunk, ParkedItem
    from batchwrite.flight import Flight
    from batchwrite.ledger import Bookkeeper, Books
    from batchwrite.settings import RunSettings
    from batchwrite.sink import PendingWrite, Sink
    from batchwrite.tally import Tally

# Items put off stay in memory: one that is one too many fails at once.
_MOST_PARKED = 10_000

# So often a chunk is written once more, at once, because the sink has learnt what its tables are; then it waits.
_MOST_OUTDATED = 3

_COSTS_THE_CONNECTION = "each time that the item was written by itself, the connection to the database was lost"


class _Refusals:
    """The items that the sink refuses, as it comes to them, and how many items may be written at all.

    What each refusal costs does not depend on how many there are: a chunk may have nothing but bad items.

    Args:
        flight: The chunk.
        last_failure: With how many failures in the chunk the run ends; `None` for no bound.
        is_parked: Whether an item refused so is put off, beside so many others.

    Attributes:
        faults: The reasons, by the item's number among those flushed.
        most: How many of the items flushed may be written: those behind the failure that ends the run may not.
    """

    def __init__(self, flight: Flight, *, last_failure: int | None, is_parked: Callable[[Fault, int], bool]) -> None:
        self._positions = flight.positions
        self._last_failure = last_failure
        self._is_parked = is_parked
        self._parked = 0
        self._failed: list[int] = []  # positions in the chunk, ascending; none behind the one that ends the run
        self.faults: dict[int, Fault] = {}
        self.most = len(flight.items)
        for position in sorted(map_failures(flight.chunk)):
            self._count(position)

    def add(self, number: int, fault: Fault) -> int:
        """Note that an item is refused; how many items may be written at all, as far as is known now."""
        if number not in self.faults:
            if self._is_parked(fault, self._parked):
                self._parked += 1
            else:
                self._count(self._positions[number])
        self.faults[number] = fault
        return self.most

    def _count(self, position: int) -> None:
        last = self._last_failure
        if last is None:
            return
        insort(self._failed, position)
        if len(self._failed) >= last:
            del self._failed[last:]
            self.most = min(self.most, bisect_left(self._positions, self._failed[-1] + 1))


def unknown_report(chunk: Chunk) -> ChunkReport:
    """Of a chunk in doubt: map failures are certain, all others went into the COMMIT that got no answer."""
    return ChunkReport(chunk=chunk, failures=map_failures(chunk), reached=len(chunk), is_unknown=True)


class Landing:
    """Brings the chunks of one run to their ends, each by itself, whatever others are on their way.

    Args:
        sink: Where chunks go.
        settings: Bounds and policies.
        bookkeeper: Keeps the run's books, if it has any.
        tally: What became of the items before.
        parked: The items put off so far.
        free: Called with an attempt that waits for what others on their way may hold.
        abandon: Undoes all attempts on their way.
    """

    def __init__(
        self,
        sink: Sink,
        settings: RunSettings,
        bookkeeper: Bookkeeper | None,
        tally: Tally,
        parked: Sequence[ParkedItem],
        free: Callable[[PendingWrite], None],
        abandon: Callable[[], None],
    ) -> None:
        self._sink = sink
        self._settings = settings
        self._bookkeeper = bookkeeper
        self._tally = tally
        self._parked = parked
        self._free = free
        self._abandon_attempts = abandon

    def begin(self, flight: Flight, others: Sequence[PendingWrite]) -> bool:
        """Begin an attempt that goes on by itself, beside others; false where there can be none, or not yet."""
        if not self._can_look_up(flight) or not flight.items:
            return False
        may_commit = not others and (self._settings.policy.most is None or not flight.chunk.verdicts)
        flight.pending = self._sink.begin(flight.items, others, may_commit=may_commit, books=self._books_of(flight))
        flight.is_behind = bool(others)
        return flight.pending is not None

    def flush_once(self, flight: Flight) -> ChunkReport:
        """Write a chunk, unless the books tell that an attempt before has been committed.

        Raises:
            FlushFailed: Nothing was written, or, for a fault `in_doubt`, it is not known.
        """
        if flight.is_in_doubt and self._bookkeeper is not None:
            found = self._bookkeeper.find_part(flight.chunk, flight.wholes)
            if found is not None:
                return found
            flight.losses += flight.has_lost_answer  # a loss like any other
            flight.has_lost_answer = False
        try:
            return self._written(flight)
        except FlushFailed as error:
            flight.note(error.fault)
            raise

    def last_look(self, flight: Flight) -> ChunkReport | None:
        """What became of a chunk in doubt that is not tried again, if the books tell that it was committed."""
        if not flight.is_in_doubt or self._bookkeeper is None:
            return None
        try:
            return self._bookkeeper.find_part(flight.chunk, flight.wholes)
        except FlushFailed:
            return None

    def left(self, flight: Flight) -> ChunkReport | None:
        """What became of a chunk that nobody goes on with, if anything of it is, or may be, committed."""
        if flight.landed is not None:
            return self._report(flight, flight.landed)
        if not flight.is_in_doubt:
            return None
        return self.last_look(flight) or unknown_report(flight.chunk)

    def is_retriable(self, flight: Flight, fault: Fault) -> bool:
        """Whether a chunk may be flushed once more: in doubt, only where the books tell whether that is needed."""
        if flight.is_to_split or (flight.is_given_up and flight.losses > LOSSES_OF_AN_ITEM):
            return False
        return fault.is_retriable or (fault.kind is FaultKind.IN_DOUBT and self._bookkeeper is not None)

    def given_up(self, flight: Flight) -> ChunkReport:
        """Report an item that costs the connection whenever it is written; its failure goes into the books."""
        fault = Fault(kind=FaultKind.ITEM, error_type="ConnectionLost", message=_COSTS_THE_CONNECTION)
        report = self._report(flight, [(0, fault)])
        if self._bookkeeper is not None:
            rows = self._bookkeeper.rows(report)
            self._sink.write([], lambda _refused: rows)
        return report

    def _can_look_up(self, flight: Flight) -> bool:
        """Leave duplicates out, if that can be done now; if not, it is done in the chunk's turn."""
        try:
            self._look_up(flight)
        except FlushFailed:
            return False
        return True

    def _look_up(self, flight: Flight) -> None:
        """Leave out the items whose idempotency keys have landed before."""
        if not flight.is_looked_up and self._bookkeeper is not None:
            chunk = self._bookkeeper.without_duplicates(flight.chunk)
            if chunk is not flight.chunk:
                flight.take(chunk)
            flight.is_looked_up = True

    def _finds_duplicates(self, flight: Flight) -> bool:
        """Whether there are more duplicates than when it was looked last, which was before others had landed."""
        before = flight.chunk
        flight.is_looked_up = not before.keys
        self._look_up(flight)
        return flight.chunk is not before

    def _written(self, flight: Flight) -> ChunkReport:
        self._look_up(flight)
        chunk = flight.chunk
        refused = self._refusals(flight)
        if refused.most < len(flight.items):  # mapping alone has ended the run
            flight.keep_only(refused.most)
        has_fallen_back = False
        try:
            if not self._finish_attempt(flight, refused.add) and (flight.items or self._bookkeeper is not None):
                for number, fault in self._sink.write(flight.items, self._books_of(flight)):
                    refused.add(number, fault)
                return self._report(flight, refused.faults.items())
        except FlushFailed as error:
            self._abandon_attempts()
            if error.fault.is_outdated and flight.outdated < _MOST_OUTDATED:
                flight.outdated += 1
                return self._written(flight)
            if not error.fault.may_be_an_items:
                raise
            if self._finds_duplicates(flight):
                return self._written(flight)
            if not error.is_expected:
                note_fallback(chunk, error.fault, self._settings.listeners)
                has_fallen_back = True
            refused = self._refusals(flight)
            self._sink.write_each(flight.items, refused.add, self._books_of(flight))
        if refused.faults and not has_fallen_back:  # the sink has expected it
            note_fallback(chunk, next(iter(refused.faults.values())), self._settings.listeners)
            has_fallen_back = True
        return replace(self._report(flight, refused.faults.items()), fell_back=has_fallen_back)

    def _refusals(self, flight: Flight) -> _Refusals:
        """None yet: only mapping has decided what becomes of some items."""
        return _Refusals(
            flight,
            last_failure=self._settings.policy.last_failure(self._tally.failed),
            is_parked=lambda fault, others: self._may_park(flight.chunk, fault, others),
        )

    def _report(self, flight: Flight, refused: Iterable[tuple[int, Fault]]) -> ChunkReport:
        """What is to be reported of a chunk once it is committed without the items refused."""
        chunk = flight.chunk
        failures = map_failures(chunk)
        parked: set[int] = set()
        for number, fault in refused:
            position = flight.positions[number]
            if self._may_park(chunk, fault, len(parked)):
                parked.add(position)
            else:
                failures[position] = write_failure(chunk, position, fault)
        reached = self._settings.policy.end_of(len(chunk), failures, self._tally.failed)
        failures = {position: failure for position, failure in failures.items() if position < reached}
        return ChunkReport(
            chunk=chunk, failures=failures, reached=reached, parked=frozenset(parked & {*range(reached)})
        )

    def _may_park(self, chunk: Chunk, fault: Fault, others: int) -> bool:
        """Whether an item is put off: the row that it refers to may still come."""
        is_first = not chunk.indexes
        has_room = len(self._parked) + others < _MOST_PARKED
        return self._settings.defer_foreign_keys and fault.misses_parent and is_first and has_room

    def _books_of(self, flight: Flight) -> Books | None:
        """What is to be written with a chunk into the run's books."""
        bookkeeper = self._bookkeeper
        if bookkeeper is None:
            return None
        return lambda refused: bookkeeper.rows(self._report(flight, refused))

    def _finish_attempt(self, flight: Flight, refuse: Callable[[int, Fault], int]) -> bool:
        """Bring the attempt on its way to its end; false where there is none, or it is not to be believed.

        Raises:
            FlushFailed: It is not written, or, for a fault `in_doubt`, it is not known.
        """
        pending, flight.pending = flight.pending, None
        if pending is None:
            return False
        try:
            pending.wait(self._free)
        except FlushFailed as error:
            if flight.is_behind and error.fault.may_be_an_items:
                return False
            raise
        if flight.is_behind and pending.refused:
            pending.abandon()
            return False
        for number, fault in pending.refused:
            if refuse(number, fault) < len(flight.items):
                pending.abandon()
                raise FlushFailed(fault)  # those behind it are not to be written: once more, and only up to there
        pending.commit()
        return True
