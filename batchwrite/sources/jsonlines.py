"""JSON lines to records: one object a line; a damaged line costs itself and nothing else."""

from __future__ import annotations

from itertools import filterfalse
from typing import TYPE_CHECKING

from batchwrite.errors import ConfigurationError
from batchwrite.sources.convert import ValueRefused, parse_json
from batchwrite.sources.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchwrite.sources.lines import Line, LineReader


class JsonLinesReader:
    """Iterates over the records of a JSON lines input; blank lines are no records.

    Fractions come as `Decimal`. What is not one JSON object, has a key twice, or holds NaN or Infinity is a record
    with a problem.

    Args:
        lines: Where the physical lines come from; the first that is not blank is read at once.
        from_line: Number of the line from which on records are read, from 1.

    Attributes:
        preamble: The bytes a file must begin with to be read in the same way: its byte order mark.

    Raises:
        ConfigurationError: The input begins with `[`, as an array does: of one that goes over several lines, the last
            element alone might be an object on a line of its own.
        InputUnreadable: The stream under `lines` raised it.
    """

    def __init__(self, lines: LineReader, *, from_line: int = 1) -> None:
        self.preamble = lines.mark
        self._lines = filterfalse(_is_blank, lines)
        first = next(self._lines, None)
        if first is not None and (first.text or "").lstrip().startswith("["):
            raise ConfigurationError(
                "the input begins with [, as a JSON array does, and not with one object a line: "
                "`jq -c '.[]'` makes such lines of an array"
            )
        self._first = first if first is not None and first.number >= from_line else None
        lines.pass_over(from_line)

    def __iter__(self) -> Iterator[Record]:
        if self._first is not None:
            first, self._first = self._first, None
            yield _record(first)
        yield from map(_record, self._lines)


def _is_blank(line: Line) -> bool:
    return line.text is not None and line.text.isspace()


def _record(line: Line) -> Record:
    problem = line.problem
    if problem is None:
        try:
            fields = parse_json((line.text or "").rstrip("\r\n"))
        except ValueRefused as error:
            problem = str(error)
        else:
            if isinstance(fields, dict):
                return Record(line=line.number, raw=line.raw, fields=fields)
            problem = "not a JSON object"
    return Record(line=line.number, raw=line.raw, problem=problem)
