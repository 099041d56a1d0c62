"""Test images against ends of patches, GPU architectures and digests; tests/contracts reads the SDK's tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import date
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infrastructure.account.images import MANIFESTS, Images, check_support, check_types, pin_digests, read_support
from infrastructure.errors import CannotDeploy

HOST = "763104351884.dkr.ecr.eu-central-1.amazonaws.com"
IMAGES = Images(
    training_cpu=f"{HOST}/pytorch:2.11-cpu-amzn2023-sagemaker",
    training_gpu=f"{HOST}/pytorch:2.11-cu130-amzn2023-sagemaker",
    inference_cpu=f"{HOST}/pytorch-inference:2.6-cpu-py312",
    inference_gpu=f"{HOST}/pytorch-inference:2.6-gpu-py312",
    debugger_rules="482524230118.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-debugger-rules:latest",
)
OURS = ("training_cpu", "training_gpu", "inference_cpu", "inference_gpu")


@pytest.mark.parametrize(
    ("today", "says"),
    [
        (date(2026, 4, 1), []),
        (date(2026, 5, 1), ["2026-06-30, in 60 days"]),
        (date(2026, 6, 30), ["2026-06-30, in 0 days"]),
        (date(2026, 7, 1), ["AWS stopped patching it on 2026-06-30"]),
        (date(2027, 3, 1), ["on 2027-04-30, in 60 days", "AWS stopped patching it on 2026-06-30"]),
        (date(2027, 5, 1), ["on 2027-04-30. Choose a newer version", "AWS stopped patching it on 2026-06-30"]),
    ],
)
def test_the_end_of_patches_is_told_sixty_days_before_and_ever_after(today: date, says: list[str]) -> None:
    """Each version gets one warning with its date, the days left, and where to look for the next version."""
    warnings = check_support(IMAGES, today)
    assert len(warnings) == len(says)
    assert all(words in warning for words, warning in zip(says, warnings, strict=True))
    assert all(read_support()["source"] in warning for warning in warnings)


def test_an_image_without_a_newer_one_is_told_with_the_way_out() -> None:
    """ "Choose a newer version" would send the operator to look for what does not exist."""
    [told] = check_support(IMAGES, date(2026, 12, 1))
    assert told.startswith("pytorch-inference 2.6 (")
    assert "offers no newer one that serves our models" in told
    assert "docs/aws.md, under Images" in told
    assert "Choose" not in told


def test_an_image_in_whose_place_another_was_ordered_is_not_told() -> None:
    """Only images that are deployed are judged."""
    assert check_support(IMAGES, date(2026, 12, 1), ["inference_cpu", "inference_gpu"]) == []
    assert len(check_support(IMAGES, date(2027, 4, 1), ["inference_cpu", "inference_gpu"])) == 1


def test_an_image_of_unknown_support_is_told() -> None:
    """A version that the table lacks is not assumed to be patched for ever."""
    newer = replace(IMAGES, training_gpu=f"{HOST}/pytorch:2.99-cu140-amzn2023-sagemaker")
    assert [warning.partition(":")[0] for warning in check_support(newer, date(2026, 4, 1))] == ["pytorch 2.99"]


def test_the_table_says_whence_and_when() -> None:
    """Every date can be checked against AWS's page, and every GPU image has its CUDA version."""
    table = read_support()
    assert table["source"].startswith("https://aws.github.io/")
    assert date.fromisoformat(table["date"])
    rows = [row for versions in table["images"].values() for row in versions.values()]
    assert all(date.fromisoformat(row["end_of_patch"]) and float(row["cuda"]) >= 12 for row in rows)


@pytest.mark.parametrize(
    ("training", "endpoint", "says"),
    [
        (["ml.g4dn.xlarge", "ml.g5.xlarge", "ml.p4d.24xlarge", "ml.m5.xlarge", "ml.p6-b200.48xlarge"], [], []),
        ([], ["ml.m5.large", "ml.p3.2xlarge", "ml.g4dn.xlarge", "ml.c6i.large"], []),
        (["ml.p3.2xlarge"], [], ["capability 7.0, and CUDA 13.0"]),
        (["ml.p3dn.24xlarge", "ml.g5.xlarge", "ml.p2.xlarge"], [], ["ml.p3dn.24xlarge has", "ml.p2.xlarge has"]),
        ([], ["ml.g7e.2xlarge"], ["12.0, which CUDA 12.4"]),
        (["ml.trn1.2xlarge"], ["ml.inf2.xlarge"], ["Neuron", "Neuron"]),
        ([], ["ml.c7g.large", "ml.m8gd.xlarge"], ["Arm processor", "Arm processor"]),
        (["ml.g9z.xlarge"], [], ["family g9z is not known"]),
    ],
)
def test_images_are_held_against_the_families(training: list[str], endpoint: list[str], says: list[str]) -> None:
    """CUDA 13 does not run on a V100, CUDA 12.4 not on Blackwell, x86 not on Arm or Neuron; each gets a sentence."""
    problems = check_types(IMAGES, training, endpoint)
    assert len(problems) == len(says)
    assert all(words in problem for words, problem in zip(says, problems, strict=True))


