"""`ledger create`, `load --run-id` and `retry`: loads that are recorded go on, and their failed lines land later."""

import json
import re
import signal
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from commands import Load, Run, Start, execute, rows, url_of
from sqlalchemy import Engine, inspect

pytestmark = pytest.mark.slow

PATIENCE = 60.0
HEADER = b"id,name,price\n"


@pytest.fixture
def booked(things: Engine, run: Run) -> Engine:
    """A database with an empty table `things`, and the tables of the ledger."""
    assert run("ledger", "create", "--to", url_of(things)).status == 0
    return things


def names(engine: Engine) -> list[tuple[int, str]]:
    return [tuple(row) for row in rows(engine, "SELECT id, name FROM things ORDER BY id")]


def test_ledger_create_makes_the_tables_and_may_be_called_again(run: Run, engine: Engine) -> None:
    execute(engine, "CREATE TABLE things (id integer)")  # a file of SQLite's must be there
    for _ in range(2):
        ended = run("ledger", "create", "--to", url_of(engine))
        assert (ended.status, ended.err) == (0, "")
        assert "batchwrite_chunks" in ended.out
    assert "batchwrite_dead_letters" in inspect(engine).get_table_names()


def test_ledger_create_makes_them_in_a_schema(run: Run, postgres_engine: Engine) -> None:
    execute(postgres_engine, "CREATE SCHEMA books")
    ended = run("ledger", "create", "--to", url_of(postgres_engine), "--ledger-schema", "books")
    assert (ended.status, "books.batchwrite_chunks" in ended.out) == (0, True)
    missing = run("ledger", "create", "--to", url_of(postgres_engine), "--ledger-schema", "nowhere")
    assert missing.status == 1
    assert "nowhere" in missing.error


def test_ledger_create_says_in_one_line_what_is_wrong(run: Run, tmp_path: Path) -> None:
    ended = run("ledger", "create", "--to", f"sqlite:///{tmp_path / 'no.db'}")
    assert (ended.status, ended.out) == (2, "")
    assert "no such file" in ended.error
    unreachable = run("ledger", "create", "--to", "postgresql://nobody:planted-pw@127.0.0.1:1/x")
    assert unreachable.status == 1
    assert "planted-pw" not in unreachable.error


def test_a_load_with_a_run_id_needs_the_ledger(load: Load, things: Engine) -> None:
    ended = load(HEADER + b"1,one,1\n", "--run-id", "x")
    assert ended.status == 1
    assert "batchwrite ledger create" in ended.error
    assert names(things) == []


def test_a_load_started_again_goes_on_and_says_so(load: Load, booked: Engine) -> None:
    lines = HEADER + b"1,one,1\n2,two,2\n3,three,3\n"
    first = load(lines, "--run-id", "x", "--json")
    assert (first.status, first.document["resumed"], first.document["run_id"]) == (0, 0, "x")
    again = load(lines + b"4,four,4\n", "--run-id", "x")
    assert again.status == 0
    assert "went on behind the 3 lines of earlier starts of the run" in again.out
    assert [number for number, _ in names(booked)] == [1, 2, 3, 4]


def test_a_load_with_failures_that_is_started_again_ends_as_before(load: Load, run: Run, booked: Engine) -> None:
    """A scheduler that starts it again must not take red for green; once all lines have landed, it is green."""
    first = load(BAD, "--run-id", "x", "--json")
    again = load(BAD, "--run-id", "x", "--json")
    assert (first.status, again.status) == (3, 3)
    assert (again.document["status"], again.document["received"]) == ("partial_success", 0)
    earlier = again.document["earlier"]
    assert (earlier["written"], earlier["failed"], earlier["skipped"]) == (2, 4, 0)
    names_of_both = ("line", "stage", "message", "table", "column", "constraint")
    assert [[failure[name] for name in names_of_both] for failure in earlier["failures"]] == [
        [failure[name] for name in names_of_both] for failure in first.document["failures"]
    ]
    text = load(BAD, "--run-id", "x")
    assert (text.status, text.out.splitlines()[0].startswith("partial success: 0 of 0 lines")) == (3, True)
    assert "went on behind the 6 lines of earlier starts of the run, of which 2 written, 4 failed" in text.out
    assert "failed in earlier starts because:" in text.out
    assert "  1 x not a decimal number [things.price], first in line 4" in text.out.splitlines()
    allow_negative(booked)
    assert run("retry", "x", "--to", url_of(booked)).status == 3
    assert load(BAD, "--run-id", "x", "--json").document["earlier"]["failed"] == 2


