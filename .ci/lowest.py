#!/usr/bin/env python3
"""Prints pip constraints with the lowest versions that pyproject.toml allows, to test what it promises.

The dependencies of the library are always among them, with those of the extras that are named; of an extra for the
tests, `test:aiomysql` takes one line alone. Needs Python 3.11 or later, and nothing else.

    python3 .ci/lowest.py async mysql test:aiomysql > lowest.txt
    pip install -e '.[test]' -c lowest.txt
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"

# A name, extras in brackets, bounds, and a marker behind a semicolon: constraints know only the first and the third.
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?:\[(?P<extras>[^]]*)\])?\s*(?P<bounds>[^;]*)")
LOWER_BOUND = re.compile(r">=\s*(\d+(?:\.\d+)*)\s*(?:,|$)")


def constraints(project: Mapping[str, Any], extras: Iterable[str]) -> list[str]:
    """The lowest version of each dependency of the project and of the extras, as lines for `pip install -c`.

    Where a package is named more than once, the highest of its lower bounds counts: pip installs no lower one.

    Args:
        project: The table `project` of a pyproject.toml.
        extras: Names of extras, or `extra:package` for one package of an extra.

    Raises:
        ValueError: There is no such extra, an extra has no such package, or a dependency has no lower bound.
    """
    lowest: dict[str, str] = {}
    for line in _required(project, extras):
        name, version = _lower_bound(line)
        lowest[name] = max(lowest.get(name, version), version, key=_comparable)
    return [f"{name}=={lowest[name]}" for name in sorted(lowest)]


def _required(project: Mapping[str, Any], extras: Iterable[str]) -> Iterator[str]:
    yield from project["dependencies"]
    for wanted in extras:
        extra, _, package = wanted.partition(":")
        lines = [line for line in _lines_of(project, extra) if not package or _name(line) == _normalized(package)]
        if not lines:
            raise ValueError(f"the extra {extra!r} has nothing for {wanted!r}")
        yield from lines


def _lines_of(project: Mapping[str, Any], extra: str) -> Iterator[str]:
    """The requirements of an extra, and in the place of one for the project itself those of the extras it names."""
    known = project["optional-dependencies"]
    if extra not in known:
        raise ValueError(f"there is no extra {extra!r}; there are {', '.join(known)}")
    for line in known[extra]:
        if _name(line) == _normalized(project["name"]):
            for named in (_parts(line)["extras"] or "").split(","):
                yield from _lines_of(project, named.strip())
        else:
            yield line


def _lower_bound(line: str) -> tuple[str, str]:
    bound = LOWER_BOUND.search(_parts(line)["bounds"].strip())
    if bound is None:
        raise ValueError(f"{line!r} has no lower bound that is a plain version")
    return _name(line), bound[1]


def _parts(line: str) -> re.Match[str]:
    parts = REQUIREMENT.match(line)
    if parts is None:
        raise ValueError(f"{line!r} is no requirement")
    return parts


def _name(line: str) -> str:
    return _normalized(_parts(line)["name"])


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _comparable(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def main() -> None:
    """Prints the constraints for the extras that the command line names."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    try:
        sys.stdout.writelines(f"{line}\n" for line in constraints(project, sys.argv[1:]))
    except ValueError as error:
        sys.exit(f"{PYPROJECT.name}: {error}")


if __name__ == "__main__":
    main()
