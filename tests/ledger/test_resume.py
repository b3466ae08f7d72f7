"""Runs that are started again: they go on behind what is committed, or say why they cannot."""

import random
from contextlib import suppress
from dataclasses import dataclass

import pytest
from booked import (
    LEDGER,
    SUMS,
    Crash,
    assert_landed,
    counts,
    crashing_at,
    entries,
    ids,
    insert_row,
    rows_of,
    write_one,
    writer,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ids import shown

from batchwrite import ConfigurationError, LedgerMismatch, SeekableSource, SourceError, Status
from batchwrite.collector import Collector

ITEMS_OF_ALL_KINDS = [1, 2, -3, 4, None, 6, "x", 8, 9, 10, -11, 12, 13]
LANDING = [number for number in ITEMS_OF_ALL_KINDS if isinstance(number, int) and number > 0]


def crashed(engine, items, at, run_id="nightly", **options):
    with pytest.raises(Crash):
        writer(engine, **options).run(crashing_at(items, at), write_one, run_id=run_id)


@pytest.mark.parametrize("at", range(len(ITEMS_OF_ALL_KINDS) + 1))
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_crashed_goes_on_behind_its_last_chunk(database, at, workers):
    crashed(database, [*ITEMS_OF_ALL_KINDS, 99], at, workers=workers)
    done = sum(entry[1] for entry in entries(database, "nightly"))
    result = writer(database, workers=workers).run(ITEMS_OF_ALL_KINDS, write_one, run_id="nightly")
    assert (result.resumed, result.received) == (done, len(ITEMS_OF_ALL_KINDS) - done)
    assert_landed(database, LANDING)
    assert sum(entry[3] for entry in entries(database, "nightly")) == 3


def test_failures_have_the_same_indexes_whether_a_run_was_started_once_or_twice(database):
    crashed(database, ITEMS_OF_ALL_KINDS, 7)
    result = writer(database).run(ITEMS_OF_ALL_KINDS, write_one, run_id="nightly")
    assert [(failure.index, failure.item) for failure in result.failures] == [(6, "x"), (10, -11)]


def test_outcomes_of_a_stream_have_the_positions_of_the_input(database):
    crashed(database, ITEMS_OF_ALL_KINDS, 7)
    stream = writer(database).stream(ITEMS_OF_ALL_KINDS, write_one, run_id="nightly")
    assert [outcome.index for outcome in stream] == list(range(6, len(ITEMS_OF_ALL_KINDS)))
    assert stream.result.resumed == 6


def test_a_run_that_has_come_to_its_end_writes_nothing_more(database):
    for resumed in (0, len(ITEMS_OF_ALL_KINDS)):
        result = writer(database).run(ITEMS_OF_ALL_KINDS, write_one, run_id="nightly")
        assert (result.resumed, result.run_id) == (resumed, "nightly")
    assert (result.received, result.status) == (0, Status.PARTIAL_SUCCESS)  # that of the whole run
    assert_landed(database, LANDING)


def test_an_input_that_has_grown_is_written_from_where_it_ended(database):
    writer(database).run([1, 2, 3, 4], write_one, run_id="nightly")
    result = writer(database).run([1, 2, 3, 4, 5, 6], write_one, run_id="nightly")
    assert (result.resumed, result.written) == (4, 2)
    assert_landed(database, range(1, 7))


def test_two_names_are_two_runs(database):
    writer(database).run([1, 2], write_one, run_id="one")
    assert counts(writer(database).run([1, 2], write_one, run_id="two")) == (0, 2, 0, 0, 0)


@pytest.mark.parametrize("sizes", [(3, 5), (5, 3), (1, 100), (100, 1), (4, 2)])
def test_the_chunk_size_may_change_between_starts(database, sizes):
    crashed(database, ITEMS_OF_ALL_KINDS, 9, chunk_size=sizes[0])
    writer(database, chunk_size=sizes[1]).run(ITEMS_OF_ALL_KINDS, write_one, run_id="nightly")
    assert_landed(database, LANDING)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    kinds=st.lists(st.sampled_from(["good", "good", "good", "refused", "raises", "skipped"]), max_size=25),
    starts=st.lists(st.tuples(st.integers(0, 25), st.integers(1, 7)), max_size=4),
    last=st.integers(1, 7),
)
def test_however_often_a_run_crashes_it_ends_as_one_that_never_did(database, kinds, starts, last):
    made = {"good": lambda n: n, "refused": lambda n: -n, "raises": str, "skipped": lambda n: None}
    items = [made[kind](number) for number, kind in enumerate(kinds, 1)]
    with database.begin() as connection:
        for table in (LEDGER.chunks, LEDGER.dead_letters):
            connection.execute(table.delete())
        connection.exec_driver_sql("DELETE FROM items")
        connection.execute(SUMS.update().values(total=0))
    for at, size in starts:
        with suppress(Crash):
            writer(database, chunk_size=size).run(crashing_at(items, at), write_one, run_id="x")
    writer(database, chunk_size=last).run(items, write_one, run_id="x")
    assert_landed(database, [number for number, kind in enumerate(kinds, 1) if kind == "good"])
    booked = entries(database, "x")
    assert [sum(entry[place] for entry in booked) for place in (1, 3)] == [
        len(items),
        sum(kind in {"refused", "raises"} for kind in kinds),
    ]


