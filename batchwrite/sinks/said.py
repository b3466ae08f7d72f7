"""What has been said of a database in the log, so that it is said once, however many writers there are.

Programs make a writer for each request, or an engine's view for each tenant. What an engine gives to all of these is
its dialect; so what has been said lasts as long as that. A writer that opens an engine of its own makes a new one each
time: there it is the address of the database.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.engine import Dialect

# Past these numbers something is said again: names of tables, and addresses, may be made up without end.
_MOST_LINES = 10_000
_MOST_ADDRESSES = 100


class Said:
    """What has been said of one database; for any thread."""

    def __init__(self) -> None:
        self._lines: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()

    def is_new(self, *line: str) -> bool:
        """Whether something has not been said yet; from now on it has."""
        with self._lock:
            if line in self._lines:
                return False
            if len(self._lines) >= _MOST_LINES:
                self._lines.clear()
            self._lines.add(line)
            return True


_by_dialect: WeakKeyDictionary[Dialect, Said] = WeakKeyDictionary()
_by_address: OrderedDict[str, Said] = OrderedDict()
_lock = threading.Lock()


def said_of(engine: Engine, *, owns_engine: bool = False) -> Said:
    """What has been said of an engine's database.

    Args:
        engine: The engine, or one with other execution options.
        owns_engine: Whether a writer has opened it for itself; asked when it is first seen.
    """
    with _lock:
        said = _by_dialect.get(engine.dialect)
        if said is None:
            said = _of_address(engine.url.render_as_string(hide_password=True)) if owns_engine else Said()
            _by_dialect[engine.dialect] = said
        return said


def _of_address(address: str) -> Said:
    said = _by_address.setdefault(address, Said())
    _by_address.move_to_end(address)
    if len(_by_address) > _MOST_ADDRESSES:
        _by_address.popitem(last=False)
    return said
