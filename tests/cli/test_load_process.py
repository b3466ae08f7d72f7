"""`load` as a process of its own: signals, pipes, memory."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from commands import PROGRAM, THINGS, Start, execute, rows, url_of
from servers import LocalPostgres
from sqlalchemy import Engine, NullPool, create_engine

pytestmark = pytest.mark.slow

PATIENCE = 60.0


def feed(process: subprocess.Popen[bytes], lines: Iterator[bytes]) -> threading.Thread:
    """Write lines to a process's stdin until it is gone, from a thread of its own."""

    def write() -> None:
        assert process.stdin
        try:
            for line in lines:
                process.stdin.write(line)
        except (BrokenPipeError, ValueError):
            pass

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def endless_lines(every: int) -> Iterator[bytes]:
    """Lines without end, of which one in so many is bad."""
    yield b"id,name,price\n"
    number = 0
    while True:
        number += 1
        yield b"bad,x,\n" if number % every == 0 else b"%d,x,1.5\n" % number


def wait_for_rows(engine: Engine, least: int) -> None:
    deadline = monotonic() + PATIENCE
    while rows(engine, "SELECT count(*) FROM things")[0][0] < least:
        assert monotonic() < deadline


@pytest.mark.drawn(4)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("least", [1, 1_500, 4_000])
def test_a_signal_ends_the_load_cleanly(
    start: Start, things: Engine, tmp_path: Path, number: signal.Signals, least: int
) -> None:
    rejects = tmp_path / "rejects.csv"
    options = ("--to", url_of(things), "--table", "things", "--chunk-size", 200, "--rejects", rejects)
    process = start("load", "-", *options, "--json")
    feeding = feed(process, endless_lines(every=7))
    wait_for_rows(things, least)
    process.send_signal(number)
    assert process.stdout
    assert process.stderr
    document: dict[str, Any] = json.loads(process.stdout.read())
    assert (process.wait(PATIENCE), process.stderr.read()) == (1, b"")
    feeding.join(PATIENCE)
    assert (document["status"], document["abort"]["reason"]) == ("aborted", "interrupted")
    assert rows(things, "SELECT count(*) FROM things") == [(document["written"],)]
    assert document["received"] == document["written"] + document["failed"] + document["unattempted"]
    assert len(rejects.read_bytes().splitlines()) == document["failed"] + 1
    assert len(Path(f"{rejects}.reasons.jsonl").read_bytes().splitlines()) == document["failed"]
    # Every line before `next_line` is decided, in order, and none from there on.
    decided = document["written"] + document["failed"]
    assert document["next_line"] == decided + 2
    assert rows(things, "SELECT max(id) FROM things")[0][0] in (decided, decided - 1)


