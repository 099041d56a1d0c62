"""What needs no server: check a zip as pre-flight does, check a recipe, write a new one."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from chalicelib.datasets.preflight import inspect_dataset
from chalicelib.datasets.reading.names import IMAGE_SUFFIXES
from chalicelib.errors import InvalidRecipe
from chalicelib.recipes.documents import read_document
from chalicelib.recipes.resolving import resolve_recipe
from client.uploads import list_files, zip_folder

NEW_RECIPE = {"architecture": "resnet18", "trials": 6, "epochs": 8, "budget_usd": 5}


def check_dataset(path: Path) -> dict[str, Any]:
    """Return pre-flight's report on a zip, or on the zip that a folder would become."""
    if path.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            return check_dataset(zip_folder(path, Path(folder) / "dataset.zip"))
    with path.open("rb") as file:
        return inspect_dataset(file).as_dict()


def check_recipe(path: Path) -> list[str]:
    """Return every problem of a recipe's file; none where it is sound."""
    try:
        resolve_recipe(read_document(path.read_bytes()))
    except InvalidRecipe as error:
        return [problem.removeprefix("$.") for problem in error.problems or (error.message,)]
    return []


def write_recipe(path: Path) -> None:
    """Write a recipe to begin with. Raises FileExistsError rather than replace one."""
    with path.open("x", encoding="utf-8") as file:
        json.dump(NEW_RECIPE, file, indent=2)
        file.write("\n")


def count_images(path: Path) -> int:
    """Return how many files of a zip or a folder have an image's name: enough to say whether they are few."""
    if path.is_dir():
        return sum(each.suffix.lower() in IMAGE_SUFFIXES for each in list_files(path))
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return 0  # the app's pre-flight says what is wrong with it
