"""A table with every kind of constraint, on PostgreSQL."""

import pytest
from orders import METADATA, PARENTS


@pytest.fixture
def database(postgres_engine):
    METADATA.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(PARENTS.insert(), [{"sku": f"sku-{number}", "stock": 1_000} for number in range(20)])
    return postgres_engine
