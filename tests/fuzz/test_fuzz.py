"""A few seconds of the fuzzer on each database, and whether it finds what it is there to find."""

import subprocess
import sys

import pytest
from fuzz_case import FuzzCase, FuzzTable, FuzzWrite, Manner
from fuzz_compare import Comparer
from fuzz_run import fuzz, report, shrunk_finding
from tiers import Tier

SECONDS = {Tier.DEFAULT: 1.5, Tier.FULL: 6, Tier.SOAK: 6}


def test_the_fuzzer_finds_nothing(shared_engine, draw):
    seed = draw.random(f"fuzz {shared_engine.dialect.name}").randrange(2**32)
    found = []
    figures = fuzz(
        shared_engine, seed=seed, seconds=SECONDS[draw.tier], most=1, shrink_seconds=10, tell=found.append
    )
    assert not found, f"seed {seed}\n{found[0]}"
    assert figures.runs
