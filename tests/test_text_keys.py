"""Keys that are texts, of which the database may take two for one: the same as item by item, whatever its collation."""

from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reference import write_sequentially
from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, MetaData, String, Table, Uuid
from test_promises import described

from batchwrite import BatchWriter

METADATA = MetaData()
SPELT = MetaData()
PRODUCTS = Table(
    "products",
    METADATA,
    Column("code", String(10), primary_key=True),
    Column("n", Integer, nullable=False),
    CheckConstraint("n > -5", name="ck_n"),
)
LINES = Table(
    "lines",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("code", ForeignKey(PRODUCTS.c.code), nullable=False),
)

# Columns whose values can be written in several ways.
NUMBERS = Table(
    "numbers",
    SPELT,
    Column("code", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
)
UUIDS = Table(
    "uuids", SPELT, Column("code", Uuid(as_uuid=False), primary_key=True), Column("n", Integer, nullable=False)
)

CODES = st.sampled_from(["a", "A", "a ", "b", "ch", "c", "CH", "1", "m", "n", "i", "y", "ä", "~", "x-1"])
WRITES = st.tuples(st.sampled_from(["insert", "upsert", "keep", "update", "increment", "delete", "line"]), CODES)
ITEMS = st.lists(st.lists(WRITES, min_size=1, max_size=3), max_size=25)
CHUNK_SIZES = st.integers(2, 30)


def write(numbered, out):
    number, writes = numbered
    for place, (kind, code) in enumerate(writes):
        if kind in {"insert", "upsert"}:
            getattr(out, kind)(PRODUCTS, {"code": code, "n": number})
        elif kind == "keep":
            out.upsert(PRODUCTS, {"code": code, "n": 0}, set=())
        elif kind == "delete":
            out.delete(PRODUCTS, {"code": code})
        elif kind == "line":
            out.insert(LINES, {"id": 10 * number + place, "code": code})
        else:
            getattr(out, kind)(PRODUCTS, {"code": code}, n=number - 3)


def rows(engine, metadata=METADATA):
    with engine.connect() as connection:
        return [sorted(map(tuple, connection.execute(table.select()))) for table in metadata.sorted_tables]


@given(drawn=ITEMS, chunk_size=CHUNK_SIZES)
@example(
    drawn=[[("insert", "a ")], [("insert", "a")] * 2, [("insert", "a"), ("increment", "A")], [("upsert", "a")]],
    chunk_size=2,
)
def test_keys_of_texts_name_the_rows_that_they_name_item_by_item(shared_engine, emptied, drawn, chunk_size):
    items = list(enumerate(drawn))
    with emptied(METADATA):
        expected, expected_rows = write_sequentially(shared_engine, items, write), rows(shared_engine)
    with emptied(METADATA):
        writer = BatchWriter(shared_engine, chunk_size=chunk_size)
        assert [described(outcome) for outcome in writer.stream(items, write)] == expected
        assert rows(shared_engine) == expected_rows


KINDS = st.sampled_from(["insert", "upsert", "keep", "update", "increment", "delete"])
SPELLINGS = {
    NUMBERS: st.sampled_from([1, "1", "01", 2, "2"]),
    UUIDS: st.sampled_from([text for number in (10, 11) for text in (str(UUID(int=number)), f"{number:032X}")]),
}
SPELT_ITEMS = {table: st.lists(st.tuples(KINDS, spellings), max_size=20) for table, spellings in SPELLINGS.items()}


@given(data=st.data(), chunk_size=CHUNK_SIZES)
@pytest.mark.parametrize("table", SPELLINGS, ids=str)
def test_keys_that_can_be_spelt_in_several_ways_name_the_rows_that_they_name_item_by_item(
    shared_engine, emptied, table, data, chunk_size
):
    if table is NUMBERS and shared_engine.dialect.name == "postgresql":
        table = UUIDS  # PostgreSQL takes no text for a number
    drawn = data.draw(SPELT_ITEMS[table])

    def write_spelt(numbered, out):
        number, (kind, code) = numbered
        if kind in {"insert", "upsert"}:
            getattr(out, kind)(table, {"code": code, "n": number})
        elif kind == "keep":
            out.upsert(table, {"code": code, "n": 0}, set=())
        elif kind == "delete":
            out.delete(table, {"code": code})
        else:
            getattr(out, kind)(table, {"code": code}, n=number)

    items = list(enumerate(drawn))
    with emptied(SPELT):
        expected, expected_rows = write_sequentially(shared_engine, items, write_spelt), rows(shared_engine, SPELT)
    with emptied(SPELT):
        writer = BatchWriter(shared_engine, chunk_size=chunk_size)
        assert [described(outcome) for outcome in writer.stream(items, write_spelt)] == expected
        assert rows(shared_engine, SPELT) == expected_rows
