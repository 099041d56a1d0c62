"""Hold a recipe against the account's limits and its machines' memory, before anything of a run costs money. Pure.

The account's limits are those that the deployment found.
"""

from __future__ import annotations

from collections.abc import Sequence

from chalicelib.aws.quotas import CONSOLE
from chalicelib.recipes.instances import read_memory
from chalicelib.recipes.resolving import Recipe
from chalicelib.recipes.serving_memory import choose_memory, estimate_memory, spare_system
from chalicelib.settings import Settings


def fit_trials(recipe: Recipe, settings: Settings) -> int:
    """Return how many trials run at a time: as many as the recipe asks for, or as many as the account allows."""
    return min(recipe.parallel_trials, settings.max_parallel_trials or recipe.parallel_trials)


def explain_fewer(asked: int, at_once: int) -> str | None:
    """Explain why fewer trials run at a time than the recipe asks for; None if they do not."""
    if at_once >= asked:
        return None
    return (
        f"The recipe asks for {asked} trials at a time (parallel_trials), and the account allows {at_once}: "
        f"{at_once} {'runs' if at_once == 1 else 'run'} at a time, so the tuning takes longer. To change that, ask for "
        f"{asked} in Service Quotas, under Amazon SageMaker ({CONSOLE})."
    )


def explain_instances(recipe: Recipe, settings: Settings) -> str | None:
    """Explain why the account has too few machines for the final training; None if it has enough, as far as is known.

    The deployment asked for the types that the app uses. What it can have of a recipe's own types, nobody asked.
    """
    most, asked = settings.max_training_instances, recipe.instance_count
    if not most or asked <= most or recipe.instance_types.training:
        return None
    types = ", ".join(settings.training_instance_types)
    return (
        f"The recipe's final training takes {asked} machines (instance_count), and the account allows {most} at most "
        f"of {types}: set instance_count to {most}, or ask for {asked} in Service Quotas, under Amazon SageMaker "
        f"({CONSOLE}), and run `make deploy` again once AWS has granted it."
    )


def explain_endpoint(recipe: Recipe, types: Sequence[str], settings: Settings) -> str | None:
    """Explain why the recipe's endpoint could not serve; None if it can."""
    return explain_memory(recipe, settings) or explain_machines(recipe, types)


def explain_machines(recipe: Recipe, types: Sequence[str]) -> str | None:
    """Explain which of an endpoint's machines has too little memory for its network; None if all have enough."""
    needed = estimate_memory(recipe.architecture, recipe.image_size)
    small = [each for each in types if recipe.endpoint.kind == "instance" and spare_system(read_memory(each)) < needed]
    if not small:
        return None
    return (
        f"{recipe.architecture} at {recipe.image_size} pixels needs about {needed} MB to answer, and {small[0]} has "
        f"{read_memory(small[0])}, of which its system keeps some: name larger machines in instance_types.endpoint."
    )


def explain_memory(recipe: Recipe, settings: Settings) -> str | None:
    """Explain why the account refuses the recipe's serverless endpoint; None if it does not."""
    most, asked = settings.max_serverless_memory_mb, recipe.endpoint.memory_mb
    if recipe.endpoint.kind != "serverless" or not most or asked <= most:
        return None
    needed = estimate_memory(recipe.architecture, recipe.image_size)
    fitting = f"set endpoint.memory_mb to {most}, " if choose_memory(needed) <= most else "choose a smaller network, "
    return (
        f"The recipe's serverless endpoint has {asked} MB, and the account allows {most}: {fitting}set endpoint.kind "
        f"to 'instance', or ask for {asked} in Service Quotas, under Amazon SageMaker ({CONSOLE}), and run "
        "`make deploy` again once AWS has granted it."
    )
