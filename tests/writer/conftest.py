"""Fixtures for the tests of the writer: databases with an empty table `items`."""

import pytest
from items import METADATA


@pytest.fixture
def database(engine):
    METADATA.create_all(engine)
    return engine


@pytest.fixture
def postgres(postgres_engine):
    METADATA.create_all(postgres_engine)
    return postgres_engine
