"""What may differ from items written one by one, pinned: each is written down in `docs/promises.md`."""

from pathlib import Path

import pytest
from reference import write_sequentially
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, String, Table, select

from batchwrite import BatchWriter

METADATA = MetaData()
STOCK = Table(
    "stock",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
    Column("note", String(5)),
    CheckConstraint("n >= 0", name="not_negative"),
    CheckConstraint("note <> 'bad'", name="not_bad"),
)


@pytest.fixture
def stock(engine, created):
    with created(engine, METADATA):
        yield engine


def both(engine, items, map_item, chunk_size):
    """Outcomes and rows: one by one, and by the library."""
    ends = []
    for write in (write_sequentially, lambda *arguments: in_chunks(*arguments, chunk_size)):
        with engine.begin() as connection:
            connection.execute(STOCK.delete())
            connection.execute(STOCK.insert(), [{"id": 1, "n": 5}])
        outcomes = write(engine, items, map_item)
        with engine.connect() as connection:
            ends.append(([word.split()[0] for word in outcomes], connection.execute(select(STOCK)).all()))
    return ends


def in_chunks(engine, items, map_item, chunk_size):
    return [str(outcome.status) for outcome in BatchWriter(engine, chunk_size=chunk_size).stream(items, map_item)]


def add(delta, out):
    out.increment(STOCK, {"id": 1}, n=delta)


def note(text, out):
    out.update(STOCK, {"id": 1}, note=text)


def test_an_aggregate_is_applied_net_so_that_what_is_between_is_not_seen(stock):
    one_by_one, chunk = both(stock, [-10, +10], add, chunk_size=2)
    assert one_by_one == (["failed", "written"], [(1, 15, None)])
    assert chunk == (["written", "written"], [(1, 5, None)])


def test_in_chunks_of_one_nothing_is_between(stock):
    one_by_one, chunk = both(stock, [-10, +10], add, chunk_size=1)
    assert chunk == one_by_one


def test_an_aggregate_that_is_refused_is_told_item_by_item(stock):
    one_by_one, chunk = both(stock, [+10, -17, +1], add, chunk_size=3)
    assert chunk == one_by_one == (["written", "failed", "written"], [(1, 16, None)])


def test_a_value_that_a_later_item_replaces_is_not_sent(stock):
    one_by_one, chunk = both(stock, ["bad", "good"], note, chunk_size=2)
    assert one_by_one[0] == ["failed", "written"]
    assert chunk[0] == ["written", "written"]
    assert chunk[1] == one_by_one[1] == [(1, 5, "good")]


def test_the_differences_are_written_down():
    text = (Path(__file__).resolve().parents[1] / "docs" / "promises.md").read_text(encoding="utf-8")
    assert "net" in text
    assert "test_differences" in text
