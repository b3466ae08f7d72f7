"""Fixtures for the tests of this folder: databases with the tables of `booked`, and those of the ledger."""

import pytest
from booked import LEDGER, METADATA, SUMS
from databases import postgres_emptied


def prepared(engine):
    METADATA.create_all(engine)
    LEDGER.create(engine)
    with engine.begin() as connection:
        connection.execute(SUMS.insert(), {"id": 0, "total": 0})
    return engine


@pytest.fixture
def database(engine):
    return prepared(engine)


@pytest.fixture
def postgres(postgres_engine):
    return prepared(postgres_engine)


@pytest.fixture
def postgres_engine(module_database):
    """One database for all tests of a module, empty for each."""
    with postgres_emptied(module_database) as engine:
        yield engine
