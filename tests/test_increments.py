"""Items of one increment each go a short way: what it records, refuses and plans is what the long way does."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ids import shown
from plans import CHILD, OTHER, SELF, Expression

from batchwrite import Collector, ItemRefused
from batchwrite.planner import make_plan
from batchwrite.recorded import Recorded
from batchwrite.table import Target
from batchwrite.write import AnyShape, Kind

WHOLE = replace(OTHER, integers=frozenset({"n"}), not_addable=frozenset({"u"}))
TABLES = [
    OTHER,
    WHOLE,
    CHILD,
    SELF,
    replace(OTHER, exact={}),
    replace(OTHER, counting=frozenset({"u"}), touched=frozenset({"u"})),
    replace(OTHER, unique_columns=frozenset({"id", "n"})),
    replace(OTHER, referenced=frozenset({"v"})),
]


class Catalog:
    """Takes the information on a table for the table; the attribute `amount` is the column n."""

    def describe(self, table):
        return Target(table=table, names={name: name for name in table.columns} | {"amount": "n"})


def recorded_by(collector, table, key, deltas) -> tuple[AnyShape | None, object]:
    shape, data, reason = collector.record(None, lambda _, out: out.increment(table, key, deltas))
    assert reason is None
    return shape, data


def collected(table, increments) -> Recorded:
    """The increments that are not refused, an item each."""
    collector = Collector(Catalog())
    found = []
    for key, deltas in increments:
        try:
            found.append(recorded_by(collector, table, key, deltas))
        except ItemRefused:
            continue
    return Recorded(*map(list, zip(*found, strict=True))) if found else Recorded([], [])


def told(plan):
    """All that a plan says, types of values included."""
    return [
        (
            [
                (
                    (step.kind, step.table, step.is_ordered),
                    [repr((write.kind, write.key_columns, write.key, write.values)) for write in step.writes],
                    [repr((block.columns, block.values, block.keys())) for block in step.blocks()],
                    [block.types for block in step.blocks()],
                )
                for step in segment.steps
            ],
            segment.probes,
            segment.refusal,
        )
        for segment in plan.segments
    ]


def is_short(plan) -> bool:
    """Whether a plan has been made by columns."""
    return [step.block is not None for segment in plan.segments for step in segment.steps] == [True]


# ---- plans

numbers = st.one_of(
    st.integers(-3, 3),
    st.decimals(-9, 9, places=2),
    st.sampled_from([2**70, Decimal("1e600"), Decimal("1e-600"), 0.1, 1e308, Fraction(1, 3), timedelta(1)]),
)
key_values = st.one_of(st.integers(0, 4), st.sampled_from(["a", "b", b"a", UUID(int=1), UUID(int=2), 1.0, 1 + 0j, 2j]))


@st.composite
def chunks(draw):
    """Increments of mostly one form, with values of few types or of many."""
    keys = draw(st.sampled_from([("id",), ("v",), ("id", "p"), ("p", "id")]))
    changed = draw(st.sampled_from([("n",), ("amount",), ("v", "n"), ("n", "v", "u")]))
    value = draw(st.sampled_from([st.integers(0, 4), st.sampled_from(["a", "b", "c"]), key_values]))
    delta = draw(st.sampled_from([st.integers(-3, 3), st.decimals(-9, 9, places=2), numbers]))
    increment = st.tuples(
        st.fixed_dictionaries(dict.fromkeys(keys, value)), st.fixed_dictionaries(dict.fromkeys(changed, delta))
    )
    return draw(st.lists(increment, max_size=12))


@given(st.sampled_from(TABLES), chunks())
def test_the_short_plan_is_the_long_one(table, increments):
    items = collected(table, increments)
    assert told(make_plan(items)) == told(make_plan([[*writes] for writes in items]))


@pytest.mark.parametrize("delta", [5, Decimal("0.05")])
@pytest.mark.parametrize("key", [{"id": 2}, {"id": 3}, {"p": 1, "id": 2}], ids=shown)
def test_increments_of_one_form_are_planned_by_columns(key, delta):
    plan = make_plan(collected(OTHER, [(key, {"n": delta, "v": 1}), (dict(key), {"n": delta, "v": 1})]))
    assert is_short(plan)
    (write,) = plan.segments[0].steps[0].writes
    assert (write.kind, write.values) == (Kind.INCREMENT, {"n": 2 * delta, "v": 2})


@pytest.mark.parametrize(
    "increments",
    [
        [({"id": 1}, {"n": 1}), ({"id": "1"}, {"n": 1})],
        [({"id": 1}, {"n": 1}), ({"id": 1}, {"v": 1})],
        [({"id": 1}, {"n": 1}), ({"v": 1}, {"n": 1})],
        [({"id": 1}, {"n": 0.5}), ({"id": 1}, {"n": Decimal("0.5")})],
    ],
    ids=["key types", "columns", "key columns", "sums that are not exact"],
)
def test_what_is_not_of_one_form_is_planned_write_by_write(increments):
    assert not is_short(make_plan(collected(OTHER, increments)))


@pytest.mark.parametrize("table", TABLES[3:], ids=["self-referencing", "not exact", "counting", "unique", "identity"])
def test_a_table_that_asks_for_more_is_planned_write_by_write(table):
    increments = [({"id": 1}, {"n": 1, "v": 1}), ({"id": 1}, {"n": 1, "v": 1})]
    assert not is_short(make_plan(collected(table, increments)))


# ---- what is recorded, and refused


@given(st.sampled_from(TABLES), chunks())
def test_an_increment_is_recorded_the_same_whatever_came_before(table, increments):
    together = collected(table, increments)
    alone = [write for each in increments for (write,) in collected(table, [each])]
    assert [repr(write[2:5]) for (write,) in together] == [repr(write[2:5]) for write in alone]


@pytest.mark.parametrize(
    ("key", "deltas"),
    [
        ({"id": None}, {"n": 1}),
        ({"id": [1]}, {"n": 1}),
        ({"id": float("nan")}, {"n": 1}),
        ({"id": Expression()}, {"n": 1}),
        ({}, {"n": 1}),
        ({"no": 1}, {"n": 1}),
        ([("id", 1)], {"n": 1}),
        ({"id": 1}, {}),
        ({"id": 1}, {"no": 1}),
        ({"id": 1}, {"id": 1}),
        ({"id": 1}, {"n": 1, "amount": 1}),
        ({"id": 1}, {"n": None}),
        ({"id": 1}, {"n": True}),
        ({"id": 1}, {"n": "1"}),
        ({"id": 1}, {"n": 0.5}),
        ({"id": 1}, {"n": Decimal("0.5")}),
        ({"id": 1}, {"n": Decimal("sNaN")}),
        ({"id": 1}, {"n": Decimal("Infinity")}),
        ({"id": 1}, {"v": Decimal("NaN")}),
        ({"id": 1}, {"u": 1}),
    ],
    ids=shown,
)
def test_what_cannot_be_meant_is_refused_in_the_same_words_after_others_of_its_form(key, deltas):
    collector = Collector(Catalog())
    for fine in ({"n": 1}, {"n": Decimal(1)}, {"v": Decimal("0.5")}):
        recorded_by(collector, WHOLE, {"id": 1}, fine)
    with pytest.raises(ItemRefused) as after_others:
        recorded_by(collector, WHOLE, key, deltas)
    with pytest.raises(ItemRefused) as first:
        recorded_by(Collector(Catalog()), WHOLE, key, deltas)
    assert (str(after_others.value), after_others.value.column) == (str(first.value), first.value.column)
    assert recorded_by(collector, WHOLE, {"id": 1}, {"n": 2})[1] == (1, 2)


def test_the_key_is_recorded_in_the_tables_order_and_copied():
    collector = Collector(Catalog())
    key = {"p": 1, "id": 2}
    first, again = (recorded_by(collector, OTHER, key, {"amount": 3}) for _ in range(2))
    key["p"] = 9
    assert first == again
    shape, data = again
    assert shape.write_of(data)[2:5] == ({"n": 3}, ("id", "p"), (2, 1))


def test_an_increment_beside_other_writes_keeps_its_place():
    collector = Collector(Catalog())

    def several(_, out):
        out.increment(OTHER, {"id": 1}, n=1)
        out.insert(OTHER, {"id": 2})
        out.increment(OTHER, {"id": 1}, n=2)

    shape, writes, _ = collector.record(None, several)
    assert shape is None
    assert [write.values for write in writes] == [{"n": 1}, {"id": 2}, {"n": 2}]


@pytest.mark.parametrize("delta", [Decimal("1E+600"), Decimal("1.00"), 2**70, Fraction(4, 2), 2.0], ids=shown)
def test_a_whole_number_of_any_size_and_type_is_taken(delta):
    shape, _ = recorded_by(Collector(Catalog()), WHOLE, {"id": 1}, {"n": delta})
    assert shape is not None


@pytest.mark.parametrize("delta", [Decimal("1E-600"), Decimal("1.5"), Fraction(1, 2), 0.5], ids=shown)
def test_a_fraction_is_refused_where_the_column_holds_whole_numbers(delta):
    with pytest.raises(ItemRefused, match="whole numbers"):
        recorded_by(Collector(Catalog()), WHOLE, {"id": 1}, {"n": delta})
