"""Check the account's quotas of instances that faults.json sets. A request beyond one is refused in AWS's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localcloud.common.store import Record
from localcloud.protocol.account_limits import MOST_PARALLEL, PARALLEL_QUOTA
from localcloud.protocol.errors import ResourceLimitExceeded
from localcloud.sagemaker.core.cloud import Cloud
from localcloud.sagemaker.core.tuning_resources import list_resources

ADVICE = (
    "Please use AWS Service Quotas to request an increase for this quota. If AWS Service Quotas is not available, "
    "contact AWS support to request an increase for this quota."
)


def check_training_quota(cloud: Cloud, definition: Record, parallel: int = 1) -> None:
    """Raise ResourceLimitExceeded if none of the definition's instance types has quota for `parallel` jobs."""
    spot = definition.get("EnableManagedSpotTraining", False)
    refusals = []
    for resources in list_resources(definition):
        kind, wanted = resources["InstanceType"], parallel * resources.get("InstanceCount", 1)
        name, used = name_training_quota(kind, spot=spot), count_training(cloud, kind, spot)
        refusal = _explain_excess(cloud, name, used, wanted)
        if refusal is None:
            return
        refusals.append(refusal)
    raise ResourceLimitExceeded(refusals[0])


def check_parallel_quota(cloud: Cloud, parallel: int) -> None:
    """Raise ResourceLimitExceeded if a tuning job would run more training jobs at once than the account may."""
    limit = cloud.faults().quotas.get(PARALLEL_QUOTA, MOST_PARALLEL)
    if parallel > limit:
        raise ResourceLimitExceeded(
            f"The account-level service limit '{PARALLEL_QUOTA}' is {limit}, with current utilization of 0 and a "
            f"request delta of {parallel}. {ADVICE}"
        )


def check_endpoint_quota(cloud: Cloud, instances: Mapping[str, int]) -> None:
    """Raise ResourceLimitExceeded if an endpoint's instances, by type, exceed their quota."""
    for kind, count in instances.items():
        name, used = f"{kind} for endpoint usage", count_hosting(cloud, kind)
        if (refusal := _explain_excess(cloud, name, used, count)) is not None:
            raise ResourceLimitExceeded(refusal)


def name_training_quota(kind: str, *, spot: bool) -> str:
    """Return the quota's name in Service Quotas."""
    return f"{kind} for {'spot ' if spot else ''}training job usage"


def count_training(cloud: Cloud, kind: str, spot: bool) -> int:
    """Count the instances of a type that training jobs use now."""
    jobs = [job for job in cloud.store.list("training-job") if job["TrainingJobStatus"] in ("InProgress", "Stopping")]
    return sum(
        job["ResourceConfig"].get("InstanceCount", 1)
        for job in jobs
        if job["ResourceConfig"].get("InstanceType") == kind and job["EnableManagedSpotTraining"] == spot
    )


def count_hosting(cloud: Cloud, kind: str) -> int:
    """Count the instances of a type that endpoints use now, including deployments under way."""
    held: list[dict[str, Any]] = []
    for endpoint in cloud.store.list("endpoint"):
        held += [endpoint.get("_instances", {}), endpoint.get("_pending", {}).get("instances", {})]
    return sum(each.get(kind, 0) for each in held)


def _explain_excess(cloud: Cloud, name: str, used: int, wanted: int) -> str | None:
    limit = cloud.faults().quotas.get(name)
    if limit is None or used + wanted <= limit:
        return None
    return (
        f"The account-level service limit '{name}' is {limit} Instances, with current utilization of {used} Instances "
        f"and a request delta of {wanted} Instances. {ADVICE}"
    )
