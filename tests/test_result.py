"""The result: frozen, honest about how a run ended, JSON-ready, and silent about row values."""

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, fields, replace

import pytest

import batchwrite
from batchwrite import (
    Abort,
    BatchFailed,
    BatchResult,
    BatchWriteError,
    CoalescerClosed,
    ConfigurationError,
    EarlierStarts,
    ItemFailure,
    ItemOutcome,
    ItemRefused,
    LedgerMismatch,
    OutcomeStatus,
    PartialFailure,
    QueueFull,
    RunInterrupted,
    SourceError,
    Stage,
    Status,
)

PLANTED = "planted-4711"
ABORT = Abort(reason="fatal", message="the table is missing", error_type="UndefinedTable", sqlstate="42P01")
FAILURE = ItemFailure(
    index=3,
    item={"name": PLANTED},
    stage=Stage.WRITE,
    error_type="UniqueViolation",
    message="a row with the same unique key exists",
    sqlstate="23505",
    table="t",
    column="name",
    constraint="uq",
    attempts=2,
    detail=f"Key (name)=({PLANTED}) already exists.",
)


def result(**counts) -> BatchResult:
    zeros = dict.fromkeys(("written", "failed", "skipped", "unattempted", "unknown"), 0)
    fields = {**zeros, **counts}
    received = sum(fields[name] for name in zeros)
    rest = {"failures": (), "failure_counts": {}, "chunks": 1, "fallbacks": 0, "seconds": 0.5}
    return BatchResult(**{"received": received, **rest, **fields})


FULL = result(written=3, failed=1, unattempted=2, failures=(FAILURE,), failure_counts={FAILURE.reason: 1}, abort=ABORT)


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({}, Status.SUCCESS),
        ({"written": 3}, Status.SUCCESS),
        ({"skipped": 3}, Status.SUCCESS),
        ({"written": 1, "failed": 1}, Status.PARTIAL_SUCCESS),
        ({"failed": 2}, Status.FAILED),
        ({"failed": 2, "skipped": 1}, Status.FAILED),
        ({"written": 1, "unattempted": 1}, Status.ABORTED),
        ({"written": 1, "abort": ABORT}, Status.ABORTED),
        ({"failed": 1, "abort": ABORT}, Status.ABORTED),
        ({"written": 1, "unknown": 1}, Status.UNKNOWN),
        ({"unknown": 1, "unattempted": 1, "abort": ABORT}, Status.UNKNOWN),
    ],
)
def test_the_status_follows_from_the_counts(counts, status):
    assert result(**counts).status is status


@pytest.mark.parametrize(
    ("counts", "earlier", "status"),
    [
        ({}, {"written": 1}, Status.SUCCESS),
        ({}, {"skipped": 1}, Status.SUCCESS),
        ({}, {"written": 1, "failed": 1}, Status.PARTIAL_SUCCESS),
        ({"written": 1}, {"failed": 1}, Status.PARTIAL_SUCCESS),
        ({"failed": 1}, {"written": 1}, Status.PARTIAL_SUCCESS),
        ({"failed": 1}, {"failed": 1}, Status.FAILED),
        ({"skipped": 1}, {"failed": 1}, Status.FAILED),
        ({"unattempted": 1}, {"written": 1, "failed": 1}, Status.ABORTED),
        ({"unknown": 1}, {"written": 1, "failed": 1}, Status.UNKNOWN),
    ],
)
def test_the_status_is_that_of_all_starts(counts, earlier, status):
    assert result(**counts, resumed=2, earlier=EarlierStarts(**earlier)).status is status


@pytest.mark.parametrize("value", [FULL, FAILURE, FAILURE.reason, ABORT], ids=lambda value: type(value).__name__)
def test_values_are_frozen(value):
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, "changed")


def test_an_outcome_is_frozen():
    outcome = ItemOutcome(index=0, item=1, status=OutcomeStatus.WRITTEN)
    with pytest.raises(FrozenInstanceError):
        outcome.status = OutcomeStatus.FAILED


@pytest.mark.parametrize("status", [Status, Stage, OutcomeStatus])
def test_states_are_plain_words(status):
    assert all(str(state) == state.value == state for state in status)


