"""Put `training/` on the path, as in a source tarball, and provide a small dataset and jobs trained on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parents[2] / "training"
sys.path.append(str(TRAINING))
sys.path.append(str(TRAINING.parent / "inference"))

from tests.training.tiny import Runner, Template, shapes_zip  # noqa: E402 - it imports from training/


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a zip of three classes, with all three splits, that a network learns in seconds."""
    path = tmp_path_factory.mktemp("zip") / "dataset.zip"
    path.write_bytes(shapes_zip({"train": 16, "valid": 6, "test": 6}))
    return path


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    """Start the process that jobs are forked from."""
    process = Template()
    yield process
    process.close()


@pytest.fixture
def runner(tmp_path: Path, archive: Path, template: Template) -> Runner:
    """Run train.py as SageMaker's script mode does, in its own base folder."""
    return Runner(tmp_path, archive, template)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, archive: Path, template: Template) -> Runner:
    """Return a job that has finished."""
    runner = Runner(tmp_path_factory.mktemp("trained"), archive, template)
    code, log = runner.run()
    assert code == 0, log
    return runner
