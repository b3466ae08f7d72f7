"""Measures the service in both modes, and checks every answer against the tables.

    python -m examples.fastapi_orders.load postgresql+psycopg://shop@localhost/shop

Each mode is a uvicorn process of one worker, started and ended here; clients run in this process. Tables are made in a
schema of their own, `fastapi_orders_load`, which is dropped at the end. Commits are those of the whole database: let
nobody else use it. Ends with status 1 if an answer was wrong. You should see a table of both modes, with `wrong
answers 0`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from batchwrite.bench.proxy import DelayProxy

from .checks import commits, empty, own_schema, wrong_answers
from .clients import load
from .service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from .clients import Sent

new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with suppress(ImportError):  # it does not install everywhere
    from uvloop import new_event_loop

MODES = ("direct", "coalesced")

# Orders sent so soon are checked but not measured: connections are opened, and statements are prepared.
WARM_UP = 1.0

_ROWS = {
    "requests/s": "{:,.0f}",
    "p50 ms": "{:,.1f}",
    "p99 ms": "{:,.1f}",
    "max ms": "{:,.1f}",
    "requests": "{:,.0f}",
    "commits": "{:,.0f}",
    "requests a commit": "{:,.1f}",
    "cpu us a request": "{:,.0f}",
    "wrong answers": "{:,.0f}",
}


@contextmanager
def at_a_distance(url: str, seconds: float) -> Iterator[str]:
    """A URL that leads to the same database, later in each direction."""
    if not seconds:
        yield url
        return
    place = make_url(url)
    host, port = place.host or str(place.query.get("host", "localhost")), place.port or place.query.get("port", 5432)
    target = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, int(str(port)))
    with DelayProxy(target, seconds) as proxy:
        late = place.difference_update_query(["host", "port"]).set(host="127.0.0.1", port=proxy.port)
        yield late.render_as_string(hide_password=False)


def measure(mode: str, url: str, engine: Engine, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one mode."""
    empty(engine)
    before, cpu = commits(engine), _cpu_of_children()
    settings = {} if options.max_delay is None else {"MAX_DELAY": str(options.max_delay)}
    with Service(url, mode, **settings) as service:
        began = time.monotonic()
        crowd = load(service.port, options.clients, began + WARM_UP + options.seconds, options.bad)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            sent = runner.run(crowd)
    committed, cpu = commits(engine) - before, _cpu_of_children() - cpu
    wrong = wrong_answers(engine, sent)
    counted = {
        "requests": len(sent),
        "commits": committed,
        "requests a commit": len(sent) / max(1, committed),
        "cpu us a request": cpu / len(sent) * 1e6,
        "wrong answers": wrong.total(),
    }
    return {**_speed(sent, began + WARM_UP, options.seconds), **counted, "wrong": dict(wrong)}


def _speed(sent: list[Sent], began: float, seconds: float) -> dict[str, float]:
    """Figures of those that were sent behind the warm-up."""
    measured = [order for order in sent if order.began >= began]
    answered = sum(began <= order.began + order.seconds <= began + seconds for order in sent)
    times = sorted(order.seconds * 1_000 for order in measured)
    return {
        "requests/s": answered / seconds,
        "p50 ms": times[len(times) // 2],
        "p99 ms": times[len(times) * 99 // 100],
        "max ms": times[-1],
    }


def _cpu_of_children() -> float:
    """Seconds of processor of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(rounds: list[dict[str, dict[str, Any]]]) -> None:
    """Print the median of each figure of all rounds, and the ratio of the modes; wrong answers are added up."""
    print(f"{'':20}{'direct':>12}{'coalesced':>12}{'ratio':>9}   (coalesced / direct; median of {len(rounds)})")
    for name, form in _ROWS.items():
        of_all = sum if name == "wrong answers" else statistics.median
        one, other = (of_all([figures[mode][name] for figures in rounds]) for mode in MODES)
        ratio = statistics.median([each["coalesced"][name] / max(each["direct"][name], 1e-9) for each in rounds])
        print(f"{name:20}{form.format(one):>12}{form.format(other):>12}{f'{ratio:.2f}' if one else '':>9}")
    for number, figures in enumerate(rounds, 1):
        for mode in MODES:
            for what, count in figures[mode]["wrong"].items():
                print(f"wrong in round {number}, {mode}: {count:,} {what}")


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the service in both modes, and check every answer.")
    parser.add_argument("database", help="a SQLAlchemy URL of a database that nobody else uses")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each mode in each round")
    parser.add_argument("--rounds", type=int, default=1, help="the modes alternate")
    parser.add_argument("--bad", type=float, default=0.01, help="share of orders that are to be refused")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of the way to the database, in each direction")
    parser.add_argument("--max-delay", type=float, help="seconds, for the service; default: its own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    rounds: list[dict[str, dict[str, Any]]] = []
    with own_schema(options.database) as (url, engine), at_a_distance(url, options.latency_ms / 1_000) as way:
        for number in range(options.rounds):
            order = MODES if number % 2 == 0 else MODES[::-1]
            figures = {mode: measure(mode, way, engine, options) for mode in order}
            rounds.append(figures)
            if options.json:
                options.json.write_text(json.dumps(rounds, indent=2), encoding="utf-8")
    show(rounds)
    return 1 if any(figures[mode]["wrong"] for figures in rounds for mode in MODES) else 0


if __name__ == "__main__":
    sys.exit(main())
