"""Delimited text (CSV) to records; a damaged line costs itself and nothing else.

The standard library's `csv` takes the fields apart, in strict mode. What this adds is the answer to the question which
lines belong to a record that errs. A quoted field may hold line ends, so that a quote which is never closed would
swallow the rest of the file. The rules:

- A record that errs, is open at the end of the input, or goes on for too long costs its first line: the reading resumes
  at the next one.
- A record of several lines that has the wrong number of fields costs its first line if its last line is a good record
  by itself (a quote was left open, and the next quoted field closed it), and else is one failure as a whole.

A text between quotes that happens to close where the next quoted field ends is a record like any other: no reader can
tell.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import deque
from typing import TYPE_CHECKING

from batchwrite.errors import ConfigurationError
from batchwrite.sources.lines import MAX_LINE_BYTES
from batchwrite.sources.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchwrite.sources.lines import Line, LineReader

MAX_RECORD_BYTES = 1024 * 1024
"""A record of several lines that is longer than this has a quote that was left open. Bounds memory and search."""

MAX_RECORD_LINES = 10_000
"""Likewise in lines."""

_SHADOW_LINES = 100
"""How far a record may reach into lines in which an earlier one found no end (see `_Feed`)."""

_UNCLOSED = "a quote is opened and not closed"
_MALFORMED = "text after a closing quote"


class DelimitedReader:
    """Iterates over the records of delimited text whose first record is the header; blank lines are no records.

    Args:
        lines: Where the physical lines come from; the header is read at once.
        delimiter: One character between fields.
        from_line: Number of the line from which on records are read, from 1: where one begins. The header is read
            from the beginning whatever this says.

    Attributes:
        header: Names of the fields.
        preamble: The bytes a file must begin with to be read in the same way: byte order mark and header.

    Raises:
        ConfigurationError: The input is empty, its header cannot be read, has a name twice or an empty one, or the
            delimiter is not one character that can stand between fields.
        InputUnreadable: The stream under `lines` raised it.
    """

    def __init__(self, lines: LineReader, *, delimiter: str = ",", from_line: int = 1) -> None:
        if len(delimiter) != 1 or delimiter in '"\r\n\0':
            raise ConfigurationError(f"{delimiter!r} cannot delimit fields: one character is asked for")
        _allow_long_fields()
        self._delimiter = delimiter
        self._feed = _Feed(iter(lines))
        self._parser = csv.reader(self._feed, delimiter=delimiter, strict=True)
        self._well_formed = _well_formed_record(delimiter)
        self.header, raw = self._read_header()
        self.preamble = lines.mark + raw
        lines.pass_over(from_line)

    def __iter__(self) -> Iterator[Record]:
        while (record := self._next_record()) is not None:
            yield record

    def _read_header(self) -> tuple[tuple[str, ...], bytes]:
        values: list[str] | None = []
        while values == []:
            values, problem = self._next_values()
            if problem:
                raise ConfigurationError(f"the header (line {self._feed.taken[0].number}) cannot be read: {problem}")
        if values is None:
            raise ConfigurationError("the input is empty: a header line is expected")
        _check_header(values)
        return tuple(values), b"".join(line.raw for line in self._feed.taken)

    def _next_record(self) -> Record | None:
        values: list[str] | None = []
        problem = None
        while values == [] and not problem:
            values, problem = self._next_values()
        if values is None:
            return None
        if values and len(values) != len(self.header):
            problem = self._ragged(len(values), problem)
        taken = self._feed.taken
        raw = taken[0].raw if len(taken) == 1 else b"".join(line.raw for line in taken)
        fields = None if problem else dict(zip(self.header, values, strict=True))
        return Record(line=taken[0].number, lines=len(taken), raw=raw, fields=fields, problem=problem)

    def _next_values(self) -> tuple[list[str] | None, str | None]:
        """The next record's values and its problem; no values at the end, an empty list for a blank or damaged line."""
        feed = self._feed
        feed.begin_record()
        try:
            values = next(self._parser)
        except StopIteration:
            return None, None
        except csv.Error:
            problem = _UNCLOSED if len(feed.taken) > 1 or feed.at_end else _MALFORMED
            feed.keep_first_line()
            return [], feed.taken[0].problem or problem
        return values, feed.problem

    def _ragged(self, found: int, problem: str | None) -> str:
        taken = self._feed.taken
        if len(taken) > 1 and self._quote_was_left_open(taken):
            self._feed.keep_first_line()
            return taken[0].problem or _UNCLOSED
        return problem or f"{found} {'field' if found == 1 else 'fields'} where the header has {len(self.header)}"

    def _quote_was_left_open(self, taken: list[Line]) -> bool:
        """Whether a ragged record of several lines came about by a quote that was left open in the first.

        The last line tells: there a quote closed the field. If that quote opens a field when the line is read by
        itself, that is what it was written for. A quote that was meant to close stands in the middle of a field then.
        """
        last = taken[-1].text or ""
        if not self._well_formed.fullmatch(last):
            return False
        values = next(csv.reader([last], delimiter=self._delimiter, strict=True))
        return len(values) == len(self.header)


