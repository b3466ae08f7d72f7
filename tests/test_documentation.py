"""The documentation is true: its code runs and prints what is shown, its links lead somewhere, its lists are whole.

What a fenced block is, its language and the HTML comment above it say:

    python                      run, the blocks of a page one after the other in one namespace
    console                     run by bash, the commands of a block in one shell; below each stands what it prints
    <!-- output -->             what the Python block above it prints
    <!-- file: NAME -->         a file that the blocks below it find in their folder
    <!-- ci: NAME --> and sh    run by .ci/run
    text                        a sketch

In output an ellipsis stands for any text within a line, and alone on a line for any lines. A page that names
`POSTGRES_URL` gets a database of its own, whose URL takes the name's place.
"""

import contextlib
import io
import logging
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Engine

import batchwrite
from batchwrite import BatchWriter
from batchwrite.cli.app import cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
LINKED_PAGES = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
POSTGRES_URL = "postgresql+psycopg://shop@localhost/shop"
MODULE_NAME = "documentation_page"

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MARKER = re.compile(r"<!-- (?P<marker>.*?) -->\s*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a page; `marker` is the comment above it."""

    language: str
    text: str
    line: int
    marker: str | None


def blocks_of(page: Path) -> list[Block]:
    source = page.read_text(encoding="utf-8")
    blocks = []
    for found in FENCE.finditer(source):
        marker = MARKER.search(source, 0, found.start())
        blocks.append(
            Block(
                language=found["language"],
                text=found["text"],
                line=source.count("\n", 0, found.start()) + 2,
                marker=marker["marker"] if marker else None,
            )
        )
    return blocks


def role_of(block: Block) -> str:
    """What is done with a block: the first word of its marker, or else its language."""
    return block.marker.partition(":")[0] if block.marker else block.language


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose_of(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


# ---- code


class Session:
    """Runs the blocks of one page."""

    def __init__(self, page: Path, shell: Callable[[str], str]) -> None:
        self._page = page
        self._shell = shell
        self._module = ModuleType(MODULE_NAME)
        self._printed: str | None = None
        sys.modules[MODULE_NAME] = self._module  # where SQLAlchemy looks up the annotations of mapped classes

    def run(self, block: Block) -> None:
        role = role_of(block)
        place = f"{name_of(self._page)}, line {block.line}"
        if role == "output":
            assert_shown(block.text, self._printed or "", place)
            self._printed = None
            return
        self.require_shown(place)
        if role == "python":
            self._printed = self._python(block)
        elif role == "console":
            self._console(block.text, place)
        elif role == "file":
            Path((block.marker or "").partition(":")[2].strip()).write_text(block.text, encoding="utf-8")

    def require_shown(self, place: str) -> None:
        assert not self._printed, f"what is printed above {place} is not shown:\n{self._printed}"

    def _python(self, block: Block) -> str:
        code = compile("\n" * (block.line - 1) + block.text, name_of(self._page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, self._module.__dict__)  # noqa: S102 - running the pages is what this is for
        return printed.getvalue()

    def _console(self, text: str, place: str) -> None:
        commands = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        assert commands, f"no command in {place}"
        typed, shown = [], []
        for command in commands:
            lines = command.splitlines(keepends=True)
            length = next(number for number, line in enumerate(lines, 1) if not line.endswith("\\\n"))
            typed.append("".join(lines[:length]))
            shown.append("".join(lines[length:]))
        script = "".join(f"{command}\nended=$?; printf '\\x1e'; (exit $ended)\n" for command in typed)
        *printed, rest = self._shell(script).split("\x1e")
        assert not rest, rest
        for command, expected, actual in zip(typed, shown, printed, strict=True):
            assert_shown(expected, actual, f"{place}: {command.strip()}")

    def close(self) -> None:
        del sys.modules[MODULE_NAME]
        for value in list(self._module.__dict__.values()):
            if isinstance(value, Engine):
                value.dispose()
            elif isinstance(value, BatchWriter):
                value.close()


def assert_shown(shown: str, printed: str, place: str) -> None:
    lines = [r"(?s:.*)" if line == "…" else ".*".join(map(re.escape, line.split("…"))) for line in shown.splitlines()]
    pattern = "\n".join(lines)
    printed = re.sub(r"(?m) +$", "", printed).strip("\n")
    assert re.fullmatch(pattern, printed), f"{place} shows\n{shown}\nbut what is printed is\n{printed}"


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    programs = tmp_path_factory.mktemp("programs")
    program = programs / "batchwrite"
    python = shlex.quote(sys.executable)
    program.write_text(f"#!/bin/sh\nexec {python} -W error -c 'from batchwrite.cli import main; main()' \"$@\"\n")
    program.chmod(0o755)

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-c", f'PATH={shlex.quote(str(programs))}:"$PATH"; export COLUMNS=100\n{script}'],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return done.stdout

    return run


@pytest.fixture
def restored_log() -> Iterator[None]:
    log = logging.getLogger("batchwrite")
    handlers, level = log.handlers[:], log.level
    yield
    log.handlers[:] = handlers
    log.setLevel(level)


@pytest.mark.usefixtures("restored_log")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_runs_and_prints_what_the_page_shows(page, request, shell, tmp_path, monkeypatch):
    blocks = blocks_of(page)
    if any(POSTGRES_URL in block.text for block in blocks):
        url = request.getfixturevalue("postgres_engine").url.render_as_string(hide_password=False)
        blocks = [with_url(block, url) for block in blocks]
    monkeypatch.chdir(tmp_path)
    session = Session(page, shell)
    try:
        for block in blocks:
            session.run(block)
        session.require_shown("the end of the page")
    finally:
        session.close()


def with_url(block: Block, url: str) -> Block:
    return Block(
        language=block.language, text=block.text.replace(POSTGRES_URL, url), line=block.line, marker=block.marker
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_known_for_what_it_is(page):
    source = page.read_text(encoding="utf-8")
    blocks = blocks_of(page)
    assert source.count("```") == 2 * len(blocks), "a fence is indented, not closed, or has words after its language"
    for block in blocks:
        assert role_of(block) in {"python", "console", "output", "file", "ci", "text"}, f"line {block.line}"
        assert (role_of(block) == "ci") == (block.language == "sh"), f"line {block.line}: shell code that nobody runs"


def test_the_harness_sees_what_is_not_shown():
    with pytest.raises(AssertionError, match="but what is printed is"):
        assert_shown("1\n2\n", "1\n3\n", "here")
    with pytest.raises(AssertionError, match="but what is printed is"):
        assert_shown("in … s", "in 3 s\nand more", "here")
    assert_shown("in … s\n…\nend", "in 3 s\na\nb\nend\n", "here")


# ---- links and words


def anchors_of(page: Path) -> set[str]:
    """What can be linked to on a page: its headings as MkDocs names them, and the objects that it documents."""
    source = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", source, re.MULTILINE)
    slugs = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
    return slugs | set(re.findall(r"^::: (\S+)$", source, re.MULTILINE))


def links_of(page: Path) -> Iterator[str]:
    yield from re.findall(r"\]\(([^)\s]+)\)", prose_of(page))


@pytest.mark.parametrize("page", LINKED_PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links_of(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors_of(target), f"{link}: there is no such place on the page"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^  - .*: (\w[\w-]*\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", LINKED_PAGES, ids=name_of)
def test_tests_that_are_named_exist(page):
    for path, name in re.findall(r"`((?:tests|examples|batchwrite)/[\w/]+(?:\.py|/))(?:::(\w+))?`", prose_of(page)):
        file = ROOT / path
        assert file.exists(), f"{path} does not exist"
        assert not name or f"def {name}(" in file.read_text(encoding="utf-8"), f"{path} has no {name}"


@pytest.mark.parametrize("page", LINKED_PAGES, ids=name_of)
def test_nothing_points_at_one_machine(page):
    found = re.findall(r"(?<![\w.])/(?:work|root|home|tmp|Users)/\S*", page.read_text(encoding="utf-8"))
    assert not found


# ---- lists


def test_the_reference_has_every_public_name():
    documented = re.findall(
        r"^::: batchwrite\.(\w+)$", (DOCS / "reference.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(documented) == sorted(batchwrite.__all__)


def options_of(command: str) -> set[str]:
    return {
        name
        for parameter in cli.commands[command].params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_option_of_a_command_is_documented(command):
    documented = set(re.findall(r"--[a-z][a-z-]*", (DOCS / "how-to.md").read_text(encoding="utf-8")))
    assert options_of(command) - documented == set()


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "how-to.md"], ids=name_of)
def test_every_option_that_is_documented_exists(page):
    known = {"--help", "--version"}.union(*map(options_of, cli.commands))
    named = set(re.findall(r"(?<![-\w])--[a-z][a-z-]*", page.read_text(encoding="utf-8")))
    assert named - known == set()


def test_the_tables_of_faults_are_made_of_the_code(tmp_path):
    page = tmp_path / "faults.md"
    page.write_bytes((DOCS / "faults.md").read_bytes())
    ended = subprocess.run([sys.executable, DOCS / "fault_tables.py", page], check=False)
    assert ended.returncode == 0
    assert page.read_bytes() == (DOCS / "faults.md").read_bytes(), "run python docs/fault_tables.py"
    assert page.read_text(encoding="utf-8").count("| fatal |") > 15


# ---- the README's commands


def ci_commands() -> dict[str, str]:
    blocks = [block for block in blocks_of(ROOT / "README.md") if role_of(block) == "ci"]
    return {(block.marker or "").partition(":")[2].strip(): block.text.strip() for block in blocks}


def test_the_readme_has_a_command_for_the_demo_and_one_for_the_tests():
    commands = ci_commands()
    assert set(commands) == {"demo", "test"}
    for command in commands.values():
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert commands["test"].endswith(" && .venv/bin/pytest")
    demo: list[Any] = commands["demo"].rpartition(" && ")[2].split()
    assert demo[0] == ".venv/bin/batchwrite"
    assert demo[1] in cli.commands


def test_the_readme_installs_extras_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {extra for command in ci_commands().values() for extra in re.findall(r"\.\[(\w+)\]", command)}
    assert wanted == {"cli", "test"}
    assert wanted <= set(project["optional-dependencies"])
    assert project["scripts"] == {"batchwrite": "batchwrite.cli:main"}


def test_ci_runs_the_commands_of_the_readme():
    done = subprocess.run(["bash", ROOT / ".ci" / "run", "--list"], capture_output=True, text=True, check=True)
    steps = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert {name: steps.get(name) for name in ("demo", "test")} == ci_commands()
