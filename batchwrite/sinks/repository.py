"""The sink for a repository of the user's: any object with a bulk method and a single one, on any storage.

A repository commits by itself, so a chunk is no transaction here. What a chunk may be told to have done follows from
what the repository is declared to be; what has landed already is remembered, and is not sent again.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

from batchwrite.errors import ConfigurationError, ItemRefused, text_of
from batchwrite.faults import Fault, FaultKind, FlushFailed, classify
from batchwrite.result import BatchResult, Status
from batchwrite.sinks.told import Refusal, Told, Unreadable, checked, told_by
from batchwrite.table import TableInfo, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from batchwrite.ledger import Books
    from batchwrite.sink import PendingWrite
    from batchwrite.sinks.options import SinkOptions
    from batchwrite.write import Write

_ENTITY = "entity"

# By these names the exceptions of connections are known that are no `OSError`: PyMongo's, botocore's, and of clients
# built on urllib3 and httpx.
_LOST = frozenset(
    {
        "AutoReconnect",
        "ConnectionFailure",
        "ConnectionError",
        "ConnectionTimeout",
        "ConnectTimeout",
        "EndpointConnectionError",
        "HTTPClientError",
        "NetworkError",
        "TimeoutException",
        "TransportError",
    }
)

_HALF_WRITTEN = (
    "insert_many raised {} and may have written a part: declare atomic=True if it writes all or nothing, or "
    "idempotent=True if an entity that is there already may be inserted again"
)

_TO_BE_AWAITED = "the repository is to be awaited: use batchwrite.aio.AsyncBatchWriter"

_NOT_YET = "the repository has answered by an iterator, which does its work when it is read: nobody would read it"

_BATCHED_ALREADY = (
    "the repository has answered by the result of a writer of its own, in which not all is written: hand over a method "
    "that raises, not one that is decorated with batched() or runs a BatchWriter"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository as `BatchWriter` sees it: how entities are written, and what may be relied on.

    Attributes:
        insert_many: Called with a list of entities. It may be a coroutine function, for `AsyncBatchWriter`. Where it
            raises or returns something that says which it has refused (`PartialFailure`, PyMongo's `BulkWriteError`,
            the responses of Elasticsearch's bulk API and of DynamoDB's, a list with an exception for each entity that
            was refused, or of mappings with `index` and `error`), that is believed, and nothing of it is repeated.
        insert_one: Called with one entity, when `insert_many` has raised without saying so; writes it or raises.
        atomic: Whether `insert_many`, when it raises, has written nothing.
        idempotent: Whether an entity that is there already may be inserted again, by either, with no effect.
        failures_of: Says what these forms do not cover: called with the entities and with what `insert_many` has
            raised or returned; gives by position why entities were refused (an exception, or a text without values),
            or `None` for nothing to say. The others are then taken as written.
        name: What it is called in messages.
    """

    insert_many: Callable[[list[Any]], object]
    insert_one: Callable[[Any], object]
    atomic: bool = False
    idempotent: bool = False
    failures_of: Callable[[Sequence[Any], object], Mapping[int, object] | None] | None = None
    name: str = "repository"

    def __post_init__(self) -> None:
        for name in ("insert_many", "insert_one"):
            if not callable(getattr(self, name)):
                raise ConfigurationError(f"{name} must be a function")
        for name in ("atomic", "idempotent"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} must be True or False")
        if self.failures_of is not None and not callable(self.failures_of):
            raise ConfigurationError("failures_of must be a function of the entities and an answer, or None")


