"""`batched`: turns the bulk method of a repository into one that says what became of each entity."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, overload

from batchwrite.errors import ConfigurationError
from batchwrite.sinks.repository import Repository
from batchwrite.writer import BatchWriter

if TYPE_CHECKING:
    from batchwrite.result import BatchResult

Parameters = ParamSpec("Parameters")

_CALLED_AGAIN = (
    "{name} was called again while it was at work, perhaps by the method for one entity: decorated, it raises nothing "
    "for an entity that is refused, which would count as written. Let that method write by itself. What was written "
    "stays written"
)


@dataclass(slots=True, eq=False)
class _Call:
    """A decorated method at work."""

    method: Callable[..., Any]
    owner: tuple[Any, ...]
    was_called_again: bool = False

    def is_of(self, method: Callable[..., Any], owner: tuple[Any, ...]) -> bool:
        if self.owner and owner:  # by name, for the class above may have decorated its own
            return self.owner[0] is owner[0] and _name_of(self.method) == _name_of(method)
        return self.method is method and not self.owner and not owner


_AT_WORK: ContextVar[tuple[_Call, ...]] = ContextVar("batchwrite_batched", default=())


class Batched(Protocol):
    """What `batched` gives: the decorator itself."""

    @overload
    def __call__(
        self, method: Callable[Parameters, Awaitable[Any]], /
    ) -> Callable[Parameters, Coroutine[Any, Any, BatchResult]]: ...
    @overload
    def __call__(self, method: Callable[Parameters, Any], /) -> Callable[Parameters, BatchResult]: ...
    def __call__(self, method: Callable[..., Any], /) -> Callable[..., Any]:
        """Decorate a bulk method."""


def batched(
    insert_one: str | Callable[..., object],
    *,
    atomic: bool = False,
    idempotent: bool = False,
    failures_of: Callable[..., Any] | None = None,
    **options: Any,
) -> Batched:
    """Decorate the bulk method of a repository (or a bulk function), which takes one iterable of entities.

    The decorated method takes any iterable, hands it to the method in chunks, falls back to `insert_one` where a chunk
    fails, and returns a `BatchResult`. A coroutine function stays one.

    Args:
        insert_one: What writes one entity: the name of another method of the same object, or a function (for a method
            one of the object and the entity).
        atomic: See `Repository`.
        idempotent: See `Repository`.
        failures_of: See `Repository`.
        options: As for `BatchWriter`, such as `chunk_size`.

    Raises:
        ConfigurationError: What is decorated is no function; or, when it is called, as `BatchWriter`, or the method is
            called again by what it calls itself, such as `insert_one`.
    """
    if not (isinstance(insert_one, str) or callable(insert_one)):
        raise ConfigurationError("insert_one must be the name of a method, or a function")

    def repository_of(method: Callable[..., Any], owner: tuple[Any, ...]) -> Repository:
        if isinstance(insert_one, str):
            if not owner:
                raise ConfigurationError(f"insert_one={insert_one!r} names a method, and there is no object to have it")
            single = getattr(owner[0], insert_one, None)
            if not callable(single):
                raise ConfigurationError(f"a {type(owner[0]).__name__} has no method {insert_one}")
        else:
            single = partial(insert_one, *owner) if owner else insert_one
        return Repository(
            insert_many=partial(method, *owner) if owner else method,
            insert_one=single,
            atomic=atomic,
            idempotent=idempotent,
            failures_of=failures_of,
        )

    return lambda method: _decorated(method, repository_of, options)


def _decorated(
    method: Callable[..., Any],
    repository_of: Callable[[Callable[..., Any], tuple[Any, ...]], Repository],
    options: dict[str, Any],
) -> Callable[..., Any]:
    if not callable(method):
        raise ConfigurationError("batched() decorates a function or a method")
    if inspect.iscoroutinefunction(method):

        @wraps(method)
        async def write_awaited(*arguments: Any, **named: Any) -> BatchResult:
            from batchwrite.aio import AsyncBatchWriter  # noqa: PLC0415 - needs an extra

            *owner, entities = _checked((*arguments, *named.values()))
            with _at_work(method, tuple(owner)):
                return await AsyncBatchWriter(repository_of(method, tuple(owner)), **options).run(entities)

        return write_awaited

    @wraps(method)
    def write(*arguments: Any, **named: Any) -> BatchResult:
        *owner, entities = _checked((*arguments, *named.values()))
        with _at_work(method, tuple(owner)):
            return BatchWriter(repository_of(method, tuple(owner)), **options).run(entities)

    return write


@contextmanager
def _at_work(method: Callable[..., Any], owner: tuple[Any, ...]) -> Iterator[None]:
    """While a decorated method works: what it calls must not call it again.

    Raises:
        ConfigurationError: It was, or this is that call.
    """
    others = _AT_WORK.get()
    for call in others:
        if call.is_of(method, owner):
            call.was_called_again = True
            raise ConfigurationError(_CALLED_AGAIN.format(name=_name_of(method)))
    call = _Call(method, owner)
    token = _AT_WORK.set((*others, call))
    try:
        yield
    finally:
        _AT_WORK.reset(token)
    if call.was_called_again:  # also where somebody has caught the exception
        raise ConfigurationError(_CALLED_AGAIN.format(name=_name_of(method)))


def _name_of(method: Callable[..., Any]) -> str:
    return getattr(method, "__name__", type(method).__name__)


def _checked(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arguments) not in (1, 2) or not isinstance(arguments[-1], Iterable):
        raise ConfigurationError("a batched method takes one iterable of entities, and nothing else")
    return arguments
