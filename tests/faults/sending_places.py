"""Where the library's code sends statements to PostgreSQL, and which of these places a run has come by.

A place is a call that sends, or a text that begins as a statement does, inside of a function of the sinks.
"""

import ast
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import batchwrite.sinks

SINKS = Path(batchwrite.sinks.__file__).parent
FILES = [
    *(SINKS / name for name in ("sql.py", "statements.py", "positional.py", "ledger.py")),
    *sorted((SINKS / "postgresql").glob("*.py")),
]

# Calls that send something, by the function's or the method's own name.
_SENDS = frozenset(
    {
        *(
            "connect",
            "commit",
            "rollback",
            "begin_nested",
            "execute",
            "scalar",
            "scalars",
            "exec_driver_sql",
            "executemany",
        ),
        *("send_query", "send_query_params", "send_prepare", "send_query_prepared", "exec_", "exec_params"),
        *("put_copy_end", "pipeline_sync", "has_table", "query", "pipeline", "copy", "Statement", "_note"),
    }
)
_VERBS = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|COPY|SET|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|LOCK|DO|CREATE|DROP"
    r"|ALTER|TRUNCATE|ANALYZE|CALL|DISCARD|RESET|SHOW|LISTEN|NOTIFY|PREPARE|DECLARE|FETCH)\b"
)


class SendingPlace(NamedTuple):
    """A place: the file's name, the function around it, the first line and the last, and the text of the first."""

    file: str
    function: str
    first: int
    last: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.file}, {self.function}: {self.text}"


def sending_places() -> list[SendingPlace]:
    """All of them."""
    return [place for path in FILES for place in _places_in(path)]


def _places_in(path: Path) -> Iterator[SendingPlace]:
    source = path.read_text(encoding="utf-8")
    lines = [text.strip() for text in source.splitlines()]
    tree = ast.parse(source)
    file = path.relative_to(SINKS).as_posix()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            docstring = function.body[0].value if ast.get_docstring(function) else None  # type: ignore[attr-defined]  # it has a docstring, which is an expression
            for node in ast.walk(function):
                if node is not docstring and (_is_sending_call(node) or _is_statement(node)):
                    last = node.end_lineno or node.lineno
                    yield SendingPlace(file, function.name, node.lineno, last, lines[node.lineno - 1])


def _is_sending_call(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in _SENDS


def _is_statement(node: ast.AST) -> bool:
    if isinstance(node, ast.JoinedStr):
        node = node.values[0]
    text = node.value if isinstance(node, ast.Constant) else None
    if isinstance(text, bytes):
        text = text.decode()
    return isinstance(text, str) and _VERBS.match(text) is not None


@contextmanager
def lines_run() -> Iterator[set[tuple[str, int]]]:
    """Collects the lines of the sinks that run inside the block, in whatever thread."""
    files = {str(path): path.relative_to(SINKS).as_posix() for path in FILES}
    found: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        file = files.get(frame.f_code.co_filename)
        if file is None:
            return None
        found.add((file, frame.f_lineno))
        return trace

    before = sys.gettrace()
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        yield found
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]  # None is what undoes it


def not_come_by(found: set[tuple[str, int]]) -> list[SendingPlace]:
    """The places that no line of those stands for."""
    return [
        place
        for place in sending_places()
        if not any((place.file, line) in found for line in range(place.first, place.last + 1))
    ]
