"""The peers that write to PostgreSQL alone: psycopg, asyncpg, Django, and Arrow by way of ADBC."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, DateTime, Integer, Numeric, String

from batchwrite.bench.peers import (
    COMMIT,
    CORE,
    CORE_RETURNING,
    FEW,
    ORM_ADD_ALL,
    ORM_BULK,
    SAVEPOINT,
    SOME,
    Peer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Column, Table

    from batchwrite.bench.place import Place
    from batchwrite.bench.rows import Row
    from batchwrite.bench.timing import Write

CHUNK = 1_000
"""Rows of a chunk, where a peer writes in chunks: as many as `BatchWriter`'s by default."""


def names(table: Table, *, driver: str = "psycopg") -> dict[str, str]:
    """The table, its columns and their placeholders, quoted, for statements written by hand."""
    place = f'"{table.schema}"."{table.name}"'
    marks = ["%s" if driver == "psycopg" else f"${number}" for number in range(1, len(table.columns) + 1)]
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    return {"table": place, "columns": columns, "marks": ", ".join(marks)}


def copy_statement(table: Table) -> str:
    """COPY into a table from the client."""
    return "COPY {table} ({columns}) FROM STDIN".format(**names(table))


def insert_statement(table: Table, *, driver: str = "psycopg") -> str:
    """INSERT with a placeholder for each column."""
    return "INSERT INTO {table} ({columns}) VALUES ({marks})".format(**names(table, driver=driver))  # noqa: S608 - ours


@contextmanager
def psycopg_connection(place: Place, *, autocommit: bool = False) -> Iterator[Any]:
    """A connection of psycopg's own."""
    import psycopg  # noqa: PLC0415 - SQLite works without it

    with psycopg.connect(place.conninfo, autocommit=autocommit) as connection:
        yield connection


def copy_rows(connection: Any, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Send rows by COPY, in the transaction that is open."""
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


@contextmanager
def psycopg_copy(place: Place, table: Table, rows: Sequence[tuple[Any, ...]]) -> Iterator[Write]:
    """COPY of all rows in one transaction: what everything else is compared with."""
    statement = copy_statement(table)
    with psycopg_connection(place) as connection:

        def write() -> None:
            with connection.transaction():
                copy_rows(connection, statement, rows)

        yield write


@contextmanager
def psycopg_copy_chunks(place: Place, table: Table, rows: Sequence[tuple[Any, ...]]) -> Iterator[Write]:
    """COPY in a transaction for each chunk."""
    statement = copy_statement(table)
    with psycopg_connection(place) as connection:

        def write() -> None:
            for begin in range(0, len(rows), CHUNK):
                with connection.transaction():
                    copy_rows(connection, statement, rows[begin : begin + CHUNK])

        yield write


@contextmanager
def psycopg_executemany(place: Place, table: Table, rows: Sequence[tuple[Any, ...]]) -> Iterator[Write]:
    """One `executemany`, which psycopg sends as a pipeline."""
    statement = insert_statement(table)
    with psycopg_connection(place) as connection:

        def write() -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(statement, rows)

        yield write


@contextmanager
def psycopg_row_by_row(place: Place, table: Table, rows: Sequence[tuple[Any, ...]]) -> Iterator[Write]:
    """One INSERT a row, each committed by itself."""
    statement = insert_statement(table)
    with psycopg_connection(place, autocommit=True) as connection:

        def write() -> None:
            with connection.cursor() as cursor:
                for row in rows:
                    cursor.execute(statement, row)

        yield write


@contextmanager
def _asyncpg(place: Place) -> Iterator[tuple[Any, Any]]:
    """An event loop, and a connection of asyncpg's in it."""
    import asyncio  # noqa: PLC0415

    asyncpg = importlib.import_module("asyncpg")
    with asyncio.Runner() as runner:

        async def connect() -> Any:
            return await asyncpg.connect(place.conninfo)

        connection = runner.run(connect())
        try:
            yield runner, connection
        finally:
            runner.run(connection.close())


@contextmanager
def asyncpg_copy_chunks(place: Place, table: Table, rows: Sequence[tuple[Any, ...]]) -> Iterator[Write]:
    """`copy_records_to_table` for each chunk."""
    columns = [column.name for column in table.columns]
    with _asyncpg(place) as (runner, connection):

        async def copy() -> None:
            for begin in range(0, len(rows), CHUNK):
                await connection.copy_records_to_table(
                    table.name, records=rows[begin : begin + CHUNK], columns=columns, schema_name=table.schema
                )

        yield lambda: runner.run(copy())


@contextmanager
def asyncpg_executemany(place: Place, table: Table, rows: Sequence[tuple[Any, ...]]) -> Iterator[Write]:
    """One `executemany`."""
    statement = insert_statement(table, driver="asyncpg")
    with _asyncpg(place) as (runner, connection):
        yield lambda: runner.run(connection.executemany(statement, rows))


def _by_type(bigint: Any, integer: Any, numeric: Any, time: Any, string: Any) -> Callable[[Column[Any]], Any]:
    """Of five things that which goes with a column's type."""
    kinds = ((BigInteger, bigint), (Integer, integer), (Numeric, numeric), (DateTime, time), (String, string))
    return lambda column: next(found for kind, found in kinds if isinstance(column.type, kind))


@contextmanager
def _django_model(place: Place, table: Table) -> Iterator[type[Any]]:
    """A Django model of a table, on a connection that has been made."""
    conf, django, db = map(importlib.import_module, ("django.conf", "django", "django.db"))
    if not conf.settings.configured:  # once a process: another database is another connection, below
        conf.settings.configure(DATABASES={}, INSTALLED_APPS=[], USE_TZ=True)
        django.setup()
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    options: dict[str, Any] = conninfo_to_dict(place.conninfo)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": options.pop("dbname", ""),
        "OPTIONS": options | {"options": f"-c search_path={table.schema}"},
    }
    connection = db.utils.ConnectionHandler({"default": database})["default"]
    db.connections["default"] = connection
    try:
        connection.ensure_connection()
        yield _django_class(db.models, table)
    finally:
        connection.close()
        del db.connections["default"]
        importlib.import_module("django.apps").apps.all_models.pop(table.name, None)


