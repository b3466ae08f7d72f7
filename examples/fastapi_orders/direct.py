"""Orders written one by one, without batchwrite: a transaction for each request. For comparison."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc

from .answers import Answer, refused, unavailable, written
from .tables import order_lines, orders, rows_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from .models import NewOrder

_log = logging.getLogger(__name__)

_INSERT_ORDER = orders.insert()
_INSERT_LINES = order_lines.insert()


class DirectOrders:
    """Writes each order in a transaction of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def write(self, order: NewOrder) -> Answer:
        """Write an order, and say what has become of it."""
        row, lines = rows_of(order)
        try:
            async with self._engine.begin() as connection:
                await connection.execute(_INSERT_ORDER, row)
                await connection.execute(_INSERT_LINES, lines)
        except (exc.IntegrityError, exc.DataError) as error:
            return _refused(error)
        except (exc.DBAPIError, exc.TimeoutError):
            _log.exception("an order was not written")
            return unavailable("the database is away or does not keep up")
        return written(order)

    def figures(self) -> dict[str, Any]:
        """Nothing beyond what the service counts itself."""
        return {}


def _refused(error: exc.DBAPIError) -> Answer:
    told = getattr(error.orig, "diag", None)
    # PostgreSQL's own words may quote values; the names do not.
    message = "the database refused the order"
    if told is None:
        return refused(message, None, None, None)
    return refused(message, told.table_name, told.column_name, told.constraint_name)


@asynccontextmanager
async def direct(engine: AsyncEngine) -> AsyncIterator[DirectOrders]:
    """Writes for as long as the block lasts."""
    yield DirectOrders(engine)
