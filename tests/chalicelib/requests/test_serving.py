"""The server of a model: how many workers it runs, and that its machine holds them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.costs.allowances import explain_endpoint
from chalicelib.recipes.instances import count_processors, has_gpu, read_memory
from chalicelib.recipes.resolving import resolve_recipe
from chalicelib.recipes.serving_memory import SERVER_MB, count_workers, estimate_memory, estimate_worker, spare_system
from chalicelib.requests.serving import build_model_request
from tests.chalicelib.requests.test_jobs import make_run
from tests.fakes.world import SETTINGS

WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"


def read_environment(document: dict[str, Any], *types: str) -> dict[str, str]:
    run = replace(make_run(), cost={"instance_types": {"endpoint": list(types)}} if types else None)
    request = build_model_request(
        run, resolve_recipe(document), SETTINGS, "s3://b/model.tar.gz", "https://b.s3.amazonaws.com"
    )
    environment: dict[str, str] = request["PrimaryContainer"]["Environment"]
    return environment


def test_a_serverless_endpoint_has_one_worker() -> None:
    """SageMaker hands it one request at a time, and TorchServe would start a worker for each processor."""
    assert read_environment({})[WORKERS] == "1"


@pytest.mark.parametrize(
    ("architecture", "types", "workers"),
    [
        ("resnet18", ["ml.m5.large"], "2"),
        ("resnet18", ["ml.c5.large"], "2"),
        ("resnet18", ["ml.m5.4xlarge"], "16"),
        ("vit_l_16", ["ml.m5.large"], "1"),
        ("vit_l_16", ["ml.m5.4xlarge"], "15"),
        ("resnet18", ["ml.m5.4xlarge", "ml.c5.large"], "2"),
    ],
)
def test_machines_have_as_many_workers_as_their_memory_holds(architecture: str, types: list[str], workers: str) -> None:
    """Never more than processors; of a list the smallest machine decides, since the model serves on whichever comes."""
    document = {"architecture": architecture, "endpoint": {"kind": "instance"}, "instance_types": {"endpoint": types}}
    assert read_environment(document, *types)[WORKERS] == workers


def test_a_gpu_has_torchserves_own_number() -> None:
    """One for each GPU, which nobody but TorchServe counts."""
    document = {"endpoint": {"kind": "instance"}, "instance_types": {"endpoint": ["ml.g5.xlarge"]}}
    assert WORKERS not in read_environment(document, "ml.g5.xlarge")


@pytest.mark.parametrize(
    "instance_type", ["ml.t2.medium", "ml.c5.large", "ml.m5.large", "ml.r5.xlarge", "ml.m5.24xlarge"]
)
@pytest.mark.parametrize("architecture", ["resnet18", "vgg19", "vit_l_16", "vit_h_14"])
def test_what_the_request_starts_fits_or_is_refused(instance_type: str, architecture: str) -> None:
    """Estimate, refusal and request agree: whatever is let through has its workers within the machine's memory."""
    document = {
        "architecture": architecture,
        "endpoint": {"kind": "instance"},
        "instance_types": {"endpoint": [instance_type]},
    }
    recipe = resolve_recipe(document)
    workers = count_workers(architecture, 224, count_processors(instance_type), read_memory(instance_type))
    fits = SERVER_MB + workers * estimate_worker(architecture, 224) <= spare_system(read_memory(instance_type))
    refusal = explain_endpoint(recipe, [instance_type], SETTINGS)
    assert fits == (refusal is None)
    if refusal:
        assert f"needs about {estimate_memory(architecture, 224)} MB to answer, and {instance_type} has" in refusal


@pytest.mark.parametrize(
    ("instance_type", "processors", "gigabytes"),
    [
        ("ml.t2.medium", 2, 4),
        ("ml.t2.xlarge", 4, 16),
        ("ml.m5.large", 2, 8),
        ("ml.c5.9xlarge", 36, 72),
        ("ml.r5.2xlarge", 8, 64),
        ("ml.g4dn.xlarge", 4, 16),
        ("ml.g6e.xlarge", 4, 32),
        ("ml.zz9.large", 2, 4),
    ],
)
def test_machines_are_known_by_family_and_size(instance_type: str, processors: int, gigabytes: int) -> None:
    """As AWS's tables of EC2 have them; an unknown family has no more memory than any has."""
    assert (count_processors(instance_type), read_memory(instance_type)) == (processors, gigabytes * 1024)
    assert has_gpu(instance_type) == instance_type.startswith("ml.g")
