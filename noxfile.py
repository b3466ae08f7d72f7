"""Named checks, each by itself: `nox -s fast`, `nox -s types docs`; `nox -l` lists them. `.ci/run` calls the same.

They run in the environment that nox is in, which has the extra `dev`; only `lowest` makes one of its own.
"""

import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
BASELINE = ".ci/speed-baseline.json"
LOWEST_EXTRAS = ("async", "binary", "cli", "mysql", "otel", "zst", "test:aiomysql", "test:asyncpg")
# Every dependency that has a lowest version, every database, and each place where one of them did something else.
LOWEST_SUITES = (
    *("tests/integrations", "tests/postgresql", "tests/session", "tests/writer/test_names.py"),
    *("tests/writer/test_deadlines.py", "tests/values/test_positional_inserts.py", "tests/ledger/test_attempts.py"),
    *("tests/aio/test_async_writer.py", "tests/cli/test_ledger_commands.py", "tests/test_lowest.py"),
    "tests/faults/test_secrets_of_a_run.py",
)
# Those whose subject are the engine and the sinks.
COVERING_SUITES = (
    *("tests/postgresql", "tests/repository", "tests/session", "tests/values", "tests/writer"),
    *("tests/test_promises.py", "tests/aio/test_async_writer.py", "tests/ledger/test_attempts.py"),
    *("tests/faults/test_item_faults.py", "tests/faults/test_mariadb.py", "tests/faults/test_mariadb_values.py"),
)

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "fast"]
nox.needs_version = ">=2024.4"


def program(session: nox.Session, name: str, *arguments: str, **environment: str) -> None:
    """Runs a program of the environment that nox is in, whether it is activated or not."""
    session.run(str(Path(sys.executable).with_name(name)), *arguments, env=environment, external=True)


@nox.session
def fast(session: nox.Session) -> None:
    """In under a minute: the pure parts, and SQLite. Arguments behind -- go to pytest."""
    program(session, "pytest", "-m", "fast", *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """All tests but those of soak; fails where a database is missing. Arguments behind -- go to pytest."""
    program(session, "pytest", "-m", "full", *session.posargs, BATCHWRITE_TEST_REQUIRE="all")


@nox.session
def soak(session: nox.Session) -> None:
    """What takes long and is run by hand; what it prints goes into docs/reliability.md."""
    program(session, "pytest", "-m", "soak", "-n0", "-s", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, form, and which file may import from which."""
    program(session, "ruff", "check")
    program(session, "ruff", "format", "--check")
    program(session, "lint-imports", "--no-logo")


@nox.session
def types(session: nox.Session) -> None:
    """Types of the library; those of its public calls are tested by the tests."""
    program(session, "mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation can be built; its code is run by the tests."""
    program(session, "mkdocs", "build", "--strict", "--site-dir", session.create_tmp())


@nox.session
def coverage(session: nox.Session) -> None:
    """The engine's and the sinks' branches are covered by their own suites as well as they were: see pyproject.toml."""
    program(session, "pytest", "-m", "full", "--cov", "--cov-report=term-missing:skip-covered", *COVERING_SUITES)


@nox.session
def bench(session: nox.Session) -> None:
    """No ratio has fallen since the baseline was kept: see CONTRIBUTING.md."""
    program(session, "batchwrite", "bench", "--guard", BASELINE, *session.posargs)


@nox.session(venv_backend="venv")
def lowest(session: nox.Session) -> None:
    """The suites that meet dependencies most, with the lowest versions that pyproject.toml allows."""
    constraints = Path(session.virtualenv.location, "lowest.txt")
    pins = session.run("python", ".ci/lowest.py", *LOWEST_EXTRAS, silent=True)
    constraints.write_text(str(pins), encoding="utf-8")
    session.install("-e", ".[test]", "-c", str(constraints))
    session.run("pytest", *(session.posargs or LOWEST_SUITES), env={"BATCHWRITE_TEST_REQUIRE": "all"})
