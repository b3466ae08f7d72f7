"""Where a load has ended before its input has, and how it goes on: nothing lost, and nothing twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchwrite.cli.load import LoadOptions
    from batchwrite.cli.load_input import FollowedRecords
    from batchwrite.result import BatchResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Where a load has ended, and how it goes on; nothing of it where it has come to the end of its input.

    Attributes:
        next_line: The first line that was not attempted; all that follow were not either.
        advice: How many lines are committed, and what to do about the others.
    """

    next_line: int | None = None
    advice: str | None = None


def ending_of(
    result: BatchResult, records: FollowedRecords, options: LoadOptions, unknown_lines: tuple[int, int] | None
) -> Ending:
    """Where a load has ended: by the counts, since outcomes are lost where a second Ctrl-C comes at a bad moment.

    Args:
        result: The result.
        records: What was read.
        options: What the command line said.
        unknown_lines: The first and the last line of which it is not known whether they landed.
    """
    if result.abort is None:
        return Ending()
    done = result.resumed + result.received - result.unattempted
    next_line = records.line_behind(done)
    if options.run_id is not None:
        return Ending(next_line=next_line, advice="to go on, give the same command: the ledger knows where")
    if result.unknown:
        return Ending(next_line=next_line, advice=_doubtful(unknown_lines, next_line))
    first = next_line if done else options.from_line
    if first is None:
        return Ending(next_line=next_line, advice="nothing is committed: to begin anew, give the same command")
    name = "standard input" if options.file == "-" else options.file
    committed = f"committed: the first {first - 1:,} lines of {name}, but for those that failed"
    advice = f"{committed}; to go on behind them, give the same command with --from-line {first}"
    return Ending(next_line=next_line, advice=advice)


def _doubtful(unknown_lines: tuple[int, int] | None, next_line: int | None) -> str:
    """What to do where nobody knows whether the last chunk has landed: all of it, or nothing."""
    if unknown_lines is None:
        return f"look which of the last lines before line {next_line} have landed before you go on"
    first, last = unknown_lines
    return (
        f"look whether a line of these is in the table: if so, give the same command with --from-line "
        f"{next_line or last + 1}, and if not, with --from-line {first}"
    )
