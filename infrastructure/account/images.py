"""Find AWS's own container images for a region in the SageMaker SDK's tables, check them, and pin them by digest.

The SDK's tables are read on the workstation, offline. Importing the SDK takes 3 seconds, so it is imported only when
needed. `image_support.json` holds the dates on which AWS's patches end and the images' CUDA versions, with their source
and date, because no AWS call returns them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from infrastructure.account.instance_families import check_pair
from infrastructure.errors import CannotDeploy

SUPPORT = Path(__file__).with_name("image_support.json")
NOTICE = timedelta(days=60)
# The SDK's tables of AWS's PyTorch images, the older first: from 2.11 on they stand on Amazon Linux 2023.
TABLES = ("pytorch", "pytorch-amzn2023")
# Examples of each kind of instance, for looking up the SDK's tables.
ANY_CPU, ANY_GPU = "ml.m5.xlarge", "ml.g5.xlarge"
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


@dataclass(frozen=True)
class Versions:
    """The PyTorch version of each side. 2.6 is AWS's last inference image that serves the four functions."""

    training: str = "2.11"
    inference: str = "2.6"


@dataclass(frozen=True)
class Images:
    """The image URIs that jobs and endpoints are given. `debugger_rules` is empty if AWS has no such image.

    `tags` keeps what a digest does not tell a person: the tagged URI of each pinned field.
    """

    training_cpu: str
    training_gpu: str
    inference_cpu: str
    inference_gpu: str
    debugger_rules: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def name_tagged(self) -> dict[str, str]:
        """Return field name and tagged URI of each image that runs our programs, pinned or not."""
        names = [each.name for each in fields(self) if each.name not in ("debugger_rules", "tags")]
        return {name: self.tags.get(name, getattr(self, name)) for name in names}


class Parts(NamedTuple):
    """The parts of `REGISTRY.dkr.ecr.…/REPOSITORY:TAG`."""

    host: str
    repository: str
    tag: str

    @property
    def registry(self) -> str:
        return self.host.partition(".")[0]

    @property
    def version(self) -> str:
        """Return the framework's version as AWS's policy counts it: major.minor."""
        return ".".join(self.tag.partition("-")[0].split(".")[:2])


def split_image(uri: str) -> Parts:
    """Split a tagged image URI into its parts. Raises CannotDeploy if it is not one."""
    host, _, path = uri.partition("/")
    repository, _, tag = path.partition(":")
    if not (host and repository and tag):
        raise CannotDeploy(f"{uri!r} is not an image with a tag. Write it as REGISTRY/REPOSITORY:TAG.")
    return Parts(host, repository, tag)


def find_images(
    region: str,
    trial_types: Iterable[str],
    training_types: Iterable[str],
    endpoint_types: Iterable[str],
    versions: Versions | None = None,
) -> Images:
    """Return the region's images that run on all of these instance types.

    Raises CannotDeploy if the region or the version has no image, or if an image does not run on a type.
    """
    wanted = versions or Versions()
    images = Images(
        training_cpu=_find(region, "training", wanted.training, ANY_CPU),
        training_gpu=_find(region, "training", wanted.training, ANY_GPU),
        inference_cpu=_find(region, "inference", wanted.inference, ANY_CPU),
        inference_gpu=_find(region, "inference", wanted.inference, ANY_GPU),
        debugger_rules=_find_rules(region),
    )
    problems = check_types(images, [*trial_types, *training_types], endpoint_types)
    if problems:
        raise CannotDeploy("Images and instance types do not go together:\n" + "\n".join(f"- {p}" for p in problems))
    return images


def _find(region: str, scope: str, version: str, instance_type: str) -> str:
    from sagemaker.core import image_uris

    reasons = []
    for table in TABLES:
        try:
            return str(
                image_uris.retrieve(
                    table, region=region, version=version, image_scope=scope, instance_type=instance_type
                )
            )
        except ValueError as error:
            reasons.append(str(error).partition(". ")[0])
    raise CannotDeploy(
        f"AWS has no PyTorch {version} {scope} image in region {region!r}, as far as this SageMaker SDK knows "
        f"({'; '.join(reasons)}). Deploy to another region, choose another version, or name an image of your own."
    )


