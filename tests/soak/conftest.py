"""Fixtures for what is run by hand: `nox -s soak`."""

import pytest


@pytest.fixture
def soak_minutes(pytestconfig: pytest.Config) -> float:
    """How long the kills go on; what the others have to do is in proportion."""
    minutes: float = pytestconfig.option.soak_minutes
    return minutes
