"""Wrap SageMaker: its jobs, models and endpoints, and invoking an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, cast

from chalicelib import errors
from chalicelib.aws.clients import translated

PATIENCE = (24.0, 16.0, 10.0, 6.0, 3.0, 1.0)  # seconds; each client has one timeout for good, so there are several


class Kind(Enum):
    """A kind of SageMaker resource, with its names in operations: (CreateX, XName) and (create_x)."""

    TUNING_JOB = ("HyperParameterTuningJob", "hyper_parameter_tuning_job")
    TRAINING_JOB = ("TrainingJob", "training_job")
    MODEL = ("Model", "model")
    ENDPOINT_CONFIG = ("EndpointConfig", "endpoint_config")
    ENDPOINT = ("Endpoint", "endpoint")

    def __init__(self, title: str, method: str) -> None:
        self.title = title
        self.method = method


class SageMaker:
    """SageMaker's control plane. Requests and responses are SageMaker's own dictionaries."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def _call(self, verb: str, kind: Kind, request: dict[str, Any]) -> dict[str, Any]:
        name = request.get(f"{kind.title}Name", "")
        with translated(f"{verb.title()}{kind.title} {name}".rstrip()):
            return cast(dict[str, Any], getattr(self._client, f"{verb}_{kind.method}")(**request))

    def describe(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """Return SageMaker's description of a resource, or None if there is none of this name."""
        try:
            return self._call("describe", kind, {f"{kind.title}Name": name})
        except errors.ServiceNotFound:
            return None

    def create(self, kind: Kind, request: dict[str, Any]) -> None:
        """Create a resource. Raises AlreadyExists if the name is taken."""
        self._call("create", kind, request)

    def stop(self, kind: Kind, name: str) -> bool:
        """Stop a job. Returns False if SageMaker refuses it because the job has ended, or has no such job."""
        try:
            self._call("stop", kind, {f"{kind.title}Name": name})
        except (errors.Busy, errors.ServiceNotFound):
            return False
        return True

    def delete(self, kind: Kind, name: str) -> bool:
        """Delete a resource. Returns False if there is none. Raises Busy while it is changing."""
        try:
            self._call("delete", kind, {f"{kind.title}Name": name})
        except errors.ServiceNotFound:
            return False
        return True

    def update_endpoint(self, name: str, config: str) -> None:
        self._call("update", Kind.ENDPOINT, {"EndpointName": name, "EndpointConfigName": config})

    def list_trials(self, tuning_job: str) -> list[dict[str, Any]]:
        """List the training jobs of a tuning job, oldest first."""
        call = self._client.list_training_jobs_for_hyper_parameter_tuning_job
        request = {"HyperParameterTuningJobName": tuning_job, "SortBy": "CreationTime", "SortOrder": "Ascending"}
        return self._list(call, "TrainingJobSummaries", request)

    def list_all(self, kind: Kind, containing: str) -> list[dict[str, Any]]:
        """List the models, endpoint configs or endpoints whose names contain a text."""
        call = getattr(self._client, f"list_{kind.method}s")
        return self._list(call, f"{kind.title}s", {"NameContains": containing})

    def _list(self, call: Callable[..., Any], member: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            with translated(f"Listing {member} of {request}"):
                page = call(MaxResults=100, **request, **token)
            found += page[member]
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}

    def list_tags(self, arn: str) -> dict[str, str]:
        with translated(f"ListTags {arn}"):
            return {tag["Key"]: tag["Value"] for tag in self._client.list_tags(ResourceArn=arn)["Tags"]}


class Runtime:
    """Invokes endpoints. `connect` creates a client that waits this many seconds for a response and never retries."""

    def __init__(self, connect: Callable[[float], Any]) -> None:
        self._connect = connect

    def invoke(self, endpoint: str, body: bytes, content_type: str, seconds: float) -> bytes:
        """Return the endpoint's response. Raises ModelError with the container's message if it refuses, or TimedOut."""
        client = self._connect(next(patience for patience in PATIENCE if patience <= max(seconds, PATIENCE[-1])))
        with translated(f"InvokeEndpoint {endpoint}"):
            answer = client.invoke_endpoint(
                EndpointName=endpoint, Body=body, ContentType=content_type, Accept="application/json"
            )
            return cast(bytes, answer["Body"].read())
