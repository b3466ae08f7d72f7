"""What a fault is: an exception, classified."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

_UNIQUE = frozenset(
    {
        "23505",
        "SQLITE_CONSTRAINT_UNIQUE",
        "SQLITE_CONSTRAINT_PRIMARYKEY",
        "SQLITE_CONSTRAINT_ROWID",
        *("1062", "1169", "1586", "1859"),  # MariaDB and MySQL
    }
)
_FOREIGN_KEY = frozenset({"23503", "SQLITE_CONSTRAINT_FOREIGNKEY", "1216", "1452"})
_CANCELLED = frozenset({"57014", "1317", "1969", "3024"})


class FaultKind(StrEnum):
    """Whose fault it is, and so what follows."""

    ITEM = "item"
    """The item's own: the chunk falls back to its items, and this one fails."""
    TRANSIENT = "transient"
    """The transaction was rolled back for reasons that pass (deadlock, serialization, lock timeout): replay it."""
    LOST = "lost"
    """The connection is gone and the transaction with it: replay it on a fresh one."""
    IN_DOUBT = "in_doubt"
    """COMMIT got no answer: it may have happened or not."""
    CAPACITY = "capacity"
    """The server ran out of something (disk, memory, connections): wait, try again a few times, then stop."""
    FATAL = "fatal"
    """No item and no time will mend it (missing table, missing right, a bug): stop. Of what data might cause as well,
    that is known only once it is proven without the item: see `Fault.is_unproven`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A classified exception.

    Attributes:
        kind: Whose fault it is.
        error_type: Name of the class of the driver's (or the program's) exception.
        message: What happened, in words that quote no row value and no password.
        sqlstate: The SQLSTATE, or for SQLite the error's name, or for MariaDB and MySQL its number, where there is one.
        table: The table concerned, where known.
        column: The column or columns concerned, where known.
        constraint: The constraint concerned, where known.
        at_commit: Whether a check at the end of the item's or the chunk's transaction found it.
        is_unrelated: Whether nothing that was to be written can have caused it: it came up while a connection was
            made, or the client's own patience has ended.
        is_unproven: Whether it looks fatal, but might be an item's: that is proven or not by the same statement without
            rows.
        is_outdated: Whether what the sink knew of the tables was old, or not enough: it has learnt better, and is to be
            asked once more, at once.
        is_booked: Whether the chunk's books stood in the way: an earlier attempt may have been committed.
        detail: The full text of the exception, which may quote row values.
    """

    kind: FaultKind
    error_type: str
    message: str
    sqlstate: str | None = None
    table: str | None = None
    column: str | None = None
    constraint: str | None = None
    at_commit: bool = False
    is_unrelated: bool = False
    is_unproven: bool = False
    is_outdated: bool = False
    is_booked: bool = False
    detail: str | None = field(default=None, repr=False)

    @property
    def may_be_an_items(self) -> bool:
        """Whether the items one by one will tell whose it is."""
        return self.kind is FaultKind.ITEM or self.is_unproven

    @property
    def as_items(self) -> Fault:
        """The fault of an item, where it does not hold without the item."""
        return replace(self, kind=FaultKind.ITEM, is_unproven=False) if self.is_unproven else self

    @property
    def is_unique_violation(self) -> bool:
        """Whether a row with the same unique key stood in the way."""
        return self.sqlstate in _UNIQUE

    @property
    def misses_parent(self) -> bool:
        """Whether a foreign key has no matching row."""
        return self.sqlstate in _FOREIGN_KEY

    @property
    def is_cancelled(self) -> bool:
        """Whether the server has cancelled a statement, because it took too long or somebody asked for it."""
        return self.sqlstate in _CANCELLED

    @property
    def is_retriable(self) -> bool:
        """Whether the transaction is known to be undone and may succeed when replayed."""
        return self.kind in {FaultKind.TRANSIENT, FaultKind.LOST, FaultKind.CAPACITY}


class FlushFailed(Exception):
    """Raised by a sink: what it was asked to write is not there (or, in doubt, may not be there).

    Args:
        fault: Why.
        is_expected: Whether nothing was tried: the sink expects an item to fail, which need not be so.
    """

    def __init__(self, fault: Fault, *, is_expected: bool = False) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.is_expected = is_expected
