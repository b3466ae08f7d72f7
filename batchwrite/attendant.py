"""Looks after the chunks on their way while their caller is busy elsewhere.

A chunk on its way goes on whenever the caller's loop comes by. Where that does not happen for a while, because the
input or the map function waits, the chunk must not wait with it: its transaction holds locks, and what the map
function waits for may be one of them.
"""

from __future__ import annotations

import threading
import weakref
from contextvars import copy_context
from typing import Protocol

# Long beside the moments between two looks of a busy loop, short beside what anybody who waits for a lock notices.
_SECONDS_BETWEEN_LOOKS = 0.02


class Attended(Protocol):
    """Something that has to be looked after."""

    @property
    def looks(self) -> int:
        """How often it has been looked after."""

    @property
    def is_busy(self) -> bool:
        """Whether there is something to look after."""

    def settle_unless_looked_after(self, looks: int) -> None:
        """Bring all to its end, unless somebody has looked after it since so many looks."""


class Attendant:
    """A thread that settles what nobody else looks after.

    Args:
        attended: What to look after; the thread ends when nobody else knows it any more.
    """

    def __init__(self, attended: Attended) -> None:
        self._attended = weakref.ref(attended)
        self._is_wanted = threading.Event()
        self._dismissed = threading.Event()
        self._thread: threading.Thread | None = None

    def call(self) -> None:
        """Say that there is something to look after."""
        if self._thread is None:
            # In the caller's context: listeners may ask it, say, for the span that is current.
            run = copy_context().run
            self._thread = threading.Thread(target=run, args=(self._attend,), name="batchwrite-attendant", daemon=True)
            self._thread.start()
        self._is_wanted.set()

    def dismiss(self) -> None:
        """End the thread."""
        self._dismissed.set()  # first: who is woken by the other looks at it
        self._is_wanted.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _attend(self) -> None:
        seen = -1
        while not self._dismissed.is_set():
            if not self._is_wanted.wait(timeout=1.0):
                if self._attended() is None:
                    return
                continue
            if self._dismissed.wait(_SECONDS_BETWEEN_LOOKS):
                return
            attended = self._attended()
            if attended is None:
                return
            if not attended.is_busy:
                self._is_wanted.clear()
                if attended.is_busy:  # since just now
                    self._is_wanted.set()
            elif attended.looks == seen:
                attended.settle_unless_looked_after(seen)
            seen = attended.looks
            del attended
