"""Suspects, known before or found by the server, are tried after others: it must make no difference to anybody.

One that lands must not find that an item behind it has taken its place. One that fails must fail for what it would have
failed for in its turn, and nothing may land that has relied on it.
"""

import pytest
from generated import contents
from hypothesis import given
from hypothesis import strategies as st
from reference import write_sequentially
from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, MetaData, Table
from test_promises import described

from batchwrite import BatchWriter
from batchwrite.sinks.postgresql import fallback

METADATA = MetaData()


def table(name, *columns):
    key = Column("id", Integer, primary_key=True, autoincrement=False)
    return Table(name, METADATA, key, *columns)


def total():
    return Column("total", Integer, nullable=False, server_default="0")


PARENTS = table("parents", Column("v", Integer))
CHECKED = table("checked", Column("n", Integer, nullable=False), CheckConstraint("n > 0", name="ck_n"))
CHILDREN = table("children", Column("parent", ForeignKey(PARENTS.c.id)), total())
THINGS = table("things", Column("single", Integer, unique=True), Column("v", Integer), total())

SMALL = st.integers(1, 3)
MAKING = st.sampled_from(["insert", "upsert", "keep", "replace"])
WRITES = st.one_of(
    st.tuples(st.just("insert"), st.just("checked"), SMALL, st.sampled_from([None, -1, 1, 1])),
    st.tuples(MAKING, st.just("things"), SMALL, st.none() | SMALL, st.none() | SMALL),
    st.tuples(MAKING, st.just("parents"), SMALL, SMALL),
    st.tuples(st.sampled_from(["insert", "keep"]), st.just("children"), SMALL, st.none() | SMALL),
    st.tuples(st.just("increment"), st.sampled_from(["things", "children"]), SMALL),
)
ITEMS = st.lists(st.lists(WRITES, min_size=1, max_size=3), max_size=12)


def write(writes, out):
    """Record writes: what is to be done, the table, and values of its first columns."""
    for kind, name, *values in writes:
        into = METADATA.tables[name]
        row = dict(zip(into.columns.keys(), values, strict=False))
        if kind == "increment":
            out.increment(into, row, total=1)
        elif kind == "insert":
            out.insert(into, row)
        else:
            out.upsert(into, row, **{"upsert": {"set": ("v",)}, "keep": {"set": ()}}.get(kind, {}))


def require_the_same(engine, emptied, items, before=()):
    """That the items end as they would one by one: each the same way, for the same reason, with the same rows."""
    ends = []
    for way in write_sequentially, in_one_chunk:
        with emptied(METADATA):
            write_sequentially(engine, before, write)
            ends.append((way(engine, items, write), contents(engine, METADATA)))
    assert ends[1] == ends[0]


def in_one_chunk(engine, items, map_item):
    return [described(outcome) for outcome in BatchWriter(engine, workers=0).stream(items, map_item)]


@given(
    items=ITEMS,
    before=st.lists(st.lists(WRITES, min_size=1, max_size=1), max_size=4),
    window=st.sampled_from([1, 2, 60]),
)
def test_items_end_as_they_would_one_by_one(shared_engine, emptied, items, before, window):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fallback, "_WINDOW", window)
        require_the_same(shared_engine, emptied, items, before)


BAD = ("insert", "checked", 1, -1)
GOOD = [
    ("keep", "parents", 7, 0),
    ("keep", "things", 7, 7, 7),
    ("insert", "checked", 7, 1),
    ("insert", "children", 7, 7),
]
BEFORE = [[("insert", "parents", 1, 0)], [("insert", "things", 9, 9, 0)], [("insert", "children", 9, 1)]]
BEHIND = {
    "what takes the key of an insert": [
        [("insert", "things", 1, 1, 0), ("increment", "things", 2)],
        [("keep", "things", 1, 1, 0)],
    ],
    "what replaces what an insert makes": [[("insert", "parents", 5, 0), BAD], [("replace", "parents", 5, 1)]],
    "what makes a row whose parent is missing": [[("insert", "children", 1, 8)], [("keep", "children", 1, 1)]],
    "what makes a row without asking for a parent": [[("keep", "children", 1, 8)], [("keep", "children", 1, 1)]],
    "what takes another key of an upsert": [[("keep", "things", 1, 5, 0), BAD], [("keep", "things", 2, 5, 0)]],
    "what inserts another key of an upsert": [[("keep", "things", 1, 5, 0), BAD], [("insert", "things", 2, 5, 0)]],
    "what makes a row with another key": [[("keep", "things", 1, 9, 0), BAD], [("keep", "things", 1, 7, 0)]],
    "what sets a key free": [[("replace", "things", 10, 9, 0)], [("replace", "things", 9, 2, 0)], [BAD]],
    "what sets a key free for an insert": [[("insert", "things", 1, 9, 0), BAD], [("replace", "things", 9, 2, 0)]],
    "what keeps a row that one that lands makes": [
        [("keep", "children", 9, 8), ("keep", "things", 1, 1, 1)],  # the row is there: nobody asks for its parent
        [("keep", "things", 1, 1, 2)],
        [BAD],
    ],
    "what keeps a row that one that relies on a known suspect makes": [
        [("insert", "parents", 5, 0), BAD],
        [("insert", "parents", 5, 0)],
        [("insert", "children", 1, 5), ("keep", "things", 1, 1, 1)],
        [("keep", "things", 1, 1, 2)],
    ],
    "what makes a row that was added to": [
        [("keep", "things", 1, 1, 1), BAD],
        [("increment", "things", 1)],
        [("keep", "things", 1, 1, 1)],
        [*GOOD, ("increment", "things", 7)],
    ],
    "what makes a parent that was referred to": [
        [("keep", "parents", 5, 0), BAD],
        [("insert", "children", 1, 5)],
        [("keep", "parents", 5, 0)],
        GOOD,
    ],
    "what inserts a parent that was referred to": [
        [("insert", "parents", 5, 0), BAD],
        [("insert", "children", 1, 5)],
        [("insert", "parents", 5, 0)],
        GOOD,
    ],
}


@pytest.mark.parametrize("behind", BEHIND)
def test_nothing_depends_on_an_item_behind(shared_engine, emptied, behind):
    require_the_same(shared_engine, emptied, BEHIND[behind], BEFORE)


@pytest.mark.parametrize("later", ["upsert", "keep", "replace", "insert", "increment"])
@pytest.mark.parametrize("bad", [None, -1])
def test_the_earlier_of_two_wins_though_it_is_a_suspect(shared_engine, emptied, later, bad):
    """The second item repeats a key of the first, which fails: so it lands, and before the third."""
    last = (later, "things", 1) if later == "increment" else (later, "things", 1, None, 9)
    items = [[("insert", "checked", 7, bad)], [("insert", "things", 1, None, 5), ("insert", "checked", 7, 1)], [last]]
    with emptied(METADATA):
        outcomes = in_one_chunk(shared_engine, items, write)
        things = contents(shared_engine, METADATA)["things"]
    assert outcomes[1] == "written"
    assert [row[:3] for row in things] == [(1, None, 9 if later in {"upsert", "replace"} else 5)]
