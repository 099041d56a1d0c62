"""Serve the operations of endpoints, and keep the record that a runner's reports move from Creating to InService.

    Creating ─▶ InService ─▶ Updating ─▶ InService              on the new config
        └────▶ Failed            └────▶ RollingBack ─▶ InService  on the old one, with a FailureReason
    any that is at rest ─▶ Deleting ─▶ gone

A record is DescribeEndpoint's answer. Private members begin with `_`: `_variants` is what serves, kept whole, since an
endpoint outlives its config and models. `_pending` is the deployment under way. `_number` counts deployments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from localcloud.common.store import Record
from localcloud.protocol.errors import Unsupported, ValidationException
from localcloud.sagemaker.core.cloud import Cloud, Request, Response, operation
from localcloud.sagemaker.core.events import ENDPOINT, emit_change
from localcloud.sagemaker.core.listing import list_page
from localcloud.sagemaker.core.quotas import check_endpoint_quota
from localcloud.sagemaker.core.records import find_record, refuse_taken, require_record, show_record
from localcloud.sagemaker.core.tags import drop_tags, put_tags
from localcloud.sagemaker.core.unsupported import Rules, refuse_unsupported
from localcloud.sagemaker.hosting import endpoint_configs, models
from localcloud.sagemaker.hosting.deployments import DEFAULT_STARTUP_S, Deployment, Variant

KIND = "endpoint"
DELETING_SECONDS = 2.0  # on AWS about a minute, in which the name is taken
SERVING = ("InService", "Updating", "RollingBack")
NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please retry using a "
    "different ML instance type or after some time."
)
MOVING = ("Creating", "Updating", "RollingBack", "Deleting")
SORT_KEYS = {"Name": "EndpointName", "CreationTime": "CreationTime", "Status": "EndpointStatus"}
RULES: Rules = {
    "DeploymentConfig": (),
    "RetainAllVariantProperties": (False,),
    "ExcludeRetainedVariantProperties": ([],),
    "RetainDeploymentConfig": (False,),
}
EVENT_MEMBERS = (
    "EndpointName",
    "EndpointArn",
    "EndpointConfigName",
    "ProductionVariants",
    "DataCaptureConfig",
    "EndpointStatus",
    "FailureReason",
    "CreationTime",
    "LastModifiedTime",
)
EVENT_STATUS = {
    "Creating": "CREATING",
    "InService": "IN_SERVICE",
    "Updating": "UPDATING",
    "RollingBack": "ROLLING_BACK",
    "Deleting": "DELETING",
    "Failed": "FAILED",
}


@dataclass(frozen=True)
class Report:
    """What the runner of an endpoint's servers reports on one deployment, from any thread."""

    cloud: Cloud
    name: str
    number: int

    def succeed(self) -> None:
        """Report that the deployment has the endpoint's traffic."""
        self._settle(finish_deployment)

    def fail(self, reason: str) -> None:
        """Report that the deployment could not be started. Whatever served before still serves."""
        self._settle(lambda cloud, endpoint: fail_deployment(cloud, endpoint, reason))

    def _settle(self, change: Callable[[Cloud, Record], None]) -> None:
        with self.cloud.lock:
            endpoint = self.cloud.store.get(KIND, self.name)
            if endpoint is not None and endpoint.get("_pending", {}).get("number") == self.number:
                change(self.cloud, endpoint)


@dataclass(frozen=True)
class RestoreReport:
    """What the runner reports on an endpoint that served before a restart. It is InService already."""

    cloud: Cloud
    name: str

    def succeed(self) -> None:
        """Report that the servers are back. Nothing has changed."""

    def fail(self, reason: str) -> None:
        """Report that what served before the restart cannot be started any more."""
        with self.cloud.lock:
            endpoint = self.cloud.store.get(KIND, self.name)
            if endpoint is not None and endpoint["EndpointStatus"] == "InService":
                move(self.cloud, endpoint | {"FailureReason": reason}, "Failed")


@operation
def create_endpoint(cloud: Cloud, request: Request) -> Response:
    """Begin an endpoint. Raises ValidationException if the name is taken or the config is missing."""
    refuse_unsupported(request, RULES)
    name = request["EndpointName"]
    with cloud.lock:
        refuse_taken(cloud, KIND, name)
        pending = plan_deployment(cloud, request["EndpointConfigName"], 1)
        check_endpoint_quota(cloud, pending["instances"])
        arn = cloud.arn(KIND, name)
        put_tags(cloud, arn, request.get("Tags"))
        endpoint = {
            "EndpointName": name,
            "EndpointArn": arn,
            "EndpointConfigName": pending["config"],
            "CreationTime": cloud.clock.now(),
            "_pending": pending,
        }
        move(cloud, endpoint, "Creating")
        begin_deployment(cloud, endpoint)
    return {"EndpointArn": arn}


