"""The records that a load reads, followed: on which lines they are, and which fields have come."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from batchwrite.sources import InputUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batchwrite.sources import Record

_MOST_AHEAD = 1_000
_MOST_BYTES_AHEAD = 8 * 1024 * 1024


class FollowedRecords:
    """Hands records on, and knows of the last ones on which lines they are.

    Args:
        records: The records.
        most: How many of the last records to know. Of those that are not decided yet there are never more than the
            chunk that is collected, the one that is full, and those on their way.
        awaited: Fields of which at least one record should have each.

    Attributes:
        count: Number of records handed on.
        objects: Number of those read that are not damaged.
        fields: Names of the fields of the first of these.
        missing: Those awaited that no record read so far has, in order.
        has_ended: Whether all records are read.
    """

    def __init__(self, records: Iterable[Record], *, most: int, awaited: Iterable[str] = ()) -> None:
        self._records = iter(records)
        self._lines: deque[int] = deque(maxlen=most)
        self._behind: int | None = None
        self._ahead: deque[Record] = deque()
        self._broken: InputUnreadable | None = None
        self.count = 0
        self.objects = 0
        self.fields: tuple[str, ...] = ()
        self.missing = dict.fromkeys(awaited)
        self.has_ended = False

    def look_ahead(self) -> None:
        """Read records that are handed on later, until no field is missing, or enough of them are read."""
        size = 0
        while self.missing and len(self._ahead) < _MOST_AHEAD and size < _MOST_BYTES_AHEAD:
            try:
                record = self._read()
            except InputUnreadable as error:
                self._broken = error  # to be raised in its turn
                return
            if record is None:
                return
            size += len(record.raw)
            self._ahead.append(record)

    def __iter__(self) -> Iterator[Record]:
        while self._ahead:
            yield self._noted(self._ahead.popleft())
        if self._broken is not None:
            raise self._broken
        while (record := self._read()) is not None:
            yield self._noted(record)

    def line_behind(self, count: int) -> int | None:
        """The line on which the record behind so many begins, or, where it is not read, the one behind the last.

        Args:
            count: Number of records from the first; of those handed on behind them there are less than `most`.

        Returns:
            The line; nothing where no record was read.
        """
        place = count - (self.count - len(self._lines))
        return self._lines[place] if 0 <= place < len(self._lines) else self._behind

    def _read(self) -> Record | None:
        record = next(self._records, None)
        if record is None:
            self.has_ended = True
        elif record.fields is not None:
            self.objects += 1
            self.fields = self.fields or tuple(record.fields)
            if self.missing:
                self.missing = {field: None for field in self.missing if field not in record.fields}
        return record

    def _noted(self, record: Record) -> Record:
        self._lines.append(record.line)
        self._behind = record.line + record.lines
        self.count += 1
        return record
