"""Ends servers of the tests when the tests are gone, whatever has ended those."""

import subprocess
from pathlib import Path

# Blocks on a pipe that only we hold open, so it wakes when we are gone, whatever ended us: SIGTERM and SIGKILL run no
# atexit. The file with its pid goes last; the process itself may stay a zombie, where nobody reaps orphans.
_WATCHDOG = """
read -r _
kill -"$3" "$1" 2>/dev/null
tries=0
while [ -e "$2/data/$4" ] && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -KILL "$1" 2>/dev/null
rm -rf "$2"
"""


def watch(
    process: subprocess.Popen[bytes], directory: Path, signal_name: str, pid_file: str
) -> subprocess.Popen[bytes]:
    """Starts what ends a server, and removes its directory, when we are gone."""
    command = ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(process.pid), str(directory), signal_name, pid_file]
    return subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/", start_new_session=True)
