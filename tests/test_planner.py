"""Plans: same-key writes aggregated, tables and keys in one order, a new segment where that order were too lenient."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import CHILD, OTHER, PARENT, SELF, Expression, delete, increment, info, insert, update, upsert

from batchwrite.plan import in_order, sorted_by_key
from batchwrite.planner import make_plan, plan_write_by_write
from batchwrite.table import Dependence
from batchwrite.write import Kind, Write


def plan_of(*writes):
    """The plan of items of one write each."""
    return make_plan([[write] for write in writes])


def steps_of(*writes):
    (segment,) = plan_of(*writes).segments
    return segment.steps


def only_write(*writes):
    (step,) = steps_of(*writes)
    (write,) = step.writes
    return write


def kinds_by_segment(*writes):
    return [[step.kind.name for step in segment.steps] for segment in plan_of(*writes).segments]


# ---- aggregation


def test_increments_of_one_key_add_up():
    assert only_write(increment(OTHER, 1, n=5), increment(OTHER, 1, n=-2), increment(OTHER, 1, v=1)).values == {
        "n": 3,
        "v": 1,
    }


def test_increments_of_different_keys_stay_apart():
    (step,) = steps_of(increment(OTHER, 2, n=5), increment(OTHER, 1, n=1))
    assert [(write.key, write.values) for write in step.writes] == [((1,), {"n": 1}), ((2,), {"n": 5})]


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=10), min_size=1, max_size=30))
def test_decimals_are_added_up_exactly(deltas):
    write = only_write(*(increment(OTHER, 1, n=delta) for delta in deltas))
    assert Fraction(write.values["n"]) == sum(Fraction(delta) for delta in deltas)


def test_decimals_past_28_digits_keep_every_one():
    total = only_write(increment(OTHER, 1, n=Decimal("1e40")), increment(OTHER, 1, n=Decimal("1e-20"))).values["n"]
    assert total == Decimal("1" + "0" * 40 + "." + "0" * 19 + "1")


@given(st.lists(st.integers(), min_size=1, max_size=30))
def test_whole_numbers_of_any_size_add_up(deltas):
    assert only_write(*(increment(OTHER, 1, n=delta) for delta in deltas)).values == {"n": sum(deltas)}


def test_time_spans_add_up():
    day = timedelta(days=1)
    assert only_write(increment(OTHER, 1, n=day), increment(OTHER, 1, n=day)).values == {"n": 2 * day}


@pytest.mark.parametrize(
    ("one", "other"),
    [(Decimal(1), 1.5), (1.5, Decimal(1)), (timedelta(1), 1), (1e308, 1e308), (Decimal("1e999999"), 1)],
)
def test_what_cannot_be_added_up_exactly_is_applied_one_after_the_other(one, other):
    assert kinds_by_segment(increment(OTHER, 1, n=one), increment(OTHER, 1, n=other)) == [["INCREMENT"], ["INCREMENT"]]


def test_of_several_updates_the_last_wins_column_by_column():
    write = only_write(update(OTHER, 1, n=1, v=1), update(OTHER, 1, v=2), update(OTHER, 1, p=3))
    assert write.values == {"n": 1, "v": 2, "p": 3}


def test_of_several_upserts_the_last_wins_column_by_column():
    write = only_write(upsert(OTHER, 1, n=1, v=1), upsert(OTHER, 1, v=2))
    assert write.values == {"id": 1, "n": 1, "v": 2}
    assert set(write.set_columns) == {"n", "v"}


def test_an_insert_if_absent_does_not_change_what_an_earlier_upsert_set():
    write = only_write(upsert(OTHER, 1, n=1), upsert(OTHER, 1, set_columns=(), n=2))
    assert (write.values["n"], write.set_columns) == (1, ("n",))


def test_an_upsert_after_an_insert_if_absent_sets_the_row_whether_it_was_absent_or_not():
    write = only_write(upsert(OTHER, 1, set_columns=(), n=1, v=1), upsert(OTHER, 1, n=2))
    assert (write.values, write.set_columns) == ({"id": 1, "n": 2, "v": 1}, ("n",))


@pytest.mark.parametrize(
    "writes",
    [
        [upsert(OTHER, 1, n=1), increment(OTHER, 1, n=1)],
        [upsert(OTHER, 1, n=1), update(OTHER, 1, n=2)],
        [update(OTHER, 1, n=2), increment(OTHER, 1, n=1)],
        [increment(OTHER, 1, n=1), delete(OTHER, 1)],
        [insert(OTHER, id=1), upsert(OTHER, 1, n=1)],
    ],
)
def test_different_kinds_on_one_key_keep_their_order(writes):
    assert kinds_by_segment(*writes) == [[write.kind.name for write in writes]]


@pytest.mark.parametrize(
    "writes",
    [
        [increment(OTHER, 1, n=1), update(OTHER, 1, n=2)],
        [increment(OTHER, 1, n=1), upsert(OTHER, 1, n=2)],
        [increment(OTHER, 1, n=1), insert(OTHER, id=1)],
        [delete(OTHER, 1), insert(OTHER, id=1)],
        [delete(OTHER, 1), upsert(OTHER, 1, n=1)],
        [delete(OTHER, 1), delete(OTHER, 1)],
        [update(OTHER, 1, n=2), insert(OTHER, id=1)],
        [update(OTHER, 1, n=2), insert(OTHER, v=1)],
    ],
)
def test_what_would_be_reordered_on_one_key_begins_a_new_segment(writes):
    assert kinds_by_segment(*writes) == [[write.kind.name] for write in writes]


def test_an_update_of_a_column_does_not_wait_for_an_increment_of_another():
    assert kinds_by_segment(increment(OTHER, 1, n=1), update(OTHER, 1, v=2)) == [["UPDATE", "INCREMENT"]]


def test_an_upsert_after_an_update_becomes_an_update():
    assert only_write(update(OTHER, 1, n=1), upsert(OTHER, 1, n=2)) == update(OTHER, 1, n=2)


def test_an_upsert_that_could_not_be_inserted_is_not_merged():
    demanding = info("demanding", not_null=frozenset({"id", "v"}), family="demanding")
    writes = [upsert(demanding, 1, n=1, v=1), upsert(demanding, 1, n=2)]
    assert kinds_by_segment(*writes) == [["UPSERT"], ["UPSERT"]]


def test_a_null_that_would_be_refused_is_not_covered_up():
    demanding = info("demanding", not_null=frozenset({"id", "v"}), family="demanding")
    writes = [update(demanding, 1, v=None), update(demanding, 1, v=1)]
    assert kinds_by_segment(*writes) == [["UPDATE"], ["UPDATE"]]


def test_a_reference_that_may_be_refused_is_not_covered_up():
    writes = [update(CHILD, 1, p=7), update(CHILD, 1, p=8)]
    assert kinds_by_segment(*writes) == [["UPDATE"], ["UPDATE"]]


# ---- order


@pytest.mark.parametrize("writes", list(permutations([insert(PARENT, id=1), insert(CHILD, id=1), insert(OTHER, id=1)])))
def test_tables_are_written_parents_first_then_by_name(writes):
    assert [step.table.name for step in steps_of(*writes)] == ["other", "zeta", "alpha"]


def test_deletes_come_last_and_children_first():
    steps = steps_of(delete(CHILD, 1), delete(PARENT, 1), insert(OTHER, id=1))
    assert [(step.kind.name, step.table.name) for step in steps] == [
        ("INSERT", "other"),
        ("DELETE", "alpha"),
        ("DELETE", "zeta"),
    ]


@pytest.mark.parametrize("make", [upsert, update, increment, delete])
@given(keys=st.lists(st.integers(-99, 99), unique=True, min_size=1))
def test_keys_are_taken_in_one_order(make, keys):
    values = {} if make is delete else {"n": 1}
    (step,) = steps_of(*(make(OTHER, key, **values) for key in keys))
    assert [write.key for write in step.writes] == sorted((key,) for key in keys)


def test_inserts_go_by_primary_key():
    (step,) = steps_of(insert(OTHER, id=3), insert(OTHER, id=1), insert(OTHER, id=2))
    assert [write.values["id"] for write in step.writes] == [1, 2, 3]


def test_inserts_without_a_key_keep_their_order():
    (step,) = steps_of(insert(OTHER, v=3), insert(OTHER, v=1))
    assert [write.values["v"] for write in step.writes] == [3, 1]


def test_inserts_with_keys_that_do_not_compare_keep_their_order():
    (step,) = steps_of(insert(OTHER, id="b"), insert(OTHER, id=1), insert(OTHER, id="a"))
    assert [write.values["id"] for write in step.writes] == ["b", 1, "a"]


def test_rows_that_may_refer_to_each_other_keep_their_order():
    (step,) = steps_of(insert(SELF, id=2), insert(SELF, id=1, p=2))
    assert [write.values["id"] for write in step.writes] == [2, 1]


def test_keys_that_do_not_compare_still_have_one_order():
    writes = [update(OTHER, "b", n=1), update(OTHER, 1, n=1), update(OTHER, None, n=1)]
    orders = {tuple(write.key for write in sorted_by_key(order)) for order in permutations(writes)}
    assert len(orders) == 1


def test_one_item_is_sorted_between_its_deletes():
    writes = [insert(CHILD, id=1), insert(PARENT, id=1), delete(PARENT, 2), delete(CHILD, 2), insert(PARENT, id=3)]
    assert [(write.kind.name, write.table.name) for write in in_order(writes)] == [
        ("INSERT", "zeta"),
        ("INSERT", "alpha"),
        ("DELETE", "alpha"),
        ("DELETE", "zeta"),
        ("INSERT", "zeta"),
    ]


# ---- segments


def test_keys_by_other_columns_begin_a_new_segment():
    by_unique = Write(Kind.UPDATE, OTHER, {"n": 1}, ("u",), (1,))
    assert kinds_by_segment(update(OTHER, 1, n=1), by_unique) == [["UPDATE"], ["UPDATE"]]


def test_keys_of_other_types_begin_a_new_segment():
    assert len(plan_of(update(OTHER, 1, n=1), update(OTHER, "1", n=2)).segments) == 2


def test_a_change_of_the_columns_that_name_rows_stands_alone():
    writes = [update(OTHER, 1, n=1), update(OTHER, 1, id=2), update(OTHER, 2, n=2)]
    assert kinds_by_segment(*writes) == [["UPDATE"]] * 3


def test_a_value_that_is_read_from_rows_stands_alone():
    writes = [insert(OTHER, id=1), insert(OTHER, id=2, n=Expression()), insert(OTHER, id=3)]
    assert kinds_by_segment(*writes) == [["INSERT"]] * 3


def test_a_unique_column_is_claimed_in_the_items_order():
    table = info("claims", unique_columns=frozenset({"id", "u"}), family="claims")
    (step,) = steps_of(update(table, 2, u=1), update(table, 1, u=2))
    assert step.is_ordered
    assert [write.key for write in step.writes] == [(2,), (1,)]


def test_a_unique_column_that_is_set_free_and_claimed_again_begins_a_new_segment():
    table = info("claims", unique_columns=frozenset({"id", "u"}), family="claims")
    assert kinds_by_segment(update(table, 1, u=1), update(table, 1, u=2)) == [["UPDATE"], ["UPDATE"]]
    assert kinds_by_segment(update(table, 1, n=1), update(table, 1, u=2)) == [["UPDATE"], ["UPDATE"]]


@pytest.mark.parametrize("later", [insert(PARENT, id=9), delete(PARENT, 9), update(CHILD, 9, n=1)])
def test_what_a_delete_may_take_along_is_not_touched_before_its_turn(later):
    deleted = delete(PARENT, 1) if later.table is CHILD else delete(CHILD, 1)
    expected = 1 if later.kind is Kind.DELETE else 2
    assert len(plan_of(deleted, later).segments) == expected


def test_a_table_of_another_family_does_not_wait_for_a_delete():
    assert kinds_by_segment(delete(PARENT, 1), insert(OTHER, id=1)) == [["INSERT", "DELETE"]]


# ---- probes


def probes_of(*writes):
    (segment,) = plan_of(*writes).segments
    assert segment.refusal is None
    return [(probe.table.name, probe.columns, probe.keys) for probe in segment.probes]


def test_a_row_that_refers_to_an_earlier_one_needs_no_probe():
    assert probes_of(insert(PARENT, id=1), insert(CHILD, id=1, p=1)) == []


def test_a_row_that_refers_to_a_later_one_is_probed_for():
    assert probes_of(insert(CHILD, id=1, p=1), upsert(PARENT, 1, n=1)) == [("zeta", ("id",), ((1,),))]


def test_one_key_is_probed_for_once():
    writes = [insert(CHILD, id=1, p=1), insert(CHILD, id=2, p=1), insert(PARENT, id=1)]
    assert probes_of(*writes) == [("zeta", ("id",), ((1,),))]


def test_a_row_whose_parent_is_in_its_own_item_needs_no_probe():
    (segment,) = make_plan([in_order([insert(CHILD, id=1, p=1), insert(PARENT, id=1)])]).segments
    assert segment.probes == ()


def test_a_reference_to_what_nobody_creates_is_left_to_the_database():
    assert probes_of(insert(CHILD, id=1, p=7), insert(PARENT, id=1)) == []


def test_a_null_refers_to_nothing():
    assert probes_of(insert(CHILD, id=1, p=None), insert(CHILD, id=2), insert(PARENT, id=1)) == []


def test_an_update_of_a_reference_is_probed_for():
    assert probes_of(update(CHILD, 1, p=1), insert(PARENT, id=1)) == [("zeta", ("id",), ((1,),))]


def test_a_reference_that_is_computed_is_refused():
    loose = replace(CHILD, dependence_of=lambda value: Dependence.NOTHING)
    plan = plan_of(insert(loose, id=1, p=Expression()), insert(PARENT, id=1))
    assert "not known beforehand" in plan.refusal


def test_a_reference_that_is_generated_is_refused():
    assert plan_of(insert(replace(CHILD, generated=frozenset({"p"})), id=1), insert(PARENT, id=1)).refusal


def test_a_reference_that_is_computed_after_all_parents_is_fine():
    loose = replace(CHILD, dependence_of=lambda value: Dependence.NOTHING)
    assert plan_of(insert(PARENT, id=1), insert(loose, id=1, p=Expression())).refusal is None


# ---- the whole against a plain model: rows as dictionaries, applied one by one and by the plan

KEYS = st.integers(1, 3)
VALUES = st.integers(-5, 5)
WRITES = st.one_of(
    st.builds(lambda key, n: insert(OTHER, id=key, n=n, v=0), KEYS, VALUES),
    st.builds(lambda key, n: upsert(OTHER, key, n=n, v=1), KEYS, VALUES),
    st.builds(lambda key, n: upsert(OTHER, key, set_columns=(), n=n, v=2), KEYS, VALUES),
    st.builds(lambda key, n: update(OTHER, key, n=n), KEYS, VALUES),
    st.builds(lambda key, v: update(OTHER, key, v=v), KEYS, VALUES),
    st.builds(lambda key, n: increment(OTHER, key, n=n), KEYS, VALUES),
    st.builds(lambda key: delete(OTHER, key), KEYS),
)


class RefusedByModel(Exception):
    """The model's database refuses a write."""


