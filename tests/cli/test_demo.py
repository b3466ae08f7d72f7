"""`batchwrite demo`: what it shows, twice in a row, interrupted, and where it cannot work."""

import contextlib
import json
import signal
import sqlite3
import time

import pytest
from commands import url_of

pytestmark = pytest.mark.slow

FIGURES = {"invoices": 305, "invoice_lines": 5_974, "products": 1_668, "stock": 1_668, "on_hand": -77_723}


def test_it_can_be_run_twice(run, engine):
    for _ in range(2):
        ended = run("demo", "--database", url_of(engine), "--json")
        assert ended.status == 0
        result = ended.document
        assert (result["received"], result["written"], result["failed"]) == (6_000, 5_974, 26)
        assert result["database"] == FIGURES


def test_it_shows_what_landed_what_failed_and_why(run, sqlite_engine):
    ended = run("demo", "--database", url_of(sqlite_engine))
    assert "5,974 of 6,000 lines written" in ended.out
    assert "24 x a row with the same unique key exists" in ended.out
    assert "2 x a check constraint refused the row" in ended.out
    assert "first in item" in ended.out
    assert "305 invoices" in ended.out


def test_the_default_database_is_a_file_in_the_current_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("demo").status == 0
    assert (tmp_path / "batchwrite-demo.db").is_file()


def test_other_tables_are_left_alone(run, sqlite_engine):
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE invoices (mine INTEGER)")
        connection.exec_driver_sql("INSERT INTO invoices VALUES (1)")
    assert run("demo", "--database", url_of(sqlite_engine)).status == 0
    with sqlite_engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT mine FROM invoices").all() == [(1,)]


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("postgresql://u:planted@127.0.0.1:1/db", 1),
        ("sqlite:////no/such/folder/at/all.db", 1),
        ("postgresql://u:planted@127.0.0.1:port/db", 2),
        ("nonsense", 2),
        ("nosuchdialect://u:planted@h/db", 2),
    ],
)
def test_where_it_cannot_work_it_says_so_in_a_line(run, url, status):
    ended = run("demo", "--database", url)
    assert ended.status == status
    assert len(ended.err.strip().splitlines()) == 1
    assert "planted" not in ended.err + ended.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_counts_what_the_database_holds(start, tmp_path, number):
    path = tmp_path / "demo.db"
    process = start("demo", "--database", f"sqlite:///{path}", "--json")
    wait_for_rows(path)
    process.send_signal(number)
    printed, complained = process.communicate(timeout=60)
    result = json.loads(printed)
    assert b"Traceback" not in complained
    with sqlite3.connect(path) as connection:
        (held,) = connection.execute("SELECT count(*) FROM batchwrite_demo_invoice_lines").fetchone()
    connection.close()
    assert result["written"] == held == result["database"]["invoice_lines"]
    assert result["received"] == result["written"] + result["failed"] + result["unattempted"]
    if result["status"] != "partial_success":  # it may have come to its end before the signal did
        assert (result["status"], result["abort"]["reason"]) == ("aborted", "interrupted")
        assert process.returncode == 1


def wait_for_rows(path):
    """Until the first chunk is committed; polled, because another process does it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists():
            with contextlib.closing(sqlite3.connect(path)) as connection, contextlib.suppress(sqlite3.OperationalError):
                if connection.execute("SELECT count(*) FROM batchwrite_demo_invoice_lines").fetchone() > (0,):
                    return
        time.sleep(0.01)
    raise AssertionError("no chunk was committed")
