"""Fixtures that every test may use."""

from pathlib import Path

import pytest

from sgq_hw import graphs


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The checkout's root."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of data sets; tests that need it are skipped where there is none."""
    folder = graphs.data_folder()
    if folder is None:
        pytest.skip(f"no data folder: set {graphs.DATA_VARIABLE}, or put it at ../shared/data")
    return folder