class _Feed:
    """Hands physical lines to the CSV parser, remembers those of the record under way, and takes lines back.

    A quote that is left open is searched for its end in up to `MAX_RECORD_LINES` further lines; if many lines left one
    open, the search would start again at each. But a line that begins inside quotes is read in the same way whichever
    line opened them: where one search found no good end, the next will hardly find one. `_open_until` remembers how
    far the search went; a record with more than `_SHADOW_LINES` of that stretch before it is given up at its second
    line, which keeps the whole reading linear.
    """

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._returned: deque[Line] = deque()
        self._open_until = 0
        self._bytes = 0
        self.taken: list[Line] = []
        self.at_end = False

    def begin_record(self) -> None:
        self.taken = []

    def keep_first_line(self) -> None:
        """Take back the lines of the record under way but for the first."""
        self._open_until = max(self._open_until, self.taken[-1].number)
        self._returned.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    @property
    def problem(self) -> str | None:
        """The first problem of a line of the record under way."""
        for line in self.taken:
            if line.problem:
                return line.problem
        return None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._lines, None)
        self.at_end = line is None
        if line is None:
            if self.taken:
                self._open_until = sys.maxsize
            raise StopIteration
        taken = self.taken
        taken.append(line)
        if len(taken) > 1 or line.text is None:
            self._check_reach(line)
        return line.text or ""

    def _check_reach(self, line: Line) -> None:
        """Refuse to go on with a record that cannot be one."""
        taken = self.taken
        if line.text is None:
            raise csv.Error
        if len(taken) == 2:
            self._bytes = len(taken[0].raw)
            if self._open_until - line.number > _SHADOW_LINES:
                raise csv.Error
        self._bytes += len(line.raw)
        if self._bytes > MAX_RECORD_BYTES or len(taken) > MAX_RECORD_LINES:
            raise csv.Error


def _check_header(names: list[str]) -> None:
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise ConfigurationError(f"the header has no name for field {position}")
        if name in seen:
            raise ConfigurationError(f"the header has the name {name!r} twice")
        seen.add(name)


def _well_formed_record(delimiter: str) -> re.Pattern[str]:
    """Matches a line that is a record by itself and has no quote inside an unquoted field."""
    field = rf'(?:"(?:[^"]|"")*+"|[^"{re.escape(delimiter)}\r\n]*+)'
    return re.compile(rf"{field}(?:{re.escape(delimiter)}{field})*+[\r\n]*")


def _allow_long_fields() -> None:
    """Raise the limit of the `csv` module, which is one for the whole process; never lower it."""
    if csv.field_size_limit() < MAX_LINE_BYTES:
        csv.field_size_limit(MAX_LINE_BYTES)
