"""The rows of the benchmarks: exactly as many bad ones as asked for, and everywhere the same."""

from collections import Counter
from itertools import pairwise

import pytest

from batchwrite.bench.rows import CUSTOMERS, BadKind, bad_positions, increments, lines, orders, plain, wide


@pytest.mark.parametrize(
    ("count", "share", "number"),
    [(1_000, 0, 0), (1_000, 0.001, 1), (1_000, 0.01, 10), (1_000, 0.1, 100), (1_000, 0.5, 500)],
)
def test_bad_rows_are_as_many_as_asked_for_and_of_all_kinds_alike(count, share, number):
    rows = lines(count, share)
    kinds = Counter(rows.bad.values())
    assert sum(kinds.values()) == number
    assert max(kinds.values(), default=0) - min((kinds[kind] for kind in BadKind), default=0) <= 1
    assert len(rows.items) == count
    assert len(rows.good) == count - number


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.33, 0.5])
def test_bad_rows_are_spread_evenly_and_never_side_by_side(share):
    positions = bad_positions(10_000, share)
    steps = [later - earlier for earlier, later in pairwise(positions)]
    assert max(steps, default=2) - min(steps, default=2) <= 1
    assert min(steps, default=2) >= 2
    assert positions[0] >= 1


def test_each_bad_row_is_bad_in_its_own_way():
    rows = lines(1_000, 0.1)
    for position, kind in rows.bad.items():
        row, before = rows.items[position], rows.items[position - 1]
        is_bad = {
            BadKind.UNIQUE: (row["invoice"], row["line"]) == (before["invoice"], before["line"]),
            BadKind.NOT_NULL: row["description"] is None,
            BadKind.CHECK: row["quantity"] == 0,
            BadKind.FOREIGN_KEY: row["customer_id"] > CUSTOMERS,
            BadKind.BAD_VALUE: isinstance(row["quantity"], str),
        }
        assert [found for found, holds in is_bad.items() if holds] == [kind]


def test_good_rows_have_unique_keys_and_all_their_values():
    rows = lines(2_000, 0.1).good
    assert len({row["id"] for row in rows}) == len({(row["invoice"], row["line"]) for row in rows}) == len(rows)
    assert all(len(row) == 9 and None not in row.values() for row in rows)


def test_rows_are_the_same_every_time():
    assert lines(500, 0.1) == lines(500, 0.1)
    assert (wide(50), orders(50), increments(50, 7)) == (wide(50), orders(50), increments(50, 7))


def test_plain_rows_hold_what_sqlite_stores():
    [row] = plain(lines(1).items)
    assert {type(value) for value in row.values()} == {int, str}


def test_a_wide_row_has_61_columns():
    assert {len(row) for row in wide(10)} == {61}


def test_increments_name_every_key_and_skewed_ones_few():
    assert {row["sku_id"] for row in increments(1_000, 100)} == set(range(1, 101))
    skewed = Counter(row["sku_id"] for row in increments(10_000, 320, skewed=True))
    assert sum(count for key, count in skewed.items() if key <= 10) == pytest.approx(5_000, abs=50)
    assert max(skewed) <= 320
