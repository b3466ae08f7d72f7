"""What makes ratios the same from run to run, on a machine that others use too."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux has a file system in memory; what is put there has its own folder
_ROOM = 2**30


def directory_in_memory() -> Path | None:
    """Where files do not touch a disk, and programs can be run, if there is such a place with a GiB to spare."""
    try:
        has_room = shutil.disk_usage(_MEMORY).free > _ROOM
        runs_programs = not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC  # the server's may be copied there
    except OSError:
        return None
    return _MEMORY if has_room and runs_programs and os.access(_MEMORY, os.W_OK) else None


@contextmanager
def on_one_core() -> Iterator[None]:
    """For the block, run this thread, and what it starts, on one of its cores, where the system lets it choose.

    Contenders differ in how much they do while the server does something else. With two cores their ratio depends on
    whether somebody else is using one of them; on a single core, it is that of the work.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
