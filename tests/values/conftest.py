"""Fixtures for the tests of this folder."""

import pytest
from databases import postgres_database
from tables_of_values import (
    Base,
    DataBase,
)


@pytest.fixture(scope="module")
def postgres_module_engine(postgres_databases):
    with postgres_database(postgres_databases) as engine:
        yield engine


@pytest.fixture
def orm(engine):
    Base.metadata.create_all(engine)
    DataBase.metadata.create_all(engine)
    return engine
