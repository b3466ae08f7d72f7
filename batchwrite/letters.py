"""Dead letters: the items that failed, kept where they can be looked at and written again. Pure, but for a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchwrite import item_json
from batchwrite.errors import ConfigurationError
from batchwrite.result import OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from batchwrite.result import ItemFailure
    from batchwrite.tally import ChunkReport

_LANDED = "landed"

# A packet of MariaDB's holds 16 MiB, unless its server is set otherwise.
_MOST_CHARACTERS = 8_000_000

# What a letter holds in the place of an item that could not be kept.
_NOT_KEPT = "not kept"

# Beside it, what can be shown of the item.
_SHOWN = "shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One failed item.

    Attributes:
        run_id: The run in which it failed.
        item_index: Position of the item in that run's input, from 0.
        attempt: How many times it has been tried, from 1: once by the run, and once by each retry.
        item: The item, as JSON.
        stage: Where it failed.
        error_type: Name of the exception's class.
        message: What happened, in words that quote no value of the row.
        sqlstate: The error's code, where the database gives one.
        table_name: The table that refused it, where known.
        column_name: The column at fault, where known.
        constraint_name: The constraint that refused it, where known.
        detail: The full text of the error, which may quote values of the row.
    """

    run_id: str
    item_index: int
    attempt: int
    item: str = field(repr=False)
    stage: str
    error_type: str
    message: str
    sqlstate: str | None
    table_name: str | None
    column_name: str | None
    constraint_name: str | None
    detail: str | None = field(repr=False)

    def row(self) -> dict[str, Any]:
        """The letter as a row, by column."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Letter:
        """The letter that a row holds."""
        return cls(**{each.name: row[each.name] for each in fields(cls)})


class DeadLetters:
    """Keeps failed items in a table of the ledger, written in the transaction of the chunk that refused them.

    Args:
        types: Classes (dataclasses, named tuples, enumerations) whose objects are to come back as such when letters
            are read. An object of any other class comes back as a dictionary of its attributes.
        encode: Writes an item as JSON. The default knows the standard library's types, and whole numbers and floats of
            any class, which come back as `int` and `float`. Where a value cannot come back as an equal one (an array
            of numpy, `pandas.NA`, a `pandas.Timestamp` with nanoseconds), the letter says so, shows the item, and
            cannot be written again.
        decode: Reads it back.
        most_characters: Longest JSON of an item. The letter of an item with a longer one, or with none, says of which
            class it was and why it is not there; such an item cannot be written again.
    """

    def __init__(
        self,
        *,
        types: Sequence[type] = (),
        encode: Callable[[Any], str] | None = None,
        decode: Callable[[str], Any] | None = None,
        most_characters: int = _MOST_CHARACTERS,
    ) -> None:
        if not (isinstance(types, Sequence) and all(isinstance(kind, type) for kind in types)):
            raise ConfigurationError("types of dead letters are a list of classes")
        self._most_characters = most_characters
        self._types = tuple(types)
        self._encode = encode
        self._decode = decode or partial(item_json.decode, types=self._types)

    def letter(self, run_id: str, failure: ItemFailure) -> Letter:
        """The letter for a failure; for an item that comes from a letter, its next."""
        told: dict[str, Any] = {
            "stage": str(failure.stage),
            "error_type": failure.error_type,
            "message": storable(failure.message),
            "sqlstate": failure.sqlstate,
            "table_name": failure.table,
            "column_name": failure.column,
            "constraint_name": failure.constraint,
            "detail": None if failure.detail is None else storable(failure.detail),
        }
        if isinstance(failure.item, ReadLetter):
            last = failure.item.letter
            return replace(last, attempt=last.attempt + 1, **told)
        item = self._encoded(failure.item)
        return Letter(run_id=run_id, item_index=failure.index, attempt=1, item=item, **told)

    def _encoded(self, item: Any) -> str:
        told: dict[str, Any] = {}
        try:
            text, lost = self._written(item)
            if len(text) > self._most_characters:
                because = "its JSON is too long"
            elif lost:
                because = f"JSON cannot give a value of type {' or '.join(lost)} back as it was"
                told = {_SHOWN: json.loads(text)}
            else:
                return text
        except Exception as error:  # noqa: BLE001 - the letter goes out all the same, with what can be said
            because = f"{type(error).__name__} was raised when it was written as JSON"
        return json.dumps({_NOT_KEPT: type(item).__qualname__, "because": because, **told})

    def _written(self, item: Any) -> tuple[str, tuple[str, ...]]:
        """An item as JSON, and the classes whose values in it are lost, as far as that is known."""
        if self._encode is not None:
            return self._encode(item), ()
        written = item_json.encoded(item, self._types)
        return written.text, written.lost

    def read(self, letter: Letter) -> ReadLetter:
        """A letter with its item.

        Raises:
            ConfigurationError: The item cannot be read back.
        """
        why = _why_not_kept(letter.item)
        if why is not None:
            return ReadLetter(letter=letter, item=None, problem=why)
        try:
            return ReadLetter(letter=letter, item=self._decode(letter.item))
        except Exception as error:
            text = f"item {letter.item_index} of run {letter.run_id!r} cannot be read back ({type(error).__name__})"
            raise ConfigurationError(text) from error


def _why_not_kept(text: str) -> str | None:
    """Why a letter holds no item, if it holds none."""
    if not text.startswith(f'{{"{_NOT_KEPT}": '):
        return None
    told = json.loads(text)
    is_ours = {_NOT_KEPT, "because"} <= told.keys() <= {_NOT_KEPT, "because", _SHOWN}
    return f"the {told[_NOT_KEPT]} was not kept: {told['because']}" if is_ours else None


def storable(text: str) -> str:
    """A text without what databases have no room for in theirs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLetter:
    """A letter that is to be written again.

    Attributes:
        letter: The letter.
        item: The item.
        problem: Why there is no item, where there is none.
    """

    letter: Letter
    item: Any = field(repr=False)
    problem: str | None = None


