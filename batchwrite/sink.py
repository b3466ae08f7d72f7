"""What the engine asks of a target. All that a new kind of sink has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from batchwrite.collector import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchwrite.faults import Fault
    from batchwrite.ledger import Books
    from batchwrite.write import Write


class PendingWrite(Protocol):
    """Items on their way into the target, in one transaction, while the caller does something else."""

    @property
    def refused(self) -> Sequence[tuple[int, Fault]]:
        """Positions of the items that are left out, with the reasons, in order; known once it is written."""

    @property
    def is_written(self) -> bool:
        """Whether all is written but not committed, or all has ended."""

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to wait for."""

    def advance(self) -> None:
        """Do what can be done without waiting. Raises nothing: see `wait`."""

    def wait(self, on_delay: Callable[[PendingWrite], None]) -> None:
        """Wait until all is written.

        Args:
            on_delay: To be called with this object now and then while it takes long.

        Raises:
            FlushFailed: As `Sink.write`.
        """

    def begin_commit(self) -> None:
        """Ask for the commit of what is written, without waiting for the answer."""

    def commit(self) -> None:
        """Commit what is written.

        Raises:
            FlushFailed: As `Sink.write`.
        """

    def abandon(self) -> None:
        """Undo all of it, or, where its commit has been asked for, wait no longer for the answer."""

    @property
    def is_committed(self) -> bool:
        """Whether it is known to be committed."""

    @property
    def may_have_landed(self) -> bool:
        """Whether it is committed, or may be."""

    def blockers(self, others: Sequence[PendingWrite]) -> Sequence[PendingWrite]:
        """Those of some others that hold a lock that this one waits for."""


class Sink(Catalog, Protocol):
    """A target for chunks. `items` are the writes of consecutive items, in input order, each item's as `plan.in_order`.

    Both ways of writing are one transaction and raise `FlushFailed` with a classified fault; nothing of the items is
    kept then, but for a fault `in_doubt`, where it is not known. Any other exception (Ctrl-C, say) means that
    nothing is kept. Where books stand in the way, because they are there already, the fault `is_booked`.
    """

    def begin(
        self,
        items: Sequence[Sequence[Write]],
        others: Sequence[PendingWrite],
        *,
        may_commit: bool,
        books: Books | None = None,
    ) -> PendingWrite | None:
        """Begin to write items, all but those refused, on the way.

        Args:
            items: The items.
            others: What is on its way before them, in order.
            may_commit: Whether it may be committed at once, if nothing is refused.
            books: Gives what is to be committed with them.

        Returns:
            The attempt, or `None` where they must be written at once, or not before `others` have ended.
        """

    def write(self, items: Sequence[Sequence[Write]], books: Books | None = None) -> Sequence[tuple[int, Fault]]:
        """Write all items or none, or all but those that the target itself says it has refused.

        Args:
            items: The items; where there are books, possibly none.
            books: Gives what is to be committed with them.

        Returns:
            Positions of those refused, in order, and why; mostly none.

        Raises:
            FlushFailed: With a fault of kind `item` where writing them one by one will tell which is at fault.
        """

    def write_each(
        self, items: Sequence[Sequence[Write]], refuse: Callable[[int, Fault], int], books: Books | None = None
    ) -> None:
        """Write the items in order, each whole or not at all, and say which were refused.

        Args:
            items: The items.
            refuse: To be called for each item refused, in order, with its position; gives the number of items, from
                the first, that may be written at all: those after them are to be left alone.
            books: Gives what is to be committed with them.

        Raises:
            FlushFailed: With a fault that is no item's.
        """

    @property
    def is_transactional(self) -> bool:
        """Whether books can be committed with the items."""

    def close(self) -> None:
        """Give back what the sink opened itself."""
