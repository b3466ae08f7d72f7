"""What was silent: fields that no record has, JSON arrays, a second `--null`."""

import gzip
import json
from pathlib import Path

import pytest
from commands import Load, Run, execute, rows, url_of
from databases import file_beside_the_checkout
from sqlalchemy import Engine

pytestmark = pytest.mark.one_database

PEOPLE = "CREATE TABLE people (id integer NOT NULL, name text)"


@pytest.fixture
def people(engine: Engine) -> Engine:
    execute(engine, PEOPLE)
    return engine


def objects(count: int, **late: object) -> bytes:
    """So many objects, of which the last alone has some fields."""
    lines = [{"id": number} for number in range(1, count)] + [{"id": count, **late}]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


# ---- fields that no record has


def given(number: str, name: str) -> Path:
    """One of the inputs that have shown what was silent."""
    return file_beside_the_checkout(f"load_defects/{number}/{name}")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--map", "name=actor.login", "--ignore", "actor"], "actor.login"),
        (["--map", "name=acter"], "acter"),
        (["--ignore", "actor", "--ignore", "acter"], "acter"),
    ],
)
def test_the_input_with_a_misspelt_field(run: Run, people: Engine, options: list[str], field: str) -> None:
    ended = run("load", given("08", "in.jsonl"), "--to", url_of(people), "--table", "people", *options)
    assert (ended.status, ended.out) == (2, "")
    assert f"no object of the input has the field '{field}', which --map or --ignore names" in ended.error
    assert "the first object has 'id', 'actor'" in ended.error
    assert rows(people, "SELECT * FROM people") == []


def test_a_field_that_comes_late_is_waited_for(load: Load, people: Engine) -> None:
    """Also behind all that can be seen beforehand; a line on stderr says so meanwhile."""
    options = ("--map", "name=nick", "--chunk-size", 500)
    ended = load(objects(900, nick="x"), *options, table="people", name="in.jsonl")
    assert (ended.status, ended.err) == (0, "")
    ended = load(objects(2_100, nick="x"), *options, table="people", name="in.jsonl")
    assert (ended.status, "success: 2,100 of 2,100" in ended.out) == (0, True)
    assert "the first 1,000 objects do not have the field 'nick'" in ended.error
    assert rows(people, "SELECT id FROM people WHERE name = 'x' ORDER BY id") == [(900,), (2_100,)]


def test_a_field_that_never_comes_is_told_at_the_end(load: Load, people: Engine) -> None:
    """Nothing of it could be known before a part was committed: it is said, and the load is no success."""
    data = objects(2_100, other=1)
    ended = load(data, "--map", "name=nick", "--ignore", "other", "--json", table="people", name="in.jsonl")
    assert (ended.status, ended.document["missing_fields"]) == (1, ["nick"])
    assert "no object of the input has the field 'nick', which --map names" in ended.err.splitlines()[-1]
    assert "what is counted as written is committed without it" in ended.err.splitlines()[-1]
    assert rows(people, "SELECT count(*) FROM people") == [(ended.document["written"],)] == [(2_100,)]


def test_a_field_to_be_ignored_that_never_comes_does_no_harm(load: Load, people: Engine) -> None:
    ended = load(objects(1_500), "--ignore", "nick", table="people", name="in.jsonl")
    assert ended.status == 0
    assert "no object had the field 'nick'" in ended.out


def test_a_pipe_is_not_kept_waiting_and_is_told_at_the_end(run: Run, people: Engine) -> None:
    options = ("--to", url_of(people), "--table", "people", "--format", "jsonl", "--map", "name=nick")
    ended = run("load", "-", *options, stdin=objects(3))
    assert (ended.status, "has the field 'nick', which --map names" in ended.error) == (1, True)
    assert run("load", "-", *options, stdin=objects(3, nick="x")).status == 0


def test_damaged_lines_have_no_fields(load: Load, people: Engine) -> None:
    ended = load(b"no json\n[1]\n", "--map", "name=nick", table="people", name="in.jsonl")
    assert (ended.status, "not a JSON object" in ended.out) == (1, True)


def test_the_rest_of_an_input_need_not_have_all_fields(load: Load, people: Engine) -> None:
    data = b'{"id": 1, "nick": "x"}\n{"id": 2}\n'
    ended = load(data, "--map", "name=nick", "--from-line", 2, table="people", name="in.jsonl")
    assert (ended.status, "no object had the field 'nick'" in ended.out) == (0, True)


