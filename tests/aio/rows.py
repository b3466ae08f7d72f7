"""A table of rows, and map functions."""

import asyncio

from sqlalchemy import CheckConstraint, Column, Integer, MetaData, String, Table, select

METADATA = MetaData()
ROWS = Table(
    "rows_of_aio",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
    Column("text", String(20)),
    CheckConstraint("n >= 0", name="ck_n"),
)


def write(number, out):
    """Numbers below 0 are refused by the database, texts by map, None is skipped."""
    if number is None:
        out.skip("nothing there")
    elif isinstance(number, str):
        raise ValueError(number)
    else:
        out.insert(ROWS, {"id": abs(number), "n": number})


async def write_later(number, out):
    await asyncio.sleep(0)
    write(number, out)


def ids(engine):
    with engine.connect() as connection:
        return list(connection.scalars(select(ROWS.c.id).order_by(ROWS.c.id)))
