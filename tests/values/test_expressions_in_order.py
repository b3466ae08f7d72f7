"""Values and defaults that depend on what was written before them, and constraints by which a later row wins."""

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    String,
    Table,
    UniqueConstraint,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.sql.functions import GenericFunction

from batchwrite import BatchWriter
from batchwrite.sinks.expressions import dependence_of
from batchwrite.table import Dependence

LAST_ID = {
    "sqlite": func.last_insert_rowid,
    "mariadb": func.last_insert_id,
    "postgresql": lambda: func.currval("orders_id_seq"),
}
LAST_ID_SQL = {
    "sqlite": "(last_insert_rowid())",
    "mariadb": "(last_insert_id())",
    "postgresql": "currval('orders_id_seq')",
}


def order_tables(**line_column):
    metadata = MetaData()
    orders = Table("orders", metadata, Column("id", Integer, primary_key=True), Column("code", String(20)))
    orders_b = Column("note", String(20))
    orders.append_column(orders_b)
    lines = Table(
        "lines",
        metadata,
        Column("code", String(20), primary_key=True),
        Column("order_id", Integer, ForeignKey("orders.id"), **line_column),
    )
    return metadata, orders, lines


def lines_and_their_orders(engine, orders, lines):
    query = select(lines.c.code, orders.c.code).join(orders, orders.c.id == lines.c.order_id).order_by(lines.c.code)
    with engine.connect() as connection:
        return connection.execute(query).all()


HOWS = ["value", "upsert", "default", "server default", "text", "literal column"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("bad", [None, 3])
def test_a_line_lands_under_the_order_before_it(engine, how, bad):
    """One line an order: the id that its item's own insert has just got, whatever else the chunk inserts."""
    name = engine.dialect.name
    given = {}
    if how == "server default":
        if name == "mariadb":
            pytest.skip("MariaDB takes no such default")
        given = {"server_default": text(LAST_ID_SQL[name])}
        if name == "sqlite":
            pytest.skip("SQLite takes no such default")
    elif how == "default":
        given = {"default": LAST_ID[name]()}
    metadata, orders, lines = order_tables(**given)
    metadata.create_all(engine)
    value = {
        "value": LAST_ID[name],
        "upsert": LAST_ID[name],
        "text": lambda: text(LAST_ID_SQL[name]),
        "literal column": lambda: literal_column(LAST_ID_SQL[name]),
    }.get(how)

    def write(number, out):
        # Orders of several shapes, which a plan would insert in statements of their own.
        out.insert(orders, {"code": f"o{number}"} | ({"note": "x"} if number % 3 == 1 else {}))
        row = {"code": f"o{number}"} | ({"order_id": value()} if value else {})
        if number == bad:
            row["code"] = None
        if how == "upsert":
            out.upsert(lines, row, set=())
        else:
            out.insert(lines, row)

    result = BatchWriter(engine).run(range(8), write)
    assert (result.written, result.failed, result.abort) == (8 - (bad is not None), int(bad is not None), None)
    found = lines_and_their_orders(engine, orders, lines)
    assert found == [(f"o{number}", f"o{number}") for number in range(8) if number != bad]


class nobody_knows(GenericFunction):  # noqa: N801 - as the database calls it
    batchwrite_is_pure = True
    inherit_cache = True
    type = Integer()


PURE = [
    func.now(),
    func.gen_random_uuid(),
    func.lower("A"),
    func.coalesce(None, 1),
    func.nextval("s"),
    func.pg_catalog.lower("A"),
    Sequence("s").next_value(),
    nobody_knows(1),
    func.abs(-1) + 1,
]
OTHERS = [
    func.currval("s"),
    func.lastval(),
    func.last_insert_rowid(),
    func.last_insert_id(),
    func.changes(),
    func.somebody(),
    func.mine.lower("A"),
    func.lower(func.currval("s")),
    func.coalesce(func.lastval(), 1),
    text("currval('s')"),
    text("lower(x) || mine.lower(x)"),
    literal_column("currval('s')"),
    select(func.lastval()).scalar_subquery(),
]


@pytest.mark.parametrize("expression", PURE, ids=str)
def test_what_is_known_to_be_pure_depends_on_nothing(expression):
    assert dependence_of(expression) is Dependence.NOTHING


@pytest.mark.parametrize("expression", OTHERS, ids=str)
def test_what_nobody_knows_depends_on_the_session(expression):
    assert dependence_of(expression) is Dependence.SESSION


def test_a_query_of_pure_functions_depends_on_rows_alone():
    orders = order_tables()[1]
    assert dependence_of(select(func.max(orders.c.id)).scalar_subquery()) is Dependence.ROWS
    assert dependence_of(orders.c.id + 1) is Dependence.ROWS
    assert dependence_of(text("n + 1")) is Dependence.ROWS


# ---- SQLite's ON CONFLICT


@pytest.mark.parametrize("word", ["REPLACE", "IGNORE"])
@pytest.mark.parametrize("where", ["unique", "primary key", "column"])
def test_which_row_stays_is_decided_in_the_order_of_the_items(sqlite_engine, word, where):
    def table_in(metadata):
        return Table(
            "t",
            metadata,
            Column("id", Integer, **({} if where == "primary key" else {"primary_key": True}), autoincrement=False),
            Column(
                "name",
                String,
                **({"unique": True, "sqlite_on_conflict_unique": word} if where == "column" else {}),
            ),
            Column("note", String),
            *([UniqueConstraint("name", sqlite_on_conflict=word)] if where == "unique" else []),
            *([PrimaryKeyConstraint("id", sqlite_on_conflict=word)] if where == "primary key" else []),
        )

    def write(table):
        def map_item(item, out):
            verb, *values = item
            row = dict(zip(("id", "name", "note"), values, strict=False))
            if verb == "insert":
                out.insert(table, row)
            elif verb == "upsert":
                out.upsert(table, row)
            else:
                out.update(table, {"id": row["id"]}, name=row["name"])

        return map_item

    items = [
        ("insert", 9, "a"),
        ("insert", 2, "a", "x"),
        ("insert", 7, "b"),
        ("upsert", 3, "b", "y"),
        ("insert", 1, "b"),
        ("insert", 1, "c", "z"),
        ("insert", 8, "d"),
        ("update", 8, "a"),
        ("insert", 5, "e"),
        ("upsert", 4, "e"),
    ]
    found = []
    for chunk_size in (1, 100):
        metadata = MetaData()
        table = table_in(metadata)
        metadata.drop_all(sqlite_engine)
        metadata.create_all(sqlite_engine)
        result = BatchWriter(sqlite_engine, chunk_size=chunk_size).run(items, write(table))
        with sqlite_engine.connect() as connection:
            rows = connection.execute(select(table).order_by(table.c.id)).all()
        found.append((result.written, result.failed, rows))
    assert found[0] == found[1]