def test_a_signal_while_waiting_for_input(start: Start, things: Engine) -> None:
    """Nothing comes any more, and the end does not wait for it."""
    process = start("load", "-", "--to", url_of(things), "--table", "things", "--chunk-size", 2)
    assert process.stdin
    process.stdin.write(b"id,name,price\n1,x,1\n2,x,1\n3,x,1\n")
    process.stdin.flush()
    wait_for_rows(things, 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 1
    assert process.stdout
    out = process.stdout.read().decode()
    assert re.match("aborted: 2 of [23] lines written into things in ", out)  # line 3 may not have been read yet
    assert "\nstopped early: the run was interrupted\n" in out
    assert "\nnot attempted: line 4 and all that follow\n" in out
    assert rows(things, "SELECT count(*) FROM things") == [(2,)]


def test_a_second_signal_does_not_wait_for_the_database(start: Start, postgres_engine: Engine) -> None:
    """The chunk waits for a lock; the first Ctrl-C lets it finish, the second ends it."""
    execute(postgres_engine, "CREATE TABLE things (id integer, name text)")
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE things IN EXCLUSIVE MODE")
        process = start("load", "-", "--to", url_of(postgres_engine), "--table", "things", "--chunk-size", 1)
        assert process.stdin
        process.stdin.write(b"id,name\n1,x\n2,y\n")
        process.stdin.flush()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        deadline = monotonic() + PATIENCE
        while rows(postgres_engine, waiting) == [(0,)]:
            assert monotonic() < deadline
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 1
    assert process.stdout
    assert process.stdout.read().startswith(b"aborted: 0 of ")
    assert rows(postgres_engine, "SELECT count(*) FROM things") == [(0,)]


def test_a_server_that_stops_ends_the_load(start: Start, own_postgres: LocalPostgres, tmp_path: Path) -> None:
    """What is told to be written is there when the server is back; what is not, is not."""
    engine = create_engine(own_postgres.url, poolclass=NullPool)
    execute(engine, THINGS)
    options = ("--to", url_of(engine), "--table", "things", "--chunk-size", 200, "--rejects", tmp_path / "rejects.csv")
    process = start("load", "-", *options, "--json")
    feeding = feed(process, endless_lines(every=7))
    wait_for_rows(engine, 1_500)
    own_postgres.stop("immediate")
    assert process.stdout
    assert process.stderr
    document: dict[str, Any] = json.loads(process.stdout.read())
    error = process.stderr.read().decode()
    feeding.join(PATIENCE)
    assert process.wait(PATIENCE) == 1
    assert (document["status"], len(error.splitlines())) == ("aborted" if not document["unknown"] else "unknown", 1)
    assert error.startswith("Error: ")
    assert own_postgres.url.password
    assert own_postgres.url.password not in error
    own_postgres.start()
    landed = rows(engine, "SELECT count(*) FROM things")[0][0]
    assert landed in (document["written"], document["written"] + document["unknown"])
    first = document["unknown_lines"][0] if document["unknown"] else document["next_line"]
    assert first <= document["written"] + document["failed"] + 2


def test_a_closed_stdout_is_no_traceback(start: Start, things: Engine) -> None:
    for options in ([], ["--json"]):
        reading, writing = os.pipe()
        process = start("load", "-", "--to", url_of(things), "--table", "things", *options, stdout=writing)
        os.close(writing)
        os.close(reading)
        _, err = process.communicate(b"id,name\n" + str(len(options)).encode() + b",x\n")
        assert (process.returncode, err) == (0, b"")
    assert rows(things, "SELECT count(*) FROM things") == [(2,)]


def test_progress_is_shown_on_a_terminal_only(start: Start, things: Engine) -> None:
    """On a terminal stderr gets a bar, and stdout the summary alone."""
    pty = pytest.importorskip("pty")
    reading, writing = pty.openpty()
    process = start("load", "-", "--to", url_of(things), "--table", "things", stderr=writing)
    os.close(writing)
    out, _ = process.communicate(b"id,name\n1,x\n")
    shown = os.read(reading, 10_000)
    os.close(reading)
    assert process.returncode == 0
    assert b"loading things" in shown
    assert out.startswith(b"success: 1 of 1 lines written into things in ")


def test_output_that_stdout_cannot_encode(start: Start, sqlite_engine: Engine) -> None:
    execute(sqlite_engine, 'CREATE TABLE "Ärger" ("größe" integer)')
    program = [sys.executable, "-X", "utf8=0", "-c", f"import os; {PROGRAM[-1]}"]
    process = start(
        *("load", "-", "--to", url_of(sqlite_engine), "--table", "Ärger"),
        program=["env", "PYTHONIOENCODING=ascii", *program],
    )
    out, err = process.communicate("größe\nx\n".encode())
    assert (process.returncode, err) == (1, b"")
    assert b"not a whole number [\\xc4rger.gr\\xf6\\xdfe]" in out


MEASURED = """
import resource, sys
from batchwrite.cli.app import cli
try:
    cli(standalone_mode=False)
finally:
    sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="maxrss is in kilobytes on Linux")
def test_memory_does_not_grow_with_the_file(start: Start, sqlite_engine: Engine, tmp_path: Path) -> None:
    execute(sqlite_engine, "CREATE TABLE things (id integer, name text)")

    def peak(megabytes: int) -> int:
        """In kilobytes; half of the lines are good, half are bad, and none is kept."""
        process = start(
            *("load", "-", "--to", url_of(sqlite_engine), "--table", "things", "--rejects", tmp_path / "rejects.csv"),
            program=[sys.executable, "-c", MEASURED],
            stdout=subprocess.DEVNULL,
        )
        block = (b"1," + b"x" * 2_000 + b"\n" + b"bad," + b"y" * 2_000 + b"\n") * 25
        assert process.stdin
        process.stdin.write(b"id,name\n")
        for _ in range(10 * megabytes):
            process.stdin.write(block)
        _, err = process.communicate()
        return int(err)

    assert peak(60) - peak(25) < 10_000  # both more than a chunk