def apply(rows, write) -> None:
    key = write.key[0] if write.key else write.values["id"]
    if write.kind is Kind.INSERT and key in rows:
        raise RefusedByModel
    if write.kind is Kind.INSERT or (write.kind is Kind.UPSERT and key not in rows):
        rows[key] = dict(write.values)
        return
    if key not in rows:
        raise RefusedByModel
    if write.kind is Kind.UPSERT:
        rows[key].update({column: write.values[column] for column in write.set_columns})
    elif write.kind is Kind.UPDATE:
        rows[key].update(write.values)
    elif write.kind is Kind.INCREMENT:
        rows[key].update({column: rows[key][column] + delta for column, delta in write.values.items()})
    else:
        del rows[key]


def applied(rows, writes):
    """The rows afterwards; nothing where a write is refused."""
    rows = {key: dict(row) for key, row in rows.items()}
    try:
        for write in writes:
            apply(rows, write)
    except RefusedByModel:
        return None
    return rows


@pytest.mark.parametrize("planned_by", [make_plan, plan_write_by_write])
@given(items=st.lists(st.lists(WRITES, min_size=1, max_size=3), max_size=6), existing=st.sets(KEYS))
def test_a_plan_that_succeeds_does_what_the_items_do_one_by_one(planned_by, items, existing):
    rows = {key: {"id": key, "n": 0, "v": 0} for key in existing}
    plan = planned_by(items)
    planned = applied(rows, [write for segment in plan.segments for step in segment.steps for write in step.writes])
    if planned is not None:
        assert planned == applied(rows, [write for item in items for write in in_order(item)])