@operation
def update_endpoint(cloud: Cloud, request: Request) -> Response:
    """Begin to move an endpoint to another configuration; it serves all the while."""
    refuse_unsupported(request, RULES)
    with cloud.lock:
        endpoint = require_resting(cloud, request["EndpointName"])
        if endpoint["EndpointStatus"] == "Failed":
            raise ValidationException(f'Cannot update failed endpoint "{endpoint["EndpointArn"]}". Delete it.')
        require_record(cloud, endpoint_configs.KIND, endpoint["EndpointConfigName"])  # AWS looks up the old one too
        pending = plan_deployment(cloud, request["EndpointConfigName"], endpoint["_number"] + 1)
        if pending["serverless"] and not endpoint["_serverless"]:
            raise ValidationException("Updating an instance-based endpoint to a serverless endpoint is not supported.")
        check_endpoint_quota(cloud, pending["instances"])  # the old instances serve until the new ones do
        endpoint["_pending"] = pending
        move(cloud, endpoint, "Updating")
        begin_deployment(cloud, endpoint)
    return {"EndpointArn": endpoint["EndpointArn"]}


@operation
def describe_endpoint(cloud: Cloud, request: Request) -> Response:
    """Describe an endpoint. While it is updated, EndpointConfigName is the config that still serves."""
    endpoint = require_record(cloud, KIND, request["EndpointName"])
    shown = show_record(endpoint)
    if endpoint["EndpointStatus"] == "Updating":
        pending = endpoint["_pending"]
        shown["PendingDeploymentSummary"] = {"EndpointConfigName": pending["config"], "StartTime": pending["since"]}
    return shown


@operation
def list_endpoints(cloud: Cloud, request: Request) -> Response:
    """Return a page of endpoints, newest first."""
    page, token = list_page(
        cloud.store.list(KIND),
        request,
        name="EndpointName",
        sort_keys=SORT_KEYS,
        sort_by="CreationTime",
        sort_order="Descending",
        status="EndpointStatus",
    )
    members = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
    return {"Endpoints": [{name: one[name] for name in members} for one in page], "NextToken": token}


@operation
def delete_endpoint(cloud: Cloud, request: Request) -> Response:
    """Begin to delete an endpoint. It takes no more requests, and is gone some seconds later."""
    with cloud.lock:
        endpoint = require_resting(cloud, request["EndpointName"])
        move(cloud, endpoint, "Deleting")
        cloud.clock.call_later(DELETING_SECONDS, finish_deletion, cloud, endpoint["EndpointName"])
    return {}


def resume_endpoints(cloud: Cloud) -> None:
    """After a restart, serve again what served, and continue what was under way."""
    for endpoint in cloud.store.list(KIND):
        name, status = endpoint["EndpointName"], endpoint["EndpointStatus"]
        with cloud.lock:
            if status in SERVING:
                deployment = Deployment(name, endpoint["_number"], read_variants(endpoint["_variants"]))
                cloud.serving.deploy(deployment, RestoreReport(cloud, name))
            if status == "RollingBack":
                move(cloud, endpoint, "InService")
            elif status in ("Creating", "Updating"):
                begin_deployment(cloud, endpoint)
            elif status == "Deleting":
                finish_deletion(cloud, name)


def plan_deployment(cloud: Cloud, config_name: str, number: int) -> Record:
    """Resolve what a config asks for. Later changes to models and configs do not affect it."""
    config = require_record(cloud, endpoint_configs.KIND, config_name)
    variants = config["ProductionVariants"]
    if not all(variant.get("InitialVariantWeight", 1) >= 0 for variant in variants):
        raise Unsupported("The local cloud takes no negative weights")
    return {
        "number": number,
        "config": config["EndpointConfigName"],
        "serverless": endpoint_configs.is_serverless(variants),
        "instances": _count_instances(variants),
        "variants": [_resolve_variant(cloud, variant) for variant in variants],
        "summaries": [_summarise_variant(cloud, variant, cloud.clock.now()) for variant in variants],
        "since": cloud.clock.now(),
    }


