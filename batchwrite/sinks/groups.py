"""Which items a fallback writes together, in ever smaller groups. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchwrite.fault import Fault


class Groups:
    """Which neighbours are written together in a fallback, and what has become of them.

    Args:
        ranges: Ranges of the items' positions, in order.

    Attributes:
        waiting: The ranges still to be written, the next one last.
        refused: The reasons, by position.
        end: Position behind the last item that is to be written.
    """

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        self.waiting = [*reversed(ranges)]
        self.refused: dict[int, Fault] = {}
        self.end = ranges[-1][1] if ranges else 0
        self._written: list[tuple[int, int]] = []

    def next(self) -> tuple[int, int]:
        """The next range, as far as it is to be written."""
        start, stop = self.waiting.pop()
        return start, min(stop, self.end)

    def note(self, start: int, stop: int, *, is_written: bool) -> None:
        """Note what has become of a range: one that is not written, and no single item, is halved."""
        if is_written:
            self._written.append((start, stop))
        elif stop - start > 1:
            middle = (start + stop) // 2
            self.waiting += [(middle, stop), (start, middle)]

    def split_all(self) -> None:
        """Have each item written by itself."""
        self.waiting = [(place, place + 1) for start, stop in self.waiting for place in reversed(range(start, stop))]

    def begin_again(self) -> None:
        """All that has been written is undone: to be written once more, without what is refused."""
        self.waiting += reversed(self._written)
        self._written = []
