"""What a failing item costs does not depend on how many others fail: told by counting calls, which no noise changes."""

import sys

import pytest
from items import ITEMS, METADATA
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

from batchwrite import BatchWriter

FEW, MANY = 100, 400
# Four times the failures may cost four times as much; what is fixed (statements, catalogue) makes it less.
MOST_TIMES = 4.4

POLICIES = {
    "no limit": {},
    "a limit that is not reached": {"max_failures": 1_000_000},
    "a limit that is reached": {"max_failures": FEW // 2},
    "failures that are kept": {"keep_failures": 1_000_000},
}


def calls_of(action):
    """How many functions are called, be they Python's or C's, while something is done."""
    count = 0

    def note(_frame, event, _argument):
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


def cost_of(engine, count, items, policy):
    with BatchWriter(engine, chunk_size=count, workers=0, **policy) as writer:
        return calls_of(lambda: writer.run(items(count), lambda row, out: out.insert(ITEMS, row)))


def refused(count):
    """Rows that the database refuses, all of them."""
    return [{"id": number, "n": -1} for number in range(count)]


def half_refused(count):
    return [{"id": number, "n": -1 if number % 2 else 1} for number in range(count)]


# With half of the items good, what is behind a limit that is reached is undone, and written again up to there.
CASES = [(policy, refused) for policy in POLICIES] + [("no limit", half_refused)]


@pytest.mark.parametrize(("policy", "items"), CASES)
def test_the_cost_is_linear_in_the_failures(shared_engine, emptied, items, policy):
    costs = []
    for count in (FEW, FEW, MANY):  # the first makes the statements
        with emptied(METADATA):
            costs.append(cost_of(shared_engine, count, items, POLICIES[policy]))
    assert costs[2] <= MOST_TIMES * costs[1]


def test_the_cost_of_items_put_off_is_linear(shared_engine, emptied):
    metadata = MetaData()
    node = Table(
        "nodes",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("p", ForeignKey("nodes.id")),
    )

    def run(count):
        # Each refers to the one behind it: all but the last are put off, and written in the end or not.
        items = [{"id": number, "p": number + 1} for number in range(count)]
        with BatchWriter(shared_engine, chunk_size=count, workers=0, defer_foreign_keys=True) as writer:
            writer.run(items, lambda row, out: out.insert(node, row))

    costs = []
    for count in (FEW, FEW, MANY):
        with emptied(metadata):
            costs.append(calls_of(lambda count=count: run(count)))
    assert costs[2] <= MOST_TIMES * costs[1]
