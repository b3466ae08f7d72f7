"""Ratios beside those of the file: what falls, what rises, what is missing, and what is said of it."""

import json
from dataclasses import replace

import pytest

from batchwrite.bench import ours
from batchwrite.bench.baseline import (
    TOLERANCE,
    Baseline,
    Entry,
    Outcome,
    Verdict,
    differences,
    entries_of,
    guarded,
    measured_on,
    middle,
)
from batchwrite.bench.machine import this_machine
from batchwrite.bench.report import Report
from batchwrite.bench.task import Settings
from batchwrite.bench.timing import Compared, Measurement
from batchwrite.errors import ConfigurationError

COPY = "psycopg COPY"


def entry(ratio, *, of=COPY, rows=1_000):
    return Entry(of=of, rows=rows, ratio=ratio)


def verdict(kept, *measured, name="clean rows"):
    return Verdict(
        name=name, kept=None if kept is None else entry(kept), measured=tuple(entry(ratio) for ratio in measured)
    )


class Bench:
    """Measures what it was told to, one dictionary of ratios a time, and remembers what it was asked for."""

    def __init__(self, *ratios):
        self.left = list(ratios)
        self.asked = []

    def __call__(self, names):
        self.asked.append(names)
        return {name: entry(ratio) for name, ratio in self.left.pop(0).items()}


@pytest.mark.parametrize(
    ("measured", "outcome"),
    [
        ([0.5], Outcome.AS_GOOD),
        ([0.401], Outcome.AS_GOOD),
        ([0.399], Outcome.FELL),
        ([0.399, 0.398], Outcome.FELL),
        ([0.399, 0.401], Outcome.AS_GOOD),
        ([0.649], Outcome.AS_GOOD),
        ([0.651], Outcome.ROSE),
    ],
)
def test_a_ratio_falls_where_it_is_a_fifth_below_each_time_and_rises_where_it_is_far_above(measured, outcome):
    assert TOLERANCE == 0.2
    found = verdict(0.5, *measured)
    assert found.outcome is outcome
    assert found.is_failure is (outcome is Outcome.FELL)


def test_the_tolerance_can_be_another():
    found = guarded({"clean rows": entry(1.0)}, Bench({"clean rows": 0.84}, {"clean rows": 0.84}), 0.15)
    assert [each.outcome for each in found] == [Outcome.FELL]


def test_what_fell_is_measured_once_more_and_nothing_else_is():
    bench = Bench({"a": 1.0, "b": 0.5, "c": 0.5, "d": 2.0}, {"b": 0.9, "c": 0.6})
    found = guarded(dict.fromkeys("abcd", entry(1.0)), bench)
    assert bench.asked == [None, ["b", "c"]]
    assert {each.name: each.outcome for each in found} == {
        "a": Outcome.AS_GOOD,
        "b": Outcome.AS_GOOD,
        "c": Outcome.FELL,
        "d": Outcome.ROSE,
    }


def test_where_nothing_fell_nothing_is_measured_again():
    bench = Bench({"a": 1.0})
    guarded({"a": entry(1.0)}, bench)
    assert bench.asked == [None]


def test_one_that_fell_and_failed_when_it_was_measured_again_has_fallen():
    [found] = guarded({"a": entry(1.0)}, Bench({"a": 0.5}, {}))
    assert found.outcome is Outcome.FELL


def test_a_comparison_without_an_entry_fails_and_so_does_an_entry_without_a_comparison():
    bench = Bench({"new": 0.5})
    new, gone = guarded({"gone": entry(1.0)}, bench)
    assert (new.name, new.outcome, new.is_failure) == ("new", Outcome.NOT_KEPT, True)
    assert (gone.name, gone.outcome, gone.is_failure) == ("gone", Outcome.NOT_MEASURED, True)
    assert new.message == "new: is not in the file; measured: 0.5 x"
    assert gone.message.startswith("gone: is in the file, and was not measured")
    assert new.change is gone.change is None


@pytest.mark.parametrize("other", [entry(1.0, rows=2_000), entry(1.0, of="ADBC")])
def test_other_rows_or_another_peer_cannot_be_compared(other):
    found = Verdict(name="a", kept=entry(1.0), measured=(other,))
    assert (found.outcome, found.is_failure) == (Outcome.NOT_COMPARABLE, True)
    expected = f"a: is kept of psycopg COPY with 1,000 rows, and was measured of {other.of} with {other.rows:,} rows"
    assert found.message == expected


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (verdict(0.6, 0.3, 0.42), "clean rows: fell by 30%: measured 0.3 x, then 0.42 x, kept 0.6 x of psycopg COPY"),
        (verdict(0.5, 0.75), "clean rows: rose by 50%: measured 0.75 x, kept 0.5 x of psycopg COPY"),
        (verdict(0.5, 0.49), "clean rows: is as good as it was: measured 0.49 x, kept 0.5 x of psycopg COPY"),
    ],
)
def test_the_message_says_what_was_measured_and_what_is_kept(found, message):
    assert found.message == message


