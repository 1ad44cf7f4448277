"""Where tests find the data that is not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / "shared" / "data"


def shared_data(name: str) -> Path:
    """The folder `name` of the benchmark data; the test skips where it is absent.

    `EXPUNGE_TEST_DATA` names the folder that holds it; by default ../shared/data beside the repository.
    """
    folder = Path(os.environ.get("EXPUNGE_TEST_DATA", _BESIDE)) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; EXPUNGE_TEST_DATA may name another folder of benchmark data")
    return folder
