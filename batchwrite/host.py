"""How those who run a run wait: by blocking a thread, or, under asyncio, by letting others go on (see `aio`)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchwrite.interrupts import deferred_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """How those who run a run wait.

    Attributes:
        deferred: A block in which nobody interrupts, or only at its end.
        sleep: Waits so many seconds.
        breathe: Called between items, now and then: others may want to go on.
        has_threads: Whether a thread of the run's own may look after what is on its way.
    """

    deferred: Callable[[], AbstractContextManager[None]] = deferred_interrupts
    sleep: Callable[[float], None] = time.sleep
    breathe: Callable[[], object] = _nothing
    has_threads: bool = True


BLOCKING = Host()
"""A thread of the caller's own, which gets the Ctrl-C."""
