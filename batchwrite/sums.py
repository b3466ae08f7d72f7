"""Adding up increments, exactly or not at all. Pure."""

from __future__ import annotations

import decimal
import math
import operator
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_ADDABLE = frozenset({int, float, Decimal, timedelta})

# Sums are exact or not made at all: the default context would round to 28 digits without a word.
_EXACT = decimal.Context(prec=1_000, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow])


def exact_sum(one: Any, other: Any) -> Any | None:
    """The sum, or nothing where adding the two now would not be what the database does with one after the other.

    Only numbers and time spans of built-in types are added: those of others may wrap around, as numpy's do.
    """
    types = {type(one), type(other)}
    if not types <= _ADDABLE:
        return None
    try:
        if Decimal in types:
            return None if float in types else _EXACT.add(one, other)
        total = one + other
    except (TypeError, ArithmeticError):
        return None
    return None if isinstance(total, float) and not math.isfinite(total) else total


def sums_by_key(keys: Iterable[Any], deltas: Sequence[Any]) -> dict[Any, Any]:
    """The sum of a column's deltas for each key.

    Raises:
        ArithmeticError: Some cannot be added up now.
    """
    add = _adder(set(map(type, deltas)))
    sums: dict[Any, Any] = {}
    for key, delta in zip(keys, deltas, strict=True):
        sums[key] = add(sums[key], delta) if key in sums else delta
    return sums


def _adder(types: set[type]) -> Callable[[Any, Any], Any]:
    """What adds two deltas as `exact_sum` does, or raises `ArithmeticError`, where deltas are of some types."""
    if types == {int}:
        return operator.add
    if types == {Decimal}:
        return _EXACT.add
    return _add_exactly


def _add_exactly(one: Any, other: Any) -> Any:
    total = exact_sum(one, other)
    if total is None:
        raise ArithmeticError("the database would round in between")
    return total
