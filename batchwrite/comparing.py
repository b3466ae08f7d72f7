"""Which values Python may compare, hash, order and add: those of built-in types. Pure.

What a class of somebody else's does when it is compared or added is its own affair. Two arrays of numpy are compared
element by element, and the answer is no truth value; `numpy.int8(100) + numpy.int8(100)` is -56; `pandas.NA == 1` is
neither true nor false. The database computes with none of that, but with what a value is sent as. So a value takes
part in what Python works out by itself only where its exact type is a built-in one, or where it is a whole number,
which is the same number whatever its class. All others are written as they are, in the order of their items.
"""

from __future__ import annotations

import numbers
import operator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PLAIN_TYPES = frozenset({type(None), bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta, UUID})
"""Types whose values are certainly data, and no SQL expression, and compare as Python says."""

_NUMBERS = frozenset({int, float, Decimal})


def are_plain(values: Iterable[Any]) -> bool:
    """Whether the exact types of all values are built-in ones."""
    return PLAIN_TYPES.issuperset(map(type, values))


def plain_key(values: Sequence[Any]) -> tuple[Any, ...] | None:
    """The values of a key as they may be hashed and compared, or nothing where they may not be.

    Whole numbers of other classes become an `int`: `numpy.int64(5)` and 5 name one row.
    """
    if are_plain(values):
        key = tuple(values)
    else:
        forms = [value if type(value) in PLAIN_TYPES else whole_number(value) for value in values]
        if any(form is None and value is not None for form, value in zip(forms, values, strict=True)):
            return None
        key = tuple(forms)
    try:
        hash(key)
    except TypeError:  # a signalling NaN
        return None
    return key


def whole_number(value: Any) -> int | None:
    """The `int` that a whole number of any class is; nothing for what is none, or will not say."""
    try:
        if not isinstance(value, numbers.Integral):
            return None
        found = operator.index(value)
    except Exception:  # noqa: BLE001 - code of its class, whatever that does
        return None
    return int(found)  # an `index` may give a subclass of `int`


def exact_number(value: Any) -> int | float | Decimal | timedelta | None:
    """A number, or a time span, of a built-in type that is exactly this one; nothing where there is none.

    Infinity and NaN are numbers. A `numpy.longdouble` is only where a `float` can hold it, a `pandas.Timedelta` only
    without nanoseconds, a truth value is none.
    """
    kind = type(value)
    if kind in _NUMBERS or kind is timedelta:
        found: int | float | Decimal | timedelta = value
        return found
    if kind is bool:
        return None
    try:
        return _exact_number(value)
    except Exception:  # noqa: BLE001 - code of its class, whatever that does
        return None


def _exact_number(value: Any) -> int | float | Decimal | timedelta | None:
    if isinstance(value, numbers.Integral):
        return whole_number(value)  # nothing for a `numpy.timedelta64`, which says that it is one and gives no `int`
    if isinstance(value, Decimal):
        return Decimal(value)
    if isinstance(value, timedelta):
        span = timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)
        return span if not getattr(value, "nanoseconds", 0) and bool(span == value) else None
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if number != number or bool(value == number) else None
    return None


def is_not_itself(value: Any) -> bool:
    """Whether a value is not equal to itself, as NaN and pandas' NaT: it stands for one that is missing."""
    try:
        return bool(value != value)
    except ArithmeticError:  # a signalling NaN of decimal's
        return True
    except Exception:  # noqa: BLE001 - an array, or code of its class
        return False
