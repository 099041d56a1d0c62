"""`training/` is flat: its files import each other by plain name, as they do inside a source tarball."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parents[2] / "training"
sys.path.append(str(TRAINING))

from tests.training.tiny import Runner, Template, shapes_zip  # noqa: E402 - it imports from training/


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of three classes that a network learns in seconds, with all three splits."""
    path = tmp_path_factory.mktemp("zip") / "dataset.zip"
    path.write_bytes(shapes_zip({"train": 16, "valid": 6, "test": 6}))
    return path


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    """The process that jobs are forked from."""
    process = Template()
    yield process
    process.close()


@pytest.fixture
def runner(tmp_path: Path, archive: Path, template: Template) -> Runner:
    """Runs train.py as SageMaker's script mode does, in a base folder of its own."""
    return Runner(tmp_path, archive, template)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, archive: Path, template: Template) -> Runner:
    """A job that ran to its end."""
    runner = Runner(tmp_path_factory.mktemp("trained"), archive, template)
    code, log = runner.run()
    assert code == 0, log
    return runner
