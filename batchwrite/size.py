"""How much memory rows take. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_PARTS = 100_000

_SMALL_TYPES = frozenset({int, float, bool, Decimal, date, datetime, type(None)})


def row_size(values: Iterable[Any]) -> int:
    """Estimated bytes of a row's values: the lengths of texts and byte strings, and 8 for any other value."""
    size = 0
    for value in values:
        kind = type(value)
        if kind is str or kind is bytes:
            size += len(value)
        elif kind in _SMALL_TYPES:
            size += 8
        else:
            size += _size(value)
    return size


def _size(value: Any) -> int:
    """Estimated bytes of a value; 8 stands for a number or a date in a row.

    Looks at so many parts at most: what is larger is large, and what holds itself has no end.
    """
    size = 0
    waiting = [value]
    for _ in range(_MOST_PARTS):
        if not waiting:
            break
        part = waiting.pop()
        try:
            if isinstance(part, (str, bytes, bytearray, memoryview)):
                size += len(part)
            elif isinstance(part, Mapping):
                waiting.extend(part.values())
            elif isinstance(part, (list, tuple, set, frozenset)):
                waiting.extend(part)
            else:
                size += 8
        except Exception:  # noqa: BLE001 - code of its class; if it cannot be sent either, its item fails then
            size += 8
    return size + 8 * len(waiting)
