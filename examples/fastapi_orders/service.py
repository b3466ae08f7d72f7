"""The service as a process: uvicorn, started and ended as in production, by SIGTERM."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

HERE = Path(__file__).resolve().parent
PACKAGE = __package__ or HERE.name
# Where Python finds this package.
ROOT = HERE.parents[PACKAGE.count(".")]


class Service:
    """One uvicorn process with one worker; as a context manager it runs for as long as the block lasts.

    Args:
        url: The database.
        mode: How orders are written.
        settings: More of the service's environment variables.

    Attributes:
        port: Where it listens, on 127.0.0.1.
    """

    def __init__(self, url: str, mode: str, **settings: str) -> None:
        self._environment = os.environ | {"DATABASE_URL": url, "WRITE_MODE": mode} | settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.port = _free_port()
        command = [sys.executable, "-m", "uvicorn", "--factory", f"{PACKAGE}.app:make_app", "--port", str(self.port)]
        # A line of log for each request would be measured, too.
        command += ["--no-access-log", "--log-level", "warning"]
        self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment)  # noqa: S603 - this package
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process is not None:
            self.terminate()
            self.wait()

    def terminate(self) -> None:
        """Send SIGTERM; the service answers what it has taken, and ends."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for its end; its exit status."""
        if self._process is None:
            raise RuntimeError("the service was not started")
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def _wait_until_ready(self, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"the service ended at once, with status {process.returncode}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
            except urllib.error.URLError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError("the service does not answer")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
