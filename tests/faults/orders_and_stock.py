"""Tables whose rows and sums must agree, items good and bad that write to them, and what a database holds of them."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    select,
)

METADATA = MetaData()
STOCK = Table(
    "stock",
    METADATA,
    Column("sku", String(10), primary_key=True),
    Column("on_hand", Integer, nullable=False),
    Column("note", String(10)),
)
ORDERS = Table(
    "orders",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("customer", String(10), nullable=False),
)
LINES = Table(
    "lines",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("order_id", ForeignKey(ORDERS.c.id, name="known_order")),
    Column("sku", ForeignKey(STOCK.c.sku, name="known_sku"), nullable=False),
    Column("quantity", Integer, CheckConstraint("quantity > 0", name="positive"), nullable=False),
)
CUSTOMERS = Table(
    "customers",
    METADATA,
    Column("name", String(10), primary_key=True),
    Column("last_order", Integer),
)
TABLES = (STOCK, ORDERS, LINES, CUSTOMERS)

_SKUS = 7
_CUSTOMERS = 5
_IN_STOCK = 1_000_000

INITIAL = {
    STOCK: [{"sku": f"sku-{number}", "on_hand": _IN_STOCK, "note": None} for number in range(_SKUS)],
    CUSTOMERS: [{"name": "leaves", "last_order": None}],
}


def line(number: int, **change: Any) -> dict[str, Any]:
    """An item that is one row."""
    row = {"id": number, "order_id": None, "sku": f"sku-{number % _SKUS}", "quantity": number % 4 + 1}
    return {"kind": "line", "row": row | change}


def order(number: int, **change: Any) -> dict[str, Any]:
    """An item that writes to all tables: a header, two lines, a customer, and what it takes from the stock."""
    return {"kind": "order", "number": number, **change}


BAD = (
    line(0, quantity=0),
    line(0, sku="unknown"),
    line(0, sku="far too long a text"),
    line(0, quantity="many"),
)


def bad_line(number: int) -> dict[str, Any]:
    """An item that the database refuses, for one of several reasons."""
    change = BAD[number % len(BAD)]["row"]
    return line(number, sku=change["sku"], quantity=change["quantity"])


def bad_order(number: int) -> dict[str, Any]:
    """An order whose second line is refused: none of it may land."""
    return order(number, quantity=0)


def record(item: dict[str, Any], out: Any) -> None:
    """The map function."""
    kind = item["kind"]
    if kind == "line":
        out.insert(LINES, item["row"])
    elif kind == "order":
        _record_order(item, out)
    elif kind == "takes":
        out.insert(LINES, item["row"])
        out.increment(STOCK, {"sku": item["row"]["sku"]}, on_hand=-1)
    elif kind == "counts":
        out.increment(STOCK, {"sku": item["sku"]}, on_hand=1)
    elif kind == "customer":
        out.upsert(CUSTOMERS, {"name": item["name"], "last_order": item["order"]})
    elif kind == "changes":
        out.update(STOCK, {"sku": item["sku"]}, note="counted")
        out.delete(CUSTOMERS, {"name": "leaves"}, missing_ok=True)
    elif kind == "skips":
        out.skip("nothing to do")
    else:
        raise ValueError(kind)


def _record_order(item: dict[str, Any], out: Any) -> None:
    number = item["number"]
    out.insert(ORDERS, {"id": number, "customer": f"c-{number % _CUSTOMERS}"})
    for place, quantity in ((0, 1), (1, item.get("quantity", 2))):
        sku = f"sku-{(number + place) % _SKUS}"
        out.insert(LINES, {"id": 2 * number + place, "order_id": number, "sku": sku, "quantity": quantity})
        out.increment(STOCK, {"sku": sku}, on_hand=-quantity)
    out.upsert(CUSTOMERS, {"name": f"c-{number % _CUSTOMERS}", "last_order": number})


def item_key(item: dict[str, Any]) -> str | None:
    """An idempotency key, for items that have a number."""
    return f"order {item['number']}" if "number" in item else None


def fill(connection: Any) -> None:
    """Put the tables back into the state that every run begins with."""
    for table in reversed(METADATA.sorted_tables):
        connection.execute(table.delete())
    for table, rows in INITIAL.items():
        connection.execute(table.insert(), rows)


def contents(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    return {
        table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
        for table in TABLES
    }


def modelled(items: Iterable[dict[str, Any]]) -> tuple[dict[str, list[tuple[Any, ...]]], list[int], list[int]]:
    """What the tables hold after orders, and the positions of those that fail and of those that are skipped."""
    stock = {row["sku"]: row["on_hand"] for row in INITIAL[STOCK]}
    customers: dict[str, int | None] = {row["name"]: row["last_order"] for row in INITIAL[CUSTOMERS]}
    orders, lines, failed, skipped = [], [], [], []
    for position, item in enumerate(items):
        number, second = item.get("number", 0), item.get("quantity", 2)
        if item["kind"] == "skips":
            skipped.append(position)
        elif item["kind"] != "order" or second <= 0:
            failed.append(position)
        else:
            customer = f"c-{number % _CUSTOMERS}"
            orders.append((number, customer))
            customers[customer] = number
            for place, quantity in ((0, 1), (1, second)):
                sku = f"sku-{(number + place) % _SKUS}"
                lines.append((2 * number + place, number, sku, quantity))
                stock[sku] -= quantity
    held = {
        "stock": sorted((sku, on_hand, None) for sku, on_hand in stock.items()),
        "orders": sorted(orders),
        "lines": sorted(lines),
        "customers": sorted(customers.items()),
    }
    return held, failed, skipped
