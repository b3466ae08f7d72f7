"""Ids for parametrized tests that are the same in every process: workers that share a run must agree on them."""

import re


def shown(value: object) -> str:
    """A value as `repr` shows it, without the address that is different in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
