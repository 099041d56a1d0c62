"""The recipe's architectures are torchvision's: the control plane knows their names, and has no torchvision."""

from __future__ import annotations

import torchvision

from chalicelib.recipes.documents import recipe_schema


def test_recipes_name_every_classifier_of_torchvision() -> None:
    """A name that the schema lets through can be built, and a classifier that can be built has its name there."""
    named = recipe_schema()["properties"]["architecture"]["enum"]
    assert named == torchvision.models.list_models(module=torchvision.models)