def test_a_load_of_which_nothing_has_landed_ends_as_before(load: Load, booked: Engine) -> None:
    assert [load(HEADER + b"x,one,1\n", "--run-id", "x").status for _ in range(2)] == [1, 1]


def test_another_file_under_the_same_run_id_is_refused(load: Load, booked: Engine) -> None:
    load(HEADER + b"1,planted-4711,1\n", "--run-id", "x")
    ended = load(HEADER + b"1,planted-4712,1\n2,two,2\n", "--run-id", "x")
    assert (ended.status, ended.out) == (1, "")
    assert "other items" in ended.error
    assert "planted" not in ended.error
    assert len(names(booked)) == 1


def test_other_options_under_the_same_run_id_are_refused(load: Load, booked: Engine) -> None:
    lines = HEADER + b"1,one,1\n"
    load(lines, "--run-id", "x")
    ended = load(lines, "--run-id", "x", "--null", "one")
    assert ended.status == 2
    assert "other options" in ended.error


@pytest.mark.parametrize("run_id", ["", "x" * 201])
def test_a_run_id_that_the_ledger_cannot_hold_is_refused(load: Load, booked: Engine, run_id: str) -> None:
    ended = load(HEADER + b"1,one,1\n", "--run-id", run_id)
    assert ended.status == 2
    assert "run_id is a text of 1 to 200 characters" in ended.error
    assert names(booked) == []


BAD = HEADER + b"1,one,1\n2,,-2\n3,three,x\n4,four\n5,five,-5\n6,six,6\n"


def test_failed_lines_land_by_retry_once_what_refused_them_is_gone(load: Load, run: Run, booked: Engine) -> None:
    first = load(BAD, "--run-id", "x", "--json")
    assert (first.status, first.document["written"], first.document["failed"]) == (3, 2, 4)
    again = run("retry", "x", "--to", url_of(booked), "--json")
    assert (again.status, again.document["written"], again.document["failed"]) == (1, 0, 4)
    lines = sorted(failure["line"] for failure in first.document["failures"])
    assert sorted(failure["line"] for failure in again.document["failures"]) == lines
    allow_negative(booked)
    mended = run("retry", "x", "--to", url_of(booked), "--json")
    assert (mended.status, mended.document["written"], mended.document["failed"]) == (3, 2, 2)
    assert names(booked) == [(1, "one"), (2, ""), (5, "five"), (6, "six")]
    text = run("retry", "x", "--to", url_of(booked))
    assert text.status == 1
    assert "line 4" in text.out


def allow_negative(engine: Engine) -> None:
    if engine.dialect.name == "postgresql":
        execute(engine, "ALTER TABLE things DROP CONSTRAINT things_price_check")
        return
    old = rows(engine, "SELECT id, name, price FROM things")
    execute(
        engine, "DROP TABLE things", "CREATE TABLE things (id integer PRIMARY KEY, name text, price numeric(10, 2))"
    )
    for number, name, price in old:
        execute(engine, f"INSERT INTO things VALUES ({number}, '{name}', {price})")


def test_a_retry_with_nothing_left_is_a_success(load: Load, run: Run, booked: Engine) -> None:
    load(HEADER + b"1,one,1\n", "--run-id", "x")
    ended = run("retry", "x", "--to", url_of(booked), "--json")
    assert (ended.status, ended.document["received"]) == (0, 0)


