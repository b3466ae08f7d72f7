"""A load without a ledger that ends early says how many lines are committed; who does what it says loses no line, and
doubles none."""

import json
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from commands import Ended, Load, Run, Start, execute, invoke, rows, url_of
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine

pytestmark = pytest.mark.one_database

PATIENCE = 60.0

# Records that take up several lines, blank lines between them, and some of each way to fail.
KINDS: dict[str, dict[str, Callable[[int], str]]] = {
    "csv": {
        "good": lambda n: f"{n},x\n",
        "of two lines": lambda n: f'{n},"x\ny"\n',
        "of many lines": lambda n: f'{n},"\n\n,\r\n""\n"\n',
        "blank before": lambda n: f"\n\r\n{n},x\n",
        "no number": lambda _: "bad,x\n",
        "of two lines, no number": lambda _: 'bad,"x\ny"\n',
        "ragged": lambda n: f"{n}\n",
        "damaged": lambda n: f'{n},"x"y\n',
    },
    "jsonl": {
        "good": lambda n: json.dumps({"id": n, "name": "x"}) + "\n",
        "of two lines": lambda n: json.dumps({"id": n, "name": "x\ny"}) + "\r\n",
        "blank before": lambda n: "\n \n" + json.dumps({"id": n, "name": "x"}) + "\n",
        "no number": lambda _: json.dumps({"id": "bad", "name": "x"}) + "\n",
        "damaged": lambda n: f'{{"id": {n}\n',
    },
}
LANDS = {"good", "of two lines", "of many lines", "blank before"}
HEADERS = {"csv": ["id,name\n", '"id",name\r\n', '\n\nid,"name"\n'], "jsonl": ["", "\n"]}
TABLE = "CREATE TABLE things (id integer NOT NULL, name text)"


def named_line(text: str) -> int | None:
    """The N of the one `--from-line N` that a text says."""
    found = set(re.findall(r"--from-line (\d+)", text))
    assert len(found) <= 1, text
    return int(found.pop()) if found else None


def goes_on(text: str, line: int | None) -> int | None:
    """What to give as `--from-line` by what a text says; as before where nothing has been committed."""
    if line is None:
        assert "nothing is committed: to begin anew, give the same command" in text or named_line(text), text
    return named_line(text) or line


def landed(engine: Engine) -> list[int]:
    return [number for (number,) in rows(engine, "SELECT id FROM things ORDER BY id")]


@st.composite
def inputs(draw: st.DrawFn) -> tuple[str, str, list[tuple[str, str]]]:
    """Format, header, and records with their kinds."""
    name = draw(st.sampled_from(sorted(KINDS)))
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS[name])), max_size=25))
    records = [(kind, KINDS[name][kind](number)) for number, kind in enumerate(kinds, 1)]
    return name, draw(st.sampled_from(HEADERS[name])), records


@given(inputs(), st.integers(1, 8), st.integers(0, 3))
def test_what_the_text_says_loads_every_line_once(
    case: tuple[str, str, list[tuple[str, str]]], chunk_size: int, most: int
) -> None:
    """A limit of failures ends the load again and again; the rejects are in one file in the end."""
    name, header, records = case
    with tempfile.TemporaryDirectory() as directory:
        source, rejects = Path(directory, f"in.{name}"), Path(directory, "rejects")
        source.write_bytes((header + "".join(text for _, text in records)).encode())
        engine = create_engine(f"sqlite:///{directory}/test.db")
        execute(engine, TABLE)
        command = ["load", source, "--to", url_of(engine), "--table", "things", "--chunk-size", chunk_size]
        command += ["--max-failures", most, "--rejects", rejects]
        line: int | None = None
        for _ in range(len(records) + 1):
            ended = invoke(*command, *([] if line is None else ["--from-line", line]))
            if "stopped early" not in ended.out:
                break
            line = goes_on(ended.out, line)
        else:
            raise AssertionError("it does not come to an end")
        assert landed(engine) == [number for number, (kind, _) in enumerate(records, 1) if kind in LANDS]
        failed = [text for kind, text in records if kind not in LANDS]
        beginning = header.lstrip("\n") if name == "csv" else ""
        kept = rejects.read_bytes().decode() if rejects.exists() else beginning
        assert kept == beginning + "".join(failed)
        assert ended.status == (0 if not failed else ended.status)
        engine.dispose()