def test_a_result_survives_pickling():
    assert pickle.loads(pickle.dumps(FULL)) == FULL  # noqa: S301 - our own bytes


ERRORS = [
    BatchWriteError("text"),
    ConfigurationError("text"),
    LedgerMismatch("text"),
    ItemRefused("text", table="t", column="c", constraint="k"),
    SourceError("text", result=FULL),
    BatchFailed("text", result=FULL),
    RunInterrupted("text", result=FULL),
    QueueFull("text"),
    CoalescerClosed("text"),
    PartialFailure({1: "text"}, unattempted=[2]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])  # noqa: S301
def test_an_exception_survives_pickling_and_copying(error, copied):
    twin = copied(error)
    assert type(twin) is type(error)
    assert (twin.args, str(twin), twin.__dict__) == (error.args, str(error), error.__dict__)


def test_every_public_exception_is_in_the_list_above():
    public = {value for name in batchwrite.__all__ if isinstance(value := getattr(batchwrite, name), type)}
    assert {kind for kind in public if issubclass(kind, BaseException)} == {type(error) for error in ERRORS}


def test_an_interrupt_is_a_keyboard_interrupt_and_no_error():
    assert issubclass(RunInterrupted, KeyboardInterrupt)
    assert not issubclass(RunInterrupted, Exception)


def test_success_raises_nothing():
    result(written=2, skipped=1).raise_for_failures()


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"written": 1, "failed": 2}, "partial_success: 1 of 3 items written, 2 failed"),
        ({"failed": 2}, "failed: 0 of 2 items written, 2 failed"),
        ({"written": 1, "unattempted": 2}, "aborted: 1 of 3 items written, 0 failed, 2 not attempted"),
        ({"unknown": 2}, "unknown: 0 of 2 items written, 0 failed, 2 unknown"),
        ({"abort": ABORT}, "stopped: the table is missing"),
    ],
)
def test_anything_else_raises_with_the_counts(counts, words):
    with pytest.raises(BatchFailed, match=words) as caught:
        result(**counts).raise_for_failures()
    assert caught.value.result == result(**counts)


def test_the_first_failure_is_named():
    with pytest.raises(BatchFailed, match=r"first failure: item 3: a row with the same unique key exists \[t\.name\]"):
        FULL.raise_for_failures()


@pytest.mark.parametrize("value", [FULL, FAILURE, ItemOutcome(index=0, item=PLANTED, status=OutcomeStatus.WRITTEN)])
def test_neither_item_nor_detail_is_shown(value):
    assert PLANTED not in repr(value)
    assert PLANTED not in str(value)


def test_an_exception_with_a_result_does_not_show_items():
    with pytest.raises(BatchFailed) as caught:
        FULL.raise_for_failures()
    assert PLANTED not in repr(caught.value)


def test_a_result_is_json_ready_and_without_values():
    text = json.dumps(FULL.to_dict())
    assert PLANTED not in text
    read = json.loads(text)
    assert read["status"] == "aborted"
    assert (read["received"], read["written"], read["failed"], read["unattempted"]) == (6, 3, 1, 2)
    assert read["abort"]["sqlstate"] == "42P01"
    assert read["failure_counts"][0]["count"] == 1
    assert read["failures"][0]["constraint"] == "uq"


def test_values_are_given_where_asked_for():
    (failure,) = FULL.to_dict(values=True)["failures"]
    assert failure["item"] == {"name": PLANTED}
    assert PLANTED in failure["detail"]


def test_a_reason_gathers_failures_of_different_items():
    assert replace(FAILURE, index=9, item=None, detail=None).reason == FAILURE.reason
    assert replace(FAILURE, column="other").reason != FAILURE.reason


@pytest.mark.parametrize(
    ("table", "column", "text"), [("t", "c", "m [t.c]"), ("t", None, "m [t]"), (None, "c", "m [c]"), (None, None, "m")]
)
def test_a_reason_in_words_names_the_place(table, column, text):
    assert str(replace(FAILURE.reason, table=table, column=column, message="m")) == text
