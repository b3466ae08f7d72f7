"""The tables, and which rows an order is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Table,
    func,
)

if TYPE_CHECKING:
    from batchwrite import Collector

    from .models import NewOrder

# Constraints have names of our own: clients are told them, and `answers` looks at this one.
NUMBER_TAKEN = "order_number_only_once"

metadata = MetaData()
products = Table(
    "products",
    metadata,
    Column("sku", String(40), primary_key=True),
    Column("name", String(200), nullable=False),
)
orders = Table(
    "orders",
    metadata,
    Column("number", String(40), nullable=False),
    Column("customer", String(200), nullable=False),
    Column("taken_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("number", name=NUMBER_TAKEN),
)
order_lines = Table(
    "order_lines",
    metadata,
    Column("order_number", String(40), nullable=False),
    Column("sku", String(40), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price", Numeric(10, 2), nullable=False),
    PrimaryKeyConstraint("order_number", "sku", name="product_once_an_order"),
    ForeignKeyConstraint(["order_number"], [orders.c.number], name="line_of_an_order"),
    ForeignKeyConstraint(["sku"], [products.c.sku], name="product_known"),
    CheckConstraint("quantity > 0", name="quantity_positive"),
)


def rows_of(order: NewOrder) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The row of an order, and those of its lines."""
    lines: list[dict[str, object]] = [
        {"order_number": order.number, "sku": line.sku, "quantity": line.quantity, "unit_price": line.unit_price}
        for line in order.lines
    ]
    return {"number": order.number, "customer": order.customer}, lines


def record_order(order: NewOrder, out: Collector) -> None:
    """Record an order's rows; the map function."""
    row, lines = rows_of(order)
    out.insert(orders, row)
    for line in lines:
        out.insert(order_lines, line)
