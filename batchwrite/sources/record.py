"""What a source yields: one record of the input, good or damaged. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from batchwrite.errors import BatchWriteError


class InputUnreadable(BatchWriteError):
    """The input cannot be read (on): its text says why, without a value of the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of the input.

    Attributes:
        line: Number of the physical line on which the record starts, from 1.
        lines: Number of physical lines it takes up.
        raw: The record exactly as it came, line ends included; what a file of rejects is made of.
        fields: Its values by field name; `None` if the record is damaged.
        problem: What is wrong with it, in words that quote no value; `None` if nothing is.
    """

    line: int
    lines: int = 1
    raw: bytes = field(repr=False)
    fields: dict[str, Any] | None = field(default=None, repr=False)
    problem: str | None = None