def test_a_retry_of_a_run_that_nobody_knows_is_wrong_usage(run: Run, booked: Engine) -> None:
    ended = run("retry", "never", "--to", url_of(booked))
    assert (ended.status, ended.out) == (2, "")
    assert "'never'" in ended.error


def test_a_retry_knows_the_options_of_its_load(load: Load, run: Run, booked: Engine) -> None:
    lines = b"number,word,other\n1,one,x\n2,none,y\n"
    options = ("--map", "id=number", "--map", "name=word", "--ignore", "other", "--null", "none", "--run-id", "x")
    assert load(lines, *options).status == 3
    if booked.dialect.name == "postgresql":
        execute(booked, "ALTER TABLE things ALTER name DROP NOT NULL")
        assert run("retry", "x", "--to", url_of(booked)).status == 0
        assert rows(booked, "SELECT id, name FROM things ORDER BY id") == [(1, "one"), (2, None)]
    else:
        assert run("retry", "x", "--to", url_of(booked)).status == 1


def test_json_lines_are_retried_too(load: Load, run: Run, booked: Engine) -> None:
    lines = b'{"id": 1, "name": "one"}\n{"id": 1, "name": "another"}\nno json\n'
    first = load(lines, "--run-id", "x", "--json", name="in.jsonl")
    assert (first.document["written"], first.document["failed"]) == (1, 2)
    execute(booked, "DELETE FROM things")
    again = run("retry", "x", "--to", url_of(booked), "--json")
    assert (again.document["written"], again.document["failed"]) == (1, 1)
    assert names(booked) == [(1, "another")]


# ---- a load that is killed


def numbered(count: int, bad_each: int) -> bytes:
    lines = (b"x,bad,\n" if number % bad_each == 0 else b"%d,x,1.5\n" % number for number in range(1, count + 1))
    return HEADER + b"".join(lines)


def wait_until(condition: Any) -> None:
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline


@pytest.mark.drawn(3)
@pytest.mark.parametrize("least", [1, 3_000])
def test_a_load_that_was_killed_goes_on_where_it_ended(
    start: Start, run: Run, booked: Engine, tmp_path: Path, least: int
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(numbered(6_000, bad_each=7))
    options = ("load", path, "--to", url_of(booked), "--table", "things", "--chunk-size", 100, "--run-id", "nightly")
    process = start(*options, "--json")
    wait_until(lambda: rows(booked, "SELECT count(*) FROM things")[0][0] >= least)
    process.send_signal(signal.SIGKILL)
    assert process.wait(PATIENCE) == -signal.SIGKILL
    done = rows(booked, "SELECT count(*), sum(items) FROM batchwrite_chunks")[0]
    assert 0 < done[1] < 6_000
    ended = run(*options, "--json")
    document = ended.document
    assert (ended.status, document["resumed"]) == (3, done[1])
    assert document["received"] == 6_000 - done[1]
    good = [number for number in range(1, 6_001) if number % 7]
    assert [number for number, _ in names(booked)] == good
    assert rows(booked, "SELECT count(*) FROM batchwrite_dead_letters") == [(6_000 - len(good),)]
    assert rows(booked, "SELECT sum(items), sum(written), sum(failed) FROM batchwrite_chunks") == [
        (6_000, len(good), 6_000 - len(good))
    ]


def test_an_interrupted_load_goes_on_where_it_ended(start: Start, run: Run, booked: Engine, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(numbered(6_000, bad_each=7))
    options = ("load", path, "--to", url_of(booked), "--table", "things", "--chunk-size", 100, "--run-id", "nightly")
    process = start(*options, "--json")
    wait_until(lambda: rows(booked, "SELECT count(*) FROM things")[0][0] >= 500)
    process.send_signal(signal.SIGINT)
    assert process.stdout
    document = json.loads(process.stdout.read())
    assert process.wait(PATIENCE) == 1
    ended = run(*options)
    found = re.search(r"went on behind the ([\d,]+) lines", ended.out)
    assert found
    assert int(found[1].replace(",", "")) == document["written"] + document["failed"]
    assert len(names(booked)) == 6_000 - 6_000 // 7