# ---- inputs that do not match


@pytest.mark.parametrize(
    ("again", "item"),
    [([1, 2, 5, 4, 5, 6], 0), ([1, 2, 3, 4, 5, 7], 3), ([1, 2], 0), ([1, 2, 3, 4], 3), ([], 0), (["1", 2, 3], 0)],
)
def test_another_input_is_refused(database, again, item):
    crashed(database, [1, 2, 3, 4, 5, 6, 7, 8], 7)
    with pytest.raises(LedgerMismatch, match=rf"run 'nightly' has written other items than these from item {item} on"):
        writer(database).run(again, write_one, run_id="nightly")
    assert_landed(database, range(1, 7))


def test_a_ledger_that_has_been_changed_is_refused(database):
    crashed(database, range(1, 12), 10)
    with database.begin() as connection:
        connection.execute(LEDGER.chunks.delete().where(LEDGER.chunks.c.first_item == 3))
    with pytest.raises(LedgerMismatch, match="no entry for item 3, but for later ones"):
        writer(database).run(range(1, 12), write_one, run_id="nightly")
    assert_landed(database, range(1, 10))


@dataclass
class Point:
    x: int
    y: int


def insert_point(point, out):
    insert_row({"id": point.x, "n": point.y}, out)


def test_items_are_told_apart_by_their_values(database):
    writer(database).run([Point(1, 2), Point(3, 4)], insert_point, run_id="x")
    assert writer(database).run([Point(1, 2), Point(3, 4)], insert_point, run_id="x").resumed == 2
    with pytest.raises(LedgerMismatch):
        writer(database).run([Point(1, 2), Point(3, 5)], insert_point, run_id="x")


# ---- reading forward


class Seekable:
    """An input that notes what is asked of it."""

    def __init__(self, items):
        self.items = items
        self.asked = []

    def __iter__(self):
        self.asked.append("from the beginning")
        return iter(self.items)

    def from_item(self, index):
        self.asked.append(index)
        return iter(self.items[index:])


def test_an_input_that_can_seek_is_asked_to(database):
    crashed(database, range(1, 12), 10)
    source = Seekable(list(range(1, 12)))
    assert isinstance(source, SeekableSource)
    result = writer(database).run(source, write_one, run_id="nightly")
    assert (source.asked, result.resumed, result.written) == ([6], 9, 2)
    assert_landed(database, range(1, 12))


def test_an_input_that_seeks_is_not_asked_to_by_a_run_that_is_new(database):
    source = Seekable([1, 2])
    writer(database).run(source, write_one, run_id="new")
    assert source.asked == ["from the beginning"]


def test_an_input_that_seeks_to_the_wrong_place_is_refused(database):
    crashed(database, range(1, 12), 10)
    source = Seekable([0, *range(1, 12)])
    with pytest.raises(LedgerMismatch):
        writer(database).run(source, write_one, run_id="nightly")
    assert_landed(database, range(1, 10))


