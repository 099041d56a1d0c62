"""The rooms of the training program beside what AWS's containers hold: no name may stand for two things."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.toolkits.environments import build_environment

ROOT = Path(__file__).resolve().parents[3]


def list_packages(programs: Path) -> set[str]:
    """List the top names of the packages that are installed beside these programs, dependencies included."""
    (packages,) = programs.parent.glob("lib/python*/site-packages")
    installed = {path.name.removesuffix(".py") for path in packages.iterdir()}
    return {name for name in installed if name.isidentifier()}


@pytest.mark.parametrize("environment", ["training", "serving", "inference"])
@pytest.mark.parametrize("unit", ["training", "inference"])
def test_no_room_is_called_like_a_package_of_a_container(environment: str, unit: str) -> None:
    """A room or file that stands on the path would hide the package of that name, or be hidden by it."""
    names = {path.stem for path in (ROOT / unit).iterdir() if path.name != "__pycache__"}
    installed = list_packages(build_environment(environment))
    assert len(installed) > 10
    assert names & installed == set()
