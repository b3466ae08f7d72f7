"""`batched`: turns the bulk method of a repository into one that says what became of each entity."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, overload

from batchwrite.errors import ConfigurationError
from batchwrite.sinks.repository import Repository
from batchwrite.writer import BatchWriter

if TYPE_CHECKING:
    from batchwrite.result import BatchResult

Parameters = ParamSpec("Parameters")


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
        ConfigurationError: What is decorated is no function; or, when it is called, as `BatchWriter`.
    """
    if not (isinstance(insert_one, str) or callable(insert_one)):
        raise ConfigurationError("insert_one must be the name of a method, or a function")

    def repository_of(method: Callable[..., Any], owner: tuple[Any, ...]) -> Repository:
        if isinstance(insert_one, str):
            if not owner:
                raise ConfigurationError(f"insert_one={insert_one!r} names a method, and there is no object to have it")
            single = getattr(owner[0], insert_one)
        else:
            single = partial(insert_one, *owner) if owner else insert_one
        return Repository(
            insert_many=partial(method, *owner) if owner else method,
            insert_one=single,
            atomic=atomic,
            idempotent=idempotent,
            failures_of=failures_of,
        )

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(method):
            raise ConfigurationError("batched() decorates a function or a method")
        if inspect.iscoroutinefunction(method):

            @wraps(method)
            async def write_awaited(*arguments: Any) -> BatchResult:
                from batchwrite.aio import AsyncBatchWriter  # noqa: PLC0415 - needs an extra

                *owner, entities = _checked(arguments)
                return await AsyncBatchWriter(repository_of(method, tuple(owner)), **options).run(entities)

            return write_awaited

        @wraps(method)
        def write(*arguments: Any) -> BatchResult:
            *owner, entities = _checked(arguments)
            return BatchWriter(repository_of(method, tuple(owner)), **options).run(entities)

        return write

    return decorate


def _checked(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arguments) not in (1, 2) or not isinstance(arguments[-1], Iterable):
        raise ConfigurationError("a batched method takes one iterable of entities, and nothing else")
    return arguments
