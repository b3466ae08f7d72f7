"""What a run says it has spent and counted."""

from types import SimpleNamespace

import pytest
from accounts import COUNTED, Accounts, folder_of


def report(nodeid, duration, when="call", *properties):
    return SimpleNamespace(nodeid=nodeid, duration=duration, when=when, user_properties=list(properties))


def test_seconds_are_added_up_by_folder_and_counts_once_a_test():
    accounts = Accounts()
    for when in ("setup", "call", "teardown"):
        accounts.pytest_runtest_logreport(
            report("tests/faults/test_a.py::test_b[c]", 20.0, when, (COUNTED, ("cases", 7)))
        )
    accounts.pytest_runtest_logreport(
        report("tests/faults/test_a.py::test_d", 2_000.0, "call", (COUNTED, ("cases", 1_000)))
    )
    accounts.pytest_runtest_logreport(report("tests/test_e.py::test_f", 0.4, "call", ("other", 1)))
    assert accounts.lines() == ["seconds: faults 2,060, root 0", "counted: 1,007 cases"]


def test_nothing_counted_is_not_told():
    assert Accounts().lines() == ["seconds: "]


@pytest.mark.parametrize(
    ("nodeid", "folder"),
    [("tests/test_a.py::test_b", "root"), ("tests/aio/test_a.py::B::c", "aio"), ("tests/a/b/test_c.py::d", "a")],
)
def test_a_test_belongs_to_the_folder_below_tests(nodeid, folder):
    assert folder_of(nodeid) == folder