@given(st.lists(st.lists(WRITES, min_size=1, max_size=3), max_size=6))
def test_the_same_items_give_the_same_plan(items):
    assert make_plan(items) == make_plan(items)


@given(st.lists(WRITES, min_size=1, max_size=10))
def test_the_keys_of_a_step_are_all_different(writes):
    for segment in plan_of(*writes).segments:
        for step in segment.steps:
            keys = [write.key for write in step.writes if write.key]
            assert len(keys) == len(set(keys))


def test_dates_are_keys_like_any_other():
    dated = replace(OTHER, exact={"id": date})
    (step,) = steps_of(*(increment(dated, date(2024, 1, day), n=1) for day in (3, 1, 2)))
    assert [write.key[0].day for write in step.writes] == [1, 2, 3]


def test_keys_of_another_class_than_the_columns_own_may_be_one_and_stay_in_order():
    """`1` and `01` name one row of a column of whole numbers."""
    plan = plan_of(update(OTHER, "1", n=1), update(OTHER, "01", n=2), update(OTHER, "1", n=3))
    assert [[write.key for step in segment.steps for write in step.writes] for segment in plan.segments] == [
        [("1",), ("01",)],
        [("1",)],
    ]


def test_a_row_under_a_key_of_another_class_may_be_one_that_is_created_later():
    plan = plan_of(insert(CHILD, id=1, p="01"), insert(PARENT, id=1))
    assert [probe.keys for segment in plan.segments for probe in segment.probes] == [(("01",),)]