class _Progress:
    """What is known of the items of a chunk, over all attempts to write it."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.decided: dict[int, Fault | None] = {}  # by position; nothing against those that are written
        self.cause: Fault | None = None  # why they are written one by one

    @property
    def refused(self) -> list[tuple[int, Fault]]:
        """Those refused, in order."""
        return [(place, fault) for place, fault in sorted(self.decided.items()) if fault is not None]

    @property
    def has_written(self) -> bool:
        """Whether something has been written."""
        return None in self.decided.values()

    def open(self) -> list[int]:
        """Positions of those that are not decided."""
        return [place for place in range(self._count) if place not in self.decided]


class RepositorySink:
    """Writes chunks through a repository.

    Args:
        repository: The repository.
        options: The writer's.
        wait_for: Waits for what a coroutine function gives; nothing where there is no event loop.
    """

    def __init__(
        self,
        repository: Repository,
        options: SinkOptions,
        wait_for: Callable[[Awaitable[Any]], Any] | None = None,
    ) -> None:
        if options.chunk_timeout is not None:
            raise ConfigurationError("a repository's connections are its own: chunk_timeout cannot bound them")
        _check_methods(repository, is_awaited=wait_for is not None)
        self._repository = repository
        self._options = options
        self._wait_for = wait_for
        self._table = TableInfo(name=repository.name, handle=repository, columns=(_ENTITY,))
        # By chunk, since runs may share a writer; forgotten with the chunk.
        self._progress: WeakKeyDictionary[Sequence[Sequence[Write]], _Progress] = WeakKeyDictionary()
        self.is_bound_to_threads = self.is_transactional = False
        self.is_lent = False

    # ---- the catalog

    def describe(self, table: Any) -> Target:  # noqa: ARG002 - the protocol's
        """Nothing: a repository has no tables.

        Raises:
            ItemRefused: Always.
        """
        raise ItemRefused("a repository has no tables: record an item by add(entity)")

    def rows_of(self, instance: Any) -> Sequence[tuple[Target, dict[str, Any]]]:
        """The entity."""
        return [(Target(table=self._table, names={_ENTITY: _ENTITY}), {_ENTITY: instance})]

    # ---- the sink

    def begin(
        self,
        items: Sequence[Sequence[Write]],  # noqa: ARG002 - the protocol's
        others: Sequence[PendingWrite],  # noqa: ARG002
        *,
        may_commit: bool,  # noqa: ARG002
        books: Books | None = None,  # noqa: ARG002
    ) -> PendingWrite | None:
        """Nothing: a repository is waited for."""
        return None

    def write(
        self,
        items: Sequence[Sequence[Write]],
        books: Books | None = None,  # noqa: ARG002 - there are none
    ) -> Sequence[tuple[int, Fault]]:
        """Write all items but those that the bulk method itself says it has refused.

        Returns:
            Positions of these, and why.

        Raises:
            FlushFailed: What is not remembered as written is not there, or, for a fault `in_doubt`, it is not known.
        """
        progress = self._of(items)
        for place, writes in enumerate(items):
            if len(writes) > 1:
                text = "an item of a repository is one entity: several would not be written whole or not at all"
                progress.decided.setdefault(place, self._judged(ItemRefused(text, table=self._table.name)))
        if progress.cause is not None:
            raise FlushFailed(progress.cause)
        while places := progress.open():
            self._write_many(progress, items, places)
        return progress.refused

    def write_each(
        self,
        items: Sequence[Sequence[Write]],
        refuse: Callable[[int, Fault], int],
        books: Books | None = None,  # noqa: ARG002 - there are none
    ) -> None:
        """Write the items in order, those that are not decided yet.

        Raises:
            FlushFailed: What is not remembered as written is not there, or, for a fault `in_doubt`, it is not known.
        """
        progress = self._of(items)
        end = len(items)
        for place, known in progress.refused:
            end = min(end, refuse(place, known))
        for place in progress.open():
            if place >= end:
                return
            try:
                self._called(self._repository.insert_one, _entity(items[place]))
            except FlushFailed:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is classified
                fault = self._judged(error)
                if fault.kind is not FaultKind.ITEM:
                    self._fail(progress, fault, error, is_whole=True)
                progress.decided[place] = fault
                end = min(end, refuse(place, fault))
            else:
                progress.decided[place] = None

    def close(self) -> None:
        """Nothing: the repository is the user's."""

    # ---- the repository

    def _of(self, items: Sequence[Sequence[Write]]) -> _Progress:
        return self._progress.setdefault(items, _Progress(len(items)))

    def _write_many(self, progress: _Progress, items: Sequence[Sequence[Write]], places: Sequence[int]) -> None:
        """Call the bulk method, and remember what it says."""
        entities = [_entity(items[place]) for place in places]
        answer: object
        error: Exception | None = None
        try:
            answer = self._called(self._repository.insert_many, entities.copy())  # it may do with it what it likes
        except FlushFailed:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is classified
            answer = error = raised
        told = self._told(entities, answer)
        if told is not None and (error is not None or told.refused or told.unattempted):
            self._remember(progress, places, told, is_undone=error is not None and self._repository.atomic)
        elif error is None:
            progress.decided.update(dict.fromkeys(places))
        else:
            fault = self._judged(error)
            if fault.kind is FaultKind.ITEM and (self._repository.atomic or self._repository.idempotent):
                progress.cause = fault
                raise FlushFailed(fault) from error
            self._fail(progress, fault, error, is_whole=self._repository.atomic)

    def _told(self, entities: Sequence[Any], answer: object) -> Told | None:
        """What the bulk method says of each entity.

        Raises:
            FlushFailed: Nobody can make sense of it.
        """
        try:
            if self._repository.failures_of is not None:
                failures = self._repository.failures_of(entities, answer)
                if failures is not None and (failures or not isinstance(answer, BaseException)):
                    return checked(Told(refused=dict(failures)), entities)
            return told_by(entities, answer)
        except Exception as error:
            text = f"what insert_many says of its entities cannot be read ({type(error).__name__})"
            if isinstance(error, Unreadable):
                text = str(error)
            fault = Fault(kind=FaultKind.IN_DOUBT, error_type=type(error).__name__, message=text, detail=text_of(error))
            raise FlushFailed(fault) from error

    def _remember(self, progress: _Progress, places: Sequence[int], told: Told, *, is_undone: bool) -> None:
        """Take the bulk method at its word.

        Args:
            progress: What is known.
            places: Positions of what it was given.
            told: Its word.
            is_undone: Whether it has written none of the others, either.
        """
        weather: Fault | None = None
        known = len(progress.decided)
        for number, place in enumerate(places):
            if number in told.refused:
                fault = self._fault_of(told.refused[number])
                if fault.kind is FaultKind.ITEM:
                    progress.decided[place] = fault
                else:
                    weather = fault
            elif number not in told.unattempted and not is_undone:
                progress.decided[place] = None
        if weather is None and (told.is_throttled or len(progress.decided) == known):
            text = "the other side has not taken all of the items yet"
            weather = Fault(kind=FaultKind.TRANSIENT, error_type="Throttled", message=text)
        if weather is not None:
            self._fail(progress, weather, None, is_whole=True)

    def _called(self, function: Callable[..., object], argument: object) -> object:
        """What a method of the repository gives, awaited where it is to be awaited.

        Raises:
            FlushFailed: Whoever waits was interrupted, or what was called has a writer of its own: it is not known
                what it has written.
        """
        try:
            answer = function(argument)
            if inspect.isawaitable(answer):
                if self._wait_for is None:
                    if inspect.iscoroutine(answer):
                        answer.close()
                    raise FlushFailed(self._judged(ConfigurationError(_TO_BE_AWAITED)))
                answer = self._wait_for(answer)
            if isinstance(answer, (Iterator, AsyncIterator)):
                fault = Fault(kind=FaultKind.IN_DOUBT, error_type=type(answer).__name__, message=_NOT_YET)
                raise FlushFailed(fault)
            if isinstance(answer, BatchResult) and answer.status is not Status.SUCCESS:
                fault = Fault(kind=FaultKind.IN_DOUBT, error_type="BatchResult", message=_BATCHED_ALREADY)
                raise FlushFailed(fault)
        except Exception:
            raise
        except BaseException as error:
            text = "the repository was interrupted, and may have written a part"
            fault = Fault(kind=FaultKind.IN_DOUBT, error_type=type(error).__name__, message=text)
            raise FlushFailed(fault) from error
        return answer

    # ---- faults

    def _fail(self, progress: _Progress, fault: Fault, error: Exception | None, *, is_whole: bool) -> NoReturn:
        """Give a chunk up for now, with what that means for what may have been written.

        Args:
            progress: What is known.
            fault: What has happened.
            error: The exception.
            is_whole: Whether what was called writes all or nothing.
        """
        is_safe = self._repository.idempotent or (is_whole and fault.kind is not FaultKind.LOST)
        if not is_safe:
            text = (
                _HALF_WRITTEN.format(fault.error_type) if not is_whole else f"{fault.message}: it may have been written"
            )
            fault = replace(fault, kind=FaultKind.IN_DOUBT, message=text)
        elif progress.has_written:
            fault = replace(fault, is_booked=True)
        raise FlushFailed(fault) from error

    def _fault_of(self, refusal: object) -> Fault:
        """The fault for what a bulk method says of an entity."""
        if isinstance(refusal, BaseException):
            return self._judged(refusal)
        if isinstance(refusal, Refusal):
            text = "the repository has refused the item" + (f" (code {refusal.code})" if refusal.code else "")
            fault = Fault(
                kind=FaultKind.ITEM, error_type=refusal.error_type, message=text, sqlstate=None, detail=refusal.detail
            )
            return replace(fault, table=self._table.name)
        return Fault(kind=FaultKind.ITEM, error_type="Refused", message=str(refusal), table=self._table.name)

    def _judged(self, error: BaseException) -> Fault:
        cause = next((each for each in _causes(error) if _is_known(each)), None)
        if cause is not None:
            fault = classify(cause, while_writing=True)
        elif any(each.__name__ in _LOST for each in type(error).__mro__):
            text = "the connection to the other side was lost"
            fault = Fault(kind=FaultKind.LOST, error_type=type(error).__name__, message=text, detail=text_of(error))
        else:
            kind = FaultKind.FATAL if isinstance(error, (ConfigurationError, MemoryError)) else FaultKind.ITEM
            text = str(error) if isinstance(error, ConfigurationError) else f"{type(error).__name__} was raised"
            fault = Fault(kind=kind, error_type=type(error).__name__, message=text, detail=text_of(error))
        return self._options.judged(error, fault)


def _check_methods(repository: Repository, *, is_awaited: bool) -> None:
    """Make sure that calling the methods does their work.

    Raises:
        ConfigurationError: It does not.
    """
    for method in (repository.insert_many, repository.insert_one):
        for called in (method, getattr(method, "__call__", None)):  # noqa: B004 - of an object, the method of its class
            if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
                raise ConfigurationError(_NOT_YET)
            if not is_awaited and inspect.iscoroutinefunction(called):
                raise ConfigurationError(_TO_BE_AWAITED)


def _entity(writes: Sequence[Write]) -> Any:
    return writes[0].values[_ENTITY]


def _causes(error: BaseException) -> Iterable[BaseException]:
    """An exception, and those that it was raised from: Django's and others' stand for the driver's."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:  # `raise error from error` is a circle
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _is_known(error: BaseException) -> bool:
    """Whether the general rules have a word for it that is better than for any exception."""
    has_code = any(getattr(error, name, None) for name in ("sqlstate", "sqlite_errorname"))
    return (
        has_code
        or isinstance(error, (OSError, ItemRefused))
        or type(error).__module__.partition(".")[0]
        in {
            "sqlalchemy",
            "pymysql",
            "MySQLdb",
        }
    )
