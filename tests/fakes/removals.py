"""Remove a dataset from an account in memory, and list what is left of it."""

from __future__ import annotations

from chalicelib.errors import DatasetNotFound
from chalicelib.pipeline.removal import delete_dataset
from chalicelib.pipeline.sweep import sweep
from tests.fakes.world import World


def end_deletions(world: World) -> None:
    """Finish SageMaker's deletions."""
    for name, endpoint in list(world.sagemaker.kept["Endpoint"].items()):
        if endpoint["EndpointStatus"] == "Deleting":
            del world.sagemaker.kept["Endpoint"][name]


def remove(world: World, name: str) -> list[str]:
    """Ask until nothing is left, while time passes. Returns what the first answer left."""
    first = delete_dataset(name, world.services())["left"]
    for _ in range(8):
        if not delete_again(world, name):
            return list(first)
    raise AssertionError(f"{name} is not gone: {list_of(world, name)}")


def delete_again(world: World, name: str) -> bool:
    """Let time pass and ask for the deletion again. Returns whether anything may be left."""
    world.end_everything()
    end_deletions(world)
    world.clock.sleep(400)
    sweep(world.services())
    try:
        return bool(delete_dataset(name, world.services())["left"])
    except DatasetNotFound:
        return False


def list_of(world: World, name: str) -> list[str]:
    """List every version in the bucket that names a dataset, and everything that serves it in SageMaker."""
    s3 = world.s3
    keys = [key for key in {*s3.versions, *s3.hidden} if name in key and not key.startswith("ledger/")]
    served = [
        each for kind in ("Endpoint", "EndpointConfig", "Model") for each in world.sagemaker.kept[kind] if name in each
    ]
    return sorted([*keys, *served])


def list_left(world: World) -> list[str]:
    """List every version of everything but the ledger, and everything that bills."""
    s3, kept = world.s3, world.sagemaker.kept
    keys = [key for key in {*s3.versions, *s3.hidden} if not key.startswith("ledger/")]
    running = [
        name
        for kind in ("HyperParameterTuningJob", "TrainingJob")
        for name, job in kept[kind].items()
        if job[f"{kind}Status"] in ("InProgress", "Stopping")
    ]
    return sorted([*keys, *running, *kept["Endpoint"], *kept["EndpointConfig"], *kept["Model"]])