def lines_of(name: str, count: int) -> str:
    """Records of one, two and four lines, and some bad ones; ids from 1."""
    kinds = ["good", "of two lines", "good", "of many lines" if name == "csv" else "good", "good", "no number"]
    return HEADERS[name][-1] + "".join(KINDS[name][kinds[n % len(kinds)]](n) for n in range(1, count + 1))


def good_of(count: int) -> list[int]:
    return [n for n in range(1, count + 1) if n % 6 != 5]


@pytest.fixture
def long_load(engine: Engine, tmp_path: Path) -> Callable[..., list[Any]]:
    """The command that loads a file of many records in many chunks, which takes a second."""

    def command(name: str, count: int, *, has_rejects: bool = True) -> list[Any]:
        execute(engine, TABLE)
        path = tmp_path / f"in.{name}"
        path.write_bytes(lines_of(name, count).encode())
        options = ("--to", url_of(engine), "--table", "things", "--chunk-size", 20)
        return ["load", path, *options, *(["--rejects", tmp_path / "rejects"] if has_rejects else [])]

    return command


def wait_for(engine: Engine, least: int) -> None:
    deadline = monotonic() + PATIENCE
    while rows(engine, "SELECT count(*) FROM things")[0][0] < least:
        assert monotonic() < deadline


@pytest.mark.slow
@pytest.mark.drawn(2)
@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_ctrl_c_again_and_again_and_what_the_text_says(
    start: Start, run: Run, engine: Engine, tmp_path: Path, long_load: Any, name: str
) -> None:
    """What is counted is what is there, wherever the program is then."""
    count = 3_000
    command = long_load(name, count)
    line: int | None = None
    for least in (1, 500, 1_100):
        process = start(*command, *([] if line is None else ["--from-line", line]))
        wait_for(engine, least)
        process.send_signal(signal.SIGINT)
        out, err = (each.decode() for each in process.communicate(timeout=PATIENCE))
        assert (process.returncode, err) == (1, "")
        line = goes_on(out, line)
        assert line is not None
        assert f"\nnot attempted: line {line:,} and all that follow\n" in out
        assert f"committed: the first {line - 1:,} lines of {tmp_path / 'in'}.{name}, but for those that failed" in out
    ended = run(*command, "--from-line", line)
    assert ended.status == 3
    assert landed(engine) == good_of(count)
    assert (tmp_path / "rejects").read_bytes().count(b"bad") == count - len(good_of(count))


@pytest.mark.slow
@pytest.mark.drawn(1)
def test_a_second_ctrl_c_ends_it_at_once_and_the_text_is_there(start: Start, engine: Engine, long_load: Any) -> None:
    """It may meet a COMMIT on its way, whose lines are told to be unknown then, and cost rejects of the last chunk."""
    process = start(*long_load("csv", 3_000))
    wait_for(engine, 500)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        sleep(0.003)
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode == 1 and b"not attempted: line" in out) or process.returncode == -signal.SIGINT


# In a process of its own, whose files may not grow: the operating system refuses the write itself.
LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from batchwrite.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.xdist_group("machine")
@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_a_full_disk_and_what_the_text_says(start: Start, run: Run, engine: Engine, long_load: Any, name: str) -> None:
    count = 3_000
    command = long_load(name, count, has_rejects=False)
    process = start(32 * 1024, *command, program=[sys.executable, "-c", LIMITED])
    out, err = (each.decode() for each in process.communicate(timeout=PATIENCE))
    assert process.returncode == 1, err
    [error] = err.splitlines()
    assert "make room for it (disk, memory or connections of the database)" in error
    assert "start the run again" not in error
    done = landed(engine)
    assert 0 < len(done) < len(good_of(count))
    line = named_line(out)
    assert line == named_line(error)
    assert f"committed: the first {line - 1:,} lines of " in out  # type: ignore[operator]
    again = run(*command, "--from-line", line)
    assert again.status == 3
    assert landed(engine) == good_of(count)


