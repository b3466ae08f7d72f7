"""Workers that take orders off a queue in PostgreSQL: every message is written once, or is kept with its reason.

    python examples/queue_worker.py postgresql+psycopg://user@host/database

That fills a queue with the orders of the Northwind sample data, in a database that should be empty, and starts two
worker processes beside each other. Products that are no longer sold are not in stock. You should see

    623 orders written, with 1,538 lines; stock agrees
    207 messages failed, 0 left
      207 because: no row has this key (product_id) [products.product_id]

`fill` and `work` do the two parts by themselves: start as many workers as you like, stop them by SIGTERM, kill them by
SIGKILL, start others. `compare` measures one beside another that writes a message a transaction: on PostgreSQL 15, over
a local socket, ours wrote 5 to 6 times as many, and 8 to 12 times as many where no message was refused.

How a message is written exactly once: a worker claims messages by a short transaction of its own, which gives them a
claim that nobody else has, for as long as the lease lasts. It must not keep them locked instead: the chunk is written
on another connection, which would wait for these locks. Among the writes of a message is its deletion, by its id and
the claim. So it leaves the queue in the transaction that writes its order. Where the lease has run out and somebody
else has claimed it, there is nothing to be deleted, so nothing of it is written by the one who came too late. A COMMIT
without an answer needs no ledger: what has landed is no longer in the queue, and what has not will be claimed again.
"""

import argparse
import csv
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Row,
    String,
    Table,
    Text,
    Uuid,
    bindparam,
    create_engine,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError

from batchwrite import BatchResult, BatchWriter, Collector, ItemFailure

NORTHWIND = Path(__file__).resolve().parent / "data" / "northwind"
MOST_ATTEMPTS = 3  # then it is the message, not the workers, that was taken up so often and never ended
SECONDS_BETWEEN_LOOKS = 0.1  # at a queue of which nothing is to be had

metadata = MetaData()
messages = Table(
    "messages",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("payload", JSONB, nullable=False),
    Column("state", String(7), nullable=False, server_default="waiting"),
    Column("claim", Uuid),
    Column("claimed_until", DateTime(timezone=True)),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("reason", Text),
    CheckConstraint("state IN ('waiting', 'failed')", name="state_known"),
    CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name="failed_for_a_reason"),
)
Index("messages_waiting", messages.c.id, postgresql_where=messages.c.state == "waiting")
products = Table(
    "products",
    metadata,
    Column("product_id", Integer, primary_key=True, autoincrement=False),
    Column("in_stock", Integer, nullable=False),  # below zero: on back order
)
orders = Table(
    "orders",
    metadata,
    Column("order_id", Integer, primary_key=True, autoincrement=False),
    Column("customer_id", String(5), nullable=False),
    Column("ordered_at", DateTime, nullable=False),
)
order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", ForeignKey(orders.c.order_id), primary_key=True),
    Column("product_id", ForeignKey(products.c.product_id), primary_key=True),
    Column("unit_price", Numeric(10, 2), nullable=False),
    Column("quantity", Integer, nullable=False),
)

Message = Row[Any]


# ---- the worker


def record_message(message: Message, out: Collector) -> None:
    """Record what a message asks for, and that it leaves the queue, if the claim still holds."""
    out.delete(messages, {"id": message.id, "claim": message.claim})
    order = message.payload
    order_id = order["order_id"]
    ordered_at = datetime.fromisoformat(order["ordered_at"])
    out.insert(orders, {"order_id": order_id, "customer_id": order["customer_id"], "ordered_at": ordered_at})
    for line in order["lines"]:
        product = {"product_id": line["product_id"]}
        price = Decimal(line["unit_price"])
        out.insert(order_lines, {"order_id": order_id, **product, "unit_price": price, "quantity": line["quantity"]})
        out.increment(products, product, in_stock=-line["quantity"])


