"""What a writer hands to its sink."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from batchwrite.arguments import check_seconds
from batchwrite.errors import ConfigurationError
from batchwrite.faults import Fault, FaultKind
from batchwrite.listeners import Listeners

_log = logging.getLogger("batchwrite")

Classify = Callable[[BaseException], Fault | FaultKind | None]
"""Says what a driver's exception means, or nothing where that is left to the library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """Options of a sink.

    Attributes:
        chunk_timeout: Longest time, in seconds above 0, that one attempt to write a chunk may take; `None` for no
            such bound.
        classify: The user's word on exceptions.
        listeners: Told of slow paths.
    """

    chunk_timeout: float | None = None
    classify: Classify | None = None
    listeners: Listeners = field(default_factory=Listeners)

    def __post_init__(self) -> None:
        seconds = self.chunk_timeout
        if seconds is not None:
            check_seconds("chunk_timeout", seconds)
        if self.classify is not None and not callable(self.classify):
            raise ConfigurationError("classify must be a function of an exception")

    def judged(self, error: BaseException, fault: Fault) -> Fault:
        """A fault with the user's word on it.

        Args:
            error: The driver's exception.
            fault: What the library says of it.
        """
        if self.classify is None:
            return fault
        try:
            word = self.classify(error)
        except Exception as raised:  # noqa: BLE001 - the fault is there all the same
            _log.error("classify raised %s, and is passed by", type(raised).__name__, extra={"action": "classify"})
            return fault
        if isinstance(word, FaultKind):
            return replace(fault, kind=word, is_unproven=False)
        return word if isinstance(word, Fault) else fault
