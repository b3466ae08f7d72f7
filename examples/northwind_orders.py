"""Orders with their lines as one item each: an order lands whole, or not at all.

    python examples/northwind_orders.py DIRECTORY --database sqlite:///northwind.db

DIRECTORY holds `orders.csv`, `order_details.csv` and `products.csv` of the Northwind sample data. Each order takes its
quantities from the stock of its products, which cannot fall below zero. You should see

    77 products; 830 orders received, 95 written, 735 failed
      735 because: a check constraint refused the row [products]
    160 order lines, 1,060 of 3,119 pieces left in stock

because the sample's stock is enough for few of its two years of orders. Of an order that asks for one piece too many
nothing is left behind: no order, no line, and no stock taken for its other lines.
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    create_engine,
    event,
    func,
    select,
)

from batchwrite import BatchResult, BatchWriter, Collector

metadata = MetaData()
products = Table(
    "products",
    metadata,
    Column("product_id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(40), nullable=False),
    Column("in_stock", Integer, nullable=False),
    CheckConstraint("in_stock >= 0", name="stock_not_negative"),
)
orders = Table(
    "orders",
    metadata,
    Column("order_id", Integer, primary_key=True, autoincrement=False),
    Column("customer_id", String(5), nullable=False),
    Column("ordered_at", DateTime, nullable=False),
    Column("freight", Numeric(10, 2), nullable=False),
)
order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", ForeignKey(orders.c.order_id), primary_key=True),
    Column("product_id", ForeignKey(products.c.product_id), primary_key=True),
    Column("unit_price", Numeric(10, 2), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("discount", Numeric(4, 2), nullable=False),
    CheckConstraint("quantity > 0", name="quantity_positive"),
)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def map_product(row: dict[str, str], out: Collector) -> None:
    out.insert(
        products,
        {"product_id": int(row["ProductID"]), "name": row["ProductName"], "in_stock": int(row["UnitsInStock"])},
    )


def record_order(order: dict[str, str], lines: list[dict[str, str]], out: Collector) -> None:
    """Record one order: its header, its lines, and what they take from the stock."""
    order_id = int(order["OrderID"])
    out.insert(
        orders,
        {
            "order_id": order_id,
            "customer_id": order["CustomerID"],
            "ordered_at": datetime.fromisoformat(order["OrderDate"]),
            "freight": Decimal(order["Freight"]),
        },
    )
    for line in lines:
        product_id, quantity = int(line["ProductID"]), int(line["Quantity"])
        out.insert(
            order_lines,
            {
                "order_id": order_id,
                "product_id": product_id,
                "unit_price": Decimal(line["UnitPrice"]),
                "quantity": quantity,
                "discount": Decimal(line["Discount"]),
            },
        )
        out.increment(products, {"product_id": product_id}, in_stock=-quantity)


def write(directory: Path, engine: Engine) -> tuple[BatchResult, dict[str, int]]:
    """Write products and orders; the result for the orders, and what the database holds afterwards."""
    metadata.create_all(engine)
    lines: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for line in read(directory / "order_details.csv"):
        lines[line["OrderID"]].append(line)

    writer = BatchWriter(engine, chunk_size=100)
    writer.run(read(directory / "products.csv"), map_product).raise_for_failures()
    before = stock(engine)
    with writer.collect() as batch:
        for order in read(directory / "orders.csv"):
            with batch.item(order["OrderID"]) as out:
                record_order(order, lines[order["OrderID"]], out)
    with engine.connect() as connection:
        held = {
            "products": connection.scalar(select(func.count()).select_from(products)),
            "orders": connection.scalar(select(func.count()).select_from(orders)),
            "order_lines": connection.scalar(select(func.count()).select_from(order_lines)),
        }
    return batch.result, {name: int(count or 0) for name, count in held.items()} | {
        "stock_before": before,
        "stock_left": stock(engine),
    }


def stock(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(select(func.sum(products.c.in_stock))) or 0)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the Northwind orders through batchwrite.")
    parser.add_argument("directory", type=Path, help="where orders.csv, order_details.csv and products.csv are")
    parser.add_argument("--database", required=True, help="a SQLAlchemy URL, e.g. sqlite:///northwind.db")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)

    engine = create_engine(options.database)
    if engine.dialect.name == "sqlite":  # SQLite looks at foreign keys only where it is asked to
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    result, held = write(options.directory, engine)
    engine.dispose()
    if options.json:
        print(json.dumps({**result.to_dict(), "failures": [], "database": held}, indent=2))
        return 0
    counts = f"{result.received:,} orders received, {result.written:,} written, {result.failed:,} failed"
    print(f"{held['products']:,} products; {counts}")
    for reason, count in result.failure_counts.items():
        print(f"  {count:,} because: {reason}")
    left = f"{held['stock_left']:,} of {held['stock_before']:,} pieces left in stock"
    print(f"{held['order_lines']:,} order lines, {left}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
