"""What the tests of the command line share."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from command_runner import separating_runner
from sqlalchemy import Engine, text

from batchwrite.cli.app import cli

PROGRAM = [sys.executable, "-c", "from batchwrite.cli import main; main()"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` printed."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def error(self) -> str:
        """The one line on stderr."""
        [line] = self.err.splitlines()
        return line


THINGS = """
CREATE TABLE things (id integer NOT NULL PRIMARY KEY, name text NOT NULL, price numeric(10, 2) CHECK (price >= 0))
"""

Run = Callable[..., Ended]
Load = Callable[..., Ended]
Start = Callable[..., subprocess.Popen[bytes]]


def execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def invoke(*arguments: object, stdin: bytes | None = None) -> Ended:
    """Run a command in this process."""
    result = separating_runner().invoke(cli, list(map(str, arguments)), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(status=result.exit_code, out=result.stdout, err=result.stderr)