def _find_rules(region: str) -> str:
    """Return AWS's rule image. Only some regions have one; elsewhere our own rules do without."""
    from sagemaker.core import image_uris

    try:
        return str(image_uris.retrieve("debugger", region=region))
    except ValueError:
        return ""


def check_types(images: Images, training_types: Iterable[str], endpoint_types: Iterable[str]) -> list[str]:
    """List why types cannot run the image that they would be given, one sentence each; empty if all can."""
    problems = []
    sides = (("training_cpu", "training_gpu", training_types), ("inference_cpu", "inference_gpu", endpoint_types))
    for cpu, gpu, types in sides:
        tagged = images.name_tagged()
        for instance_type in dict.fromkeys(types):
            problems += check_pair(tagged[cpu], tagged[gpu], read_cuda(tagged[gpu]), instance_type)
    return problems


def read_support() -> dict[str, Any]:
    """Return AWS's support policy as it was on its date."""
    table: dict[str, Any] = json.loads(SUPPORT.read_text(encoding="utf-8"))
    return table


def _look_up(uri: str) -> dict[str, str]:
    parts = split_image(uri)
    row: dict[str, str] = read_support()["images"].get(parts.repository, {}).get(parts.version, {})
    return row


def read_cuda(uri: str) -> str:
    """Return the CUDA version of a GPU image, such as `13.0`; empty if our table does not list the image."""
    return _look_up(uri).get("cuda", "")


def check_support(images: Images, today: date, unused: Collection[str] = ()) -> list[str]:
    """List a warning for each image whose patches end within 60 days, have ended, or end at an unknown date.

    `unused` names fields in whose place the operator has named other images.
    """
    used = [uri for name, uri in images.name_tagged().items() if name not in unused]
    by_version = {(split_image(uri).repository, split_image(uri).version): uri for uri in used}
    warnings = [_judge(uri, today) for uri in by_version.values()]
    return [warning for warning in warnings if warning]


def _judge(uri: str, today: date) -> str:
    parts, row = split_image(uri), _look_up(uri)
    end = row.get("end_of_patch")
    name, source = f"{parts.repository} {parts.version}", read_support()["source"]
    if end is None:
        return f"{name}: when AWS stops patching it is not in {SUPPORT.name}. Look it up: {source}"
    left = (date.fromisoformat(end) - today).days
    if left < 0 and row.get("last"):
        return (
            f"{name} ({uri}): AWS stopped patching it on {end} and offers no newer one that serves our models. "
            f"docs/aws.md, under Images, tells what that means and the way out: an image of your own. {source}"
        )
    if left < 0:
        return f"{name} ({uri}): AWS stopped patching it on {end}. Choose a newer version where there is one: {source}"
    if left <= NOTICE.days:
        return f"{name} ({uri}): AWS stops patching it on {end}, in {left} days. Plan for a newer version: {source}"
    return ""


def pin_digests(images: Images, ecr: Any) -> Images:
    """Return the same images as `REPOSITORY@sha256:…`, with their tags beside them.

    `ecr` is a client in their region. BatchGetImage is what a pull calls, so AWS's repositories allow it to anyone who
    may pull. The rules image is not pinned: AWS's Debugger service pulls it itself, from a repository that is closed to
    others.
    """
    tagged = images.name_tagged()
    pinned = {name: _pin(uri, ecr) for name, uri in tagged.items()}
    return replace(images, **pinned, tags=tagged)


def _pin(uri: str, ecr: Any) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    parts = split_image(uri)
    try:
        answer = ecr.batch_get_image(
            registryId=parts.registry,
            repositoryName=parts.repository,
            imageIds=[{"imageTag": parts.tag}],
            acceptedMediaTypes=list(MANIFESTS),
        )
    except (BotoCoreError, ClientError) as error:
        raise CannotDeploy(
            f"The digest of {uri} cannot be read: {error}. Your credentials need ecr:BatchGetImage on it."
        ) from error
    if not answer["images"]:
        reason = "; ".join(failure.get("failureReason", "") for failure in answer.get("failures", []))
        raise CannotDeploy(f"{uri} is not in its registry ({reason or 'no image'}). Choose another version or region.")
    return f"{parts.host}/{parts.repository}@{answer['images'][0]['imageId']['imageDigest']}"
