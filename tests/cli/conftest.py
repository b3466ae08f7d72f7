"""Running the command line: in this process, and as a process of its own.

run        calls a command through click's runner
load       runs `load` on some bytes
start      starts the command line as a child process, which is killed if the test leaves it behind
things     a database with an empty table
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from commands import PROGRAM, THINGS, Ended, Load, Run, Start, execute, invoke, url_of
from sqlalchemy import Engine


@pytest.fixture
def run() -> Run:
    return invoke


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start_command(*arguments: object, program: list[str] = PROGRAM, **options: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        environment = os.environ | {"PYTHONWARNINGS": "error"}
        process = subprocess.Popen([*program, *map(str, arguments)], env=environment, **pipes)
        started.append(process)
        return process

    yield start_command
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with suppress(BrokenPipeError):  # what was never read by the process
                if pipe:
                    pipe.close()


@pytest.fixture
def things(engine: Engine) -> Engine:
    """A database with an empty table `things`."""
    execute(engine, THINGS)
    return engine


@pytest.fixture
def load(run: Run, engine: Engine, tmp_path: Path) -> Load:
    """Loads bytes into a table of `engine`."""

    def load_bytes(data: bytes, *options: object, table: str = "things", name: str = "in.csv") -> Ended:
        (tmp_path / name).write_bytes(data)
        return run("load", tmp_path / name, "--to", url_of(engine), "--table", table, *options)

    return load_bytes
