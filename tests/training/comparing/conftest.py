"""Train the models that the tests of comparing hand around, once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from job.settings import Job

from tests.training.comparing.compared import draw_files, make_job, train, write_weights

MakeJob = Callable[[Mapping[str, bytes]], Job]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a channel with pretrained weights."""
    return write_weights(tmp_path_factory.mktemp("weights") / "channel")


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Job:
    """Return a finished final training with a model that knows its classes."""
    job = make_job(tmp_path_factory.mktemp("good") / "good", draw_files(), weights)
    train(job, run_id="run-live")
    return job


@pytest.fixture
def new_job(tmp_path: Path, weights: Path) -> MakeJob:
    """Return a function that makes a job on these files."""
    return lambda files: make_job(tmp_path / "new", files, weights)
