"""Finds or starts a real MariaDB for the tests, on POSIX systems; there is always one, or the run fails.

In this order: the URL in ``BATCHWRITE_TEST_MYSQL_URL``; an installed MariaDB (Debian: ``mariadb-server``).

A test that wants to kill or restart a server starts its own: ``with LocalMariaDB() as server``.
"""

import atexit
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import pymysql
import server_watchdog
import servers
from servers import PATIENCE_SECONDS, NoServerError, Offer, Sources, UnavailableError
from sqlalchemy import URL, NullPool, create_engine, make_url

URL_VARIABLE = "BATCHWRITE_TEST_MYSQL_URL"
USER = "mysql"  # whom the server runs as, where we are root
PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")  # where it may be, off PATH

SETTINGS = {
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_general_ci",  # as installations have it: texts are equal that Python tells apart
    "innodb-buffer-pool-size": "64M",
    "innodb-flush-log-at-trx-commit": "2",  # nothing answered is lost when the process is killed
    "innodb-log-file-size": "32M",
    "max-connections": "100",
    "skip-log-bin": "",
    "skip-name-resolve": "",
}


def start_server(sources: Sources | None = None) -> servers.PostgresServer:
    """Starts the first server that can be had.

    Raises:
        NoServerError: None works. The text says what was tried and why each failed.
    """
    ways = _sources() if sources is None else sources
    try:
        return servers._first({name: lambda offer=offer: offer().start() for name, offer in ways.items()})
    except NoServerError as error:
        raise NoServerError(
            f"The tests need a MariaDB server and found none. Tried, in this order:\n{error}\n"
            f"Set {URL_VARIABLE} to the URL of one, or install it: "
            "apt-get install --no-install-recommends mariadb-server"
        ) from None


def announce() -> str:
    """Describes the server that `start_server` is going to start, without starting it."""
    try:
        return servers._first(_sources()).description
    except NoServerError as error:
        return f"none found; tried\n{error}"


def _sources() -> Sources:
    return {URL_VARIABLE: _offer_from_url} if os.environ.get(URL_VARIABLE) else {"installed": _offer_installed}


def _offer_from_url() -> Offer:
    url = make_url(os.environ[URL_VARIABLE])
    if url.get_backend_name() not in {"mysql", "mariadb"}:
        raise UnavailableError(f"not a MariaDB or MySQL URL: it begins with {url.drivername!r}")
    url = url.set(drivername=f"{url.get_backend_name()}+pymysql", database=None)
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SELECT VERSION()").scalar()
    description = f"{version} from {URL_VARIABLE}"
    server = servers.PostgresServer(url=url, description=description, stop=lambda: None)
    return Offer(description=description, start=lambda: server)


def _offer_installed() -> Offer:
    program = _program("mariadbd")
    _program("mariadb-install-db")
    answer = subprocess.check_output([program, "--no-defaults", "--version"], text=True)
    version = re.search(r"Ver (\S+)", answer)
    description = f"{version[1] if version else answer.strip()} from {program.parent}"

    def start() -> servers.PostgresServer:
        server = LocalMariaDB().__enter__()
        return servers.PostgresServer(url=server.url, description=description, stop=server.close)

    return Offer(description=description, start=start)


def _program(name: str) -> Path:
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES]))
    if found is None:
        raise UnavailableError(f"no {name} on PATH, in {', '.join(PLACES)}")
    return Path(found)


class LocalMariaDB:
    """A data directory of our own and the one mariadbd process on it, under a temporary directory.

    It listens on 127.0.0.1 and on a socket in `directory`, with a random password. `start` and `stop` can alternate:
    data, port and password stay the same. `close` removes everything; it is also called when Python exits, and a
    watchdog does the same when Python is killed.

    Args:
        settings: Server settings on top of `SETTINGS`.
    """

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        self._settings = {**SETTINGS, **(settings or {})}
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self.port = servers._free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="bw-", dir="/tmp"))  # short enough for a socket
        self.data_dir = self.directory / "data"
        self.log_path = self.directory / "mariadb.log"  # of all its lives
        atexit.register(self._close_at_exit)

    @property
    def url(self) -> URL:
        """Where the server listens, or will, as a user with all rights."""
        return URL.create("mariadb+pymysql", "batchwrite", self._password, "127.0.0.1", self.port)

    @property
    def pid(self) -> int | None:
        """The server's process id, None while it is stopped."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the server, on the same data if it ran before, and returns when it takes connections.

        Raises:
            UnavailableError: It does not start; the text has the end of its log.
        """
        if self._process is not None:
            return
        if not self.data_dir.exists():
            self._create_data()
        options = {
            **self._settings,
            "datadir": str(self.data_dir),
            "socket": str(self.directory / "socket"),
            "pid-file": str(self.data_dir / "mariadbd.pid"),
            "bind-address": "127.0.0.1",
            "port": str(self.port),
            "init-file": str(self.directory / "users.sql"),
            **_user(),
        }
        texts = [f"--{name}={value}" if value else f"--{name}" for name, value in options.items()]
        with self.log_path.open("ab") as log:
            # A session of its own: Ctrl-C goes to the whole foreground group, and we still need the server to clean up.
            process: subprocess.Popen[bytes] = subprocess.Popen(
                [_program("mariadbd"), "--no-defaults", *texts],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )
        if not self._becomes_ready(process):
            servers._end(process)
            raise UnavailableError(f"mariadbd did not start: {self.log_path.read_text(errors='replace')[-2000:]}")
        self._process = process
        self._watchdog = server_watchdog.watch(process, self.directory, "TERM", "mariadbd.pid")

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> None:
        """Stops the server, by SIGKILL if asked to, and waits for its end; without effect on one that is stopped."""
        process, watchdog = self._process, self._watchdog
        if process is None:
            return
        process.send_signal(sent)
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            servers._end(process)
            self._process = None
            if watchdog is not None:
                servers._end(watchdog)
                self._watchdog = None

    def close(self) -> None:
        """Stops the server and removes all that is its own."""
        atexit.unregister(self._close_at_exit)
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _close_at_exit(self) -> None:
        if os.getpid() == self._owner:  # a forked child has inherited the handler, not the server
            self.close()

    def _create_data(self) -> None:
        users = self.directory / "users.sql"
        users.write_text(
            f"CREATE USER IF NOT EXISTS batchwrite@'127.0.0.1' IDENTIFIED BY '{self._password}';\n"
            "GRANT ALL ON *.* TO batchwrite@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        self.data_dir.mkdir()
        if _user():
            for path in (self.directory, self.data_dir, users):
                shutil.chown(path, USER, USER)
        options = [f"--{name}={value}" for name, value in {"datadir": str(self.data_dir), **_user()}.items()]
        command = [_program("mariadb-install-db"), "--no-defaults", *options, "--skip-test-db"]
        done = subprocess.run(
            [*command, "--auth-root-authentication-method=normal"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise UnavailableError(f"mariadb-install-db ended with {done.returncode}: {done.stderr[-2000:].strip()}")

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Waits until the server takes connections; false when the process ended or time is up."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        account = {"user": "batchwrite", "password": self._password}
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(pymysql.err.OperationalError):
                pymysql.connect(host="127.0.0.1", port=self.port, **account).close()
                return True
            time.sleep(0.02)
        return False


def _user() -> dict[str, str]:
    """Whom the server runs as: it refuses to be root, and changes its user itself."""
    return {"user": USER} if os.geteuid() == 0 else {}