FOLDED = replace(OTHER, exact={"n": int}, foldable=frozenset({"id"}))


def test_texts_that_no_collation_takes_for_one_are_told_apart():
    (step,) = steps_of(*(increment(FOLDED, key, n=1) for key in ("a-2", "a-1", "a-2")))
    assert [(write.key, write.values) for write in step.writes] == [(("a-1",), {"n": 1}), (("a-2",), {"n": 2})]


@pytest.mark.parametrize("other", ["A-2", "a-2 ", "\xe4", "a~"])
def test_texts_that_may_be_one_stay_in_order(other):
    plan = plan_of(*(update(FOLDED, key, n=1) for key in ("a-2", other, "a-2")))
    assert len(plan.segments) > 1


def test_a_reference_that_is_only_inserted_is_not_covered_up_by_a_later_upsert():
    """Where the row does not exist, the first upsert inserts its reference, and may be refused for it."""
    plan = plan_of(upsert(CHILD, 1, p=99, set_columns=()), upsert(CHILD, 1, p=1, set_columns=("p",)))
    assert len(plan.segments) == 2


TOUCHED = info("touched", touched=frozenset({"v"}))


@pytest.mark.parametrize(
    ("writes", "segments"),
    [
        ([increment(TOUCHED, 1, n=1), update(TOUCHED, 1, v=3)], 2),
        ([update(TOUCHED, 1, v=3), update(TOUCHED, 1, n=3)], 2),
        ([increment(TOUCHED, 1, v=3), increment(TOUCHED, 1, n=3)], 2),
        ([increment(TOUCHED, 1, v=3), update(TOUCHED, 1, n=3)], 2),
        ([update(TOUCHED, 1, n=3), update(TOUCHED, 1, v=3)], 1),
        ([update(TOUCHED, 1, v=3), increment(TOUCHED, 1, n=3)], 2),
        ([update(TOUCHED, 1, v=3), update(TOUCHED, 1, v=4)], 1),
        ([update(TOUCHED, 1, n=3), increment(TOUCHED, 1, n=3)], 1),
        ([increment(TOUCHED, 1, n=1), increment(TOUCHED, 1, n=1)], 1),
    ],
)
def test_a_column_with_an_onupdate_has_its_value_from_the_last_write_to_the_row(writes, segments):
    assert len(plan_of(*writes).segments) == segments
