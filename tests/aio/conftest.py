"""Fixtures for the tests of asyncio: an engine for each database, with the tables of `rows`."""

import asyncio
import random

import pytest
from databases import async_engine_for
from rows import METADATA


@pytest.fixture
def loop():
    """Runs coroutines, one after the other, in one event loop."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def prepared(engine):
    METADATA.create_all(engine)
    return engine


@pytest.fixture
def aengine(loop, prepared):
    made = async_engine_for(prepared)
    yield made
    assert made.sync_engine.pool.checkedout() == 0
    loop.run(made.dispose())


@pytest.fixture
def postgres(loop, postgres_engine):
    METADATA.create_all(postgres_engine)
    made = async_engine_for(postgres_engine)
    yield made
    assert made.sync_engine.pool.checkedout() == 0
    loop.run(made.dispose())


@pytest.fixture
def seed():
    """A random number, which pytest shows where the test fails."""
    chosen = random.randrange(2**32)
    print(f"seed {chosen}")  # noqa: T201 - so that it can be had again
    return chosen
