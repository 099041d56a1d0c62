"""Build SageMaker's requests for serving a model: model, endpoint config, endpoint. Pure."""

from __future__ import annotations

from typing import Any

from chalicelib.recipes.instances import count_processors, has_gpu, has_own_disk, read_memory
from chalicelib.recipes.resolving import Recipe
from chalicelib.recipes.serving_memory import count_workers
from chalicelib.runs.identity import Run
from chalicelib.runs.tags import build_tags
from chalicelib.settings import Settings

HEALTH_CHECK_SECONDS = 600
SERVER = {
    "SAGEMAKER_PROGRAM": "inference.py",
    "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
    "TS_MAX_REQUEST_SIZE": "25000000",  # InvokeEndpoint's limit; TorchServe's own default is 6.5 MB
}

WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"

Request = dict[str, Any]


def build_model_request(run: Run, recipe: Recipe, settings: Settings, model_data: str, uploads: str) -> Request:
    """Build CreateModel for the archive at `model_data`, an S3 URI.

    `uploads` is the origin of the bucket's signed URLs: the container fetches uploaded images from no other.
    """
    on_gpu = recipe.endpoint.kind == "instance" and has_gpu(choose_instance_type(recipe, settings))
    image = settings.inference_image_gpu if on_gpu else settings.inference_image_cpu
    environment = SERVER | build_workers(run, recipe, settings) | {"UPLOADS_ORIGIN": uploads}
    return {
        "ModelName": run.run_id,
        "PrimaryContainer": {"Image": image, "ModelDataUrl": model_data, "Environment": environment},
        "ExecutionRoleArn": settings.execution_role_arn,
        "Tags": build_tags(run, settings),
        **build_network(settings),
    }


def build_workers(run: Run, recipe: Recipe, settings: Settings) -> dict[str, str]:
    """Return the variable that says how many workers the server runs: one, or as many as each machine holds.

    A model serves on whichever of its machines AWS has, so the smallest decides. On a GPU there is no variable:
    TorchServe itself runs one worker for each GPU.
    """
    if recipe.endpoint.kind == "serverless":
        return {WORKERS: "1"}
    types = run.list_pinned_types("endpoint") or (choose_instance_type(recipe, settings),)
    if any(has_gpu(each) for each in types):
        return {}
    size = (recipe.architecture, recipe.image_size)
    counts = [count_workers(*size, count_processors(each), read_memory(each)) for each in types]
    return {WORKERS: str(min(counts))}


def choose_instance_type(recipe: Recipe, settings: Settings) -> str:
    """Return the machine type of an `instance` endpoint."""
    return (recipe.instance_types.endpoint or settings.endpoint_instance_types)[0]


def build_network(settings: Settings) -> Request:
    """Build the member that puts a job or a model into the app's VPC; empty without a VPC."""
    if not settings.in_vpc:
        return {}
    config = {"Subnets": list(settings.subnet_ids), "SecurityGroupIds": list(settings.security_group_ids)}
    return {"VpcConfig": config}


def name_variant(settings: Settings) -> str:
    """Return the name of every endpoint's only variant: it is the stage's, so that one alarm covers all endpoints."""
    return f"{settings.app_name}-{settings.stage}"


def build_config_request(run: Run, recipe: Recipe, settings: Settings) -> Request:
    """Build CreateEndpointConfig for the run's model.

    It names a key only if SageMaker attaches a volume: a serverless endpoint has none, and some machines have a disk
    that encrypts itself.
    """
    variant: Request = {"VariantName": name_variant(settings), "ModelName": run.run_id, "InitialVariantWeight": 1.0}
    plan, key = recipe.endpoint, {}
    if plan.kind == "serverless":
        variant["ServerlessConfig"] = {"MemorySizeInMB": plan.memory_mb, "MaxConcurrency": plan.max_concurrency}
    else:
        variant["InitialInstanceCount"] = plan.min_instances
        variant["InstanceType"] = choose_instance_type(recipe, settings)
        variant["ContainerStartupHealthCheckTimeoutInSeconds"] = HEALTH_CHECK_SECONDS
        if settings.kms_key_arn and not has_own_disk(variant["InstanceType"]):
            key = {"KmsKeyId": settings.kms_key_arn}
    return {
        "EndpointConfigName": run.run_id,
        "ProductionVariants": [variant],
        "Tags": build_tags(run, settings),
        **key,
    }


def build_endpoint_request(run: Run, settings: Settings) -> Request:
    """Build CreateEndpoint on the run's config."""
    return {
        "EndpointName": run.endpoint,
        "EndpointConfigName": run.run_id,
        "Tags": build_tags(run, settings),
    }
