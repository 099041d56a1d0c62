"""`inference/` is flat: its files import each other by plain name, as they do inside a model archive."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.model_archives import INFERENCE, write_model

sys.path.append(str(INFERENCE))


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extracted model archive."""
    return write_model(tmp_path_factory.mktemp("model") / "extracted")
