"""Fixtures for the tests of this folder."""

import random

import pytest
from databases import postgres_emptied
from provoked import METADATA, THINGS
from sqlalchemy import (
    NullPool,
    create_engine,
)


@pytest.fixture
def postgres_engine(module_database):
    """One database for all tests of a module, empty for each."""
    with postgres_emptied(module_database) as engine:
        yield engine


@pytest.fixture
def database(engine):
    METADATA.create_all(engine)
    return engine


@pytest.fixture
def postgres(postgres_engine):
    METADATA.create_all(postgres_engine)
    return postgres_engine


@pytest.fixture
def sqlite(sqlite_engine):
    METADATA.create_all(sqlite_engine)
    return sqlite_engine


@pytest.fixture
def mariadb(mariadb_engine):
    METADATA.create_all(mariadb_engine)
    return mariadb_engine


@pytest.fixture
def second(postgres):
    """Another session, in a transaction that has locked row 1."""
    with postgres.begin() as connection:
        connection.execute(THINGS.insert(), [{"id": 1, "small": 0}, {"id": 2, "small": 0}])
    engine = create_engine(postgres.url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(THINGS.update().where(THINGS.c.id == 1).values(small=1))
        yield connection
    engine.dispose()


@pytest.fixture
def seed():
    """A random number, which pytest shows where the test fails."""
    chosen = random.SystemRandom().randrange(2**32)
    print(f"seed {chosen}")  # noqa: T201 - so that it can be had again
    return chosen
