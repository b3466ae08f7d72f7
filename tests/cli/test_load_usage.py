"""What a person gets who asks for something that cannot be done: one line, the right exit status, and no password."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import Run, Start, execute, rows, url_of
from sqlalchemy import Engine

import batchwrite
from batchwrite.cli import main

PASSWORDS = ("s3cr", "%40t")
"""Parts of the password `s3cr@t`, as it is and as it stands in a URL."""


@pytest.fixture
def things_url(sqlite_engine: Engine) -> str:
    execute(sqlite_engine, "CREATE TABLE things (id integer, name text, double integer GENERATED ALWAYS AS (id * 2))")
    return url_of(sqlite_engine)


def test_no_such_file(run: Run, things_url: str, tmp_path: Path) -> None:
    ended = run("load", tmp_path / "nowhere.csv", "--to", things_url, "--table", "things")
    assert (ended.status, ended.error) == (2, f"Error: {tmp_path}/nowhere.csv: No such file or directory")


def test_no_such_table(run: Run, engine: Engine) -> None:
    execute(engine, "CREATE TABLE things (id integer)", "CREATE TABLE others (id integer)")
    ended = run("load", "-", "--to", url_of(engine), "--table", "thing's", stdin=b"id\n1\n")
    assert ended.status == 2
    assert ended.error == "Error: no table \"thing's\" in the database; its tables are: 'others', 'things'"


def test_no_such_database_file(run: Run, tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/no.db", f"sqlite:///file:{tmp_path}/no.db?uri=true"):
        ended = run("load", "-", "--to", url, "--table", "things", stdin=b"id\n1\n")
        assert (ended.status, ended.error) == (2, f"Error: no such file: {tmp_path}/no.db")
    assert not (tmp_path / "no.db").exists()


def test_a_database_file_that_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is no database, but it is long enough to be looked at. " * 50)
    ended = run("load", "-", "--to", f"sqlite:///{tmp_path}/text.db", "--table", "things", stdin=b"id\n1\n")
    assert ended.status == 1
    assert ended.error.startswith("Error: cannot use the database: ")


@pytest.mark.parametrize(
    ("data", "options", "error"),
    [
        (b"", [], "the input is empty: a header line is expected"),
        (b"id,id\n", [], "the header has the name 'id' twice"),
        (b"id,\xff\n", [], "the header (line 1) cannot be read: not utf-8 text"),
        (
            b"id,size\n1,2\n",
            [],
            "no column for the field 'size' in table things, whose columns are 'id', 'name'; map or ignore the field",
        ),
        (b"id\n", ["--map", "nome=id"], "no column 'nome' in table things, whose columns are 'id', 'name'"),
        (b"id\n", ["--map", "name=title"], "no field 'title' in the header, which has 'id'"),
        (b"id\n", ["--map", "id"], "--map asks for column=field, not 'id'"),
        (b"id\n", ["--map", "id="], "--map asks for column=field, not 'id='"),
        (b"id\n", ["--map", "id=id", "--map", "id=name"], "--map feeds the column 'id' twice"),
        (b"id\n", ["--map", "id=id", "--ignore", "id"], "the field 'id' is both mapped and ignored"),
        (b"id\n", ["--ignore", "id"], "every field is ignored: there is nothing to load"),
        (b"id\n", ["--encoding", "klingon"], "there is no text encoding 'klingon'"),
        (b"id\n", ["--delimiter", ",,"], "',,' cannot delimit fields: one character is asked for"),
        (b"id\n", ["--delimiter", ""], "'' cannot delimit fields: one character is asked for"),
        (b"{}", ["--delimiter", ";", "--format", "jsonl"], "--delimiter goes with --format csv"),
        (
            b"id\n",
            ["--on-failure", "stop", "--max-failures", "3"],
            'on_failure="stop" ends a run at the first failure: leave max_failures out',
        ),
        ("id\n".encode("utf-16"), [], "the input begins with the byte order mark of UTF-16: name the encoding utf-16"),
    ],
)
def test_what_cannot_be_loaded(run: Run, things_url: str, data: bytes, options: list[str], error: str) -> None:
    ended = run("load", "-", "--to", things_url, "--table", "things", *options, stdin=data)
    assert (ended.status, ended.error, ended.out) == (2, f"Error: {error}", "")


@pytest.mark.parametrize(
    "arguments",
    [[], ["file"], ["file", "--to", "sqlite://"], ["file", "--to", "sqlite://", "--table", "t", "--format", "xml"]],
)
def test_options_that_click_refuses(run: Run, arguments: list[str]) -> None:
    assert run("load", *arguments).status == 2


def test_every_option_says_its_default(run: Run) -> None:
    text = run("load", "--help").out
    options = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert len(options) == 16
    joined = " ".join(text.split())
    for option, following in zip(options, [*options[1:], "-h, --help"], strict=True):
        part = joined[joined.rindex(f" {option} ") :].partition(f" {following} ")[0]
        assert "[default: " in part or "[required]" in part, option


# Passwords


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("postgresql://me:s3cr%40t@localhost:port/db", 2),
        ("postgresql://me:s3cr/%40t@127.0.0.1:1/db", 1),
        ("postgresql//me:s3cr%40t@localhost", 2),
        ("s3cr%40t", 2),
        ("://me:s3cr%40t@localhost", 2),
        ("postgresql+nothing://me:s3cr%40t@localhost/db", 2),
        ("nothing://me:s3cr%40t@localhost/db", 2),
        ("postgresql://me:s3cr%40t@127.0.0.1:1/db", 1),
        ("postgresql://me:s3cr%40t@host.invalid/db", 1),
        ("postgresql://me:s3cr%40t@127.0.0.1:1/db?sslmode=s3cr%40t", 1),
        ("postgresql://me:s3cr%40t@127.0.0.1:1/db?nonsense=1", 1),
        ("postgresql://127.0.0.1:1/db?user=me&password=s3cr%40t&options=-c%20s3cr%40t", 1),
        ("postgresql://me:s3cr%40t@[::1/db", 2),
    ],
)
def test_no_password_is_shown(run: Run, url: str, status: int) -> None:
    ended = run("load", "-", "--to", url, "--table", "things", stdin=b"id\n1\n")
    assert ended.status == status, ended
    assert ended.error.startswith("Error: ")
    assert not any(part in ended.out + ended.err for part in PASSWORDS)


def test_a_wrong_password(run: Run, postgres_engine: Engine) -> None:
    url = postgres_engine.url.set(password="s3cr@t").render_as_string(hide_password=False)  # noqa: S106
    ended = run("load", "-", "--to", url, "--table", "things", stdin=b"id\n1\n")
    assert ended.status == 1
    assert ended.error.startswith("Error: cannot use the database: ")
    assert "authentication failed" in ended.error
    assert not any(part in ended.error for part in PASSWORDS)


def test_no_traceback_and_no_password_from_a_process(start: Start) -> None:
    url = "postgresql://me:s3cr%40t@127.0.0.1:1/db"
    process = start("load", "-", "--to", url, "--table", "things")
    out, err = process.communicate(b"id\n1\n")
    assert (process.returncode, out, len(err.splitlines())) == (1, b"", 1)
    assert b"s3cr" not in err


# Without the extra


@pytest.mark.parametrize("module", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(module: str) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; from batchwrite.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", program, "load"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == 'The command line needs click and rich: pip install "batchwrite[cli]"\n'


def test_sqlite_is_loaded_without_psycopg(tmp_path: Path, sqlite_engine: Engine, start: Start) -> None:
    execute(sqlite_engine, "CREATE TABLE things (id integer)")
    program = "import sys; sys.modules['psycopg'] = None; from batchwrite.cli import main; main()"
    process = start(
        *("load", "-", "--to", url_of(sqlite_engine), "--table", "things"), program=[sys.executable, "-c", program]
    )
    _, err = process.communicate(b"id\n1\n")
    assert (process.returncode, err) == (0, b"")
    assert rows(sqlite_engine, "SELECT id FROM things") == [(1,)]


def test_versions(run: Run) -> None:
    ended = run("--version")
    assert (ended.status, ended.out.strip()) == (0, f"batchwrite, version {batchwrite.__version__}")


def test_other_missing_modules_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "batchwrite.cli.app", None)
    with pytest.raises(ModuleNotFoundError):
        main()