def test_room_that_the_text_names_is_where_it_begins(load: Load, things: Engine) -> None:
    data = b'\nid,"name"\n1,"a\nb"\n\nbad,x\n4,"c""\nd"\nbad,x\n6,e\n'
    ended = load(data, "--on-failure", "stop", "--chunk-size", 1)
    assert named_line(ended.out) == 7
    ended = load(data, "--on-failure", "stop", "--chunk-size", 100, "--from-line", 7)
    assert named_line(ended.out) == 10
    assert load(data, "--from-line", 10).status == 0
    assert rows(things, "SELECT id, name FROM things ORDER BY id") == [(1, "a\nb"), (4, 'c"\nd'), (6, "e")]


def test_the_document_says_it_too(load: Load, things: Engine) -> None:
    document = load(b"id,name\n1,x\nbad,x\n", "--on-failure", "stop", "--json").document
    assert document["next_line"] == named_line(document["advice"]) == 4
    assert load(b"id,name\n1,x\n", "--from-line", 3, "--json").document["advice"] is None


def test_a_recorded_load_is_given_again_as_it_is(load: Load, run: Run, things: Engine) -> None:
    run("ledger", "create", "--to", url_of(things))
    ended = load(b"id,name\n1,x\nbad,x\n4,x\n", "--on-failure", "stop", "--run-id", "x")
    assert named_line(ended.out) is None
    assert "to go on, give the same command: the ledger knows where" in ended.out
    refused = load(b"id,name\n1,x\n", "--from-line", 2, "--run-id", "x")
    assert (refused.status, "leave out --from-line, or --run-id" in refused.error) == (2, True)


def test_rejects_of_a_recorded_load_stay_when_it_goes_on(load: Load, run: Run, things: Engine, tmp_path: Path) -> None:
    run("ledger", "create", "--to", url_of(things))
    rejects = tmp_path / "rejects.csv"
    options = ("--run-id", "x", "--rejects", rejects, "--on-failure", "stop", "--chunk-size", 1)
    data = b"id,name\n1,x\nbad,x\n3,x\nworse,x\n"
    for _ in range(3):
        load(data, *options)
    assert rejects.read_bytes() == b"id,name\nbad,x\nworse,x\n"
    reasons = Path(f"{rejects}.reasons.jsonl").read_text().splitlines()
    assert [json.loads(reason)["line"] for reason in reasons] == [3, 5]


def test_rejects_of_something_else_are_not_added_to(load: Load, things: Engine, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.csv"
    rejects.write_bytes(b"other,header\n1,x\n")
    load(b"id,name\n1,x\nbad,x\n", "--from-line", 2, "--rejects", rejects)
    assert rejects.read_bytes() == b"id,name\nbad,x\n"


@pytest.mark.parametrize(("line", "ids"), [(1, [1, 2]), (2, [1, 2]), (3, [2]), (4, [])])
def test_the_header_is_read_whatever_the_line(load: Load, things: Engine, line: int, ids: list[int]) -> None:
    assert load(b"id,name\n1,x\n2,x\n", "--from-line", line).status == 0
    assert landed(things) == ids


def test_json_lines_and_compressed_ones(load: Load, run: Run, things: Engine) -> None:
    data = b'{"id": 1, "name": "x"}\n\n{"id": 2, "name": "x"}\n{"id": 3, "name": "x"}\n'
    options = ("--to", url_of(things), "--table", "things", "--format", "jsonl")
    assert run("load", "-", *options, "--from-line", 3, stdin=data).status == 0
    assert landed(things) == [2, 3]


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_a_line_behind_the_end_is_refused(load: Load, things: Engine, name: str) -> None:
    data = b"id,name\n1,x\n" if name == "in.csv" else b'{"id": 1, "name": "x"}\n{"id": 2, "name": "x"}\n'
    ended = load(data, "--from-line", 4, name=name)
    assert (ended.status, ended.out) == (2, "")
    assert "there is no line 4: the input has 2 lines" in ended.error
    assert load(data, "--from-line", 3, name=name).status == 0
    assert landed(things) == []


def test_nothing_is_committed(load: Load, things: Engine) -> None:
    execute(things, "DROP TABLE things", "CREATE TABLE things (id integer NOT NULL, name text)")
    ended: Ended = load(b"id,name\n" + b"x" * 10 + b"\n", "--on-failure", "stop")
    assert named_line(ended.out) == 3  # the line that failed is done with
