"""A repository over Django's models, whose bulk writes name each bad row: by two lines, without a project.

    python examples/django_repository.py sqlite:///orders.db

The repository has two methods, `create` for one order and `bulk_create` for many, both atomic by Django's
`transaction.atomic`. There are two ways to have it say which orders it could not create, and why: (a) a writer beside
it, `BatchWriter.for_repository`, which leaves the class as it is, or (b) `@batched("create", atomic=True)` above its
bulk method, which then returns a `BatchResult`.

What is written are the orders of the Northwind sample data, into a table that takes only orders that were shipped, and
in time; at the end the first ten are sent a second time. In a database that should be empty, you should see

    OrderRepository: 840 orders received, 772 written, 68 failed
      37 because: a check constraint refused the row [shipped_in_time, SQLITE_CONSTRAINT_CHECK]
      21 because: a value is missing for a column that must have one [orders.shipped_at, SQLITE_CONSTRAINT_NOTNULL]
      10 because: a row with the same unique key exists [orders.order_id, SQLITE_CONSTRAINT_PRIMARYKEY]

and the same again for `BatchedOrderRepository`. Django's exceptions are raised from the driver's, so that PostgreSQL's
tables, constraints and SQLSTATEs come through, too. A PostgreSQL URL begins with `postgresql+psycopg:`.

Inside a transaction of yours, such as a request's with `ATOMIC_REQUESTS`, `atomic` sets savepoints: then `written`
means that it will be committed with that transaction.
"""

import argparse
import csv
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection, models, transaction
from sqlalchemy.engine import URL, make_url

from batchwrite import BatchResult, BatchWriter, batched

NORTHWIND = Path(__file__).resolve().parent / "data" / "northwind"
CHUNK_SIZE = 20


def database_of(url: URL) -> dict[str, Any]:
    """What Django wants to know of a database, which in a project stands in the settings."""
    if url.get_backend_name() == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": url.database}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.database,
        "USER": url.username or "",
        "PASSWORD": url.password or "",
        "HOST": url.host or url.query.get("host", ""),
        "PORT": str(url.port or url.query.get("port", "")),
    }


# Models can only be made once there are settings; in a project these lines are not needed.
settings.configure(DATABASES={}, INSTALLED_APPS=[], USE_TZ=False)
django.setup()


class Order(models.Model):
    order_id = models.IntegerField(primary_key=True)
    customer_id = models.CharField(max_length=5)
    required_at = models.DateTimeField()
    shipped_at = models.DateTimeField()

    class Meta:
        app_label = "northwind"
        db_table = "orders"
        constraints = (
            models.CheckConstraint(condition=models.Q(shipped_at__lte=models.F("required_at")), name="shipped_in_time"),
        )


# ---- the repository as it was, and a writer beside it


class OrderRepository:
    def create(self, order: Order) -> None:
        with transaction.atomic():
            order.save(force_insert=True)  # else Django would change the order that has this number

    def bulk_create(self, orders: Sequence[Order]) -> None:
        with transaction.atomic():
            Order.objects.bulk_create(orders)


def write(repository: OrderRepository, orders: Iterable[Order]) -> BatchResult:
    writer = BatchWriter.for_repository(
        insert_many=repository.bulk_create, insert_one=repository.create, atomic=True, chunk_size=CHUNK_SIZE
    )
    return writer.run(orders)


# ---- the same repository, decorated


class BatchedOrderRepository:
    def create(self, order: Order) -> None:
        with transaction.atomic():
            order.save(force_insert=True)

    @batched("create", atomic=True, chunk_size=CHUNK_SIZE)
    def bulk_create(self, orders: Sequence[Order]) -> None:
        with transaction.atomic():
            Order.objects.bulk_create(orders)


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


def report(name: str, result: BatchResult) -> None:
    counts = f"{result.received:,} orders received, {result.written:,} written, {result.failed:,} failed"
    print(f"{name}: {counts}")
    for reason, number in sorted(result.failure_counts.items(), key=lambda each: -each[1]):
        column = ".".join(part for part in (reason.table, reason.column) if part)
        where = ", ".join(part for part in (column, reason.constraint, reason.sqlstate) if part)
        print(f"  {number:,} because: {reason.message} [{where}]")
    if (count := Order.objects.count()) != result.written:
        sys.exit(f"but the table holds {count:,}")


def make_table() -> None:
    """Make the table anew; in a project a migration does that."""
    with connection.schema_editor() as editor:
        if Order._meta.db_table in connection.introspection.table_names():  # noqa: SLF001 - public by Django's word
            editor.delete_model(Order)
        editor.create_model(Order)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write orders through a repository over Django's models.")
    parser.add_argument("url", type=make_url, help="a URL such as sqlite:///orders.db; its table `orders` is dropped")
    options = parser.parse_args(arguments)
    settings.DATABASES["default"] = database_of(options.url)
    make_table()
    report("OrderRepository", write(OrderRepository(), read_orders()))
    make_table()
    report("BatchedOrderRepository", BatchedOrderRepository().bulk_create(read_orders()))
    connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
