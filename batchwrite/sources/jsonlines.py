"""JSON lines to records: one object a line; a damaged line costs itself and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        lines: Where the physical lines come from.

    Attributes:
        preamble: The bytes a file must begin with to be read in the same way: its byte order mark.
    """

    def __init__(self, lines: LineReader) -> None:
        self._lines = lines
        self.preamble = lines.mark

    def __iter__(self) -> Iterator[Record]:
        for line in self._lines:
            if line.text is None or not line.text.isspace():
                yield _record(line)


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
