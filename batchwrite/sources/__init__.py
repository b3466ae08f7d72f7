"""What items come from: files of delimited text and of JSON lines, read record by record.

A damaged record never ends the reading: it is a `Record` with a `problem`, its exact bytes kept, and the rest goes on.
"""

from __future__ import annotations

from batchwrite.sources.delimited import DelimitedReader
from batchwrite.sources.files import InputFile, open_input
from batchwrite.sources.jsonlines import JsonLinesReader
from batchwrite.sources.lines import LineReader
from batchwrite.sources.matching import RecordMapper
from batchwrite.sources.record import InputUnreadable, Record

__all__ = [
    "DelimitedReader",
    "InputFile",
    "InputUnreadable",
    "JsonLinesReader",
    "LineReader",
    "Record",
    "RecordMapper",
    "open_input",
]