def test_what_is_written_can_be_read_and_has_a_line_for_each_comparison():
    kept = Baseline(
        entries={"b": entry(0.123456), "a": entry(12.3456, rows=20)}, measured_on={"Python": "CPython 3.11"}
    )
    text = kept.to_json()
    assert text.splitlines() == [
        "{",
        '  "comparisons": {',
        '    "a": {"of": "psycopg COPY", "rows": 20, "ratio": 12.3},',
        '    "b": {"of": "psycopg COPY", "rows": 1000, "ratio": 0.123}',
        "  },",
        '  "measured on": {',
        '    "Python": "CPython 3.11"',
        "  }",
        "}",
    ]
    read = Baseline.from_json(text)
    assert read.entries == {"a": entry(12.3, rows=20), "b": entry(0.123)}
    assert read.measured_on == kept.measured_on


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({"comparisons": {"a": {"ratio": 1}}, "measured on": {}}),
        json.dumps({"comparisons": {"a": {"ratio": "much", "of": "b", "rows": 1}}, "measured on": {}}),
    ],
)
def test_anything_else_is_no_baseline(text):
    with pytest.raises(ConfigurationError, match="not a file that --save-baseline has written"):
        Baseline.from_json(text)


def compared(name, *measurements):
    return Compared(workload="guard", name=name, baseline=COPY, measurements=measurements, absent=())


def test_the_entry_of_a_comparison_is_the_one_that_is_not_the_baseline():
    base = Measurement(contender=COPY, rows=3_000, seconds=(1.0,), ratios=(1.0,))
    mine = Measurement(contender=ours.NAME, rows=1_000, seconds=(1.0,), ratios=(0.2, 0.4, 0.3))
    alone = Measurement(contender=ours.NAME, rows=1_000, seconds=(1.0,))
    found = entries_of([compared("both", mine, base), compared("peer failed", alone), compared("ours failed", base)])
    assert found == {"both": entry(0.3)}


def test_of_several_measurements_the_middle_is_kept():
    found = middle([{"a": entry(1.0), "b": entry(1.0)}, {"a": entry(9.0), "b": entry(2.0)}, {"a": entry(2.0)}])
    assert found == {"a": entry(2.0), "b": entry(1.5)}


def test_in_what_two_places_differ_is_told_but_for_the_date():
    kept = {"date": "2026-01-01", "Python": "3.11", "processor": "A"}
    here = {"date": "2026-02-02", "Python": "3.12", "processor": "A", "system": "Linux"}
    assert differences(kept, here) == ["Python: kept 3.11, here 3.12", "system: kept nothing, here Linux"]


def test_where_it_was_measured_names_the_packages_that_take_part():
    report = Report(
        machine=replace(this_machine(), packages={"pandas": "3.0", "psycopg": "3.2", "SQLAlchemy": "2.0.40"}),
        databases=["PostgreSQL 18.6", "SQLite 3.40.1"],
        settings=Settings(),
        compared=[],
        figures=[],
        seconds=1.0,
    )
    found = measured_on(report)
    assert found["packages"] == "SQLAlchemy 2.0.40, psycopg 3.2"
    assert found["databases"] == "PostgreSQL 18.6, SQLite 3.40.1"


@pytest.mark.parametrize(
    "change", [{"ratio": ratio} for ratio in ("NaN", "-1", "0", "Infinity")] + [{"rows": "Infinity"}, {"rows": "0"}]
)
def test_numbers_that_cannot_have_been_measured_are_refused(change):
    numbers = {"rows": "10", "ratio": "0.5"} | change
    kept = f'{{"of": "b", "rows": {numbers["rows"]}, "ratio": {numbers["ratio"]}}}'
    text = f'{{"comparisons": {{"a": {kept}}}, "measured on": {{}}}}'
    with pytest.raises(ConfigurationError, match="not a file that --save-baseline has written"):
        Baseline.from_json(text)


def test_a_file_that_is_nested_too_deeply_is_refused():
    with pytest.raises(ConfigurationError, match="not a file that --save-baseline has written"):
        Baseline.from_json("[" * 100_000)


def test_what_was_measured_otherwise_has_no_change():
    assert replace(verdict(0.5), measured=(entry(20.0, rows=7),)).change is None
