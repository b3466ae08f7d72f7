"""What a peer is, and the SQLAlchemy ones, which write to any database.

A peer opens its connections for a block and gives a function that writes all the rows: that function is what is timed,
so whatever a peer makes of the rows (objects, frames, Arrow tables) counts, and connecting does not.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, registry

from batchwrite.database import create_engine_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import URL, Engine, Table

    from batchwrite.bench.place import Place
    from batchwrite.bench.rows import Row, Rows
    from batchwrite.bench.task import Task
    from batchwrite.bench.timing import Contender, Write

FULL, SOME, FEW = 1.0, 0.2, 0.03
"""Shares of a workload's rows: the slower a peer, the fewer it gets. Compared are rows a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A way to write rows of one table.

    Attributes:
        name: What it is called.
        opened: Given the place, the table and the rows, opens connections and gives the function to be timed.
        needs: The modules that must be there.
        takes: The form in which it gets the rows.
        share: Share of the workload's rows that it gets.
        is_all_or_nothing: Whether one bad row throws all away; such a peer gets the good rows only.
    """

    name: str
    opened: Callable[[Place, Table, Sequence[Any]], AbstractContextManager[Write]]
    needs: tuple[str, ...] = ()
    takes: Literal["dicts", "tuples"] = "dicts"
    share: float = FULL
    is_all_or_nothing: bool = True

    def contender(self, task: Task, table: Table, rows: Rows) -> Contender:
        """The peer as a contender for a task of writing rows to a table."""
        items: Sequence[Any] = rows.good if self.is_all_or_nothing else rows.items
        if self.takes == "tuples":
            items = [tuple(row.values()) for row in items]
        return task.contender(self.name, partial(self.opened, task.place, table, items), needs=self.needs)


@contextmanager
def connected_engine(url: URL, connections: int = 1) -> Iterator[Engine]:
    """An engine whose pool holds connections that have been made already."""
    engine = create_engine_for(url)
    try:
        opened = [engine.connect() for _ in range(connections)]
        for connection in opened:
            connection.close()
        yield engine
    finally:
        engine.dispose()


@contextmanager
def core_executemany(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    """SQLAlchemy Core: one `execute` with all rows."""
    with connected_engine(place.url) as engine:

        def write() -> None:
            with engine.begin() as connection:
                connection.execute(table.insert(), rows)

        yield write


@contextmanager
def core_returning(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    """SQLAlchemy Core with RETURNING: statements of many rows (insertmanyvalues)."""
    with connected_engine(place.url) as engine:

        def write() -> None:
            with engine.begin() as connection:
                connection.execute(table.insert().returning(table.c.id), rows).all()

        yield write


@contextmanager
def _mapped(table: Table) -> Iterator[type[Any]]:
    """A class mapped to a table."""
    mapper_registry = registry(metadata=table.metadata)
    try:
        mapped = type("Row", (), {})
        mapper_registry.map_imperatively(mapped, table)
        yield mapped
    finally:
        mapper_registry.dispose()


@contextmanager
def orm_add_all(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    """SQLAlchemy ORM: an object a row, one commit."""
    with connected_engine(place.url) as engine, _mapped(table) as mapped:

        def write() -> None:
            with Session(engine) as session:
                session.add_all([mapped(**row) for row in rows])
                session.commit()

        yield write


@contextmanager
def orm_bulk_insert(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    """SQLAlchemy ORM: its bulk INSERT with dictionaries."""
    with connected_engine(place.url) as engine, _mapped(table) as mapped:

        def write() -> None:
            with Session(engine) as session:
                session.execute(insert(mapped), rows)
                session.commit()

        yield write


@contextmanager
def savepoint_a_row(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    """One transaction, each row in a savepoint of its own: what isolates bad rows everywhere."""
    with connected_engine(place.url) as engine:

        def write() -> None:
            with engine.begin() as connection:
                for row in rows:
                    try:
                        with connection.begin_nested():
                            connection.execute(table.insert(), row)
                    except DBAPIError:
                        continue

        yield write


@contextmanager
def commit_a_row(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    """Each row in a transaction of its own."""
    with connected_engine(place.url) as engine:

        def write() -> None:
            with engine.connect() as connection:
                for row in rows:
                    try:
                        with connection.begin():
                            connection.execute(table.insert(), row)
                    except DBAPIError:
                        continue

        yield write


CORE = Peer(name="SQLAlchemy Core executemany", opened=core_executemany)
CORE_RETURNING = Peer(name="SQLAlchemy Core with RETURNING", opened=core_returning, share=SOME)
ORM_ADD_ALL = Peer(name="SQLAlchemy ORM add_all", opened=orm_add_all, share=SOME)
ORM_BULK = Peer(name="SQLAlchemy ORM bulk insert", opened=orm_bulk_insert, share=SOME)
SAVEPOINT = Peer(name="SQLAlchemy, one savepoint a row", opened=savepoint_a_row, share=FEW, is_all_or_nothing=False)
COMMIT = Peer(name="SQLAlchemy, one commit a row", opened=commit_a_row, share=FEW, is_all_or_nothing=False)
