"""Cutting: a chunk is full by items, rows, bytes or seconds, whichever comes first, and loses or reorders nothing."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchwrite import ConfigurationError
from batchwrite.chunk import Chunk, ChunkBuilder, ChunkLimits, Skipped
from batchwrite.table import TableInfo
from batchwrite.write import Kind, Write

TABLE = TableInfo(name="t", handle="t", columns=("a",))
WIDE = {"items": 10**9, "rows": 10**9, "bytes": 10**9, "seconds": None}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def builder(clock=None, **limits) -> ChunkBuilder:
    return ChunkBuilder(ChunkLimits(**{**WIDE, **limits}), clock or Clock())


def entry(item=0, rows=1, value=0) -> tuple:
    return (item, [Write(Kind.INSERT, TABLE, {"a": value})] * rows)


def cut_all(building: ChunkBuilder, entries) -> list[Chunk]:
    chunks = [chunk for each in entries for chunk in building.add(*each)]
    return chunks + building.cut()


def sizes(chunks) -> list[int]:
    return [len(chunk) for chunk in chunks]


def test_a_chunk_is_full_by_items():
    assert sizes(cut_all(builder(items=3), [entry() for _ in range(7)])) == [3, 3, 1]


def test_a_chunk_is_full_by_rows():
    assert sizes(cut_all(builder(rows=4), [entry(rows=2) for _ in range(5)])) == [2, 2, 1]


def test_a_chunk_is_full_by_bytes():
    assert sizes(cut_all(builder(bytes=10), [entry(value="x" * 5) for _ in range(5)])) == [2, 2, 1]


def test_an_entry_that_does_not_fit_any_more_begins_the_next_chunk():
    assert sizes(cut_all(builder(rows=4), [entry(rows=3), entry(rows=3), entry(rows=1)])) == [1, 2]


def test_an_entry_larger_than_a_chunk_gets_one_by_itself():
    assert sizes(cut_all(builder(rows=4), [entry(), entry(rows=9), entry()])) == [1, 1, 1]


def test_an_entry_too_large_completes_two_chunks_at_once():
    building = builder(rows=4)
    assert building.add(*entry("first")) == []
    chunks = building.add(*entry("large", rows=9))
    assert [list(chunk.items) for chunk in chunks] == [["first"], ["large"]]


def test_a_chunk_is_full_when_its_first_item_has_waited_long_enough():
    clock = Clock()
    building = builder(clock, seconds=5.0)
    assert building.add(*entry()) == []
    clock.now += 4.9
    assert building.add(*entry()) == []
    clock.now += 0.1
    assert sizes(building.add(*entry())) == [3]


def test_the_seconds_of_a_chunk_begin_with_its_first_item():
    clock = Clock()
    building = builder(clock, seconds=5.0, items=2)
    building.add(*entry())
    building.add(*entry())
    clock.now += 100
    assert building.add(*entry()) == []
    clock.now += 5
    assert sizes(building.add(*entry())) == [2]


def test_time_that_passed_before_a_cut_does_not_count():
    clock = Clock()
    building = builder(clock, seconds=5.0)
    building.add(*entry())
    clock.now += 4
    building.cut()
    assert building.add(*entry()) == []
    clock.now += 4
    assert building.add(*entry()) == []


def test_without_a_bound_of_seconds_time_does_not_matter():
    clock = Clock()
    building = builder(clock)
    building.add(*entry())
    clock.now += 1e9
    assert building.add(*entry()) == []


def test_nothing_gathered_is_no_chunk():
    building = builder(items=1)
    assert building.cut() == []
    building.add(*entry())
    assert building.cut() == []


def test_items_decided_in_map_fill_a_chunk_by_items_too():
    skipped = ("x", [], Skipped("no"))
    assert sizes(cut_all(builder(items=2), [skipped] * 5)) == [2, 2, 1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("abc", 3),
        (b"abcd", 4),
        (bytearray(5), 5),
        (memoryview(b"abcdef"), 6),
        (12, 8),
        (None, 8),
        (["abc", "de"], 5),
        ({"a": "abc", "b": [1, "x"]}, 12),
    ],
)
def test_the_bytes_of_a_value_are_estimated(value, expected):
    assert sizes(cut_all(builder(bytes=expected + 1), [entry(value=value), entry(value="")])) == [2]
    assert sizes(cut_all(builder(bytes=expected), [entry(value=value), entry(value="")])) == [1, 1]


@pytest.mark.parametrize("name", ["items", "rows", "bytes"])
@pytest.mark.parametrize("bound", [0, -1, 1.5, "10", True, None])
def test_a_bound_that_is_no_positive_whole_number_is_refused(name, bound):
    with pytest.raises(ConfigurationError, match=name):
        ChunkLimits(**{name: bound})


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_bound_of_seconds_that_is_not_above_0_is_refused(seconds):
    with pytest.raises(ConfigurationError, match="seconds"):
        ChunkLimits(seconds=seconds)


def test_a_chunk_does_not_show_its_items_in_its_repr():
    (chunk,) = cut_all(builder(), [entry("planted-item")])
    assert "planted" not in repr(chunk)


@st.composite
def streams(draw):
    steps = st.tuples(st.integers(0, 6), st.text("x", max_size=12), st.floats(0, 3))
    limits = {
        "items": draw(st.integers(1, 8)),
        "rows": draw(st.integers(1, 12)),
        "bytes": draw(st.integers(1, 60)),
        "seconds": draw(st.none() | st.floats(0.1, 5)),
    }
    return limits, draw(st.lists(steps, max_size=40))


def fed(limits, steps) -> list[Chunk]:
    clock = Clock()
    building = ChunkBuilder(ChunkLimits(**limits), clock)
    chunks = []
    for item, (rows, value, seconds) in enumerate(steps):
        clock.now += seconds
        chunks += building.add(*entry(item, rows, value))
    return chunks + building.cut()


@given(streams())
def test_no_chunk_exceeds_a_bound_but_for_a_single_item(stream):
    limits, steps = stream
    for chunk in fed(limits, steps):
        rows = sum(map(len, chunk.writes))
        size = sum(len(write.values["a"]) for writes in chunk.writes for write in writes)
        assert len(chunk) <= limits["items"]
        assert len(chunk) == 1 or (rows <= limits["rows"] and size <= limits["bytes"])


@given(streams())
def test_every_item_is_in_one_chunk_in_order_and_numbered(stream):
    limits, steps = stream
    chunks = fed(limits, steps)
    assert [item for chunk in chunks for item in chunk.items] == list(range(len(steps)))
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk.first_index == chunk.items[0] for chunk in chunks)


@given(streams())
def test_no_chunk_is_cut_before_it_has_to_be(stream):
    limits, steps = stream
    limits["seconds"] = None
    chunks = fed(limits, steps)
    for chunk, following in pairwise(chunks):
        together = [*chunk.writes, following.writes[0]]
        rows = sum(map(len, together))
        size = sum(len(write.values["a"]) for writes in together for write in writes)
        is_full = len(chunk) == limits["items"] or rows > limits["rows"] or size > limits["bytes"]
        rows -= len(together[-1])
        size -= sum(len(write.values["a"]) for write in together[-1])
        assert is_full or rows >= limits["rows"] or size >= limits["bytes"]
