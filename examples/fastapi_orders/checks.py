"""Whether the answers were true: each is compared with the tables. And the figures of the database's own books."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Engine, create_engine, func, make_url, select, text

from .clients import GOOD, NO_QUANTITY, NUMBER_TAKEN, SKUS, UNKNOWN_SKU
from .tables import metadata, order_lines, orders, products

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .clients import Sent

_RIGHT_ANSWERS = {
    GOOD: (201, None),
    UNKNOWN_SKU: (422, "product_known"),
    NO_QUANTITY: (422, "quantity_positive"),
    NUMBER_TAKEN: (409, "order_number_only_once"),
}


@contextmanager
def own_schema(url: str, name: str = "fastapi_orders_load") -> Iterator[tuple[str, Engine]]:
    """A schema with the tables and some products, dropped afterwards; a URL that leads into it, and an engine."""
    inside = make_url(url).update_query_dict({"options": f"-csearch_path={name}"})
    outer = create_engine(url, isolation_level="AUTOCOMMIT")
    engine = create_engine(inside)
    try:
        with outer.connect() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(products.insert(), [{"sku": sku, "name": sku} for sku in SKUS])
        yield inside.render_as_string(hide_password=False), engine
    finally:
        engine.dispose()
        with outer.connect() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        outer.dispose()


def empty(engine: Engine) -> None:
    """Remove all orders."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"TRUNCATE {order_lines.name}, {orders.name}")
        # Each mode begins with tables, and a log, of the same state.
        connection.exec_driver_sql("CHECKPOINT")


def wrong_answers(engine: Engine, sent: Iterable[Sent]) -> Counter[str]:
    """How many answers were wrong, by what was wrong with them, and how many there were none of.

    An order without an answer may be in the tables or not, but not in part; with the answer 503 likewise.
    """
    wrong: Counter[str] = Counter()
    there = _orders_in(engine)
    for order in sent:
        if order.kind == NUMBER_TAKEN:
            continue  # the number is another's, and looked at there
        found = there.pop(order.number, None)
        if found is not None and (order.kind != GOOD or found != (order.lines, order.cents)):
            wrong["in the tables otherwise than sent, or in part"] += 1
        if (order.status == 201) != (found is not None) and order.status not in (503, None):
            wrong["written and not said so, or the other way round"] += 1
    wrong["in the tables and never sent"] += len(there)
    for order in sent:
        if order.status is None:
            wrong["no answer"] += 1
        elif (order.status, order.constraint) != _RIGHT_ANSWERS[order.kind]:
            wrong[f"{order.kind}: answered {order.status} {order.constraint or ''}".rstrip()] += 1
    return +wrong


def _orders_in(engine: Engine) -> dict[str, tuple[int, int]]:
    """The number of lines, and what they come to in cents, of each order."""
    amount = func.sum(order_lines.c.quantity * order_lines.c.unit_price * 100)
    query = (
        select(orders.c.number, func.count(order_lines.c.sku), func.coalesce(amount, 0))
        .select_from(orders.outerjoin(order_lines))
        .group_by(orders.c.number)
    )
    with engine.connect() as connection:
        return {number: (lines, int(cents)) for number, lines, cents in connection.execute(query)}


def commits(engine: Engine, quiet: float = 0.7, longest: float = 20.0) -> int:
    """Transactions that the database has committed since its beginning, once the count stands still.

    The server's processes report what they have done with a delay of up to a second, but at their end at once: so this
    ends those of the engine, and is to be asked when the service has ended.
    """
    engine.dispose()
    query = text("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    # All in one transaction: each one would be counted.
    with engine.connect() as connection:
        deadline = time.monotonic() + longest
        count, since = -1, time.monotonic()
        while (now := time.monotonic()) - since < quiet and now < deadline:
            connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
            last, count = count, int(connection.scalar(query) or 0)
            since = since if count == last else now
            time.sleep(0.1)
    return count
