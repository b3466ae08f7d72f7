"""What the tests' own PostgreSQL and MariaDB servers share: a private directory, a port, a process, and their end.

Files lie in memory where there is room for them: a server's data, and all that `tmp_path` holds. What that gives up is
only the crash of the operating system: what a killed server has written is there, on either.
"""

import atexit
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import server_watchdog

PATIENCE_SECONDS = 30.0
SOCKET_PATH_LIMIT = 103 if sys.platform == "darwin" else 107  # sun_path, less the NUL at its end
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system, in which everybody makes directories of their own
ROOM = (
    2 << 30
)  # bytes: two workers' servers, with databases and logs, took 0.7 GiB at most, and there are four workers at most


class UnavailableError(Exception):
    """This way to a server is closed; the text says why. The next one may be open."""


def move_to_memory(place: Path = MEMORY) -> None:
    """Has temporary files made in memory from now on, by child processes as well.

    Does nothing where ``TMPDIR`` says already where they are wanted, where less than `ROOM` is free, or where programs
    cannot be run, as in some containers: a server's may have to be copied to where its user can reach them.
    """
    if "TMPDIR" in os.environ or not place.is_dir():
        return
    runs_programs = not os.statvfs(place).f_flag & os.ST_NOEXEC
    if runs_programs and shutil.disk_usage(place).free >= ROOM:
        os.environ["TMPDIR"] = str(place)
        tempfile.tempdir = None  # found out anew


class LocalServer(ABC):
    """A data directory of our own and the one server process on it, under a temporary directory.

    It listens on 127.0.0.1 and on a socket in `directory`, with a random password. `start` and `stop` can alternate:
    data, port and password stay the same. `close` removes everything; it is also called when Python exits, and a
    watchdog does the same when Python is killed.

    Attributes:
        user: Whom the server runs as where we are root, as which no server runs.
        socket_name: The longest name of a file that makes up its socket.
        pid_file: The name of the file in its data directory that is there while it runs.
        ending: The signal that has it shut down.
    """

    user: ClassVar[str]
    socket_name: ClassVar[str]
    pid_file: ClassVar[str]
    ending: ClassVar[signal.Signals]

    def __init__(self) -> None:
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self.port = free_port()
        self.directory = private_directory(self.user, self.socket_name)
        self.data_dir = self.directory / "data"
        self.log_path = self.directory / "server.log"  # of all its lives
        atexit.register(self._close_at_exit)

    @abstractmethod
    def start(self) -> None:
        """Starts the server, on the same data if it ran before, and returns when it takes connections."""

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

    def close(self) -> None:
        """Stops the server and removes all that is its own."""
        atexit.unregister(self._close_at_exit)
        try:
            self._stop(self.ending)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _close_at_exit(self) -> None:
        if os.getpid() == self._owner:  # a forked child has inherited the handler, not the server
            self.close()

    def _runs(self, process: subprocess.Popen[bytes]) -> None:
        """Takes note of a server that takes connections, and has it ended should we be killed."""
        self._process = process
        signal_name = self.ending.name.removeprefix("SIG")
        self._watchdog = server_watchdog.watch(process, self.directory, signal_name, self.pid_file)

    def _stop(self, sent: signal.Signals) -> None:
        """Sends a signal to the server and waits for its end; without effect on one that is stopped."""
        process, watchdog = self._process, self._watchdog
        if process is None:
            return
        process.send_signal(sent)
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            end(process)
            self._process = None
            if watchdog is not None:
                end(watchdog)
                self._watchdog = None


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a child of ours if it still runs, and reaps it."""
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def free_port() -> int:
    """A port that is free now, below the range that systems give to outgoing connections.

    One from that range could be taken by anybody's connection while the server is down between stop and start.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)  # not from `random`, which pytest-randomly seeds
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def private_directory(user: str, socket_name: str) -> Path:
    """A new directory for the server's user alone, on a path short enough for a socket of that name."""
    for parent in dict.fromkeys([tempfile.gettempdir(), "/tmp"]):  # noqa: S108 -- mkdtemp makes it safe
        directory = Path(tempfile.mkdtemp(prefix="bw-", dir=parent))
        give_to(directory, user)
        is_short = len(os.fsencode(directory / socket_name)) <= SOCKET_PATH_LIMIT
        if is_short and _can_enter(user, directory):
            return directory
        directory.rmdir()
    raise UnavailableError("no temporary directory is short enough for a socket and open to the server's user")


def _can_enter(user: str, directory: Path) -> bool:
    return subprocess.run(["test", "-w", directory], cwd="/", check=False, **as_user(user)).returncode == 0


def give_to(path: Path, user: str) -> None:
    """Makes a path the server's user's, where that is not ourselves."""
    if os.geteuid() == 0:
        shutil.chown(path, user)


def as_user(user: str) -> dict[str, Any]:
    """For subprocess: who runs a server's program."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
