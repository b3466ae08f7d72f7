"""The service. `uvicorn --factory examples.fastapi_orders.app:make_app` runs it; see README.md.

DATABASE_URL   a SQLAlchemy URL, `postgresql+psycopg://…`
WRITE_MODE     `coalesced` (the default), or `direct`: a transaction for each request
MAX_DELAY      longest time in seconds that an order waits for others, when coalesced
MAX_QUEUE      most orders that wait to be written, when coalesced
"""

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from .coalesced import coalesced
from .direct import direct
from .models import NewOrder
from .tables import metadata, order_lines, orders

Mode = Literal["coalesced", "direct"]

# A caller who is alone never waits; under load the wait ends when as many have come back as were answered a moment ago.
# With 200 clients, short rounds with 20 to 100 ms gave no more requests a second beyond the noise.
MAX_DELAY = 0.005
# Some two seconds' worth: who came behind these would wait for longer than his patience lasts.
MAX_QUEUE = 2_000


def create_app(
    url: str, mode: Mode = "coalesced", *, max_delay: float = MAX_DELAY, max_queue: int = MAX_QUEUE
) -> FastAPI:
    """The service over a database. What it opens is opened and closed with the server, in its lifespan.

    Args:
        url: The database.
        mode: How orders are written.
        max_delay: Longest time in seconds that an order waits for others, when coalesced.
        max_queue: Most orders that wait to be written, when coalesced; more are answered by 503.
    """
    answers: Counter[int] = Counter()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # What goes wrong is logged, and must not quote orders there.
        engine = create_async_engine(url, pool_size=10, max_overflow=0, hide_parameters=True)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(metadata.create_all)
            async with coalesced(engine, max_delay, max_queue) if mode == "coalesced" else direct(engine) as writing:
                app.state.engine, app.state.writing = engine, writing
                # Uvicorn comes back here at SIGTERM when the requests that it has taken are answered.
                yield
        finally:
            await engine.dispose()

    app = FastAPI(title="Orders", lifespan=lifespan)

    @app.post("/orders", status_code=201)
    async def take_order(order: NewOrder, request: Request) -> JSONResponse:
        answer = await request.app.state.writing.write(order)
        answers[answer.status] += 1
        return JSONResponse(answer.body, answer.status, answer.headers)

    @app.get("/orders/{number}")
    async def read_order(number: str, request: Request) -> JSONResponse:
        # No text of PostgreSQL's holds a zero character, so there is no such order.
        found = None if "\0" in number else await _found(request.app.state.engine, number)
        return JSONResponse(found) if found else JSONResponse({"message": "there is no such order"}, 404)

    @app.get("/health")
    async def health(request: Request) -> dict[str, Any]:
        return {
            "mode": mode,
            "answers": {str(status): number for status, number in sorted(answers.items())},
            "connections_in_use": request.app.state.engine.pool.checkedout(),
            **request.app.state.writing.figures(),
        }

    app.add_exception_handler(RequestValidationError, _explain)
    return app


async def _explain(_request: Request, error: Exception) -> JSONResponse:
    """What does not look like an order; FastAPI's own answer would quote it."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is added for that alone
    faults = [{"field": ".".join(map(str, fault["loc"][1:])), "message": fault["msg"]} for fault in error.errors()]
    return JSONResponse({"message": "this is not an order", "faults": faults}, 422)


async def _found(engine: AsyncEngine, number: str) -> dict[str, Any] | None:
    async with engine.connect() as connection:
        order = (await connection.execute(select(orders).where(orders.c.number == number))).one_or_none()
        lines = await connection.execute(
            select(order_lines).where(order_lines.c.order_number == number).order_by(order_lines.c.sku)
        )
    if order is None:
        return None
    return {
        "number": order.number,
        "customer": order.customer,
        "taken_at": order.taken_at.isoformat(),
        "lines": [{"sku": line.sku, "quantity": line.quantity, "unit_price": str(line.unit_price)} for line in lines],
    }


def make_app() -> FastAPI:
    """The service as the environment says; for `uvicorn --factory`."""
    mode = os.environ.get("WRITE_MODE", "coalesced")
    if mode not in ("coalesced", "direct"):
        raise ValueError('WRITE_MODE must be "coalesced" or "direct"')
    return create_app(
        os.environ["DATABASE_URL"],
        cast("Mode", mode),
        max_delay=float(os.environ.get("MAX_DELAY", MAX_DELAY)),
        max_queue=int(os.environ.get("MAX_QUEUE", MAX_QUEUE)),
    )
