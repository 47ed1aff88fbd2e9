"""What several tests share: the project's folder, and one small cluster."""

from pathlib import Path

import pytest

from lrlib.engine import open_client

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def root():
    return ROOT


@pytest.fixture(scope="session")
def client():
    """A Dask client of two workers, for the tests that train."""
    with open_client(2) as client:
        yield client
