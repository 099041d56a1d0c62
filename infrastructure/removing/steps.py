"""Remove a stage in an order in which nothing blocks the next step: jobs, endpoints, the stack, then logs and buckets.

Each step finds its resources by name, so it can be repeated from anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infrastructure.account.context import Stage, explained, page_through, read_code
from infrastructure.errors import CannotDeploy
from infrastructure.stack.artifacts import has_bucket
from infrastructure.stack.cloudformation import Tell

WAIT_SECONDS, POLL_SECONDS = 900, 3.0
JOBS = (("HyperParameterTuningJob", "hyper_parameter_tuning_job"), ("TrainingJob", "training_job"))
SERVING = (("EndpointConfig", "endpoint_config"), ("Model", "model"))
SHARED_LOGS = ("/aws/sagemaker/TrainingJobs",)
AT_ONCE = 1_000  # the limit of DeleteObjects


@dataclass(frozen=True)
class Removal:
    """What a removal works with; `sleep` takes seconds."""

    stage: Stage
    tell: Tell
    sleep: Callable[[float], None] = time.sleep

    def client(self, service: str) -> Any:
        return self.stage.account.clients(service)

    def list_names(self, title: str, method: str, key: str = "", **request: Any) -> list[str]:
        """List the names of the stage's SageMaker resources of a kind."""
        request["NameContains"] = self.stage.stack
        entries = page_through(self.client("sagemaker"), f"list_{method}s", key or f"{title}s", **request)
        names = (each[f"{title}Name"] for each in entries)
        return [name for name in names if name.startswith(self.stage.prefix)]

    def list_running(self) -> list[tuple[str, str, str]]:
        """List (title, method, name) of each job that has not ended."""
        return [
            (title, method, name)
            for title, method in JOBS
            for status in ("InProgress", "Stopping")
            for name in self.list_names(title, method, f"{title}Summaries", StatusEquals=status)
        ]

    def wait_for(self, what: str, is_done: Callable[[], bool]) -> None:
        """Wait until something is done. Raises CannotDeploy after a quarter of an hour."""
        for _ in range(int(WAIT_SECONDS / POLL_SECONDS)):
            if is_done():
                return
            self.sleep(POLL_SECONDS)
        raise CannotDeploy(f"{what}: not after {WAIT_SECONDS // 60} minutes. Run the same command again later.")


def stop_jobs(work: Removal) -> None:
    """Stop every tuning and training job and wait until none runs: running jobs are billed, and write."""
    from botocore.exceptions import ClientError

    with explained("Stopping jobs"):
        for title, method, name in work.list_running():
            work.tell(f"Stopping {title} {name}")
            try:
                getattr(work.client("sagemaker"), f"stop_{method}")(**{f"{title}Name": name})
            except ClientError as error:  # it has ended, or its tuning job has already stopped it
                if read_code(error) not in ("ValidationException", "ResourceNotFound"):
                    raise
        work.wait_for("Jobs are still stopping", lambda: not work.list_running())


def delete_serving(work: Removal) -> None:
    """Delete endpoints with their autoscaling targets, then configs, then models."""
    sagemaker = work.client("sagemaker")
    with explained("Deleting endpoints"):
        remove_scaling(work)
        for name in work.list_names("Endpoint", "endpoint"):
            work.tell(f"Deleting endpoint {name}")
            work.wait_for(f"Endpoint {name} is changing", lambda name=name: try_delete_endpoint(sagemaker, name))  # type: ignore[misc]
        work.wait_for("Endpoints are still being deleted", lambda: not work.list_names("Endpoint", "endpoint"))
        for title, method in SERVING:
            for name in work.list_names(title, method):
                work.tell(f"Deleting {title} {name}")
                getattr(sagemaker, f"delete_{method}")(**{f"{title}Name": name})


def try_delete_endpoint(sagemaker: Any, name: str) -> bool:
    """Request an endpoint's deletion. Returns False while it is being created or updated, which must finish first."""
    from botocore.exceptions import ClientError

    try:
        sagemaker.delete_endpoint(EndpointName=name)
    except ClientError as error:
        words = str(error)
        if "Could not find" in words or "Deleting" in words:
            return True
        if "Cannot update in-progress" in words or "Creating" in words or "Updating" in words:
            return False
        raise
    return True


def list_scaling(work: Removal) -> list[dict[str, Any]]:
    """List the autoscaling targets of the stage's endpoints."""
    client, operation = work.client("application-autoscaling"), "describe_scalable_targets"
    targets = page_through(client, operation, "ScalableTargets", ServiceNamespace="sagemaker")
    return [each for each in targets if each["ResourceId"].startswith(f"endpoint/{work.stage.prefix}")]


