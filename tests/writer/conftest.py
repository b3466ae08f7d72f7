"""Fixtures for the tests of the writer: databases with an empty table `items`."""

import pytest
from items import METADATA
from sqlalchemy import NullPool, create_engine, text


@pytest.fixture
def database(engine):
    METADATA.create_all(engine)
    return engine


@pytest.fixture
def postgres(postgres_engine):
    METADATA.create_all(postgres_engine)
    return postgres_engine


def kill_others(engine):
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


@pytest.fixture
def killer(postgres):
    """Kills all other connections to the database."""
    other = create_engine(postgres.url, poolclass=NullPool)
    yield lambda: kill_others(other)
    other.dispose()
