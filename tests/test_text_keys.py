"""Keys that are texts, of which the database may take two for one: the same as item by item, whatever its collation."""

from hypothesis import given
from hypothesis import strategies as st
from reference import write_sequentially
from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, MetaData, String, Table
from test_promises import described

from batchwrite import BatchWriter

METADATA = MetaData()
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

CODES = st.sampled_from(["a", "A", "a ", "b", "ch", "c", "CH", "1", "m", "n", "i", "y", "ä", "~", "x-1"])
WRITES = st.tuples(st.sampled_from(["insert", "upsert", "keep", "update", "increment", "delete", "line"]), CODES)
ITEMS = st.lists(st.lists(WRITES, min_size=1, max_size=3), max_size=25)


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


def rows(engine):
    with engine.connect() as connection:
        return [sorted(map(tuple, connection.execute(table.select()))) for table in METADATA.sorted_tables]


@given(data=st.data())
def test_keys_of_texts_name_the_rows_that_they_name_item_by_item(shared_engine, created, data):
    items = list(enumerate(data.draw(ITEMS)))
    with created(shared_engine, METADATA):
        expected, expected_rows = write_sequentially(shared_engine, items, write), rows(shared_engine)
    with created(shared_engine, METADATA):
        writer = BatchWriter(shared_engine, chunk_size=data.draw(st.integers(2, 30)))
        assert [described(outcome) for outcome in writer.stream(items, write)] == expected
        assert rows(shared_engine) == expected_rows
