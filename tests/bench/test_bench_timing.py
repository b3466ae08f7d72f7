"""How contenders are timed: in turn, from fresh tables, with proof; and what is made of the seconds."""

import gc
from contextlib import nullcontext

import pytest

from batchwrite.bench.tables import NotWrittenError
from batchwrite.bench.timing import Comparison, Contender, Measured, Measurement, compare, timed

pytestmark = pytest.mark.slow


class Log:
    """What happened, in order."""

    def __init__(self):
        self.events = []

    def contender(self, name, *, rows=100, write=None, check=None, **more):
        return Contender(
            name=name,
            rows=rows,
            fresh=lambda: self.events.append(f"{name} fresh"),
            opened=lambda: nullcontext(write or (lambda: self.events.append(f"{name} writes"))),
            check=check or (lambda: self.events.append(f"{name} checked")),
            **more,
        )


def seconds_of(*values):
    """A write that says itself how long it took."""
    left = iter(values)
    return lambda: Measured(seconds=next(left), extras={})


def silent(_text):
    pass


def test_contenders_take_turns_and_another_one_begins_in_each_round():
    log = Log()
    comparison = Comparison(name="all", contenders=[log.contender("a"), log.contender("b")])
    found = compare("some", comparison, 2, silent)
    steps = ("fresh", "writes", "checked")
    assert log.events == [f"{name} {step}" for name in "abba" for step in steps]
    assert [(each.contender, len(each.seconds)) for each in found.measurements] == [("a", 2), ("b", 2)]


def test_what_the_program_has_frozen_stays_so_and_nothing_else_does():
    contender = Log().contender("a")
    try:
        gc.unfreeze()
        timed(contender)
        assert gc.get_freeze_count() == 0
        gc.freeze()
        timed(contender)
        assert gc.get_freeze_count() > 0
    finally:
        gc.freeze()  # as it is for all tests


def test_the_ratio_is_the_middle_one_of_those_within_a_round():
    log = Log()
    fast = log.contender("fast", rows=100, write=seconds_of(1.0, 10.0, 2.0))
    slow = log.contender("slow", rows=50, write=seconds_of(1.0, 20.0, 8.0))
    found = compare("some", Comparison(name="all", contenders=[fast, slow], baseline="fast"), 3, silent)
    assert found.of("fast").ratio == 1
    assert found.of("slow").ratios == (0.5, 0.25, 0.125)
    assert (found.of("slow").ratio, found.of("slow").median, found.of("slow").rate) == (0.25, 8.0, 6.25)


def test_one_that_fails_is_told_and_left_out_while_the_others_go_on():
    log = Log()

    def lose_rows():
        raise NotWrittenError("lines.rows: 99 where 100 should be")

    comparison = Comparison(
        name="all", contenders=[log.contender("base", check=lose_rows), log.contender("b")], baseline="base"
    )
    found = compare("some", comparison, 3, silent)
    [absent] = found.absent
    assert (absent.contender, absent.is_failure) == ("base", True)
    assert "99 where 100 should be" in absent.reason
    assert found.of("b").ratio is None
    assert len(found.of("b").seconds) == 3
    assert log.events.count("base writes") == 1


def test_one_whose_package_is_missing_is_absent_and_no_failure():
    log = Log()
    contenders = [log.contender("a", needs=("no_such_package",)), log.contender("b", absent="not in this version")]
    found = compare("some", Comparison(name="all", contenders=contenders), 1, silent)
    assert log.events == []
    assert [(each.reason, each.is_failure) for each in found.absent] == [
        ("not installed: no_such_package", False),
        ("not in this version", False),
    ]


def test_counters_are_read_before_and_after():
    log = Log()
    counts = iter([5, 12])
    found = compare(
        "some",
        Comparison(name="all", contenders=[log.contender("a", counters={"trips": lambda: next(counts)})]),
        1,
        silent,
    )
    assert found.of("a").extras == {"trips": 7}


def test_a_comparison_may_have_its_own_number_of_runs():
    log = Log()
    found = compare("some", Comparison(name="all", contenders=[log.contender("a")], runs=1), 5, silent)
    assert len(found.of("a").seconds) == 1


def test_who_is_at_work_is_told():
    said = []
    compare("some", Comparison(name="all", contenders=[Log().contender("a", rows=1_000)]), 2, said.append)
    assert said == ["all: a, 1,000 rows, run 1 of 2", "all: a, 1,000 rows, run 2 of 2"]


def test_a_measurement_without_a_baseline_has_no_ratio():
    assert Measurement(contender="a", rows=10, seconds=(2.0,)).ratio is None
    assert Measurement(contender="a", rows=10, seconds=(2.0,)).rate == pytest.approx(5)