def begin_deployment(cloud: Cloud, endpoint: Record) -> None:
    """Hand the pending deployment to the runner."""
    name, pending = endpoint["EndpointName"], endpoint["_pending"]
    report = Report(cloud, name, pending["number"])
    if cloud.faults().no_capacity & pending.get("instances", {}).keys():
        cloud.clock.call_later(0, report.fail, NO_CAPACITY)
        return
    deployment = Deployment(name, pending["number"], read_variants(pending["variants"]))
    cloud.serving.deploy(deployment, report)


def finish_deployment(cloud: Cloud, endpoint: Record) -> None:
    """Make the pending deployment the one that serves."""
    pending = endpoint.pop("_pending")
    endpoint.pop("FailureReason", None)
    serving = {
        "EndpointConfigName": pending["config"],
        "ProductionVariants": pending["summaries"],
        "_variants": pending["variants"],
        "_serverless": pending["serverless"],
        "_instances": pending.get("instances", {}),
        "_number": pending["number"],
    }
    move(cloud, endpoint | serving, "InService")


def fail_deployment(cloud: Cloud, endpoint: Record, reason: str) -> None:
    """End a failed deployment: the first leaves a Failed endpoint, a later one leaves the endpoint as it was."""
    pending = endpoint.pop("_pending")
    endpoint["FailureReason"] = reason[:1024]
    if endpoint["EndpointStatus"] == "Creating":
        move(cloud, endpoint, "Failed")
    else:
        endpoint["_number"] = pending["number"]
        move(cloud, endpoint, "RollingBack")
        move(cloud, endpoint, "InService")


def finish_deletion(cloud: Cloud, name: str) -> None:
    """Stop the servers and delete the endpoint."""
    with cloud.lock:
        endpoint = find_record(cloud, KIND, name)
        if endpoint is not None and endpoint["EndpointStatus"] == "Deleting":
            cloud.serving.remove(name)
            cloud.store.delete(KIND, name)
            drop_tags(cloud, endpoint["EndpointArn"])


def require_resting(cloud: Cloud, name: str) -> Record:
    """Return the endpoint's record. Raises ValidationException if there is none, or while it is changing."""
    endpoint = require_record(cloud, KIND, name)
    if endpoint["EndpointStatus"] in MOVING:
        raise ValidationException(f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
    return endpoint


def move(cloud: Cloud, endpoint: Record, status: str) -> None:
    """Store the endpoint with its new status, and send AWS's event."""
    endpoint = endpoint | {"EndpointStatus": status, "LastModifiedTime": cloud.clock.now()}
    cloud.store.put(KIND, endpoint["EndpointName"], endpoint)
    told = endpoint | {"EndpointStatus": EVENT_STATUS[status]}
    emit_change(cloud, ENDPOINT, endpoint["EndpointArn"], told, EVENT_MEMBERS)


def read_variants(records: list[Record]) -> tuple[Variant, ...]:
    """Return the variants as the runner takes them."""
    return tuple(Variant(**record) for record in records)


def _count_instances(variants: list[Record]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for variant in variants:
        if "InstanceType" in variant:
            counts[variant["InstanceType"]] = counts.get(variant["InstanceType"], 0) + variant["InitialInstanceCount"]
    return counts


def _resolve_variant(cloud: Cloud, variant: Record) -> Record:
    model = require_record(cloud, models.KIND, variant["ModelName"])
    resolved = Variant(
        name=variant["VariantName"],
        model=model["ModelName"],
        archive=models.find_archive(model),
        environment=model["PrimaryContainer"].get("Environment", {}),
        weight=variant["InitialVariantWeight"],
        startup_seconds=variant.get("ContainerStartupHealthCheckTimeoutInSeconds", DEFAULT_STARTUP_S),
        role=model.get("ExecutionRoleArn", ""),
    )
    return dataclasses.asdict(resolved)


def _summarise_variant(cloud: Cloud, variant: Record, now: datetime) -> Record:
    image = require_record(cloud, models.KIND, variant["ModelName"])["PrimaryContainer"]["Image"]
    weight = variant["InitialVariantWeight"]
    summary: dict[str, Any] = {
        "VariantName": variant["VariantName"],
        "DeployedImages": [{"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": now}],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
    }
    if serverless := variant.get("ServerlessConfig"):
        return summary | {
            "CurrentServerlessConfig": serverless,
            "DesiredServerlessConfig": serverless,
            "CurrentInstanceCount": 0,
            "DesiredInstanceCount": 0,
        }
    count = variant["InitialInstanceCount"]
    return summary | {"CurrentInstanceCount": count, "DesiredInstanceCount": count}