def test_an_image_without_cuda_on_a_gpu_is_refused() -> None:
    """It would run, and be billed as if it used the GPU."""
    swapped = replace(IMAGES, training_gpu=IMAGES.training_cpu)
    assert ["would leave it idle" in problem for problem in check_types(swapped, ["ml.g5.xlarge"], [])] == [True]


def test_an_older_image_runs_on_a_v100() -> None:
    """PyTorch 2.6 has CUDA 12.6, which still supports compute capability 7.0."""
    older = replace(IMAGES, training_gpu=f"{HOST}/pytorch-training:2.6-gpu-py312")
    assert check_types(older, ["ml.p3.2xlarge"], []) == []


@pytest.fixture
def ecr() -> Iterator[Any]:
    """A registry that holds all of our images."""
    with mock_aws():
        client = boto3.client("ecr", "eu-central-1", aws_access_key_id="local", aws_secret_access_key="local")
        for repository in ("pytorch", "pytorch-inference"):
            client.create_repository(repositoryName=repository)
        for name in OURS:
            repository, tag = getattr(IMAGES, name).partition("/")[2].split(":")
            manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFESTS[0], "layers": [name]})
            digest = f"sha256:{name.encode().hex():0>64}"
            client.put_image(repositoryName=repository, imageTag=tag, imageManifest=manifest, imageDigest=digest)
        yield client


def test_images_are_pinned_by_digest_and_keep_their_tags(ecr: Any) -> None:
    """Each URI identifies its bytes; the tag behind it is kept for people and for the checks."""
    pinned = pin_digests(IMAGES, ecr)
    for name in OURS:
        uri, tagged = getattr(pinned, name), getattr(IMAGES, name)
        assert uri.partition("@sha256:")[0] == tagged.partition(":")[0]
        assert uri.endswith(f"@sha256:{name.encode().hex():0>64}")
        assert pinned.tags[name] == tagged
    assert check_support(pinned, date(2026, 12, 1)) == check_support(IMAGES, date(2026, 12, 1))
    assert check_types(pinned, ["ml.p3.2xlarge"], []) == check_types(IMAGES, ["ml.p3.2xlarge"], [])


def test_the_rules_image_keeps_its_tag(ecr: Any) -> None:
    """AWS's own service pulls it, from a repository that customers cannot read."""
    assert pin_digests(IMAGES, ecr).debugger_rules == IMAGES.debugger_rules


def test_a_tag_that_is_gone_cannot_be_deployed(ecr: Any) -> None:
    """The error names the image and what to do."""
    gone = replace(IMAGES, training_cpu=f"{HOST}/pytorch:2.99-cpu-py313")
    with pytest.raises(CannotDeploy, match=r"2\.99-cpu-py313 is not in its registry \(Requested image not found\)"):
        pin_digests(gone, ecr)


def test_a_registry_that_refuses_names_the_permission(ecr: Any) -> None:
    """The error for an unreadable repository names the action that reading it needs."""
    astray = replace(IMAGES, inference_gpu=f"{HOST}/elsewhere:2.6-gpu-py312")
    with pytest.raises(CannotDeploy, match="Your credentials need ecr:BatchGetImage"):
        pin_digests(astray, ecr)


def test_an_image_without_a_tag_is_no_image() -> None:
    """The error shows a URI that cannot be split as it is."""
    with pytest.raises(CannotDeploy, match="'pytorch' is not an image with a tag"):
        check_support(replace(IMAGES, training_cpu="pytorch"), date(2026, 4, 1))


def test_every_field_is_an_image_or_its_tags() -> None:
    """Exactly these fields are deployed as template parameters."""
    assert {each.name for each in fields(Images)} == {*OURS, "debugger_rules", "tags"}
