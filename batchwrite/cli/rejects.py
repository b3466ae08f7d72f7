"""The file of rejects: failed lines exactly as they came, and beside it a JSON line a failure that says why.

Both are made before the first line is loaded, so that a path which cannot be written to is found out in time, and a
file of an earlier run is not taken for this one's. If nothing failed they are removed: a file of rejects that is there
has rejects in it.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Literal

from batchwrite.cli.errors import WrongUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from batchwrite.result import ItemFailure
    from batchwrite.sources import Record

REASONS_SUFFIX = ".reasons.jsonl"
"""What the name of the file with the reasons adds to that of the file with the lines."""


class Rejects:
    """Two open files.

    Attributes:
        count: Number of failures written, here or before.
    """

    def __init__(self, lines: BinaryIO, reasons: BinaryIO, count: int = 0) -> None:
        self._lines = lines
        self._reasons = reasons
        self.count = count

    def write(self, failure: ItemFailure) -> None:
        """Write a failure whose item is a record; at once, since the lines around it are committed already.

        Raises:
            OSError: A file cannot be written on.
        """
        record: Record = failure.item
        reason = json.dumps(described(failure)) + "\n"
        for file, data in ((self._lines, record.raw), (self._reasons, reason.encode())):
            file.write(data)
            file.flush()
        self.count += 1


def described(failure: ItemFailure) -> dict[str, object]:
    """A failure in JSON's terms, with the line it is in and without values of the row."""
    fields = failure.to_dict()
    del fields["index"], fields["attempts"]
    return {"line": failure.item.line, **fields}


def reasons_path(path: Path) -> Path:
    """Where the reasons of rejects go."""
    return path.with_name(path.name + REASONS_SUFFIX)


@contextmanager
def rejects_at(path: Path, preamble: bytes, *, unlike: Iterable[Path], goes_on: bool = False) -> Iterator[Rejects]:
    """Open the files, and remove them at the end if nothing was rejected.

    Args:
        path: Where failed lines go.
        preamble: What the file begins with.
        unlike: Files that must not be overwritten.
        goes_on: Whether a part of the input has been loaded before: then what that part has rejected stays, where the
            files are of such lines.

    Raises:
        WrongUsage: A file cannot be made, or is one of those.
    """
    if not path.name or path.is_dir():
        raise WrongUsage("--rejects asks for the path of a file")
    paths = (path, reasons_path(path))
    for protected in unlike:
        if any(_is_same(candidate, protected) for candidate in paths):
            raise WrongUsage(f"--rejects would overwrite {protected}")
    with ExitStack() as files:
        before = _held(path, preamble) if goes_on else 0
        lines, reasons = (files.enter_context(_opened(candidate, "ab" if before else "wb")) for candidate in paths)
        if not before:
            lines.write(preamble)
        rejects = Rejects(lines, reasons, before)
        yield rejects
    for name in paths:
        if not rejects.count and name.is_file():
            name.unlink()


def _held(path: Path, preamble: bytes) -> int:
    """The number of rejects in the files of an earlier part, if they are there."""
    try:
        with path.open("rb") as lines, reasons_path(path).open("rb") as reasons:
            return sum(1 for _ in reasons) if lines.read(len(preamble)) == preamble else 0
    except OSError:
        return 0


@contextmanager
def _opened(path: Path, mode: Literal["ab", "wb"]) -> Iterator[BinaryIO]:
    try:
        file = path.open(mode)
    except OSError as error:
        raise WrongUsage(f"cannot write {path}: {error.strerror}") from error
    try:
        yield file
    finally:
        with suppress(OSError):  # a full disk has been reported when the failure was written
            file.close()


def _is_same(left: Path, right: Path) -> bool:
    try:
        return left.samefile(right)
    except OSError:  # one of them is not there
        return False
