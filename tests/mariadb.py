"""Finds or starts a real MariaDB for the tests, on POSIX systems; there is always one, or the run fails.

In this order: the URL in ``BATCHWRITE_TEST_MYSQL_URL``; an installed MariaDB (Debian: ``mariadb-server``).

A test that wants to kill or restart a server starts its own: ``with LocalMariaDB() as server``.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pymysql
import servers
from local_server import PATIENCE_SECONDS, LocalServer, UnavailableError, end, give_to
from servers import NoServerError, Offer, Sources
from sqlalchemy import URL, NullPool, create_engine, make_url

URL_VARIABLE = "BATCHWRITE_TEST_MYSQL_URL"
HOW_TO_GET = f"install it (Debian: apt-get install --no-install-recommends mariadb-server) or set {URL_VARIABLE}"
USER = "mysql"  # whom the server runs as, where we are root
PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")  # where it may be, off PATH

SETTINGS = {
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_general_ci",  # as installations have it: texts are equal that Python tells apart
    "innodb-buffer-pool-size": "64M",
    # What is answered is written and not flushed: it is there when the process is killed, which is all that tests do.
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-flush-method": "nosync",
    "innodb-doublewrite": "0",
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
            f"{HOW_TO_GET[0].upper()}{HOW_TO_GET[1:]}"
        ) from None


def is_there() -> bool:
    """Whether there is a server to start or to use; a URL is used or fails."""
    try:
        return bool(os.environ.get(URL_VARIABLE)) or bool(_offer_installed())
    except UnavailableError:
        return False


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
    try:
        answer = subprocess.check_output([program, "--no-defaults", "--version"], text=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"{program} cannot be run: {error}") from error
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


class LocalMariaDB(LocalServer):
    """A MariaDB server of our own: see `LocalServer`.

    Args:
        settings: Server settings on top of `SETTINGS`.
    """

    user = USER
    socket_name = "socket"
    pid_file = "mariadbd.pid"
    ending = signal.SIGTERM

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._settings = {**SETTINGS, **(settings or {})}

    @property
    def url(self) -> URL:
        """Where the server listens, or will, as a user with all rights."""
        return URL.create("mariadb+pymysql", "batchwrite", self._password, "127.0.0.1", self.port)

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
            **self._places(),
            "socket": str(self.directory / self.socket_name),
            "pid-file": str(self.data_dir / self.pid_file),
            "bind-address": "127.0.0.1",
            "port": str(self.port),
            "init-file": str(self.directory / "users.sql"),
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
            end(process)
            raise UnavailableError(f"mariadbd did not start: {self.log_path.read_text(errors='replace')[-2000:]}")
        self._runs(process)

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> None:
        """Stops the server, by SIGKILL if asked to, and waits for its end; without effect on one that is stopped."""
        self._stop(sent)

    def _places(self) -> dict[str, str]:
        """Where its files are, the temporary ones too, since TMPDIR may be closed to its user; and that user."""
        return {"datadir": str(self.data_dir), "tmpdir": str(self.directory), **_user()}

    def _create_data(self) -> None:
        users = self.directory / "users.sql"
        users.write_text(
            f"CREATE USER IF NOT EXISTS batchwrite@'127.0.0.1' IDENTIFIED BY '{self._password}';\n"
            "GRANT ALL ON *.* TO batchwrite@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        self.data_dir.mkdir()
        for path in (self.data_dir, users):
            give_to(path, self.user)
        options = [f"--{name}={value}" for name, value in self._places().items()]
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
