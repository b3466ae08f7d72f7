"""What clients send. What only the database can know is left to it: whether a number is taken, or a product known."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# As many digits as the column has: the database would round what has more.
Price = Annotated[Decimal, Field(max_digits=10, decimal_places=2)]


class NewLine(BaseModel):
    """A line of an order."""

    model_config = ConfigDict(frozen=True)

    sku: str
    quantity: int
    unit_price: Price


class NewOrder(BaseModel):
    """An order; frozen, as what is submitted to a coalescer is not to be changed."""

    model_config = ConfigDict(frozen=True)

    number: str
    customer: str
    lines: Annotated[list[NewLine], Field(min_length=1)]
