"""The figures of a soak, printed so that they can be copied into docs/reliability.md."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Engine

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB", "mysql": "MariaDB"}


def tell(engine: Engine, figures: Mapping[str, object], *circumstances: str) -> None:
    """Prints when, where and in which circumstances the figures came about, and a table of them."""
    load = f"load {os.getloadavg()[0]:.1f} in the last minute"
    place = [f"{datetime.now(UTC):%Y-%m-%d}", server_of(engine), f"{os.cpu_count()} cores", load, *circumstances]
    lines = [f"| {name} | {shown(figure)} |" for name, figure in figures.items()]
    print("", f"Run on {', '.join(place)}:", "", "| | |", "|---|--:|", *lines, sep="\n", flush=True)


def server_of(engine: Engine) -> str:
    """The database of an engine, with its version."""
    with engine.connect():
        version = engine.dialect.server_version_info or ()  # known once there has been a connection
    return f"{NAMES[engine.dialect.name]} {'.'.join(map(str, version))}"


def shown(figure: object) -> str:
    return f"{figure:,}" if isinstance(figure, int) else str(figure)
