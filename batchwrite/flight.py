"""A chunk while it is being flushed, and what its parts are reported as. Pure, but for the attempt on its way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batchwrite.chunk import Chunk, ParkedItem
from batchwrite.fault import FaultKind
from batchwrite.listeners import FallbackDetails
from batchwrite.result import ItemFailure, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchwrite.fault import Fault
    from batchwrite.ledger import BookRows
    from batchwrite.listeners import Listeners
    from batchwrite.sink import PendingWrite

_log = logging.getLogger("batchwrite")

# A value that makes the server drop the connection looks like weather. After so many losses a chunk is written in
# halves, each by itself, and an item alone is at fault, unless one more attempt shows that somebody else was.
LOSSES_OF_A_CHUNK, LOSSES_OF_AN_ITEM = 2, 3


class Flight:
    """A chunk that is being flushed.

    Attributes:
        chunk: The chunk.
        positions: Positions of the items to be flushed.
        items: Their writes.
        pending: The attempt on its way, if there is one.
        is_behind: Whether that attempt began before all chunks before this one were settled: what it is refused for
            may be mended by one of those, so that only a second attempt tells.
        is_in_doubt: Whether an attempt before may have been committed.
        wholes: The chunks that it is a part of and that may have been committed as such, the largest first, each with
            the position of this one's first item in it.
        landed: What was refused of an attempt that was committed while nobody waited for it any more, if one was.
        has_lost_answer: Whether the last attempt ended so.
        is_looked_up: Whether duplicates have been left out, as far as items have idempotency keys.
        losses: How often the connection was lost while it was written.
        outdated: How often what is known of a table was found to be old while it was written.
        cancellations: How often the server has cancelled a statement of it.
        began: When it was handed over, on the clock that only goes up.
    """

    __slots__ = (
        "began",
        "cancellations",
        "chunk",
        "has_lost_answer",
        "is_behind",
        "is_in_doubt",
        "is_looked_up",
        "items",
        "landed",
        "losses",
        "outdated",
        "pending",
        "positions",
        "wholes",
    )

    def __init__(self, chunk: Chunk, began: float) -> None:
        self.take(chunk)
        self.began = began
        self.is_looked_up = not chunk.keys
        self.pending: PendingWrite | None = None
        self.is_behind = False
        self.is_in_doubt = self.has_lost_answer = False
        self.wholes: tuple[tuple[Chunk, int], ...] = ()
        self.landed: Sequence[tuple[int, Fault]] | None = None
        self.losses = self.cancellations = self.outdated = 0

    def take(self, chunk: Chunk) -> None:
        """Flush this chunk."""
        self.chunk = chunk
        self.positions, self.items = chunk.to_flush()

    @property
    def is_to_split(self) -> bool:
        """Whether it may be the chunk itself that costs connections, or takes too long: its halves may not."""
        return len(self.chunk) > 1 and self.losses + self.cancellations >= LOSSES_OF_A_CHUNK

    @property
    def is_given_up(self) -> bool:
        """Whether it is one item that has cost too many connections."""
        return len(self.items) == len(self.chunk) == 1 and self.losses >= LOSSES_OF_AN_ITEM

    def note(self, fault: Fault) -> None:
        """Remember how an attempt has ended."""
        is_doubtful = fault.kind is FaultKind.IN_DOUBT
        self.is_in_doubt |= is_doubtful or fault.is_booked
        self.is_looked_up = not self.chunk.keys  # others may have landed by then
        if not fault.is_unrelated:
            self.has_lost_answer = is_doubtful
            self.losses += fault.kind is FaultKind.LOST
            self.cancellations += fault.is_cancelled

    def halves(self) -> Iterator[Flight]:
        """The same as two, each in doubt as this one is: it may yet be found committed as a whole."""
        start = 0
        for half in self.chunk.halves():
            part = Flight(half, self.began)
            part.is_in_doubt = self.is_in_doubt
            if self.is_in_doubt:
                wholes = [*self.wholes, (self.chunk, 0)]
                part.wholes = tuple((whole, before + start) for whole, before in wholes)
            start += len(half)
            yield part

    def abandon(self) -> None:
        """Undo the attempt on its way, if there is one, and remember whether that came too late."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        pending.abandon()
        self.is_in_doubt |= pending.may_have_landed
        if pending.is_committed:
            self.landed = pending.refused

    def keep_only(self, count: int) -> None:
        """Leave out all items but the first so many."""
        if self.pending is not None:
            self.pending.abandon()
            self.pending = None
        self.items = self.items[:count]


def map_failures(chunk: Chunk) -> dict[int, ItemFailure]:
    """The items of a chunk that failed in map, by position."""
    return {position: verdict for position, verdict in chunk.verdicts.items() if isinstance(verdict, ItemFailure)}


def write_failure(chunk: Chunk, position: int, fault: Fault) -> ItemFailure:
    """What is reported of an item that was refused."""
    return ItemFailure(
        index=chunk.index_of(position),
        item=chunk.items[position],
        stage=Stage.COMMIT if fault.at_commit else Stage.WRITE,
        error_type=fault.error_type,
        message=fault.message,
        sqlstate=fault.sqlstate,
        table=fault.table,
        column=fault.column,
        constraint=fault.constraint,
        attempts=1,
        detail=fault.detail,
    )


def parked_item(chunk: Chunk, position: int) -> ParkedItem:
    """An item of a chunk, put off."""
    return ParkedItem(
        index=chunk.index_of(position),
        item=chunk.items[position],
        writes=chunk.writes[position],
        key=chunk.keys[position] if chunk.keys else None,
    )


class _Undone(Exception):
    """What was only tried is undone."""


def undone(_refused: Sequence[tuple[int, Fault]]) -> Sequence[BookRows]:
    """Books that cannot be kept: for what is to be written, and not to stay."""
    raise _Undone


def note_fallback(chunk: Chunk, fault: Fault, listeners: Listeners) -> None:
    """Log, and tell, that a chunk is written item by item."""
    _log.info(
        "%s is written item by item: %s",
        chunk,
        fault.message,
        extra={"action": "fallback", "chunk": chunk.number, "sqlstate": fault.sqlstate, "table": fault.table},
    )
    if listeners:
        details = FallbackDetails(
            run_id=listeners.run_id,
            chunk=chunk.number,
            items=len(chunk),
            message=fault.message,
            sqlstate=fault.sqlstate,
            table=fault.table,
        )
        listeners.tell("on_fallback", details)
