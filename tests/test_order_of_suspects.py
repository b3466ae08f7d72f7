"""Suspects that land after all: an item behind one must not take its place, though it is written before it."""

import pytest
from generated import contents
from hypothesis import given
from hypothesis import strategies as st
from reference import write_sequentially
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Table
from test_promises import described

from batchwrite import BatchWriter
from batchwrite.sinks.postgresql import fallback

METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("single", Integer, unique=True),
    Column("v", Integer),
    Column("total", Integer, nullable=False, server_default="0"),
)
CHECKED = Table(
    "checked",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
    CheckConstraint("n > 0", name="ck_n"),
)

SMALL = st.integers(1, 3)
WRITES = st.one_of(
    st.tuples(st.just("checked"), SMALL, st.sampled_from([None, -1, 1, 1])),
    st.tuples(st.sampled_from(["insert", "upsert", "keep", "replace"]), SMALL, st.none() | SMALL, st.none() | SMALL),
    st.tuples(st.just("increment"), SMALL),
)


def write(writes, out):
    for kind, number, *rest in writes:
        if kind == "checked":
            out.insert(CHECKED, {"id": number, "n": rest[0]})
        elif kind == "increment":
            out.increment(THINGS, {"id": number}, total=1)
        else:
            row = {"id": number, "single": rest[0], "v": rest[1]}
            sets = {"upsert": {"set": ("v",)}, "keep": {"set": ()}}.get(kind, {})
            (out.insert if kind == "insert" else out.upsert)(THINGS, row, **sets)


@given(items=st.lists(st.lists(WRITES, min_size=1, max_size=3), max_size=12), window=st.sampled_from([1, 2, 60]))
def test_an_item_behind_a_suspect_does_not_take_its_place(shared_engine, emptied, items, window):
    with emptied(METADATA):
        expected, expected_rows = write_sequentially(shared_engine, items, write), contents(shared_engine, METADATA)
    with emptied(METADATA), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fallback, "_WINDOW", window)
        writer = BatchWriter(shared_engine, workers=0)
        outcomes = [described(outcome).split()[0] for outcome in writer.stream(items, write)]
        assert outcomes == [each.split()[0] for each in expected]
        assert contents(shared_engine, METADATA) == expected_rows


@pytest.mark.parametrize("later", ["upsert", "keep", "replace", "insert", "increment"])
@pytest.mark.parametrize("bad", [None, -1])
def test_the_earlier_of_two_wins_though_it_is_a_suspect(shared_engine, emptied, later, bad):
    """The second item repeats a key of the first, which fails: so it lands, and before the third."""
    last = (later, 1) if later == "increment" else (later, 1, None, 9)
    items = [[("checked", 7, bad)], [("insert", 1, None, 5), ("checked", 7, 1)], [last]]
    with emptied(METADATA):
        outcomes = [described(outcome) for outcome in BatchWriter(shared_engine).stream(items, write)]
        things = contents(shared_engine, METADATA)["things"]
    assert outcomes[1] == "written"
    assert [row[:3] for row in things] == [(1, None, 9 if later in {"upsert", "replace"} else 5)]
