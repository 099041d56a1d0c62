"""Find what is left of a stage: by name, service by service, and by tag everywhere else.

The Resource Groups Tagging API covers every service, but goes on returning a resource for a while after its deletion.
So the kinds that can be listed by name are listed by name only, and tags are used for all other kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infrastructure.account.context import explained, page_through
from infrastructure.removing.steps import (
    Removal,
    is_of,
    list_api_logs_roles,
    list_log_groups,
    list_scaling,
    list_unused_roles,
    read_api_logs_role,
)
from infrastructure.stack.artifacts import has_bucket
from infrastructure.stack.orders import OURS

HISTORY = (":training-job/", ":hyper-parameter-tuning-job/")  # ended jobs: their records cost nothing
LISTED = (
    *("lambda", "sqs", "sns", "events", "cloudwatch", "logs", "secretsmanager", "s3", "sagemaker", "iam"),
    *("apigateway", "cloudformation"),
)


@dataclass(frozen=True)
class Leftovers:
    """What was found: what should be gone, and what is kept on purpose, with the reason."""

    left: tuple[str, ...]
    kept: tuple[str, ...] = ()


def find_leftovers(work: Removal, *, keeps_data: bool) -> Leftovers:
    """Find what is left of a stage."""
    with explained("Looking for what is left"):
        named = [f"{kind} {name}" for kind, find in LISTS.items() for name in find(work)]
        left = named + [f"tagged {arn}" for arn in find_tagged(work)]
        kept = [f"role {name}: API Gateway of the whole account writes its logs with it" for name in find_used(work)]
        data = work.stage.bucket
        if has_bucket(work.client("s3"), data, work.stage.account.number):
            told = f"bucket {data}"
            kept, left = (
                ([*kept, f"{told}: your data (DATA=delete deletes it)"], left) if keeps_data else (kept, [*left, told])
            )
    return Leftovers(tuple(left), tuple(kept))


def find_tagged(work: Removal) -> list[str]:
    """List what carries the stage's tags and is of no kind that is listed by name."""
    stage = work.stage
    tags = {f"{OURS}app": stage.app, f"{OURS}stage": stage.name}
    filters = [{"Key": key, "Values": [value]} for key, value in tags.items()]
    client, member = work.client("resourcegroupstaggingapi"), "ResourceTagMappingList"
    arns = [each["ResourceARN"] for each in page_through(client, "get_resources", member, TagFilters=filters)]
    return [arn for arn in arns if arn.split(":")[2] not in LISTED and not any(word in arn for word in HISTORY)]


def list_by(service: str, operation: str, member: str, key: str, **request: Any) -> Callable[[Removal], list[str]]:
    """Return a function that lists the stage's names in a service. A name may be the end of an ARN or a URL."""

    def find(work: Removal) -> list[str]:
        entries = page_through(work.client(service), operation, member, **request)
        names = (each[key] if key else each for each in entries)
        return [name for name in names if is_of(name.replace(":", "/").rpartition("/")[2], work.stage)]

    return find


def list_sagemaker(title: str, method: str) -> Callable[[Removal], list[str]]:
    return lambda work: work.list_names(title, method)


def find_roles(work: Removal) -> list[str]:
    """List the stage's roles in this region, whose names end with the region, except the account's shared role."""
    names = list_by("iam", "list_roles", "Roles", "RoleName")(work)
    own = [name for name in names if name.endswith(f"-{work.stage.account.region}")]
    return [*own, *list_unused_roles(work)]


def find_used(work: Removal) -> list[str]:
    """List the role for API Gateway's logs if this stage created it and API Gateway still uses it."""
    used = read_api_logs_role(work)
    return [name for name in list_api_logs_roles(work) if name == used]


def find_artifacts(work: Removal) -> list[str]:
    stage = work.stage
    return [stage.artifacts] if has_bucket(work.client("s3"), stage.artifacts, stage.account.number) else []


LISTS: dict[str, Callable[[Removal], list[str]]] = {
    "stack": lambda work: [name for name in list_live_stacks(work) if name == work.stage.stack],
    "running job": lambda work: [name for _title, _method, name in work.list_running()],
    "endpoint": list_sagemaker("Endpoint", "endpoint"),
    "endpoint config": list_sagemaker("EndpointConfig", "endpoint_config"),
    "model": list_sagemaker("Model", "model"),
    "autoscaling target": lambda work: [each["ResourceId"] for each in list_scaling(work)],
    "function": list_by("lambda", "list_functions", "Functions", "FunctionName"),
    "event rule": list_by("events", "list_rules", "Rules", "Name"),
    "queue": list_by("sqs", "list_queues", "QueueUrls", ""),
    "topic": list_by("sns", "list_topics", "Topics", "TopicArn"),
    "alarm": list_by("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    "dashboard": list_by("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    "secret": list_by("secretsmanager", "list_secrets", "SecretList", "Name"),
    "API": list_by("apigateway", "get_rest_apis", "items", "name"),
    "log group": list_log_groups,
    "role": find_roles,
    "bucket": find_artifacts,
}


def list_live_stacks(work: Removal) -> list[str]:
    """List the names of the stacks that are not deleted."""
    stacks = page_through(work.client("cloudformation"), "describe_stacks", "Stacks")
    return [each["StackName"] for each in stacks if each["StackStatus"] != "DELETE_COMPLETE"]
