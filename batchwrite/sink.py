"""What the engine asks of a target. All that a new kind of sink has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from batchwrite.collector import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchwrite.collector import Write
    from batchwrite.faults import Fault


class Sink(Catalog, Protocol):
    """A target for chunks. `items` are the writes of consecutive items, in input order, each item's as `plan.in_order`.

    Both ways of writing are one transaction and raise `FlushFailed` with a classified fault; nothing of the items is
    kept then, but for a fault `in_doubt`, where it is not known. Any other exception (Ctrl-C, say) means that
    nothing is kept.
    """

    def write(self, items: Sequence[Sequence[Write]]) -> None:
        """Write all items or none.

        Raises:
            FlushFailed: With a fault of kind `item` where writing them one by one will tell which is at fault.
        """

    def write_each(self, items: Sequence[Sequence[Write]], refuse: Callable[[int, Fault], int]) -> None:
        """Write the items in order, each whole or not at all, and say which were refused.

        Args:
            items: The items.
            refuse: To be called for each item refused, in order, with its position; gives the number of items, from
                the first, that may be written at all: those after them are to be left alone.

        Raises:
            FlushFailed: With a fault that is no item's.
        """

    def close(self) -> None:
        """Give back what the sink opened itself."""
