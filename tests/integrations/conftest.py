"""Fixtures for the tests of the integrations: databases with the empty tables of `followed`."""

import pytest
from followed import METADATA


@pytest.fixture
def database(engine):
    METADATA.create_all(engine)
    return engine


@pytest.fixture
def postgres(postgres_engine):
    METADATA.create_all(postgres_engine)
    return postgres_engine
