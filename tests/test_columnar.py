"""The plan told by columns: just the one that looking at each write gives, or none."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import CHILD, OTHER, PARENT, Expression, increment, info, insert, update, upsert

from batchwrite.columnar import columnar_plan
from batchwrite.plan import in_order
from batchwrite.planner import plan_write_by_write

TOUCHED = info("touched", touched=frozenset({"u"}))
COUNTED = info("counted", touched=frozenset({"u"}), counting=frozenset({"u"}))
UNIQUE = info("unique", unique_columns=frozenset({"id", "n"}))
INEXACT = info("inexact", exact={})
FULL = info("full", not_null=frozenset({"id", "n", "v"}), generated=frozenset({"v"}))
TABLES = [PARENT, CHILD, OTHER, TOUCHED, COUNTED, UNIQUE, INEXACT, FULL]

_tables = st.sampled_from(TABLES)
_keys = st.integers(1, 4) | st.sampled_from([1.5, "1"])
_values = (
    st.integers(-3, 3)
    | st.none()
    | st.sampled_from([Decimal("1.5"), Decimal("NaN"), Decimal("sNaN"), float("nan"), "a", Expression()])
)
_deltas = st.integers(-3, 3) | st.sampled_from([Decimal("0.1"), Decimal("1E+2000"), 0.5, 1e308])
_parents = st.integers(1, 4) | st.none()
_sets = st.sampled_from([(), ("n",), ("n", "v"), ("p",)])
_writes = st.one_of(
    st.builds(lambda table, key, n: insert(table, id=key, n=n), _tables, _keys, _values),
    st.builds(lambda table, key, n: insert(table, id=key, n=n, p=n), _tables, _keys, _values),
    st.builds(lambda key, p: insert(CHILD, id=key, p=p), _keys, _parents),
    st.builds(lambda key, n, p: upsert(CHILD, key, set_columns=(), n=n, p=p), _keys, _values, _parents),
    st.builds(lambda t, k, n, s: upsert(t, k, set_columns=s, n=n, v=1, p=1), _tables, _keys, _values, _sets),
    st.builds(lambda table, key, n: upsert(table, key, set_columns=(), n=n), _tables, _keys, _values),
    st.builds(lambda table, key, n: update(table, key, n=n), _tables, _keys, _values),
    st.builds(lambda table, key, n: increment(table, key, n=n), _tables, _keys, _deltas),
)


def told(plan):
    """What a plan carries out, for comparing."""
    return [(step.kind, step.table, step.is_ordered, list(step.writes)) for step in plan.segments[0].steps]


@given(st.lists(st.lists(_writes, min_size=1, max_size=3), max_size=6))
def test_it_is_the_plan_that_a_look_at_each_write_gives(items):
    items = [in_order(writes) for writes in items]
    plan = columnar_plan(items)
    if plan is not None:
        other = plan_write_by_write(items)
        assert len(other.segments) == 1
        assert not other.segments[0].probes
        assert not other.refusal
        assert told(plan) == told(other)


CHUNKS = {
    "rows": [[insert(OTHER, id=2, n=1)], [insert(OTHER, id=1, n=2)]],
    "rows of two forms": [[insert(OTHER, id=2, n=1)], [insert(OTHER, id=1)]],
    "parents and children": [[insert(PARENT, id=1), insert(CHILD, id=1, p=1)], [insert(CHILD, id=2, p=1)]],
    "if absent, then increments": [
        [upsert(OTHER, 1, set_columns=(), n=0), increment(OTHER, 1, n=1)],
        [upsert(OTHER, 1, set_columns=(), n=0), increment(OTHER, 1, n=2)],
    ],
    "upserts of one key": [[upsert(OTHER, 1, n=1, v=1)], [upsert(OTHER, 1, n=2, v=2)]],
    "upserts that set, and not": [[upsert(OTHER, 1, set_columns=(), n=1)], [upsert(OTHER, 1, n=2)]],
    "updates of one key": [[update(OTHER, 1, n=1)], [update(OTHER, 1, n=2)]],
    "increments by decimals": [[increment(OTHER, 1, n=Decimal("0.1"))], [increment(OTHER, 1, n=Decimal("0.2"))]],
}


@pytest.mark.parametrize("items", CHUNKS.values(), ids=CHUNKS)
def test_what_chunks_mostly_are_is_told_by_columns(items):
    plan = columnar_plan(items)
    assert plan is not None
    assert told(plan) == told(plan_write_by_write(items))


LATE = {
    "an increment before what makes its row": [
        [increment(OTHER, 1, n=1)],
        [upsert(OTHER, 1, set_columns=(), n=0)],
    ],
    "a child before its parent": [[insert(CHILD, id=1, p=1)], [insert(PARENT, id=1)]],
    "a not-a-number set, then another": [[upsert(OTHER, 1, n=float("nan"))], [upsert(OTHER, 1, n=1)]],
    "a null set where there can be none, then another": [[update(FULL, 1, n=None)], [update(FULL, 1, n=1)]],
    "a reference set, then another": [[update(CHILD, 1, p=1)], [update(CHILD, 1, p=2)]],
    "rows that count their changes": [[update(COUNTED, 1, n=1)], [update(COUNTED, 1, n=2)]],
    "a unique column that changes": [[update(UNIQUE, 1, n=1)]],
    "keys that may be one in the database": [[update(INEXACT, "a", n=1)], [update(INEXACT, "A", n=2)]],
    "keys of two types": [[update(OTHER, 1, n=1)], [update(OTHER, "1", n=2)]],
    "an expression that reads rows": [[insert(OTHER, id=1, n=Expression())]],
}


@pytest.mark.parametrize("items", LATE.values(), ids=LATE)
def test_it_leaves_what_needs_a_look_at_each_write(items):
    assert columnar_plan(items) is None
