"""The collector: records the writes of one item, and refuses what cannot be meant, naming table and column."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from batchwrite import Collector, ItemRefused
from batchwrite.table import TableInfo, Target
from batchwrite.write import Kind


class Expression:
    """Stands for an SQL expression."""


STOCK = TableInfo(
    name="stock",
    handle="stock",
    columns=("shop", "product", "on_hand", "price", "note"),
    primary_key=("shop", "product"),
    integers=frozenset({"on_hand"}),
    not_addable=frozenset({"note"}),
    is_expression=lambda value: isinstance(value, Expression),
)
KEYLESS = replace(STOCK, name="keyless", primary_key=())
KEY = {"shop": 1, "product": 2}


class Catalog:
    """Tables by name; the attribute `amount` is the column on_hand."""

    def __init__(self) -> None:
        self.asked = []

    def describe(self, table):
        self.asked.append(table)
        info = {"stock": STOCK, "keyless": KEYLESS}.get(table) if isinstance(table, str) else None
        if info is None:
            raise ItemRefused(f"a {type(table).__name__} is no table")
        return Target(table=info, names={name: name for name in info.columns} | {"amount": "on_hand"})

    def rows_of(self, instance):
        target = self.describe("stock")
        return [(target, {"shop": instance}), (target, {"shop": instance + 1})]


@pytest.fixture
def out():
    return Collector(Catalog())


def taken(out):
    writes, reason = out.take()
    assert reason is None
    return writes


def only(out):
    (write,) = taken(out)
    return write


def test_an_insert_is_recorded_by_column_name(out):
    out.insert("stock", {"shop": 1, "amount": 5})
    write = only(out)
    assert (write.kind, write.table, write.values) == (Kind.INSERT, STOCK, {"shop": 1, "on_hand": 5})
    assert (write.key_columns, write.key) == ((), ())


def test_rows_are_copied(out):
    row = {"shop": 1}
    out.insert("stock", row)
    row["shop"] = 2
    assert only(out).values == {"shop": 1}


def test_none_is_a_value_and_not_an_absence(out):
    out.insert("stock", {"note": None})
    assert only(out).values == {"note": None}


def test_writes_are_kept_in_the_order_of_the_calls(out):
    out.delete("stock", KEY)
    out.insert("stock", {})
    out.increment("stock", KEY, on_hand=1)
    assert [write.kind for write in taken(out)] == [Kind.DELETE, Kind.INSERT, Kind.INCREMENT]


def test_taking_leaves_nothing_behind(out):
    out.insert("stock", {})
    out.skip("why")
    writes, reason = out.take()
    assert (len(writes), reason) == (1, "why")
    assert out.take() == ([], None)


def test_a_table_is_described_once():
    catalog = Catalog()
    out = Collector(catalog)
    out.insert("stock", {})
    out.take()
    out.open()
    out.insert("stock", {})
    assert catalog.asked == ["stock"]


def test_an_unhashable_table_is_refused_in_words(out):
    with pytest.raises(ItemRefused, match="a list is no table"):
        out.insert([], {})


def test_an_instance_may_stand_for_several_rows(out):
    out.add(7)
    assert [write.values for write in taken(out)] == [{"shop": 7}, {"shop": 8}]


def test_a_skip_keeps_its_reason(out):
    out.skip("a return")
    assert out.take() == ([], "a return")


def test_a_skip_has_a_reason_by_default(out):
    out.skip()
    assert out.take() == ([], "skipped")


# ---- keys


def test_equal_keys_compare_equal_whatever_order_they_are_given_in(out):
    out.update("stock", {"shop": 1, "product": 2}, on_hand=1)
    out.update("stock", {"product": 2, "shop": 1}, on_hand=1)
    one, other = taken(out)
    assert (one.key_columns, one.key) == (other.key_columns, other.key) == (("shop", "product"), (1, 2))


CHANGES = {
    "update": lambda out, key: out.update("stock", key, price=1),
    "increment": lambda out, key: out.increment("stock", key, price=1),
    "delete": lambda out, key: out.delete("stock", key),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "NULL"),
        (float("nan"), "NaN"),
        (Decimal("NaN"), "NaN"),
        ([1], "a list, which cannot be compared"),
        ({"a": 1}, "a dict, which cannot be compared"),
        (Expression(), "expression"),
    ],
)
def test_a_key_that_names_no_row_is_refused(out, change, value, problem):
    with pytest.raises(ItemRefused, match=problem) as caught:
        change(out, {"shop": 1, "product": value})
    assert (caught.value.table, caught.value.column) == ("stock", "product")
    assert taken(out) == []


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_empty_key_is_refused(out, change):
    with pytest.raises(ItemRefused, match="at least one column"):
        change(out, {})


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_key_of_an_unknown_column_is_refused(out, change):
    with pytest.raises(ItemRefused, match="no column colour") as caught:
        change(out, {"colour": 1})
    assert (caught.value.table, caught.value.column) == ("stock", "colour")


# ---- columns


@pytest.mark.parametrize(
    "record",
    [
        lambda out: out.insert("stock", {"shop": 1, "colour": 2}),
        lambda out: out.upsert("stock", {**KEY, "colour": 2}),
        lambda out: out.upsert("stock", KEY, key="colour"),
        lambda out: out.upsert("stock", KEY, set="colour"),
        lambda out: out.update("stock", KEY, colour=2),
        lambda out: out.update("stock", KEY, {"colour": 2}),
        lambda out: out.increment("stock", KEY, colour=2),
        lambda out: out.increment("stock", KEY, {"colour": 2}),
    ],
)
def test_an_unknown_column_is_refused_by_name(out, record):
    with pytest.raises(ItemRefused, match="no column colour") as caught:
        record(out)
    assert (caught.value.table, caught.value.column) == ("stock", "colour")
    assert taken(out) == []


def test_several_unknown_columns_are_all_named(out):
    with pytest.raises(ItemRefused) as caught:
        out.insert("stock", {"size": 1, "colour": 2, 3: 4})
    assert caught.value.column == "3, colour, size"


@pytest.mark.parametrize("row", [None, [("shop", 1)], "shop", 5])
def test_a_row_that_is_no_mapping_is_refused(out, row):
    with pytest.raises(ItemRefused, match="no mapping"):
        out.insert("stock", row)


def test_an_update_of_nothing_is_refused(out):
    with pytest.raises(ItemRefused, match="at least one column"):
        out.update("stock", KEY)


def test_an_increment_of_nothing_is_refused(out):
    with pytest.raises(ItemRefused, match="at least one column"):
        out.increment("stock", KEY)


def test_values_may_come_as_a_mapping_and_as_keywords(out):
    out.update("stock", KEY, {"note": "x"}, amount=1)
    assert only(out).values == {"note": "x", "on_hand": 1}


# ---- upserts


def test_an_upsert_sets_all_but_the_primary_key(out):
    out.upsert("stock", {**KEY, "price": 1, "amount": 2})
    write = only(out)
    assert (write.key_columns, write.key, write.set_columns) == (("shop", "product"), (1, 2), ("price", "on_hand"))


@pytest.mark.parametrize(("chosen", "columns"), [((), ()), ("amount", ("on_hand",)), (["price"], ("price",))])
def test_an_upsert_sets_what_it_is_told_to(out, chosen, columns):
    out.upsert("stock", {**KEY, "price": 1, "amount": 2}, set=chosen)
    assert only(out).set_columns == columns


@pytest.mark.parametrize("key", ["price", ("price",), {"price"}, iter(["price"])])
def test_an_upsert_may_name_its_key(out, key):
    out.upsert("stock", {**KEY, "price": 1}, key=key)
    write = only(out)
    assert (write.key_columns, write.key, set(write.set_columns)) == (("price",), (1,), {"shop", "product"})


def test_an_upsert_without_a_value_for_its_key_is_refused(out):
    with pytest.raises(ItemRefused, match="belongs to the key") as caught:
        out.upsert("stock", {"shop": 1})
    assert caught.value.column == "product"


def test_an_upsert_without_a_value_to_set_is_refused(out):
    with pytest.raises(ItemRefused, match="is to be set") as caught:
        out.upsert("stock", KEY, set="price")
    assert caught.value.column == "price"


def test_an_upsert_into_a_table_without_a_primary_key_needs_a_key(out):
    with pytest.raises(ItemRefused, match="needs a key"):
        out.upsert("keyless", {"shop": 1})
    out.upsert("keyless", {"shop": 1}, key="shop")
    assert only(out).key == (1,)


def test_an_upsert_with_an_empty_key_is_refused(out):
    with pytest.raises(ItemRefused, match="key"):
        out.upsert("stock", KEY, key=())


# ---- increments


@pytest.mark.parametrize("delta", [1, -3, 0, Decimal("2.50"), 1.25, Fraction(1, 2), timedelta(days=1), 2**80])
def test_a_finite_number_or_a_time_span_can_be_added(out, delta):
    out.increment("stock", KEY, price=delta)
    assert only(out).values == {"price": delta}


@pytest.mark.parametrize("delta", [None, "1", True, [1], 1j, Fraction(1, 3), Expression()])
def test_what_is_no_number_cannot_be_added(out, delta):
    with pytest.raises(ItemRefused, match="cannot be added") as caught:
        out.increment("stock", KEY, price=delta)
    assert caught.value.column == "price"


@pytest.mark.parametrize("delta", [float("nan"), float("inf"), -float("inf"), Decimal("NaN"), Decimal("-Infinity")])
def test_what_is_not_finite_cannot_be_added(out, delta):
    with pytest.raises(ItemRefused, match="not finite"):
        out.increment("stock", KEY, price=delta)


@pytest.mark.parametrize("delta", [0.5, Decimal("1.5"), Fraction(1, 2)])
def test_a_fraction_cannot_be_added_to_whole_numbers(out, delta):
    with pytest.raises(ItemRefused, match="fraction") as caught:
        out.increment("stock", KEY, on_hand=delta)
    assert caught.value.column == "on_hand"


def test_nothing_can_be_added_to_a_text(out):
    with pytest.raises(ItemRefused, match="holds no numbers"):
        out.increment("stock", KEY, note=1)


def test_an_increment_cannot_change_its_own_key(out):
    with pytest.raises(ItemRefused, match="its own key"):
        out.increment("stock", {"shop": 1}, shop=1)


def test_a_signaling_nan_is_refused_as_an_increment(out):
    with pytest.raises(ItemRefused, match="not finite"):
        out.increment("stock", KEY, price=Decimal("sNaN"))


@pytest.mark.parametrize("missing_ok", [True, False])
def test_a_delete_says_whether_the_row_may_be_missing(out, missing_ok):
    out.delete("stock", KEY, missing_ok=missing_ok)
    assert only(out).missing_ok is missing_ok
