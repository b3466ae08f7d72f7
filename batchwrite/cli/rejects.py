"""The file of rejects: failed lines exactly as they came, and beside it a JSON line a failure that says why.

Both are made before the first line is loaded, so that a path which cannot be written to is found out in time, and a
file of an earlier run is not taken for this one's. If nothing failed they are removed: a file of rejects that is there
has rejects in it.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

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
        count: Number of failures written.
    """

    def __init__(self, lines: BinaryIO, reasons: BinaryIO) -> None:
        self._lines = lines
        self._reasons = reasons
        self.count = 0

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
def rejects_at(path: Path, preamble: bytes, *, unlike: Iterable[Path]) -> Iterator[Rejects]:
    """Open the files, and remove them at the end if nothing was rejected.

    Args:
        path: Where failed lines go.
        preamble: What the file begins with.
        unlike: Files that must not be overwritten.

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
        lines, reasons = (files.enter_context(_created(candidate)) for candidate in paths)
        rejects = Rejects(lines, reasons)
        lines.write(preamble)
        yield rejects
    for name in paths:
        if not rejects.count and name.is_file():
            name.unlink()


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("wb")
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
