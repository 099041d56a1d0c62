"""List, describe and delete models: one endpoint for each dataset, whichever run it serves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from chalicelib import errors
from chalicelib.aws.sagemaker import Kind
from chalicelib.models.deployments import delete_endpoint, note_asked
from chalicelib.models.intervals import add_interval
from chalicelib.runs.claims import release_claim, take_claim
from chalicelib.runs.identity import make_endpoint_name
from chalicelib.runs.tags import make_tag_value
from chalicelib.services import Services

RETRY_SECONDS = 15
STATUSES = {
    "InService": "ready",
    "Updating": "updating",
    "SystemUpdating": "updating",
    "RollingBack": "updating",
    "Creating": "creating",
    "Deleting": "deleting",
}


def list_models(services: Services) -> list[dict[str, Any]]:
    """List every dataset that has an endpoint, by name."""
    names = [name.rstrip("/") for name in services.bucket.list_names("models/")]
    endpoints = services.sagemaker.list_all(Kind.ENDPOINT, services.settings.prefix)
    by_endpoint = {each["EndpointName"]: each for each in endpoints}
    pairs = ((name, by_endpoint.get(make_endpoint_name(services.settings, name))) for name in names)
    return [_summarise(name, endpoint) for name, endpoint in pairs if endpoint]


def _summarise(name: str, endpoint: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "status": STATUSES.get(endpoint["EndpointStatus"], "failed"),
        "endpoint": endpoint["EndpointName"],
        "created_at": endpoint["CreationTime"].isoformat(),
        "updated_at": endpoint["LastModifiedTime"].isoformat(),
    }


def describe_model(name: str, services: Services) -> dict[str, Any]:
    """Describe a model, the run that produced it, and its metrics. Raises ModelNotFound."""
    endpoint = services.sagemaker.describe(Kind.ENDPOINT, make_endpoint_name(services.settings, name))
    if endpoint is None:
        raise errors.ModelNotFound(f"There is no model {name!r}. GET /models lists them.")
    run_id = endpoint.get("EndpointConfigName")
    result = services.runs.read_result(run_id) if run_id else None
    return _summarise(name, endpoint) | {
        "run_id": run_id,
        "reason": endpoint.get("FailureReason"),
        "metrics": add_interval((result or {}).get("metrics")),
        "hyperparameters": (result or {}).get("hyperparameters"),
    }


def delete_model(name: str, services: Services) -> dict[str, Any]:
    """Take a model down: its endpoint, and every config and model of its dataset. This ends its cost.

    Raises ModelNotFound, and Conflict while the endpoint is changing or a run deploys to it.
    """
    endpoint = make_endpoint_name(services.settings, name)
    if services.sagemaker.describe(Kind.ENDPOINT, endpoint) is None:
        raise errors.ModelNotFound(f"There is no model {name!r}. GET /models lists them.")
    return {"name": name, "status": "deleting", "deleted": take_down(name, services)}


def take_down(name: str, services: Services) -> list[str]:
    """Delete whatever serves a dataset, or could. Returns the names of what existed. Raises Conflict as above."""
    claim = take_claim(services.bucket, f"models/{name}/lease.json", services.make_id(), services.clock.now())
    if claim is None:
        message = f"The model {name!r} is being deployed at this moment. Try again in a moment."
        raise errors.Conflict(message, retry_after=RETRY_SECONDS)
    endpoint = make_endpoint_name(services.settings, name)
    deleted = []
    try:
        described = services.sagemaker.describe(Kind.ENDPOINT, endpoint)
        if described:
            deleted.append(endpoint)
        if described and described["EndpointStatus"] != "Deleting":
            note_asked(described, services)
            _delete_endpoint(name, endpoint, services)
        for kind in (Kind.ENDPOINT_CONFIG, Kind.MODEL):
            deleted += _delete_all(kind, name, services)
    finally:
        release_claim(services.bucket, claim, services.clock.now())
    return deleted


def take_down_runs(name: str, run_ids: Collection[str], services: Services) -> bool:
    """Delete whatever serves one of these runs of a dataset. Returns False if something is in the way: call again.

    A run that is none of these may be on its way to the same endpoint.
    """
    claim = take_claim(services.bucket, f"models/{name}/lease.json", services.make_id(), services.clock.now())
    if claim is None:
        return False
    endpoint = make_endpoint_name(services.settings, name)
    try:
        there = services.sagemaker.describe(Kind.ENDPOINT, endpoint) or {}
        pending = there.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        if there.get("EndpointConfigName") in run_ids and pending in (None, *run_ids):
            delete_endpoint(endpoint, services)
            there = services.sagemaker.describe(Kind.ENDPOINT, endpoint) or {}
        if {there.get("EndpointConfigName"), pending} & set(run_ids):
            return False
        for run_id in run_ids:
            for kind in (Kind.ENDPOINT_CONFIG, Kind.MODEL):
                services.sagemaker.delete(kind, run_id)
    except errors.Busy:
        return False
    finally:
        release_claim(services.bucket, claim, services.clock.now())
    return True


def _delete_endpoint(name: str, endpoint: str, services: Services) -> None:
    try:
        delete_endpoint(endpoint, services)
    except errors.Busy as error:
        message = f"The endpoint of {name!r} is changing, and can be deleted when that is over. Try again."
        raise errors.Conflict(message, retry_after=RETRY_SECONDS) from error


def _delete_all(kind: Kind, dataset: str, services: Services) -> list[str]:
    """Delete the resources of one kind that carry the dataset's tag, in this app and stage. Returns their names."""
    deleted = []
    for each in services.sagemaker.list_all(kind, services.settings.prefix):
        thing = str(each[f"{kind.title}Name"])
        tags = services.sagemaker.list_tags(each[f"{kind.title}Arn"])
        own = (services.settings.app_name, services.settings.stage, make_tag_value(dataset))
        if (tags.get("whippet:app"), tags.get("whippet:stage"), tags.get("whippet:dataset")) == own:
            services.sagemaker.delete(kind, thing)
            deleted.append(thing)
    return deleted
