"""Test what the SageMaker SDK's own tables of images give to a deployment, and what they refuse."""

from __future__ import annotations

import pytest

from infrastructure.account.images import Versions, find_images, read_support, split_image
from infrastructure.errors import CannotDeploy


def test_a_region_gets_its_own_images() -> None:
    """PyTorch 2.11 trains and 2.6 serves, each for CPUs and GPUs, from the region's own registry."""
    images = find_images("ap-east-1", ["ml.g4dn.xlarge"], ["ml.g5.xlarge", "ml.m5.xlarge"], ["ml.m5.large"])
    host = "871362719292.dkr.ecr.ap-east-1.amazonaws.com"
    assert images.training_cpu == f"{host}/pytorch:2.11-cpu-amzn2023-sagemaker"
    assert images.training_gpu == f"{host}/pytorch:2.11-cu130-amzn2023-sagemaker"
    assert images.inference_cpu == f"{host}/pytorch-inference:2.6-cpu-py312"
    assert images.inference_gpu == f"{host}/pytorch-inference:2.6-gpu-py312"
    assert images.debugger_rules == "199566480951.dkr.ecr.ap-east-1.amazonaws.com/sagemaker-debugger-rules:latest"


def test_a_region_without_rules_does_without() -> None:
    """AWS's rule image exists in 24 regions; elsewhere the other images are found all the same."""
    images = find_images("eu-central-2", [], [], [])
    assert images.debugger_rules == ""
    assert "eu-central-2" in images.training_gpu


@pytest.mark.parametrize(
    ("region", "versions", "says"),
    [
        ("mars-north-1", Versions(), r"no PyTorch 2\.11 training image in region 'mars-north-1'"),
        ("eusc-de-east-1", Versions(), r"no PyTorch 2\.6 inference image in region 'eusc-de-east-1'"),
        ("eu-west-1", Versions(inference="2.10"), r"no PyTorch 2\.10 inference image in region 'eu-west-1'"),
    ],
)
def test_a_region_or_version_without_an_image_is_refused(region: str, versions: Versions, says: str) -> None:
    """The error names the version, the side and the region, and says what to do."""
    with pytest.raises(CannotDeploy, match=says) as refused:
        find_images(region, [], [], [], versions)
    assert "Deploy to another region, choose another version, or name an image of your own." in str(refused.value)


def test_types_are_checked_with_the_images() -> None:
    """A V100 cannot run the training image's CUDA 13; all such problems are one refusal."""
    with pytest.raises(CannotDeploy, match=r"ml\.p3\.2xlarge has a GPU of compute capability 7\.0[^\n]*\n- ml\.c7g"):
        find_images("us-east-1", ["ml.p3.2xlarge"], ["ml.g5.xlarge"], ["ml.c7g.large"])
    images = find_images("us-east-1", ["ml.p3.2xlarge"], [], [], Versions(training="2.6"))
    assert ":2.6-gpu" in images.training_gpu


def test_the_images_are_in_our_table_of_support() -> None:
    """The end of patches of every default image is known."""
    images = find_images("us-east-1", [], [], [])
    table = read_support()["images"]
    for uri in images.name_tagged().values():
        parts = split_image(uri)
        assert "end_of_patch" in table[parts.repository][parts.version]
