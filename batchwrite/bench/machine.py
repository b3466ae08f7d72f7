"""The machine that a bench ran on, and the versions of all that took part: a figure without them says nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGES = (
    "batchwrite",
    "SQLAlchemy",
    "psycopg",
    "asyncpg",
    "Django",
    "pandas",
    "pyarrow",
    "adbc-driver-postgresql",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a bench ran on. Memory is in MB (10**6 bytes), and `None` where the system does not say."""

    processor: str
    cores: int
    memory_mb: int | None
    system: str
    python: str
    packages: Mapping[str, str]
    date: str

    def lines(self) -> list[tuple[str, str]]:
        """What a person reads of it: label and value."""
        memory = f", {self.memory_mb / 1_000:.0f} GB of memory" if self.memory_mb else ""
        return [
            ("date", self.date),
            ("processor", f"{self.processor}, {self.cores} core{'s' if self.cores > 1 else ''}{memory}"),
            ("system", self.system),
            ("Python", self.python),
            ("packages", ", ".join(f"{name} {version}" for name, version in self.packages.items())),
        ]


def this_machine() -> Machine:
    """The one that this runs on."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_mb=_memory(),
        system=_system(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            label, _, value = line.partition(":")
            if label.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown processor"


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6
    except (ValueError, OSError, AttributeError):
        return None


def _system() -> str:
    kernel = f"{platform.system()} {platform.release()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel


def _version(package: str) -> str | None:
    if package == "batchwrite":
        from batchwrite import __version__  # noqa: PLC0415 - it may not be installed, only importable

        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
