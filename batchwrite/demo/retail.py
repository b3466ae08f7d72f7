"""Invoices, their lines, products and stock from the lines of the Online Retail data set.

One item is one line of the file. It is whole: where the line is refused, the invoice and the product that it would
have created are not, and the stock does not move.

Source: Chen (2015), Online Retail, UCI Machine Learning Repository, doi 10.24432/C5BW33.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import IO, TYPE_CHECKING, NamedTuple

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import VARCHAR

from batchwrite.errors import ItemRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchwrite.collector import Collector


class Line(NamedTuple):
    """One line of the file, as text, in the file's order of columns."""

    invoice_no: str
    stock_code: str
    description: str
    quantity: str
    invoiced_at: str
    unit_price: str
    customer_id: str
    country: str


def read_lines(stream: IO[str]) -> Iterator[Line]:
    """The lines below the header; the stream must have been opened with `newline=""`."""
    reader = csv.reader(stream)
    next(reader, None)
    return map(Line._make, reader)


def _text(length: int) -> String:
    """A text; two that differ in case alone are two on MariaDB, too, as elsewhere."""
    return String(length).with_variant(VARCHAR(length, collation="utf8mb4_bin"), "mysql", "mariadb")


@dataclass(frozen=True, slots=True)
class RetailTables:
    """The four tables, on one `MetaData`.

    Args:
        metadata: Where they are defined.
        prefix: What their names begin with.
    """

    invoices: Table
    invoice_lines: Table
    products: Table
    stock: Table

    @classmethod
    def define(cls, metadata: MetaData, prefix: str = "") -> RetailTables:
        """Define the tables; `metadata.create_all` makes them."""
        invoices = Table(
            f"{prefix}invoices",
            metadata,
            Column("invoice_no", _text(10), primary_key=True),
            Column("customer_id", Integer),
            Column("country", _text(40), nullable=False),
            Column("invoiced_at", DateTime, nullable=False),
        )
        products = Table(
            f"{prefix}products",
            metadata,
            Column("code", _text(20), primary_key=True),
            Column("description", _text(60), nullable=False),
        )
        stock = Table(
            f"{prefix}stock",
            metadata,
            Column("product_code", ForeignKey(products.c.code), primary_key=True),
            Column("on_hand", Integer, nullable=False),
        )
        invoice_lines = Table(
            f"{prefix}invoice_lines",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("invoice_no", ForeignKey(invoices.c.invoice_no), nullable=False),
            Column("product_code", ForeignKey(products.c.code), nullable=False),
            Column("stock_code", _text(20), nullable=False),
            Column("description", _text(60), nullable=False),
            Column("quantity", Integer, nullable=False),
            Column("unit_price", Numeric(12, 3)),
            Column("invoiced_at", DateTime, nullable=False),
            CheckConstraint("unit_price >= 0", name=f"{prefix}price_not_negative"),
            UniqueConstraint(
                *("invoice_no", "stock_code", "description", "quantity", "unit_price", "invoiced_at"),
                name=f"{prefix}line_only_once",
            ),
        )
        return cls(invoices=invoices, invoice_lines=invoice_lines, products=products, stock=stock)


class LineMapper:
    """The map function: a line's invoice and product are created when first seen, its quantity leaves the stock.

    Mapping is sequential: a line without a description names its product as the lines before it did. Whether
    something exists is left to the database (insert if absent), because a line that was seen may not have landed.
    """

    def __init__(self, tables: RetailTables) -> None:
        self._tables = tables
        self._descriptions: dict[str, str] = {}

    def __call__(self, line: Line, out: Collector) -> None:
        """Record the writes of one line."""
        tables = self._tables
        code = line.stock_code.upper()
        quantity = int(line.quantity)
        invoiced_at = datetime.fromisoformat(line.invoiced_at)
        out.upsert(
            tables.invoices,
            {
                "invoice_no": line.invoice_no,
                "customer_id": _customer_number(line.customer_id),
                "country": line.country,
                "invoiced_at": invoiced_at,
            },
            set=(),
        )
        description = line.description or self._descriptions.get(code, "")
        self._descriptions[code] = description
        known_as = ("description",) if line.description else ()
        out.upsert(tables.products, {"code": code, "description": description}, set=known_as)
        out.insert(
            tables.invoice_lines,
            {
                "invoice_no": line.invoice_no,
                "product_code": code,
                "stock_code": line.stock_code,
                "description": line.description,
                "quantity": quantity,
                "unit_price": Decimal(line.unit_price),
                "invoiced_at": invoiced_at,
            },
        )
        out.upsert(tables.stock, {"product_code": code, "on_hand": 0}, set=())
        out.increment(tables.stock, {"product_code": code}, on_hand=-quantity)


def _customer_number(text: str) -> int | None:
    """`17850.0`, as a spreadsheet made of it, is customer 17850; a line may name no customer."""
    if not text:
        return None
    number, _, fraction = text.partition(".")
    if fraction.strip("0"):
        raise ItemRefused("the customer's number is no whole number", column="customer_id")
    return int(number)
