"""Ctrl-C and SIGTERM for commands that stream: noticed at once, acted on between two items.

Python raises `KeyboardInterrupt` wherever the program happens to be, which may be between an outcome and the code that
notes it down. Here it is raised only while the next item is waited for, where the stream expects it; elsewhere the
signal is remembered until then. A second one is raised at once, wherever that is.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Item = TypeVar("Item")


class Interruption:
    """Whether someone has asked for an end; hands items on until then."""

    def __init__(self) -> None:
        self._requested = False
        self._waiting = True  # before the first item is asked for, nothing can be lost
        self._is_over = False

    def ignore(self) -> None:
        """Hear of no more: the end has come, and what there is to say of it must not be cut off."""
        self._is_over = True

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, until an end is asked for.

        Raises:
            KeyboardInterrupt: It was, while waiting for an item or since the last one.
        """
        iterator = iter(items)
        while True:
            self._waiting = True
            try:
                if self._requested:
                    raise KeyboardInterrupt
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._waiting = False
            yield item

    def handle(self, number: int, _frame: object) -> None:
        """Be the handler of SIGINT."""
        if self._is_over:
            return
        # Where another handler is in place, that one defers the first signal and hands on the second.
        is_second = self._requested or signal.getsignal(number) != self.handle
        self._requested = True
        if self._waiting or is_second:
            raise KeyboardInterrupt


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Handle SIGINT and SIGTERM alike while the block lasts; outside of the main thread, neither."""
    state = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, state.handle)
    # By way of SIGINT, so that whoever defers the one defers the other.
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        yield state
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
