"""Every regular expression of the package takes time that grows with the text, and not with its square."""

import ast
import importlib
import itertools
import pkgutil
import re
import time
from pathlib import Path

import pytest

import batchwrite
from batchwrite.faults_mysql import fault_of_mysql
from batchwrite.sources import convert, delimited

SHORT, LONG = 1_000, 4_000
SQUARED = (LONG / SHORT) ** 2  # 16 times for what is quadratic, 4 times for what is linear
NOTHING = 0.001  # seconds; a quadratic expression takes some ten times as long for LONG characters

# Examples of what is made in functions, by module; one that is missing here fails the collection.
MADE_IN_FUNCTIONS = {
    "batchwrite.faults": [("search", re.compile(r"(?<!\w)aaa(?!\w)"))],
    "batchwrite.sources.delimited": [
        ("fullmatch", delimited._well_formed_record(",")),
        ("fullmatch", delimited._well_formed_record("::")),
    ],
    "batchwrite.sources.lines": [("match", re.compile(rb"(?s:(?:(?!\r\0|\n\0).{2})*+(?:\r\0\n\0|\r\0|\n\0))"))],
}
BOUNDED = {"batchwrite.faults_mysql"}  # its texts: see the test at the end

FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}


def expressions():
    """(where, how it is used, the compiled pattern) of all expressions, found in the package's source."""
    for module_info in pkgutil.walk_packages(batchwrite.__path__, "batchwrite."):
        path = Path(module_info.module_finder.path) / f"{module_info.name.rpartition('.')[2]}.py"
        if not path.exists():
            path = path.with_suffix("") / "__init__.py"
        source = path.read_text(encoding="utf-8")
        if "re." not in source or module_info.name in BOUNDED:
            continue
        tree = ast.parse(source)
        module = importlib.import_module(module_info.name)
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in {f"re.{name}" for name in FUNCTIONS}:
                yield from compiled(module, call, tree)


def compiled(module, call, tree):
    arguments = call.args if call.func.attr == "compile" else call.args[:1]
    try:
        values = [eval(compile(ast.Expression(each), "", "eval"), vars(module)) for each in arguments]  # noqa: S307
    except NameError:
        for use, pattern in MADE_IN_FUNCTIONS[module.__name__]:
            yield f"{module.__name__}: {pattern.pattern!r}", use, pattern
        return
    pattern = re.compile(*values)
    uses = {call.func.attr} if call.func.attr != "compile" else uses_of(pattern, module, tree)
    for use in sorted(uses):
        yield f"{module.__name__}: {ast.unparse(call)}", use, pattern


def uses_of(pattern, module, tree):
    """By which methods a pattern is used that the module has under a name; else `fullmatch`."""
    names = {name for name, value in vars(module).items() if value is pattern or value == pattern}
    found = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
    }
    return (found & FUNCTIONS) or {"fullmatch"}


ALL = list(expressions())


def words_of(pattern):
    """What to make long texts of: what stands in the pattern itself, and what most expressions are about."""
    own = re.findall(r"[A-Za-z' ]{2,}", pattern if isinstance(pattern, str) else pattern.decode("latin1"))
    return dict.fromkeys([*"0a' \t\n\"\\.,(:-+Z`", "1.", "0a", "a ", "a.", '""', "\\x", "00:", "\r\0", "e1", *own])


def seconds(use, pattern, text):
    run = getattr(pattern, use)
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        if use == "sub":
            run("", text)
        elif use == "finditer":
            list(run(text))
        else:
            run(text)
        best = min(best, time.perf_counter() - begun)
    return best


def growths(use, pattern):
    """Texts on which the time grows faster than the text."""
    for start, word, end in itertools.product(
        ["", "1", "'", '"', "."], words_of(pattern.pattern), ["", "x", "\0", "'", "!"]
    ):
        shorter, longer = ((start + word * (count // len(word)) + end) for count in (SHORT, LONG))
        if isinstance(pattern.pattern, bytes):
            shorter, longer = shorter.encode(), longer.encode()
        if seconds(use, pattern, longer) < NOTHING:
            continue
        growth = min(seconds(use, pattern, longer) / seconds(use, pattern, shorter) for _ in range(3))
        if growth > SQUARED * 0.6:
            yield start, word, end, growth


def test_there_are_expressions():
    assert len(ALL) > 15
    assert any(where.startswith("batchwrite.sources.convert") for where, _, _ in ALL)


@pytest.mark.parametrize(("where", "use", "pattern"), ALL, ids=[f"{use} of {where}"[:100] for where, use, _ in ALL])
def test_time_grows_with_the_text(where, use, pattern):
    assert list(growths(use, pattern)) == []


@pytest.mark.drawn(1)
@pytest.mark.parametrize("pattern", [r"[0-9]+\.?[0-9]*", "a*a*b", r"[a-z]*[a-z ]*0"])
def test_what_is_quadratic_is_found(pattern):
    assert next(growths("fullmatch", re.compile(pattern)), None) is not None


class MySQLError(Exception):
    """Called as PyMySQL's is."""


@pytest.mark.parametrize("number", [1062, 1048, 1366, 1452, 4025, 3819, 1142, 1227, 2013])
def test_texts_of_mariadbs_are_bounded(number):
    for word in ("a", "' for key '", " for column `", "`", "`a`.", " fails (", "A, ", "User "):
        begun = time.perf_counter()
        fault_of_mysql(str(number), MySQLError(number, word * (200_000 // len(word)) + "x"))
        fault_of_mysql(str(number), MySQLError(number, (word * 1_000)[:999] + "x"))
        assert time.perf_counter() - begun < 0.5


@pytest.mark.parametrize(
    "text", ["9" * 4_000_000 + "x", "0" * 4_000_000, "." * 4_000_000, "1 " * 2_000_000, "2" * 149_999 + "x"]
)
def test_a_cell_of_megabytes_is_refused_at_once(text):
    begun = time.perf_counter()
    for kind, read in convert._FROM_TEXT.items():
        if kind is not bytes or "x" in text:
            with pytest.raises(convert.ValueRefused):
                read(text)
    assert time.perf_counter() - begun < 5
