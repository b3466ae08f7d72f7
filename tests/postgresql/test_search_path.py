"""Whoever may create functions in a schema of the writer's search_path gets none of them called."""

import logging
from datetime import timedelta

import pytest
import traps
from orders import LINES, METADATA, PARENTS, good
from sqlalchemy import (
    Column,
    Date,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Uuid,
    create_engine,
    event,
)
from sqlalchemy.dialects.postgresql import JSONB

from batchwrite import BatchWriter, DeadLetters, IdempotencyKey, Ledger

BOOKS = Ledger()
EXTRA = MetaData()
STOCKS = Table(
    "stocks",
    EXTRA,
    Column("sku", String, primary_key=True),
    Column("stock", Integer),
    Column("price", Numeric),
    Column("state", Enum("new", "old", name="states")),
)
LATE = Table(
    "late",
    EXTRA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("stock", ForeignKey("stocks.sku", deferrable=True, initially="DEFERRED")),
    Column("word", Text, unique=True),
    Column("day", Date),
    Column("data", JSONB),
    Column("mark", Uuid),
)


@pytest.fixture(scope="module")
def server(module_database):
    """An engine that sees no traps, and what gives one that finds them before anything of PostgreSQL's."""
    engine = create_engine(module_database)
    METADATA.create_all(engine)
    EXTRA.create_all(engine)
    BOOKS.create(engine)
    with engine.begin() as connection:
        assert traps.lay(connection) > 500
    trapped = create_engine(module_database)
    event.listen(trapped, "connect", traps.walk_into)
    yield engine, trapped
    trapped.dispose()
    engine.dispose()


@pytest.fixture
def trapped(server):
    plain, trapped = server
    with plain.begin() as connection:
        traps.forget(connection)
        names = ", ".join(table.fullname for table in (PARENTS, LINES, STOCKS, LATE, *BOOKS.metadata.sorted_tables))
        connection.exec_driver_sql(f"TRUNCATE {names}")
        connection.execute(STOCKS.insert(), [{"sku": f"sku-{n}", "stock": 10, "price": n} for n in range(400)])
        connection.execute(PARENTS.insert(), [{"sku": f"sku-{n}", "stock": 1_000} for n in range(20)])
    yield trapped
    with plain.connect() as connection:
        assert traps.called(connection) == []


def change(number, out):
    out.update(STOCKS, {"sku": f"sku-{number}"}, price=number, state="old")


MAPS = {
    "insert": lambda n, out: out.insert(PARENTS, {"sku": f"new-{n}", "stock": n}),
    "upsert": lambda n, out: out.upsert(STOCKS, {"sku": f"sku-{n}", "stock": n}, key="sku"),
    "insert if absent": lambda n, out: out.upsert(STOCKS, {"sku": f"sku-{n}", "stock": n}, key="sku", set=()),
    "update": change,
    "increment": lambda n, out: out.increment(STOCKS, {"sku": f"sku-{n}"}, stock=n, price=1),
    "delete": lambda n, out: out.delete(STOCKS, {"sku": f"sku-{n}"}),
}


def lock_and_probe(number, out):
    """Several kinds of change of one table, and a reference to a parent that another item makes."""
    out.insert(PARENTS, {"sku": f"new-{number}", "stock": 100})
    out.insert(LINES, good(number) | {"sku": f"new-{number}"})
    change(number, out)
    out.increment(STOCKS, {"sku": f"sku-{number + 150}"}, stock=-1)


def with_deferred(number, out):
    row = {"id": number, "stock": f"sku-{number}" if number % 2 else None, "word": f"w{number}", "data": {}}
    out.insert(LATE, row)


MAPS |= {"locks and probes": lock_and_probe, "deferred": with_deferred}


@pytest.mark.parametrize("kind", sorted(MAPS))
def test_clean_chunks_call_none(trapped, kind):
    for items in (range(1), range(1, 21), range(21, 171)):
        result = BatchWriter(trapped).run(list(items), MAPS[kind])
        assert (result.written, result.fallbacks) == (len(items), 0)


def bad(number, out):
    if number % 10 == 3:
        out.insert(LINES, good(number) | {"quantity": None, "sku": "sku-1"})
    elif number % 10 == 5:
        out.increment(STOCKS, {"sku": "nowhere"}, stock=1)


@pytest.mark.parametrize("kind", sorted(MAPS))
def test_fallbacks_call_none(trapped, caplog, kind):
    def to_rows(number, out):
        MAPS[kind](number, out)
        bad(number, out)

    caplog.set_level(logging.INFO, "batchwrite")
    result = BatchWriter(trapped, chunk_size=75).run(list(range(150)), to_rows)
    assert (result.written, result.failed, result.fallbacks) == (120, 30, 2)
    assert not [record for record in caplog.records if getattr(record, "action", "") == "slow_path"]


def test_the_bulk_of_a_fallback_and_references_call_none(trapped):
    def to_rows(number, out):
        out.insert(LINES, good(number) | ({"sku": "unknown"} if number % 10 == 3 else {}))

    result = BatchWriter(trapped).run(list(range(150)), to_rows)
    assert (result.written, result.failed) == (135, 15)


def test_the_books_call_none(trapped):
    def to_rows(number, out):
        MAPS["insert"](number, out)
        if number % 10 == 3:
            out.insert(PARENTS, {"sku": f"x-{number}", "stock": -1})

    for _start in range(2):
        key = IdempotencyKey(of=str, retention=timedelta(days=1))
        writer = BatchWriter(trapped, chunk_size=50, ledger=BOOKS, key=key, dead_letters=DeadLetters())
        result = writer.run(list(range(150)), to_rows, run_id="trapped")
        assert result.abort is None
    assert BatchWriter(trapped, ledger=BOOKS, key=str).run(list(range(150)), to_rows).skipped >= 135


def test_the_traps_are_sharp(server):
    plain, trapped = server
    with trapped.connect() as connection:
        connection.exec_driver_sql("SELECT quote_ident('x'::pg_catalog.name)")
    with plain.begin() as connection:
        assert [name.partition("(")[0] for name in traps.called(connection)] == ["quote_ident"]
        traps.forget(connection)
