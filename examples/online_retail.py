"""All 541,909 lines of the Online Retail file into invoices, invoice lines, products and stock.

    python examples/online_retail.py online_retail.csv.xz --database sqlite:///retail.db

The tables must not hold rows yet; they are created where they do not exist. After about a minute you should see

    received 541,909, written 536,639, failed 5,270
      5,268 because: a row with the same unique key exists [invoice_lines.invoice_no, stock_code, …]
          2 because: a check constraint refused the row [invoice_lines]
    25,898 invoices, 3,958 products with stock, -5,162,500 on hand

because the file holds 5,268 lines twice and two invoices below zero: no line of those lands, no invoice is created
for the two, and no stock moves for any of them. The tables and the map function are in `batchwrite/demo/retail.py`.
"""

import argparse
import json
import lzma
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sqlalchemy import Engine, MetaData, create_engine, event, func, select

from batchwrite import BatchResult, BatchWriter
from batchwrite.demo.retail import LineMapper, RetailTables, read_lines


@contextmanager
def opened(path: Path) -> Iterator[IO[str]]:
    """The file as text, unpacked where it is packed."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as stream:
        yield stream


def write(path: Path, engine: Engine) -> tuple[BatchResult, dict[str, int]]:
    """Write the file; the result, and what the database holds afterwards."""
    metadata = MetaData()
    tables = RetailTables.define(metadata)
    metadata.create_all(engine)
    with opened(path) as stream:
        result = BatchWriter(engine).run(read_lines(stream), LineMapper(tables))
    with engine.connect() as connection:
        held = {
            "invoices": connection.scalar(select(func.count()).select_from(tables.invoices)),
            "invoice_lines": connection.scalar(select(func.count()).select_from(tables.invoice_lines)),
            "products_with_stock": connection.scalar(select(func.count()).select_from(tables.stock)),
            "on_hand": connection.scalar(select(func.sum(tables.stock.c.on_hand))),
        }
    return result, {name: int(count or 0) for name, count in held.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the Online Retail file through batchwrite.")
    parser.add_argument("file", type=Path, help="online_retail.csv or online_retail.csv.xz")
    parser.add_argument("--database", required=True, help="a SQLAlchemy URL, e.g. sqlite:///retail.db")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)

    engine = create_engine(options.database)
    if engine.dialect.name == "sqlite":  # SQLite looks at foreign keys only where it is asked to
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    result, held = write(options.file, engine)
    engine.dispose()
    if options.json:
        print(json.dumps({**result.to_dict(), "failures": [], "database": held}, indent=2))
        return 0
    print(f"received {result.received:,}, written {result.written:,}, failed {result.failed:,}")
    for reason, count in result.failure_counts.items():
        print(f"  {count:,} because: {reason}")
    stock = f"{held['products_with_stock']:,} products with stock, {held['on_hand']:,} on hand"
    print(f"{held['invoices']:,} invoices, {stock}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
