"""Serve the operations of models. A model is one container with one archive in S3, in script mode."""

from __future__ import annotations

from urllib.parse import urlsplit

import botocore.exceptions

from localcloud.common.store import Record
from localcloud.protocol.errors import Unsupported, ValidationException
from localcloud.sagemaker.core.cloud import Cloud, Request, Response, operation
from localcloud.sagemaker.core.images import check_model_image
from localcloud.sagemaker.core.listing import list_page
from localcloud.sagemaker.core.network import check_network
from localcloud.sagemaker.core.records import refuse_taken, require_record, show_record
from localcloud.sagemaker.core.tags import drop_tags, put_tags
from localcloud.sagemaker.core.unsupported import Rules, refuse_unsupported

KIND = "model"
SORT_KEYS = {"Name": "ModelName", "CreationTime": "CreationTime"}
_CONTAINER: Rules = {
    "Mode": ("SingleModel",),
    "ModelPackageName": (),
    "InferenceSpecificationName": (),
    "AdditionalModelDataSources": ([],),
    "ImageConfig": ({"RepositoryAccessMode": "Platform"},),
    "MultiModelConfig": (),
    "ContainerMetricsConfig": (),
    "ModelDataSource.S3DataSource.S3DataType": ("S3Object",),
    "ModelDataSource.S3DataSource.CompressionType": ("Gzip",),
    "ModelDataSource.S3DataSource.HubAccessConfig": (),
    "ModelDataSource.S3DataSource.ManifestS3Uri": (),
}
RULES: Rules = {f"PrimaryContainer.{path}": values for path, values in _CONTAINER.items()} | {
    "EnableNetworkIsolation": (False,),
    "InferenceExecutionConfig": (),
}


@operation
def create_model(cloud: Cloud, request: Request) -> Response:
    """Record a model. Raises ValidationException if the name is taken or the archive is not in S3."""
    request = _name_primary(request)
    refuse_unsupported(request, RULES)
    check_network(request)
    check_model_image(cloud.region, request["PrimaryContainer"].get("Image", ""))
    name = request["ModelName"]
    refuse_taken(cloud, KIND, name)
    _require_archive(cloud, find_archive(request))
    with cloud.lock:
        refuse_taken(cloud, KIND, name)
        arn = cloud.arn(KIND, name)
        put_tags(cloud, arn, request.get("Tags"))
        cloud.store.put(KIND, name, _build_record(request, arn) | {"CreationTime": cloud.clock.now()})
    return {"ModelArn": arn}


@operation
def describe_model(cloud: Cloud, request: Request) -> Response:
    """Return what CreateModel was given."""
    return show_record(require_record(cloud, KIND, request["ModelName"]))


@operation
def list_models(cloud: Cloud, request: Request) -> Response:
    """Return a page of models, newest first."""
    records = cloud.store.list(KIND)
    page, token = list_page(
        records, request, name="ModelName", sort_keys=SORT_KEYS, sort_by="CreationTime", sort_order="Descending"
    )
    members = ("ModelName", "ModelArn", "CreationTime")
    return {"Models": [{name: model[name] for name in members} for model in page], "NextToken": token}


@operation
def delete_model(cloud: Cloud, request: Request) -> Response:
    """Delete a model. Its archive stays in S3, and endpoints that use it continue to serve."""
    with cloud.lock:
        model = require_record(cloud, KIND, request["ModelName"])
        cloud.store.delete(KIND, model["ModelName"])
        drop_tags(cloud, model["ModelArn"])
    return {}


def find_archive(model: Record) -> str:
    """Return the S3 URI of a model's archive."""
    container = model["PrimaryContainer"]
    uri: str = container.get("ModelDataUrl") or container["ModelDataSource"]["S3DataSource"]["S3Uri"]
    return uri


def _name_primary(request: Request) -> Request:
    """Return the request with its one container as PrimaryContainer, however it was given."""
    containers = request.get("Containers", [])
    if ("PrimaryContainer" in request) == bool(containers):
        raise ValidationException("You must provide either PrimaryContainer or Containers, and not both.")
    if len(containers) > 1:
        raise Unsupported("The local cloud does not support inference pipelines: give one container")
    request = {"PrimaryContainer": containers[0]} | request if containers else dict(request)
    _check_container(request["PrimaryContainer"])
    return {name: value for name, value in request.items() if name != "Containers"}


def _check_container(container: Record) -> None:
    if not container.get("Image") and "ModelPackageName" not in container:
        raise ValidationException("You must provide either Image or ModelPackageName in a container definition.")
    if ("ModelDataUrl" in container) and ("ModelDataSource" in container):
        raise ValidationException("You cannot provide both ModelDataUrl and ModelDataSource in a container definition.")
    source = container.get("ModelDataSource", {})
    if "ModelDataUrl" not in container and "S3DataSource" not in source and "ModelPackageName" not in container:
        raise Unsupported("The local cloud runs no image, only archives with code/ inside: give a ModelDataUrl")


def _require_archive(cloud: Cloud, uri: str) -> None:
    parts = urlsplit(uri)
    try:
        cloud.s3.head_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))
    except botocore.exceptions.ClientError as error:
        raise ValidationException(f"Could not find model data at {uri}.") from error


def _build_record(request: Request, arn: str) -> Record:
    return {
        "EnableNetworkIsolation": False,
        **{name: value for name, value in request.items() if name != "Tags"},
        "ModelArn": arn,
    }