def _django_class(models: Any, table: Table) -> type[Any]:
    price = partial(models.DecimalField, max_digits=12, decimal_places=2)
    kinds = _by_type(models.BigIntegerField, models.IntegerField, price, models.DateTimeField, models.TextField)
    fields = {column.name: kinds(column)(primary_key=column.primary_key) for column in table.columns}
    meta = type("Meta", (), {"app_label": table.name, "db_table": table.name, "managed": False})
    return type("Line", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})


@contextmanager
def django_bulk_create(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    """`bulk_create`, in batches of a chunk each and one transaction."""
    with _django_model(place, table) as model:
        yield lambda: model.objects.bulk_create([model(**row) for row in rows], batch_size=CHUNK)


@contextmanager
def _adbc(place: Place) -> Iterator[Any]:
    dbapi = importlib.import_module("adbc_driver_postgresql.dbapi")
    with dbapi.connect(place.conninfo) as connection:
        yield connection


@contextmanager
def adbc_ingest(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    """An Arrow table made of the rows, sent by ADBC."""
    pyarrow = importlib.import_module("pyarrow")
    types = _by_type(
        pyarrow.int64(), pyarrow.int32(), pyarrow.decimal128(12, 2), pyarrow.timestamp("us", "UTC"), pyarrow.string()
    )
    # The driver sends what it is given, and the server takes no int8 for an int4.
    schema = pyarrow.schema([(column.name, types(column)) for column in table.columns])
    with _adbc(place) as connection:

        def write() -> None:
            arrow = pyarrow.Table.from_pylist(rows, schema=schema)
            with connection.cursor() as cursor:
                cursor.adbc_ingest(table.name, arrow, mode="append", db_schema_name=table.schema)
            connection.commit()

        yield write


@contextmanager
def pandas_to_sql(place: Place, table: Table, rows: Sequence[Row]) -> Iterator[Write]:
    """A data frame made of the rows, and `to_sql` over ADBC."""
    pandas = importlib.import_module("pandas")
    types = _by_type(None, "int32", None, None, None)
    narrow = {column.name: kind for column in table.columns if (kind := types(column))}
    with _adbc(place) as connection:

        def write() -> None:
            frame = pandas.DataFrame.from_records(rows).astype(narrow)
            frame.to_sql(table.name, connection, schema=table.schema, if_exists="append", index=False)
            connection.commit()

        yield write


COPY = Peer(name="psycopg COPY, one transaction", opened=psycopg_copy, takes="tuples")
COPY_CHUNKS = Peer(name="psycopg COPY, a transaction each 1,000 rows", opened=psycopg_copy_chunks, takes="tuples")
ASYNCPG_COPY = Peer(
    name="asyncpg copy_records_to_table, each 1,000 rows",
    opened=asyncpg_copy_chunks,
    takes="tuples",
    needs=("asyncpg",),
)
_ARROW = ("pyarrow", "adbc_driver_manager", "adbc_driver_postgresql")

EVERY_PEER = (
    COPY,
    COPY_CHUNKS,
    Peer(name="ADBC ingest from Arrow", opened=adbc_ingest, needs=_ARROW),
    Peer(name="pandas to_sql over ADBC", opened=pandas_to_sql, needs=("pandas", *_ARROW)),
    ASYNCPG_COPY,
    Peer(name="asyncpg executemany", opened=asyncpg_executemany, takes="tuples", needs=("asyncpg",)),
    Peer(name="psycopg executemany", opened=psycopg_executemany, takes="tuples"),
    CORE,
    Peer(name="Django bulk_create", opened=django_bulk_create, needs=("django",), share=SOME),
    CORE_RETURNING,
    ORM_BULK,
    ORM_ADD_ALL,
    Peer(name="psycopg, one autocommitted INSERT a row", opened=psycopg_row_by_row, takes="tuples", share=FEW),
    SAVEPOINT,
    COMMIT,
)