class Worker:
    """Takes messages off the queue until it is told to stop.

    Args:
        engine: The database of both the queue and the orders: they share transactions.
        most: Most messages claimed at a time.
        lease: For how long. It should be ample for so many messages: where it is too short, work is done in vain, but
            nothing is written twice.
        chunk_size: Most messages written in one transaction.
    """

    def __init__(self, engine: Engine, *, most: int, lease: timedelta, chunk_size: int) -> None:
        self._engine = engine
        self._most = most
        self._lease = lease
        self._writer = BatchWriter(engine, chunk_size=chunk_size, keep_failures=most)
        self._is_stopping = False
        self.counts: Counter[str] = Counter()

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Finish what is being written, give back the rest, and end; to be called by signals, too."""
        self._is_stopping = True

    def work(self, *, until_empty: bool = False) -> None:
        """Work until stopped, or until no message waits any more, not even with another worker.

        Raises:
            RuntimeError: The run was ended by something that is no message's fault. What it had claimed is given
                back; start another worker.
        """
        while not self._is_stopping:
            claim, taken = self._claim()
            if taken:
                self._write(claim, taken)
            elif until_empty and not self._are_waiting():
                return
            else:
                time.sleep(SECONDS_BETWEEN_LOOKS)  # no Event: setting one in a signal handler can deadlock

    def _claim(self) -> tuple[uuid.UUID, list[Message]]:
        """Claim messages for a while, oldest first.

        A message that was claimed before comes back because its worker did not. It is taken up alone: if it is what
        kills workers, it takes no other message with it.
        """
        claim = uuid.uuid4()
        with self._engine.begin() as connection:
            taken = self._claimed(connection, claim, messages.c.attempts > 0, most=1)
            return claim, taken or self._claimed(connection, claim, messages.c.attempts == 0, most=self._most)

    def _claimed(
        self, connection: Connection, claim: uuid.UUID, which: ColumnElement[bool], *, most: int
    ) -> list[Message]:
        free = (
            select(messages.c.id)
            .where(messages.c.state == "waiting", which)
            .where(or_(messages.c.claimed_until.is_(None), messages.c.claimed_until < func.now()))
            .order_by(messages.c.id)
            .limit(most)
            .with_for_update(skip_locked=True)
            .cte("free")
        )
        claiming = (
            update(messages)
            .where(messages.c.id == free.c.id)
            .values(claim=claim, claimed_until=func.now() + self._lease, attempts=messages.c.attempts + 1)
            .returning(messages.c.id, messages.c.payload, messages.c.claim, messages.c.attempts)
        )
        return sorted(connection.execute(claiming), key=lambda message: message.id)

    def _write(self, claim: uuid.UUID, taken: list[Message]) -> None:
        worn_out = [message for message in taken if message.attempts > MOST_ATTEMPTS]
        left = [message for message in taken if message.attempts <= MOST_ATTEMPTS]
        result = self._writer.run(self._until_stopped(left), record_message)
        refused = [(failure.item, reason_of(failure)) for failure in result.failures]
        refused += [(each, f"taken up {MOST_ATTEMPTS} times, and never brought to an end") for each in worn_out]
        with self._engine.begin() as connection:
            self.counts["failed"] += put_aside(connection, refused)
            self.counts["given back"] += self._give_back(connection, claim, result)
        self.counts["written"] += result.written
        if result.abort:
            raise RuntimeError(result.abort.message)

    def _until_stopped(self, taken: Iterable[Message]) -> Iterator[Message]:
        for message in taken:
            if self._is_stopping:
                return
            yield message

    def _give_back(self, connection: Connection, claim: uuid.UUID, result: BatchResult) -> int:
        """Give up the claim to what was neither written nor put aside.

        A run that came to its end has not tried it. One that did not may have: the attempt counts, and it will be
        taken up alone. Where a COMMIT got no answer and is still under way, this waits for it.
        """
        tried = 1 if result.abort else 0
        giving = (
            update(messages)
            .where(messages.c.claim == claim, messages.c.state == "waiting")
            .values(claim=None, claimed_until=None, attempts=messages.c.attempts - 1 + tried)
        )
        return connection.execute(giving).rowcount

    def _are_waiting(self) -> bool:
        with self._engine.connect() as connection:
            return connection.scalar(select(messages.c.id).where(messages.c.state == "waiting").limit(1)) is not None


def reason_of(failure: ItemFailure) -> str:
    """Why a message has failed, in words that quote nothing of it."""
    name = failure.constraint or failure.sqlstate
    return f"{failure.reason} ({name})" if name else str(failure.reason)


def put_aside(connection: Connection, refused: Iterable[tuple[Message, str]]) -> int:
    """Keep messages with the reasons why they have failed, and count them.

    This comes after the chunk's COMMIT. A worker that dies in between leaves them claimed: they will be tried, and
    refused, once more. Those that are no longer ours stay as they are: that they could not be deleted from the queue is
    why they were refused here.
    """
    count = 0
    for message, reason in refused:
        keeping = (
            update(messages)
            .where(messages.c.id == message.id, messages.c.claim == message.claim)
            .values(state="failed", reason=reason, claim=None, claimed_until=None)
        )
        count += connection.execute(keeping).rowcount
    return count


# ---- the usual way, to compare with


def work_one_by_one(engine: Engine) -> None:
    """Take one message a transaction, and keep it locked meanwhile, until the queue is empty."""
    waiting = (
        select(messages.c.id, messages.c.payload)
        .where(messages.c.state == "waiting")
        .order_by(messages.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    is_it = messages.c.id == bindparam("message_id")
    while True:
        with engine.begin() as connection:
            message = connection.execute(waiting).first()
            if message is None:
                return
            key = {"message_id": message.id}
            try:
                with connection.begin_nested():
                    write_order(connection, message.payload)
            except (DBAPIError, LookupError) as error:
                reason = {"state": "failed", "reason": str(error)}
                connection.execute(update(messages).where(is_it).values(reason), key)
            else:
                connection.execute(delete(messages).where(is_it), key)


def write_order(connection: Connection, order: dict[str, Any]) -> None:
    """Write an order in a transaction that is open.

    Raises:
        LookupError: A product is not in stock. It is looked for first: a refused `executemany` costs more.
    """
    taking = (
        update(products)
        .where(products.c.product_id == bindparam("product"))
        .values(in_stock=products.c.in_stock - bindparam("pieces"))
    )
    lines = [{"order_id": order["order_id"], **line} for line in order["lines"]]
    pieces = [{"product": line["product_id"], "pieces": line["quantity"]} for line in lines]
    if connection.execute(taking, pieces).rowcount != len(lines):
        raise LookupError("a product is not in stock")
    connection.execute(insert(orders), {name: order[name] for name in ("order_id", "customer_id", "ordered_at")})
    connection.execute(insert(order_lines), lines)


def compare(engine: Engine, worker: Worker, copies: int) -> None:
    """Empty the tables, and work off the same queues in both ways."""
    ways: dict[str, Callable[[], None]] = {
        "one message a transaction": partial(work_one_by_one, engine),
        "this worker": partial(worker.work, until_empty=True),
    }
    metadata.create_all(engine)
    for name, has_refused in (("every fourth message refused", True), ("no message refused", False)):
        rates = []
        for way, work_off in ways.items():
            with engine.begin() as connection:
                for table in reversed(metadata.sorted_tables):
                    connection.execute(delete(table))
            count = fill(engine, copies, has_refused=has_refused)
            started = time.perf_counter()
            work_off()
            rates.append(count / (time.perf_counter() - started))
            print(f"{name}, {way}: {rates[-1]:,.0f} messages a second", flush=True)
        print(f"{name}: {rates[1] / rates[0]:.1f} times as many")


# ---- the queue, and what has come of it


def read(name: str) -> list[dict[str, str]]:
    with (NORTHWIND / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def fill(engine: Engine, copies: int = 1, *, has_refused: bool = True) -> int:
    """Put the orders of the sample into the queue, so many times under numbers of their own, and count them.

    Args:
        engine: The database.
        copies: How often.
        has_refused: Whether those that ask for what is not in stock are among them.
    """
    sold = {product["ProductID"]: product for product in read("products.csv") if product["Discontinued"] == "0"}
    refused = {line["OrderID"] for line in read("order_details.csv") if line["ProductID"] not in sold}
    lines: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in read("order_details.csv"):
        product_id, quantity = int(line["ProductID"]), int(line["Quantity"])
        lines[line["OrderID"]].append({"product_id": product_id, "unit_price": line["UnitPrice"], "quantity": quantity})

    def send(order: dict[str, str], out: Collector) -> None:
        for copy in range(copies):
            payload = {
                "order_id": int(order["OrderID"]) + copy * 100_000,
                "customer_id": order["CustomerID"],
                "ordered_at": order["OrderDate"],
                "lines": lines[order["OrderID"]],
            }
            out.insert(messages, {"payload": payload})

    def stock(product: dict[str, str], out: Collector) -> None:
        row = {"product_id": int(product["ProductID"]), "in_stock": int(product["UnitsInStock"])}
        out.upsert(products, row, set=())

    metadata.create_all(engine)
    writer = BatchWriter(engine)
    writer.run(sold.values(), stock).raise_for_failures()
    result = writer.run((order for order in read("orders.csv") if has_refused or order["OrderID"] not in refused), send)
    result.raise_for_failures()
    return result.written * copies


def report(engine: Engine) -> None:
    """Print what has become of the messages, and whether the stock agrees with the lines."""
    before = sum(int(product["UnitsInStock"]) for product in read("products.csv") if product["Discontinued"] == "0")
    with engine.connect() as connection:
        written = connection.scalar(select(func.count()).select_from(orders)) or 0
        count, pieces = connection.execute(select(func.count(), func.sum(order_lines.c.quantity))).one()
        in_stock = connection.scalar(select(func.sum(products.c.in_stock)))
        states = Counter(connection.scalars(select(messages.c.state)).all())
        reasons = Counter(connection.scalars(select(messages.c.reason).where(messages.c.reason.is_not(None))))
    agrees = "stock agrees" if in_stock == before - (pieces or 0) else "stock does not agree"
    print(f"{written:,} orders written, with {count:,} lines; {agrees}")
    print(f"{states['failed']:,} messages failed, {states['waiting']:,} left")
    for reason, number in reasons.most_common():
        print(f"  {number:,} because: {reason}")


def work_beside_each_other(options: argparse.Namespace) -> None:
    """Start workers, each a process of its own, and wait for them."""
    command = [sys.executable, __file__, options.url, "work", "--until-empty", "--lease", str(options.lease)]
    command += ["--most", str(options.most), "--chunk-size", str(options.chunk_size)]
    started = [subprocess.Popen(command) for _ in range(options.workers)]  # noqa: S603 - this very program
    statuses = [worker.wait() for worker in started]
    if any(statuses):
        sys.exit("a worker has failed")


def work(worker: Worker, *, until_empty: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    print("working", flush=True)
    try:
        worker.work(until_empty=until_empty)
    finally:
        print(", ".join(f"{count:,} {what}" for what, count in worker.counts.items()) or "nothing done", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Work off a queue of orders in PostgreSQL through batchwrite.")
    parser.add_argument("url", help="a SQLAlchemy URL, e.g. postgresql+psycopg://user@host/database")
    parser.add_argument("action", nargs="?", choices=["all", "fill", "work", "compare"], default="all")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    parser.add_argument("--most", type=int, default=500, help="messages that a worker claims at a time")
    parser.add_argument("--chunk-size", type=int, default=500, help="messages that it writes in one transaction")
    parser.add_argument("--lease", type=float, default=60, help="seconds for which it claims them")
    parser.add_argument("--until-empty", action="store_true", help="do not wait for more messages")
    parser.add_argument("--copies", type=int, default=3, help="how often to compare takes the sample's orders")
    options = parser.parse_args(arguments)

    engine = create_engine(options.url, pool_pre_ping=True)  # claims are given back after a lost connection, too
    lease = timedelta(seconds=options.lease)
    worker = Worker(engine, most=options.most, lease=lease, chunk_size=options.chunk_size)
    try:
        if options.action in ("all", "fill"):
            print(f"{fill(engine):,} messages in the queue", flush=True)
        if options.action == "all":
            work_beside_each_other(options)
            report(engine)
        elif options.action == "work":
            work(worker, until_empty=options.until_empty)
        elif options.action == "compare":
            compare(engine, worker, options.copies)
    finally:
        engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
