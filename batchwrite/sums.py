"""Adding up increments. Pure."""

from __future__ import annotations

import decimal
import math
from decimal import Decimal
from typing import Any

# Sums are exact or not made at all: the default context would round to 28 digits without a word.
_EXACT = decimal.Context(prec=1_000, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow])


def exact_sum(one: Any, other: Any) -> Any | None:
    """The sum, or nothing where adding the two now would not be what the database does with one after the other."""
    try:
        if isinstance(one, Decimal) or isinstance(other, Decimal):
            if isinstance(one, float) or isinstance(other, float):
                return None
            return _EXACT.add(one, other)
        total = one + other
    except (TypeError, ArithmeticError):
        return None
    return None if isinstance(total, float) and not math.isfinite(total) else total
