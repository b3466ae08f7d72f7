"""The property tests find bugs: each is planted into a copy of the sink, and the comparison must fail.

Of what the search finds, one example is pinned for each bug, in `planted_cases`: a comparison that no longer sees it
shows at once, and the search is for the full run.
"""

from dataclasses import replace

import pytest
from generated import Case, Shape, cases
from hypothesis import HealthCheck, Phase, given, settings
from planted_cases import PINNED
from test_promises import compare

from batchwrite import columnar, planner
from batchwrite.plan import Plan, Segment
from batchwrite.sinks.choose import sink_for
from batchwrite.sinks.sql import SqlSink
from batchwrite.write import Kind


class LosesIncrements(SqlSink):
    """Of several increments of one key only the last is applied."""

    def _carry_out(self, connection, items):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(planner, "exact_sum", lambda one, other: other)
            patch.setattr(columnar, "sums_by_key", lambda keys, deltas: dict(zip(keys, deltas, strict=True)))
            super()._carry_out(connection, items)


class TearsItems(SqlSink):
    """An item that fails leaves behind what it had written before."""

    def _write_group(self, connection, items):
        if len(items) > 1:
            return super()._write_group(connection, items)
        singles = [super(TearsItems, self)._write_group(connection, [[write]]) for write in items[0]]
        return next((fault for fault in singles if fault is not None), None)


class KeepsSharesOfFailedItems(SqlSink):
    """An item that fails is undone, but for its share of the increments."""

    def _write_group(self, connection, items):
        fault = super()._write_group(connection, items)
        shares = [write for write in items[0] if write.kind is Kind.INCREMENT] if len(items) == 1 else []
        if fault is not None and shares:
            super()._write_group(connection, [shares])
        return fault


class WritesLaterItemsFirst(SqlSink):
    """A fallback goes from the last item to the first."""

    def write_each(self, items, refuse, books=None):
        def refuse_mirrored(number, fault):
            refuse(len(items) - 1 - number, fault)
            return len(items)

        super().write_each(items[::-1], refuse_mirrored, books)


class IgnoresMissingRows(SqlSink):
    """An update of a row that does not exist is taken for done."""

    def __init__(self, engine, rules):
        super().__init__(engine, rules)
        self._statements._require_rows = lambda connection, statement, writes, parameters: connection.execute(
            statement, parameters
        )


class SortsWithoutSegments(SqlSink):
    """All writes of a chunk are sorted by kind, whatever order their keys need."""

    def _carry_out(self, connection, items):
        def one_segment(items):
            steps = [step for segment in planner.make_plan(items).segments for step in segment.steps]
            ordered = sorted(steps, key=lambda step: (step.kind is Kind.DELETE, step.table.order, step.kind))
            return Plan(segments=(Segment(steps=tuple(ordered)),))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("batchwrite.sinks.sql.make_plan", one_segment)
            super()._carry_out(connection, items)


class AsksNoProbes(SqlSink):
    """A row may refer to one that only a later item creates."""

    def _carry_out(self, connection, items):
        def without_probes(items):
            plan = planner.make_plan(items)
            return Plan(segments=tuple(replace(segment, probes=(), refusal=None) for segment in plan.segments))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("batchwrite.sinks.sql.make_plan", without_probes)
            super()._carry_out(connection, items)


BUGS = [
    LosesIncrements,
    TearsItems,
    KeepsSharesOfFailedItems,
    WritesLaterItemsFirst,
    IgnoresMissingRows,
    SortsWithoutSegments,
    AsksNoProbes,
]


@given(case=cases(deferred=True))
def test_an_example_can_be_pinned_as_it_is_shown(case):
    assert eval(repr(case), {"Case": Case, "Shape": Shape}) == case  # noqa: S307 - nobody else's text


def harmed(bug):
    return lambda engine: bug(engine, sink_for(engine)._rules)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_fails_where_the_library_does_not(shared_engine, emptied, bug):
    case = PINNED[bug.__name__]
    compare(shared_engine, emptied, case)
    compare(shared_engine, emptied, case, sink=harmed(SqlSink))  # not harmed at all: what the bug is planted into
    with pytest.raises(AssertionError, match="assert"):
        compare(shared_engine, emptied, case, sink=harmed(bug))


# MariaDB takes the same path as SQLite here, and several times as long.
@pytest.mark.thorough
@pytest.mark.parametrize("shared_engine", ["sqlite", "postgresql"], indirect=True, scope="module")
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(shared_engine, emptied, bug):
    # Derandomised and not shrunk: the same examples every time, and the first that fails will do.
    @settings(
        max_examples=2_000,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def compared(case):
        compare(shared_engine, emptied, case, sink=harmed(bug))

    with pytest.raises(AssertionError, match="assert"):
        compared()
