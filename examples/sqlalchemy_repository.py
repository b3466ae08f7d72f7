"""Repositories over SQLAlchemy's `Session` and `AsyncSession`, as they are, with bulk writes that name each bad row.

    python examples/sqlalchemy_repository.py sqlite:///orders.db

The repositories below have two methods each, `create` for one order and `bulk_create` for many, and neither has been
made for batchwrite. A repository is handed to `BatchWriter.for_repository` (or `AsyncBatchWriter.for_repository`) by
these two methods. `atomic=True` says that a `bulk_create` that raises has written nothing, because it is one
transaction: so where it raises, the orders of its chunk are created one by one, and no order is written twice.

What is written are the orders of the Northwind sample data, into a table that takes only orders that were shipped, and
in time; at the end the first ten are sent a second time. In a database that should be empty, you should see

    Session: 840 orders received, 772 written, 68 failed
      37 because: a check constraint refused the row [shipped_in_time, SQLITE_CONSTRAINT_CHECK]
      21 because: a value is missing for a column that must have one [orders.shipped_at, SQLITE_CONSTRAINT_NOTNULL]
      10 because: a row with the same unique key exists [orders.order_id, SQLITE_CONSTRAINT_PRIMARYKEY]

and the same again for `AsyncSession`. Table, column, constraint and code are what the driver says, which SQLAlchemy's
exceptions hold: PostgreSQL names the table and the constraint each time, and has codes of its own (23514).
"""

import argparse
import asyncio
import csv
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import CheckConstraint, String, create_engine, delete, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from batchwrite import BatchResult, BatchWriter
from batchwrite.aio import AsyncBatchWriter

NORTHWIND = Path(__file__).resolve().parent / "data" / "northwind"
CHUNK_SIZE = 20
ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "mysql": "mysql+aiomysql", "mariadb": "mariadb+aiomysql"}


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (CheckConstraint("shipped_at <= required_at", name="shipped_in_time"),)
    order_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[str] = mapped_column(String(5))
    required_at: Mapped[datetime]
    shipped_at: Mapped[datetime]


# ---- the repositories


class OrderRepository:
    """Orders, by `Session`."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def create(self, order: Order) -> None:
        with self._sessions.begin() as session:
            session.add(order)

    def bulk_create(self, orders: Sequence[Order]) -> None:
        with self._sessions.begin() as session:
            session.add_all(orders)

    def count(self) -> int:
        with self._sessions() as session:
            return session.scalar(select(func.count()).select_from(Order)) or 0


class AsyncOrderRepository:
    """Orders, by `AsyncSession`."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions

    async def create(self, order: Order) -> None:
        async with self._sessions.begin() as session:
            session.add(order)

    async def bulk_create(self, orders: Sequence[Order]) -> None:
        async with self._sessions.begin() as session:
            session.add_all(orders)

    async def count(self) -> int:
        async with self._sessions() as session:
            return await session.scalar(select(func.count()).select_from(Order)) or 0


# ---- the two lines


def write(repository: OrderRepository) -> BatchResult:
    writer = BatchWriter.for_repository(
        insert_many=repository.bulk_create, insert_one=repository.create, atomic=True, chunk_size=CHUNK_SIZE
    )
    return writer.run(read_orders())


async def write_awaited(repository: AsyncOrderRepository) -> BatchResult:
    writer = AsyncBatchWriter.for_repository(
        insert_many=repository.bulk_create, insert_one=repository.create, atomic=True, chunk_size=CHUNK_SIZE
    )
    return await writer.run(read_orders())


# ---- what is written, and what becomes of it


def read_orders() -> Iterator[Order]:
    """The orders of the sample, and the first ten once more."""
    with (NORTHWIND / "orders.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in itertools.chain(rows, rows[:10]):
        yield Order(
            order_id=int(row["OrderID"]),
            customer_id=row["CustomerID"],
            required_at=datetime.fromisoformat(row["RequiredDate"]),
            shipped_at=datetime.fromisoformat(row["ShippedDate"]) if row["ShippedDate"] else None,
        )


def report(name: str, result: BatchResult, count: int) -> None:
    counts = f"{result.received:,} orders received, {result.written:,} written, {result.failed:,} failed"
    print(f"{name}: {counts}")
    for reason, number in sorted(result.failure_counts.items(), key=lambda each: -each[1]):
        column = ".".join(part for part in (reason.table, reason.column) if part)
        where = ", ".join(part for part in (column, reason.constraint, reason.sqlstate) if part)
        print(f"  {number:,} because: {reason.message} [{where}]")
    if count != result.written:
        sys.exit(f"but the table holds {count:,}")


def run_plain(url: URL) -> None:
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    with sessions.begin() as session:
        session.execute(delete(Order))
    repository = OrderRepository(sessions)
    report("Session", write(repository), repository.count())
    engine.dispose()


async def run_awaited(url: URL) -> None:
    engine = create_async_engine(url.set(drivername=ASYNC_DRIVERS.get(url.get_backend_name(), url.drivername)))
    sessions = async_sessionmaker(engine)
    async with sessions.begin() as session:
        await session.execute(delete(Order))
    repository = AsyncOrderRepository(sessions)
    report("AsyncSession", await write_awaited(repository), await repository.count())
    await engine.dispose()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write orders through repositories over SQLAlchemy's sessions.")
    parser.add_argument("url", type=make_url, help="a SQLAlchemy URL, e.g. sqlite:///orders.db; its orders are deleted")
    options = parser.parse_args(arguments)
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of each `executemany` that is refused
    run_plain(options.url)
    asyncio.run(run_awaited(options.url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
