"""What the engine asks of a target. All that a new kind of sink has to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from batchwrite.collector import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batchwrite.collector import Write
    from batchwrite.faults import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class EachReport:
    """What a sink says after writing items one by one; all of it is committed.

    Attributes:
        faults: The items refused, by position.
        reached: Number of items decided; those after them were not attempted.
    """

    faults: Mapping[int, Fault]
    reached: int


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

    def write_each(self, items: Sequence[Sequence[Write]], go_on: Callable[[int, Fault], bool]) -> EachReport:
        """Write the items in order, each whole or not at all, and say which were refused.

        Args:
            items: The items.
            go_on: Called for each item refused, in order, with its position; false ends the writing after it.

        Raises:
            FlushFailed: With a fault that is no item's.
        """

    def close(self) -> None:
        """Give back what the sink opened itself."""