class DeadLetterFile(DeadLetters):
    """Keeps failed items in a file of JSON lines, one a letter.

    A chunk's letters are appended, and are on the disk, before the run goes on behind the chunk. After a crash in
    between, a run that goes on (with a ledger, under the same `run_id`) adds those that are missing, without `detail`.
    After a crash of a retry, letters may still be there whose items have landed: with an idempotency key, these are
    skipped the next time.

    Args:
        path: The file; it is appended to, and made where it is not there, readable by its owner only.
        types: As for `DeadLetters`.
        encode: As for `DeadLetters`.
        decode: As for `DeadLetters`.
        most_characters: As for `DeadLetters`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        types: Sequence[type] = (),
        encode: Callable[[Any], str] | None = None,
        decode: Callable[[str], Any] | None = None,
        most_characters: int = _MOST_CHARACTERS,
    ) -> None:
        super().__init__(types=types, encode=encode, decode=decode, most_characters=most_characters)
        if not isinstance(path, (str, Path)):
            raise ConfigurationError(f"the path of dead letters is a str or a Path, not a {type(path).__name__}")
        self._path = os.fspath(path)

    def keep(self, run_id: str, report: ChunkReport) -> None:
        """Write down what has failed of a chunk, and what has landed of letters.

        Raises:
            OSError: It cannot be written.
        """
        self.append(self.letter(run_id, failure) for failure in report.failures.values())
        self.append_landed(
            outcome.item.letter
            for outcome in (report.outcomes() if isinstance(report.chunk.items[0], ReadLetter) else ())
            if outcome.status is OutcomeStatus.WRITTEN
        )

    def append(self, letters: Iterable[Letter]) -> None:
        """Add letters.

        Raises:
            OSError: They cannot be written.
        """
        self._append(letter.row() for letter in letters)

    def append_landed(self, letters: Iterable[Letter]) -> None:
        """Note that the items of letters have landed after all.

        Raises:
            OSError: That cannot be written.
        """
        self._append({"run_id": letter.run_id, "item_index": letter.item_index, _LANDED: True} for letter in letters)

    def _append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        if not text:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                text = "\n" + text  # what was being written at a crash has no end
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def letters(self, run_id: str) -> list[Letter]:
        """The letters of a run whose items have not landed, the last of each item, in the items' order.

        Raises:
            OSError: The file cannot be read.
        """
        found = {index: letter for index, letter in self._last(run_id).items() if letter is not None}
        return [found[index] for index in sorted(found)]

    def known(self, run_id: str) -> set[int]:
        """Positions of the items of a run for which there is, or was, a letter.

        Raises:
            OSError: The file cannot be read.
        """
        return set(self._last(run_id))

    def landed_since(self, run_id: str) -> set[int]:
        """Positions of the failed items of a run that a retry has written.

        Raises:
            OSError: The file cannot be read.
        """
        return {index for index, letter in self._last(run_id).items() if letter is None}

    def _last(self, run_id: str) -> dict[int, Letter | None]:
        """The last letter by position of the item; nothing for one that has landed."""
        last: dict[int, Letter | None] = {}
        if not Path(self._path).exists():
            return last
        with Path(self._path).open(encoding="utf-8") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    if row["run_id"] == run_id:
                        last[row["item_index"]] = None if row.get(_LANDED) else Letter.from_row(row)
                except (ValueError, KeyError, TypeError):
                    continue  # what was being written at a crash
        return last
