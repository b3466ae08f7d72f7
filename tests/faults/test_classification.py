"""Faults: real errors of both databases, each ending as a failed item, as a retry or as an abort, as promised."""

import psycopg
import pytest
from sqlalchemy import exc as sqlalchemy_errors

from batchwrite.codes import SQLSTATE_CLASSES, SQLSTATES
from batchwrite.faults import FaultKind, classify


def test_every_known_code_has_a_kind():
    errors = psycopg.errors
    codes = {getattr(value, "sqlstate", None) for value in vars(errors).values()}
    codes = {code for code in codes if isinstance(code, str)}
    assert len(codes) > 200
    assert {code[:2] for code in codes} - SQLSTATE_CLASSES.keys() <= {
        *("0F", "10", "0L", "0P", "0Z", "20", "24", "27", "2B", "2D", "2F", "34", "38", "39", "3B", "72", "F0", "HV")
    }


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, FaultKind.ITEM) for code in ("23502", "23505", "23514", "23503", "23P01", "22001", "22P02", "54000")),
        *((code, FaultKind.TRANSIENT) for code in ("40001", "40P01", "55P03", "57014", "26000", "42P05")),
        *((code, FaultKind.LOST) for code in ("57P01", "57P02", "57P03", "25P03", "08006")),
        *((code, FaultKind.CAPACITY) for code in ("53100", "53200", "53300")),
        *((code, FaultKind.FATAL) for code in ("42P01", "42703", "42601", "42P10", "42501", "25006")),
        ("25P02", FaultKind.FATAL),
    ],
)
def test_a_code_decides_whatever_the_class_of_the_exception(code, kind):
    error = psycopg.OperationalError()
    error.sqlstate = code
    wrapped = sqlalchemy_errors.OperationalError("SELECT", {}, error)
    assert classify(wrapped).kind is classify(error).kind is kind


@pytest.mark.parametrize("code", ["25001", "34000", "3B001"])
def test_what_only_a_bug_of_ours_can_raise_is_no_items_fault(code):
    error = psycopg.errors.lookup(code)()
    assert classify(error).kind is FaultKind.FATAL


@pytest.mark.parametrize("error", [MemoryError(), AssertionError("x"), RuntimeError("x"), NotImplementedError("x")])
def test_an_exception_from_nowhere_is_nobodys_item(error):
    assert classify(error).kind is FaultKind.FATAL


def test_a_lost_connection_is_lost_whatever_the_code():
    error = psycopg.errors.UniqueViolation()
    assert classify(error, is_disconnect=True).kind is FaultKind.LOST


def test_codes_and_classes_are_of_the_right_length():
    assert {len(code) for code in SQLSTATES} == {5}
    assert {len(code) for code in SQLSTATE_CLASSES} == {2}