def remove_scaling(work: Removal) -> None:
    """Remove the autoscaling targets: one that is left would keep alarms for a deleted endpoint."""
    for target in list_scaling(work):
        keys = ("ServiceNamespace", "ResourceId", "ScalableDimension")
        work.tell(f"Removing autoscaling of {target['ResourceId']}")
        work.client("application-autoscaling").deregister_scalable_target(**{key: target[key] for key in keys})


def read_api_logs_role(work: Removal) -> str:
    """Return the name of the role with which API Gateway writes logs in this region; empty if it has none."""
    return str(work.client("apigateway").get_account().get("cloudwatchRoleArn", "")).rpartition("/")[2]


def list_api_logs_roles(work: Removal) -> list[str]:
    """List the roles that this stage created for API Gateway's logs in this region, by their description."""
    roles = page_through(work.client("iam"), "list_roles", "Roles")
    ours = [each for each in roles if each["RoleName"].startswith(f"{work.stage.prefix}ApiLogsRole")]
    region = f" of {work.stage.account.region} "
    return [each["RoleName"] for each in ours if region in each.get("Description", "")]


def list_unused_roles(work: Removal) -> list[str]:
    """List those that API Gateway does not use: another role replaced them, or a deployment failed half-way."""
    used = read_api_logs_role(work)
    return [name for name in list_api_logs_roles(work) if name != used]


def delete_unused_roles(work: Removal) -> None:
    """Delete the unused roles for API Gateway's logs: a stack retains every one of them."""
    iam = work.client("iam")
    with explained("Deleting roles"):
        for name in list_unused_roles(work):
            work.tell(f"Deleting role {name}")
            for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
                iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
            iam.delete_role(RoleName=name)


def list_log_groups(work: Removal) -> list[str]:
    """List the log groups of the stage's functions, API and endpoints."""
    stage = work.stage
    prefixes = [f"/aws/{kind}/{stage.prefix}" for kind in ("lambda", "sagemaker/Endpoints")]
    prefixes += [f"/aws/apigateway/{stage.stack}"]
    groups = (
        each
        for prefix in prefixes
        for each in page_through(work.client("logs"), "describe_log_groups", "logGroups", logGroupNamePrefix=prefix)
    )
    names = (each["logGroupName"] for each in groups)
    return [name for name in names if is_of(name.rpartition("/")[2], stage)]


def is_of(name: str, stage: Stage) -> bool:
    """Return whether a name is the stage's: `app-dev-x` is dev's, `app-development-x` is not."""
    return name == stage.stack or name.startswith(stage.prefix)


def delete_logs(work: Removal) -> None:
    """Delete the stage's own log groups, and its jobs' streams in the groups that the account shares."""
    logs = work.client("logs")
    with explained("Deleting logs"):
        for name in list_log_groups(work):
            work.tell(f"Deleting log group {name}")
            logs.delete_log_group(logGroupName=name)
        for group in SHARED_LOGS:
            for stream in list_streams(logs, group, work.stage.prefix):
                logs.delete_log_stream(logGroupName=group, logStreamName=stream)


def list_streams(logs: Any, group: str, prefix: str) -> list[str]:
    """List the streams of a log group whose names begin with a prefix; empty if there is no such group."""
    from botocore.exceptions import ClientError

    try:
        request = {"logGroupName": group, "logStreamNamePrefix": prefix}
        return [each["logStreamName"] for each in page_through(logs, "describe_log_streams", "logStreams", **request)]
    except ClientError as error:
        if read_code(error) == "ResourceNotFoundException":
            return []
        raise


def delete_bucket(work: Removal, name: str) -> bool:
    """Delete a bucket with every version of every object in it. Returns False if there was none."""
    s3 = work.client("s3")
    with explained(f"Deleting the bucket {name}"):
        if not has_bucket(s3, name, work.stage.account.number):
            return False
        for upload in list_uploads(s3, name):
            s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        gone = 0
        for batch in list_versions(s3, name):
            answer = s3.delete_objects(Bucket=name, Delete={"Objects": batch, "Quiet": True})
            if errors := answer.get("Errors"):
                raise CannotDeploy(f"{errors[0]['Key']} in {name} cannot be deleted: {errors[0]['Message']}")
            gone += len(batch)
        s3.delete_bucket(Bucket=name)
    work.tell(f"Deleted the bucket {name} with {gone} versions of objects.")
    return True


def list_uploads(s3: Any, bucket: str) -> list[Mapping[str, Any]]:
    """List the multipart uploads that were never completed."""
    return list(page_through(s3, "list_multipart_uploads", "Uploads", Bucket=bucket))


def list_versions(s3: Any, bucket: str) -> Iterator[list[dict[str, str]]]:
    """Yield every version and delete marker of a bucket, in batches that one call can delete."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, MaxKeys=AT_ONCE):
        held = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if held:
            yield [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in held]
