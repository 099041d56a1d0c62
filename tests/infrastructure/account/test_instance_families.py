"""Test that two tables of instance families agree on every type that SageMaker knows.

They are shipped apart: the app's table refuses at run time, the workstation's at deployment.
"""

from __future__ import annotations

import pytest

from chalicelib.recipes.instances import find_family, find_list_problems, has_gpu
from infrastructure.account.images import Images, check_types
from infrastructure.account.instance_families import CAPABILITIES, read_family
from localcloud.protocol.service_model import load_service

REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
IMAGES = Images(
    training_cpu=f"{REGISTRY}/pytorch:2.11.0-cpu-amzn2023-sagemaker",
    training_gpu=f"{REGISTRY}/pytorch:2.11.0-cu130-amzn2023-sagemaker",
    inference_cpu=f"{REGISTRY}/pytorch-inference:2.6.0-cpu-py312",
    inference_gpu=f"{REGISTRY}/pytorch-inference:2.6.0-gpu-py312",
)


def list_types(shape: str) -> list[str]:
    types: list[str] = load_service("sagemaker").shape_for(shape).enum
    return types


TRAINING, SERVING = list_types("TrainingInstanceType"), list_types("ProductionVariantInstanceType")


@pytest.mark.parametrize("name", [*TRAINING, "ml.gr6.4xlarge"])
def test_both_refuse_the_same_types_for_training(name: str) -> None:
    """The app accepts what the deployment accepts, for trials and for the final training."""
    refused = bool(check_types(IMAGES, [name], []))
    assert [bool(list(find_list_problems(use, [name]))) for use in ("trial", "training")] == [refused, refused]


@pytest.mark.parametrize("name", SERVING)
def test_both_refuse_the_same_types_for_endpoints(name: str) -> None:
    """The same holds for the images that serve."""
    assert bool(list(find_list_problems("endpoint", [name]))) == bool(check_types(IMAGES, [], [name]))


@pytest.mark.parametrize("name", sorted({*TRAINING, *SERVING, "ml.gr6.4xlarge"}))
def test_both_know_the_same_gpus(name: str) -> None:
    """A family with a compute capability in one table has a GPU in the other."""
    assert find_family(name) == read_family(name)
    known = read_family(name) in CAPABILITIES
    assert has_gpu(name) == known or bool(check_types(IMAGES, [name], []))
