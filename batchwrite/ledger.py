"""What a chunk's own transaction records of it, so that nobody ever has to guess whether it was committed. Pure.

An entry is written with the rows of its chunk and committed with them, or not at all. So where COMMIT got no answer the
entry tells what became of it, and a run that is started again goes on behind its last entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from batchwrite import item_json
from batchwrite.attributes import attributes_of
from batchwrite.errors import ItemRefused
from batchwrite.faults import Fault, FaultKind, FlushFailed
from batchwrite.result import ItemFailure, Stage
from batchwrite.tally import ChunkReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchwrite.chunk import Chunk
    from batchwrite.letters import DeadLetters, Letter

# What an entry keeps of a failure, in this order behind its position: everything but the item and what may quote it.
_KEPT = ("stage", "error_type", "message", "sqlstate", "table", "column", "constraint", "attempts")

# Types whose `repr` is the same for equal values in every process, and modules whose types' is.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_STANDARD = frozenset({"datetime", "decimal", "fractions", "uuid", "zoneinfo", "ipaddress", "pathlib"})

_MOST_LEVELS = 10

_MOST_OF_A_KEY = 128


class BookRows(NamedTuple):
    """Rows of the library's own that are committed with a chunk.

    Attributes:
        table: Where they go; what the sink knows it by.
        rows: The rows, by column; all have the same columns, and their values can go into JSON.
        is_kept: Whether they stay; if not, they are deleted again at once: all that matters is whether they were there.
    """

    table: Any
    rows: Sequence[Mapping[str, Any]]
    is_kept: bool = True


Books = Callable[[Sequence[tuple[int, Fault]]], Sequence[BookRows]]
"""What a sink calls before COMMIT, with the positions of the items that are left out and the reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is recorded of a chunk.

    Attributes:
        run_id: The run.
        first_item: Position of the chunk's first item in the input, from 0.
        items: Number of its items.
        fingerprint: What the items are, for short (see `fingerprint`).
        written: Number of items that landed.
        failed: Number of items that failed.
        skipped: Number of items that were skipped.
        failures: The failures, by position in the chunk, as `_KEPT` has them.
        parked: Positions of the items that are put off to the end of the run.
    """

    run_id: str
    first_item: int
    items: int
    fingerprint: str
    written: int
    failed: int
    skipped: int
    failures: Mapping[int, Sequence[Any]] = field(default_factory=dict)
    parked: frozenset[int] = frozenset()

    @classmethod
    def of(cls, run_id: str, report: ChunkReport) -> Entry:
        """The entry for a chunk of which this is to be reported once it is committed."""
        return cls(
            run_id=run_id,
            first_item=report.chunk.first_index,
            items=report.reached,
            fingerprint=fingerprint(report.chunk.items[: report.reached]),
            written=report.landed,
            failed=len(report.failures),
            skipped=report.skipped,
            failures={
                position: [getattr(failure, name) for name in _KEPT] for position, failure in report.failures.items()
            },
            parked=report.parked,
        )

    def report(self, chunk: Chunk) -> ChunkReport:
        """What became of the chunk that this was recorded of."""
        failures = self._failures(chunk.items, chunk.index_of)
        has_fallen_back = bool(failures or self.parked)
        return ChunkReport(
            chunk=chunk, failures=failures, reached=self.items, fell_back=has_fallen_back, parked=self.parked
        )

    def failures_of(self, items: Sequence[Any]) -> Iterable[ItemFailure]:
        """The failures among the items that this was recorded of, without what their texts may quote."""
        return self.failures_told(lambda position: (self.first_item + position, items[position])).values()

    def _failures(self, items: Sequence[Any], index_of: Callable[[int], int]) -> dict[int, ItemFailure]:
        return self.failures_told(lambda position: (index_of(position), items[position]))

    def failures_told(self, item_of: Callable[[int], tuple[int, Any]]) -> dict[int, ItemFailure]:
        """The failures by position, without what their texts may quote.

        Args:
            item_of: Gives the index and the item of a position.
        """
        return {
            position: ItemFailure(
                index=item_of(position)[0],
                item=item_of(position)[1],
                stage=Stage(stage),
                **dict(zip(_KEPT[1:], rest, strict=True)),
            )
            for position, (stage, *rest) in self.failures.items()
        }

    def row(self) -> dict[str, Any]:
        """The entry as a row of the ledger."""
        kept = [[position, *each] for position, each in sorted(self.failures.items())]
        kept += [[position] for position in sorted(self.parked)]
        columns = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "parked"}
        return columns | {"failures": json.dumps(kept)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Entry:
        """The entry that a row of the ledger holds."""
        values = {each.name: row[each.name] for each in fields(cls) if each.name != "parked"}
        kept = {position: each for position, *each in json.loads(row["failures"])}
        failures = {position: each for position, each in kept.items() if each}
        return cls(**values | {"failures": failures}, parked=frozenset(kept.keys() - failures.keys()))


class LedgerStore(Protocol):
    """Where entries are kept: what the engine asks of it."""

    def entries(self, run_id: str) -> Iterator[Entry]:
        """The entries of a run, in order, those for items put off left out.

        Raises:
            FlushFailed: They cannot be read.
        """

    def entries_of_parked(self, run_id: str) -> Sequence[Entry]:
        """The entries for items that a run has put off and decided since, in order.

        Raises:
            FlushFailed: They cannot be read.
        """

    def find(self, run_id: str, first_item: int) -> Entry | None:
        """The entry of one chunk, if there is one.

        Raises:
            FlushFailed: It cannot be read.
        """

    def rows_of(self, entry: Entry) -> BookRows:
        """What has to be written to record an entry."""

    def rows_of_letters(self, letters: Sequence[Letter]) -> BookRows:
        """What has to be written to keep dead letters."""

    def rows_of_keys(self, scope: str, keys: Sequence[str], run_id: str) -> BookRows:
        """What has to be written to know idempotency keys again."""

    def seen(self, scope: str, keys: Sequence[str]) -> AbstractSet[str]:
        """Those of some idempotency keys whose items have landed.

        Raises:
            FlushFailed: They cannot be read.
        """


class Bookkeeper:
    """Keeps the books of one run.

    Args:
        store: Where entries are kept.
        run_id: The run.
        dead_letters: What makes letters of the run's failures, if they are to be kept with the entries.
        key_scope: What idempotency keys belong to: equal keys of two scopes are two keys.
    """

    def __init__(
        self, store: LedgerStore, run_id: str, dead_letters: DeadLetters | None = None, key_scope: str = ""
    ) -> None:
        self._store = store
        self._dead_letters = dead_letters
        self._key_scope = key_scope
        self.run_id = run_id

    def without_duplicates(self, chunk: Chunk) -> Chunk:
        """A chunk with the items left out whose idempotency keys have landed before.

        Raises:
            FlushFailed: They cannot be looked up.
        """
        keys = [key for place, key in enumerate(chunk.keys) if key is not None and place not in chunk.verdicts]
        return chunk.without(self._store.seen(self._key_scope, keys)) if keys else chunk

    def rows(self, report: ChunkReport) -> Sequence[BookRows]:
        """What has to be written with a chunk of which this is to be reported."""
        rows = [self._store.rows_of(Entry.of(self.run_id, report))]
        if self._dead_letters is not None:
            letters = [self._dead_letters.letter(self.run_id, failure) for failure in report.failures.values()]
            rows.append(self._store.rows_of_letters(letters))
        return rows + [each for each in self._rows_of_keys(report) if each.rows]

    def _rows_of_keys(self, report: ChunkReport) -> Iterator[BookRows]:
        """The keys of the items that landed, and, to see that they are not there, of those that were refused.

        Such an item may have been refused for the row of another with its key, that somebody else has committed after
        the look-up: then it is a duplicate, and no failure.
        """
        landed: list[str] = []
        refused: list[str] = []
        for place, key in enumerate(report.chunk.keys[: report.reached]):
            if key is not None and place not in report.chunk.verdicts and place not in report.parked:
                (refused if place in report.failures else landed).append(key)
        yield self._store.rows_of_keys(self._key_scope, landed, self.run_id)
        yield self._store.rows_of_keys(self._key_scope, refused, self.run_id)._replace(is_kept=False)

    def find(self, chunk: Chunk) -> ChunkReport | None:
        """What became of a chunk, if it has been committed.

        Raises:
            FlushFailed: The ledger cannot be read, or the entry is that of other items.
        """
        entry = self._store.find(self.run_id, chunk.first_index)
        if entry is None:
            return None
        if entry.items > len(chunk):
            text = f"run {self.run_id!r} is being written by somebody else at the same time, in other chunks"
            raise FlushFailed(Fault(kind=FaultKind.FATAL, error_type="LedgerMismatch", message=text))
        if entry.fingerprint != fingerprint(chunk.items[: entry.items]):
            raise FlushFailed(_other_items(self.run_id, chunk.first_index))
        return entry.report(chunk)

    def find_part(self, chunk: Chunk, wholes: Iterable[tuple[Chunk, int]]) -> ChunkReport | None:
        """What became of a chunk, if it has been committed, by itself or as a part of a larger one.

        Args:
            chunk: The chunk.
            wholes: What it may have been committed as a part of, the largest first, and where it begins there.

        Raises:
            FlushFailed: As `find`.
        """
        for whole, start in wholes:
            report = self.find(whole)
            part = report.part(chunk, start) if report is not None else None
            if part is not None:
                return part
        return self.find(chunk)

    def entries(self) -> Iterator[Entry]:
        """What earlier starts of the run have committed, in order; raises as `LedgerStore.entries`."""
        return self._store.entries(self.run_id)

    def entries_of_parked(self) -> Sequence[Entry]:
        """As `LedgerStore.entries_of_parked`."""
        return self._store.entries_of_parked(self.run_id)


def _other_items(run_id: str, first_item: int) -> Fault:
    text = f"run {run_id!r} has written other items from item {first_item} on: another run needs another run_id"
    return Fault(kind=FaultKind.FATAL, error_type="LedgerMismatch", message=text)


def key_text(key: Any) -> str | None:
    """An idempotency key as the ledger holds it: keys of equal types and digits have equal texts, of 128 characters.

    Raises:
        ItemRefused: It cannot be told apart from others.
    """
    if key is None:
        return None
    if not item_json.is_plain(key):
        kind = type(key).__qualname__
        raise ItemRefused(f"an idempotency key is a text, a number, a date or a tuple of such, and not a {kind}")
    text = item_json.encode(key)
    if len(text) > _MOST_OF_A_KEY:
        return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
    return text


def fingerprint(items: Iterable[Any]) -> str:
    """Hexadecimal digits that are the same for equal items in every process, and others for other items.

    What tells items apart is their type and their values: those of a dictionary, a sequence, a set, a dataclass or an
    object's attributes, ten levels deep.
    """
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        digest.update(_told(item).encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


def _told(value: Any, levels: int = _MOST_LEVELS) -> str:
    """A text that tells a value from others, and says nothing of where it is in memory."""
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    name = kind.__qualname__
    if levels == 0:
        return name
    told = partial(_told, levels=levels - 1)
    if isinstance(value, Enum):
        return f"{name}.{value.name}"
    if isinstance(value, Mapping):
        return name + "{" + ",".join(f"{told(key)}:{told(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return name + "[" + ",".join(map(told, value)) + "]"
    if isinstance(value, AbstractSet):
        return name + "(" + ",".join(sorted(map(told, value))) + ")"
    for base in (str, bytes, int, float):
        if isinstance(value, base):
            return name + base.__repr__(value)
    if any(base.__module__ in _STANDARD for base in kind.__mro__):
        return repr(value)
    attributes = attributes_of(value)
    return name + (told(attributes) if attributes else item_json.shown(value) or "")