def test_lines_that_an_earlier_start_has_loaded_have_their_fields(load: Load, run: Run, people: Engine) -> None:
    assert run("ledger", "create", "--to", url_of(people)).status == 0
    options = ("--map", "name=nick", "--run-id", "x")
    data = b'{"id": 1, "nick": "x"}\n'
    assert load(data, *options, table="people", name="in.jsonl").status == 0
    assert load(data + b'{"id": 2}\n', *options, table="people", name="in.jsonl").status == 0


def test_a_source_that_breaks_off_while_it_is_looked_at_is_loaded_up_to_there(load: Load, people: Engine) -> None:
    data = gzip.compress(objects(900) + bytes(range(256)) * 40)[:-200]
    ended = load(data, "--map", "name=nick", "--chunk-size", 100, table="people", name="in.jsonl.gz")
    assert (ended.status, "cut short" in ended.err) == (1, True)
    assert rows(people, "SELECT count(*) FROM people")[0][0] >= 800


def test_a_header_without_a_field_to_be_ignored(load: Load, people: Engine) -> None:
    ended = load(b"id,name\n1,x\n", "--ignore", "nme", table="people")
    assert (ended.status, ended.out) == (2, "")
    assert "no field 'nme' to be ignored in the header, which has 'id', 'name'" in ended.error
    assert rows(people, "SELECT * FROM people") == []


# ---- JSON arrays


def test_the_input_that_is_an_array(run: Run, people: Engine) -> None:
    ended = run("load", given("02", "in.json"), "--to", url_of(people), "--table", "people")
    assert (ended.status, ended.out) == (2, "")
    assert "the input begins with [, as a JSON array does, and not with one object a line" in ended.error
    assert rows(people, "SELECT * FROM people") == []


@pytest.mark.parametrize(
    "data",
    [b'[{"id": 1}]', b"[\n", b"\n\n  [\n", b'\xef\xbb\xbf[{"id": 1},\n{"id": 2}]\n', b"[[\n"],
)
def test_an_array_is_refused_however_it_begins(load: Load, people: Engine, data: bytes) -> None:
    ended = load(data, table="people", name="in.jsonl")
    assert (ended.status, "begins with [" in ended.error) == (2, True)
    assert load(data, "--from-line", 2, table="people", name="in.jsonl").status == 2
    assert rows(people, "SELECT * FROM people") == []


def test_a_bracket_in_a_later_line_costs_that_line(load: Load, people: Engine) -> None:
    ended = load(b'\n{"id": 1}\n[2]\n{"id": 3}\n', table="people", name="in.jsonl")
    assert (ended.status, rows(people, "SELECT id FROM people ORDER BY id")) == (3, [(1,), (3,)])


# ---- several texts for NULL


def test_the_input_with_two_texts_for_null(run: Run, people: Engine) -> None:
    options = ("--to", url_of(people), "--table", "people", "--null", "", "--null", "N/A")
    assert run("load", given("07", "in.csv"), *options).status == 0
    assert rows(people, "SELECT id, name FROM people ORDER BY id") == [(1, None), (2, None)]


def test_several_texts_for_null_in_json_and_again_by_retry(load: Load, run: Run, people: Engine) -> None:
    execute(people, "DROP TABLE people", "CREATE TABLE people (id integer NOT NULL PRIMARY KEY, name text)")
    assert run("ledger", "create", "--to", url_of(people)).status == 0
    data = b'{"id": 1, "name": "-"}\n{"id": 1, "name": "?"}\n{"id": 3, "name": "x"}\n{"id": 4, "name": null}\n'
    options = ("--null", "-", "--null", "?", "--run-id", "x")
    assert load(data, *options, table="people", name="in.jsonl").status == 3
    assert rows(people, "SELECT id, name FROM people ORDER BY id") == [(1, None), (3, "x"), (4, None)]
    execute(people, "DELETE FROM people WHERE id = 1", "UPDATE people SET name = 'y'")
    assert run("retry", "x", "--to", url_of(people)).status == 0
    assert rows(people, "SELECT id, name FROM people ORDER BY id") == [(1, None), (3, "y"), (4, "y")]