def test_map_is_called_for_what_is_passed_over_if_that_is_asked_for(database):
    crashed(database, ITEMS_OF_ALL_KINDS, 8)
    seen = []

    def map_item(number, out):
        assert isinstance(out, Collector)
        seen.append(number)
        write_one(number, out)

    source = Seekable(ITEMS_OF_ALL_KINDS)
    result = writer(database).run(source, map_item, run_id="nightly", replay_map=True)
    assert (seen, source.asked) == (ITEMS_OF_ALL_KINDS, ["from the beginning"])
    assert (result.resumed, result.received) == (6, len(ITEMS_OF_ALL_KINDS) - 6)
    assert_landed(database, LANDING)


def test_map_is_not_called_for_what_is_passed_over_if_not(database):
    crashed(database, ITEMS_OF_ALL_KINDS, 8)
    seen = []
    writer(database).run(ITEMS_OF_ALL_KINDS, lambda number, out: seen.append(number), run_id="nightly")
    assert seen == ITEMS_OF_ALL_KINDS[6:]


def test_an_input_that_raises_while_it_is_read_forward_writes_nothing(database):
    crashed(database, range(1, 12), 10)

    def broken():
        yield from range(1, 5)
        raise OSError("planted-value")

    with pytest.raises(SourceError, match=r"reading the input forward raised OSError; nothing was written") as caught:
        writer(database).run(broken(), write_one, run_id="nightly")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.result.received == 0
    assert "planted-value" not in str(caught.value)
    assert_landed(database, range(1, 10))


# ---- names of runs


@pytest.mark.parametrize("run_id", ["", "x" * 201, 5, b"x", "a\0b", "\ud800", "x "], ids=shown)
def test_a_name_that_the_ledger_cannot_hold_is_refused(database, run_id):
    items = iter([1])
    with pytest.raises(ConfigurationError, match="a run_id "):
        writer(database).run(items, write_one, run_id=run_id)
    assert list(items) == [1]


@pytest.mark.parametrize(
    "run_id", ["x" * 200, "é" * 200, "it's", 'a "b" %s :c', "line\nend"], ids=lambda text: text[:9]
)
def test_any_other_name_serves(database, run_id):
    crashed(database, [1, 2, 3, -4], 3, run_id)
    assert writer(database).run([1, 2, 3, -4], write_one, run_id=run_id).resumed == 3


def test_a_name_needs_a_ledger(database):
    with pytest.raises(ConfigurationError, match="run_id needs a ledger"):
        writer(database, ledger=None).run([1], write_one, run_id="x")


# ---- two of one name


@pytest.mark.parametrize("sizes", [(4, 4), (2, 4), (4, 2), (3, 12), (12, 5)], ids=str)
def test_two_that_write_one_run_at_the_same_time_write_nothing_twice(database, sizes):
    """The first comes in between when the second has read a part of its input, and knows of no entries."""
    items = list(range(1, 13))

    def overtaken():
        for number in items:
            if number == 2:
                overtaker = writer(database, chunk_size=sizes[0]).run(items, write_one, run_id="x")
                assert overtaker.written == 12
            yield number

    result = writer(database, chunk_size=sizes[1]).run(overtaken(), write_one, run_id="x")
    assert_landed(database, items)
    assert result.unattempted == 0 or result.abort is not None
    assert result.received == sum(counts(result))
    assert writer(database).run(items, write_one, run_id="x").resumed == 12


def test_random_starts_leave_no_hole_in_the_ledger(database):
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    chance = random.Random(seed)
    items = list(range(1, 200))
    while not entries(database, "x") or sum(entry[1] for entry in entries(database, "x")) < len(items):
        size = chance.randint(1, 40)
        with suppress(Crash):
            writer(database, chunk_size=size).run(crashing_at(items, chance.randint(0, 400)), write_one, run_id="x")
    booked = entries(database, "x")
    assert [entry[0] for entry in booked] == [sum(each[1] for each in booked[:place]) for place in range(len(booked))]
    assert_landed(database, items)
    assert ids(database) == items
    assert len(rows_of(database, LEDGER.chunks)) == len(booked)
