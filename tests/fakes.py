"""AWS as the control plane meets it, in memory: boto3's clients with AWS's answers, error codes and texts.

All of them stand in one `World`, whose `trouble` may throttle a call, or kill the caller before or after one.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError

from chalicelib import aws
from chalicelib.auth import Tokens
from chalicelib.runs import Runs
from chalicelib.services import Services
from chalicelib.settings import Settings

BUCKET = "pictures"
ACCOUNT = "arn:aws:sagemaker:us-east-1:123456789012:"
SETTINGS = Settings(
    bucket=BUCKET,
    execution_role_arn="arn:aws:iam::123456789012:role/whippet",
    tokens_secret_id="whippet/tokens",
    training_image="123456789012.dkr.ecr.us-east-1.amazonaws.com/training:1",
    inference_image="123456789012.dkr.ecr.us-east-1.amazonaws.com/inference:1",
    code_uri=f"s3://{BUCKET}/code/sourcedir-0.tar.gz",
    topic_arn="arn:aws:sns:us-east-1:123456789012:whippet",
)


class Killed(BaseException):
    """The function was ended between two calls, as Lambda does; no `except Exception` sees it."""


class FakeClock:
    """A clock that moves when it is told to, and a millisecond at each look."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Trouble:
    """What goes wrong at a call, by its number counted from 0.

    `throttle` refuses it, `before` and `after` kill the caller there, and `meanwhile` lets another function run whole
    before it: that one is `other`. Two of them may go together, as in `meanwhile after`.
    """

    plan: dict[int, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    other: Callable[[], None] = lambda: None

    def around(self, operation: str, work: Callable[[], Any]) -> Any:
        what = self.plan.get(len(self.calls), "").split()
        self.calls.append(operation)
        if "meanwhile" in what:
            self.other()
        if "throttle" in what:
            raise fail("ThrottlingException", "Rate exceeded", operation)
        if "before" in what:
            raise Killed(operation)
        answer = work()
        if "after" in what:
            raise Killed(operation)
        return answer


def fail(code: str, message: str, operation: str, **more: Any) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}, **more}, operation)


class Client:
    """A boto3 client: every call of an operation goes through the world's trouble."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __getattr__(self, name: str) -> Callable[..., Any]:
        work = getattr(type(self), f"do_{name}", None)
        if work is None:
            raise AttributeError(name)
        return lambda **request: self.world.trouble.around(name, lambda: work(self, **request))


@dataclass
class FakeObject:
    body: bytes
    etag: str
    modified: datetime
    version: str


class FakeS3(Client):
    """One bucket with versions and conditional puts. `conflicts` many of the next ones are answered with 409."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.versions: dict[str, list[FakeObject]] = {}
        self.conflicts = 0

    def find(self, key: str, operation: str, version: str | None = None) -> FakeObject:
        found = [each for each in self.versions.get(key, []) if version in (None, each.version)]
        if not found:
            code = "NoSuchKey" if operation == "GetObject" else "404"
            raise fail(code, "The specified key does not exist.", operation)
        return found[-1]

    def do_put_object(
        self, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str = "", IfMatch: str = "", ContentType: str = ""
    ) -> Any:
        if (IfNoneMatch or IfMatch) and self.conflicts:
            self.conflicts -= 1
            raise fail("ConditionalRequestConflict", "The conditional request cannot succeed.", "PutObject")
        if IfNoneMatch and Key in self.versions:
            raise fail("PreconditionFailed", "At least one of the pre-conditions did not hold", "PutObject")
        if IfMatch and self.find(Key, "GetObject").etag != IfMatch:
            raise fail("PreconditionFailed", "At least one of the pre-conditions did not hold", "PutObject")
        return self.store(Key, Body)

    def store(self, key: str, body: bytes) -> dict[str, str]:
        earlier = self.versions.setdefault(key, [])
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        made = FakeObject(body, etag, self.world.clock.now(), f"v{len(earlier) + 1}")
        earlier.append(made)
        return {"ETag": etag, "VersionId": made.version}

    def do_get_object(self, Bucket: str, Key: str, Range: str = "", VersionId: str | None = None) -> Any:
        found = self.find(Key, "GetObject", VersionId)
        metadata = {"RetryAttempts": 0, "HTTPStatusCode": 206 if Range else 200}
        body, answer = found.body, {"ETag": found.etag, "ResponseMetadata": metadata}
        if Range:
            body, answer["ContentRange"] = cut_range(body, Range)
        return answer | {"Body": io.BytesIO(body), "ContentLength": len(body)}

    def do_head_object(self, Bucket: str, Key: str) -> Any:
        found = self.find(Key, "HeadObject")
        described = {"ETag": found.etag, "ContentLength": len(found.body), "LastModified": found.modified}
        return described | {"VersionId": found.version}

    def do_delete_object(self, Bucket: str, Key: str) -> Any:
        self.versions.pop(Key, None)
        return {}

    def do_copy_object(self, Bucket: str, Key: str, CopySource: dict[str, str], CopySourceIfMatch: str) -> Any:
        found = self.find(CopySource["Key"], "CopyObject", CopySource.get("VersionId"))
        if found.etag != CopySourceIfMatch:
            raise fail("PreconditionFailed", "At least one of the pre-conditions did not hold", "CopyObject")
        return self.store(Key, found.body)

    def do_list_objects_v2(
        self,
        Bucket: str,
        Prefix: str,
        Delimiter: str = "",
        StartAfter: str = "",
        ContinuationToken: str = "",
        MaxKeys: int = 1000,
    ) -> Any:
        keys = sorted(
            key for key in self.versions if key.startswith(Prefix) and key > (ContinuationToken or StartAfter)
        )
        folders = {cut_folder(key, Prefix) for key in keys} if Delimiter else {""}
        files = [key for key in keys if not (Delimiter and cut_folder(key, Prefix))]
        page = files[: min(self.world.page, MaxKeys)]
        more = {"IsTruncated": True, "NextContinuationToken": page[-1]} if len(files) > len(page) else {}
        contents = [self.describe(key) for key in page]
        prefixes = [{"Prefix": folder} for folder in sorted(folders - {""})]
        return {"Contents": contents, "CommonPrefixes": prefixes if not ContinuationToken else [], **more}

    def describe(self, key: str) -> dict[str, Any]:
        found = self.versions[key][-1]
        return {"Key": key, "ETag": found.etag, "Size": len(found.body), "LastModified": found.modified}

    def generate_presigned_url(self, operation: str, Params: dict[str, str], ExpiresIn: int) -> str:
        return f"https://{Params['Bucket']}.s3.example/{Params['Key']}?for={ExpiresIn}"


def cut_range(body: bytes, header: str) -> tuple[bytes, str]:
    """The bytes of `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT`, and the answer's header."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, len(body) - int(last))
    end = min(int(last) + 1, len(body)) if first and last else len(body)
    if start >= len(body):
        message = "The requested range is not satisfiable"
        raise fail("InvalidRange", message, "GetObject", ActualObjectSize=str(len(body)))
    return body[start:end], f"bytes {start}-{end - 1}/{len(body)}"


def cut_folder(key: str, prefix: str) -> str:
    folder, slash, _ = key.removeprefix(prefix).partition("/")
    return f"{prefix}{folder}/" if slash else ""


class FakeSageMaker(Client):
    """Tuning jobs, training jobs, models, configs and endpoints. Nothing moves until the world's `run_jobs` is called.

    `requests` keeps what was asked, by operation; `limits` names kinds of which the account may have no more.
    """

    NOT_FOUND = ("HyperParameterTuningJob", "TrainingJob")

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.kept: dict[str, dict[str, dict[str, Any]]] = {kind.title: {} for kind in aws.Kind}
        self.trials: dict[str, list[dict[str, Any]]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.limits: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb, _, method = name.partition("_")
        kind = next((each.title for each in aws.Kind if each.method == method), None)
        work = getattr(type(self), f"_{verb}", None) if kind else None
        if work is None:
            return super().__getattr__(name)
        return lambda **request: self.world.trouble.around(name, lambda: work(self, kind, request))

    def find(self, kind: str, name: str) -> dict[str, Any]:
        if name not in self.kept[kind]:
            text = f'Could not find {kind.lower()} "{ACCOUNT}{kind.lower()}/{name}".'
            code = "ResourceNotFound" if kind in self.NOT_FOUND else "ValidationException"
            raise fail(code, text, f"Describe{kind}")
        return self.kept[kind][name]

    def _create(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        name, arn = request[f"{kind}Name"], f"{ACCOUNT}{kind.lower()}/{request[f'{kind}Name']}"
        self.requests.append((f"Create{kind}", request))
        if kind in self.limits:
            raise fail("ResourceLimitExceeded", "The account-level service limit is 0", f"Create{kind}")
        if name in self.kept[kind]:
            code, text = "ValidationException", f'Cannot create already existing {kind.lower()} "{arn}".'
            if kind in self.NOT_FOUND:
                code, text = "ResourceInUse", f"{kind} names must be unique within an account and region"
            raise fail(code, text, f"Create{kind}")
        now = self.world.clock.now()
        self.tags[arn] = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        self.kept[kind][name] = {**request, f"{kind}Arn": arn, "CreationTime": now, "LastModifiedTime": now}
        status = {"Endpoint": "Creating"}.get(kind, "InProgress")
        self.kept[kind][name][f"{kind}Status"] = status
        return {f"{kind}Arn": arn}

    def _describe(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        return dict(self.find(kind, request[f"{kind}Name"]))

    def _stop(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        job = self.find(kind, request[f"{kind}Name"])
        self.requests.append((f"Stop{kind}", request))
        if job[f"{kind}Status"] == "InProgress":
            job[f"{kind}Status"] = "Stopping"
        return {}

    def _delete(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        name = request[f"{kind}Name"]
        found = self.find(kind, name)
        self.requests.append((f"Delete{kind}", request))
        if found.get("EndpointStatus") in ("Creating", "Updating"):
            raise fail("ValidationException", f'Cannot update in-progress endpoint "{name}".', "DeleteEndpoint")
        del self.kept[kind][name]
        return {}

    def do_update_endpoint(self, EndpointName: str, EndpointConfigName: str) -> dict[str, Any]:
        endpoint = self.find("Endpoint", EndpointName)
        self.find("EndpointConfig", EndpointConfigName)
        if endpoint["EndpointStatus"] != "InService":
            text = f'Cannot update in-progress endpoint "{EndpointName}".'
            raise fail("ValidationException", text, "UpdateEndpoint")
        self.requests.append(("UpdateEndpoint", {"EndpointName": EndpointName, "config": EndpointConfigName}))
        endpoint["EndpointStatus"] = "Updating"
        endpoint["PendingDeploymentSummary"] = {"EndpointConfigName": EndpointConfigName}
        return {}

    def do_list_training_jobs_for_hyper_parameter_tuning_job(self, HyperParameterTuningJobName: str, **_: Any) -> Any:
        self.find("HyperParameterTuningJob", HyperParameterTuningJobName)
        return {"TrainingJobSummaries": self.trials.get(HyperParameterTuningJobName, [])}

    def _list_kind(self, kind: str, containing: str) -> dict[str, Any]:
        return {f"{kind}s": [each for name, each in self.kept[kind].items() if containing in name]}

    def do_list_endpoints(self, NameContains: str, MaxResults: int) -> Any:
        return self._list_kind("Endpoint", NameContains)

    def do_list_endpoint_configs(self, NameContains: str, MaxResults: int) -> Any:
        return self._list_kind("EndpointConfig", NameContains)

    def do_list_models(self, NameContains: str, MaxResults: int) -> Any:
        return self._list_kind("Model", NameContains)

    def do_list_tags(self, ResourceArn: str) -> Any:
        return {"Tags": [{"Key": key, "Value": value} for key, value in self.tags[ResourceArn].items()]}

    def count(self, operation: str) -> int:
        return sum(asked == operation for asked, _ in self.requests)


class FakeEvents(Client):
    """The default bus. `refuses` makes it take the call and fail the entry."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.refuses = False

    def do_put_events(self, Entries: list[dict[str, str]]) -> Any:
        if self.refuses:
            failed = {"ErrorCode": "InternalFailure", "ErrorMessage": "try again"}
            return {"FailedEntryCount": 1, "Entries": [failed]}
        self.sent += [(entry["DetailType"], json.loads(entry["Detail"])) for entry in Entries]
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}


class FakeSns(Client):
    """One topic."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.sent: list[dict[str, str]] = []

    def do_publish(self, **message: str) -> Any:
        self.sent.append(message)
        return {}


class FakeSecrets(Client):
    """The secret with the tokens. `reads` counts how often it was asked for."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.text = json.dumps({"tokens": {"ann": "ann-token", "bob": "bob-token"}})
        self.reads = 0

    def do_get_secret_value(self, SecretId: str) -> Any:
        self.reads += 1
        return {"SecretString": self.text}


class FakeRuntime(Client):
    """What answers at endpoints: `answer` is a body, or an error to raise."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        predictions = [{"class": str(digit), "probability": 0.1} for digit in range(10)]
        self.answer: dict[str, Any] | bytes | ClientError = {"results": [{"predictions": predictions}], "run_id": "r"}
        self.asked: list[dict[str, Any]] = []

    def do_invoke_endpoint(self, **request: Any) -> Any:
        self.asked.append(request)
        if request["EndpointName"] not in self.world.sagemaker.kept["Endpoint"]:
            text = f"Endpoint {request['EndpointName']} of account 123456789012 not found."
            raise fail("ValidationError", text, "InvokeEndpoint")
        if isinstance(self.answer, ClientError):
            raise self.answer
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return {"Body": io.BytesIO(body)}


class World:
    """An account. `score` is what the profiled training reaches, and `trial_scores` what the trials do."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.clock, self.trouble, self.page = FakeClock(), Trouble(), 1000
        self.s3, self.sagemaker = FakeS3(self), FakeSageMaker(self)
        self.events, self.sns = FakeEvents(self), FakeSns(self)
        self.secrets, self.runtime = FakeSecrets(self), FakeRuntime(self)
        self.score: float | None = 0.95
        self.trial_scores: list[float | None] = [0.80, 0.93]
        self.ids = 0

    def services(self) -> Services:
        """What a fresh function is handed."""
        return Services(
            settings=self.settings,
            runs=Runs(aws.Bucket(self.s3, self.settings.bucket)),
            sagemaker=aws.SageMaker(self.sagemaker),
            runtime=aws.Runtime(self.runtime),
            publisher=aws.Publisher(self.events, self.sns, self.settings.topic_arn),
            tokens=Tokens(aws.Secrets(self.secrets), self.settings.tokens_secret_id, self.clock),
            clock=self.clock,
            log=LOG,
            make_id=self.make_id,
        )

    def make_id(self) -> str:
        self.ids += 1
        return f"id-{self.ids}"

    def upload(self, name: str, body: bytes) -> None:
        self.s3.store(f"datasets/{name}", body)

    def read(self, key: str) -> Any:
        return json.loads(self.s3.versions[key][-1].body)

    def list_keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.s3.versions if key.startswith(prefix))

    def end_tuning(self, run_id: str, status: str = "Completed", reason: str | None = None) -> None:
        """The trials end, with what `trial_scores` says; None is a trial that failed."""
        job = self.sagemaker.kept["HyperParameterTuningJob"][run_id]
        trials = [self._make_trial(run_id, number, score) for number, score in enumerate(self.trial_scores, 1)]
        self.sagemaker.trials[run_id] = trials
        measured = [trial for trial in trials if trial["TrainingJobStatus"] == "Completed"]
        job["HyperParameterTuningJobStatus"] = status
        if measured:
            job["BestTrainingJob"] = max(measured, key=lambda trial: trial[OBJECTIVE]["Value"])
        if reason:
            job["FailureReason"] = reason

    def _make_trial(self, run_id: str, number: int, score: float | None) -> dict[str, Any]:
        name = f"{run_id}-{number:03d}-0123abcd"
        trial: dict[str, Any] = {
            "TrainingJobName": name,
            "TrainingJobStatus": "Failed" if score is None else "Completed",
            "TunedHyperParameters": {"learning_rate": f"0.{number}", "_tuning_objective_metric": "valid:score"},
            "TrainingStartTime": self.clock.now(),
            "TrainingEndTime": self.clock.now(),
        }
        if score is None:
            return trial | {"FailureReason": f"AlgorithmError: trial {number} broke"}
        self.write_evaluation(run_id, name, score)
        return trial | {OBJECTIVE: {"MetricName": "valid:score", "Value": score}}

    def write_evaluation(self, run_id: str, job: str, score: float) -> None:
        objective = {"name": "valid:score", "value": score, "standard_error": 0.02, "images": 100}
        evaluation = {"format": 1, "objective": objective, "valid": {"accuracy": score}, "test": {"accuracy": score}}
        self.s3.store(f"runs/{run_id}/jobs/{job}/evaluation.json", json.dumps(evaluation).encode())

    def end_training(self, run_id: str, status: str = "Completed", reason: str | None = None) -> None:
        job = self.sagemaker.kept["TrainingJob"][f"{run_id}-train"]
        job["TrainingJobStatus"] = status
        if reason:
            job["FailureReason"] = reason
        if self.score is not None and status != "Failed":
            self.write_evaluation(run_id, f"{run_id}-train", self.score)

    def end_deployment(self, name: str, status: str = "InService", reason: str | None = None) -> None:
        """The endpoint serves what it was asked to; with a reason it goes back to what it served."""
        endpoint = self.sagemaker.kept["Endpoint"][name]
        pending = endpoint.pop("PendingDeploymentSummary", None)
        if pending and status == "InService" and not reason:
            endpoint["EndpointConfigName"] = pending["EndpointConfigName"]
        endpoint["EndpointStatus"] = status
        if reason:
            endpoint["FailureReason"] = reason

    def end_everything(self) -> list[tuple[str, str]]:
        """Whatever runs ends well (or stops, where it was told to). Returns (kind, name) of each change."""
        changed = []
        for title, end in (("HyperParameterTuningJob", self.end_tuning), ("TrainingJob", self._end_train)):
            for name, job in self.sagemaker.kept[title].items():
                status = job[f"{title}Status"]
                if status in ("InProgress", "Stopping"):
                    end(name, "Completed" if status == "InProgress" else "Stopped")
                    changed.append((title, name))
        for name, endpoint in self.sagemaker.kept["Endpoint"].items():
            if endpoint["EndpointStatus"] in ("Creating", "Updating"):
                self.end_deployment(name)
                changed.append(("Endpoint", name))
        return changed

    def _end_train(self, job: str, status: str) -> None:
        self.end_training(job.removesuffix("-train"), status)


OBJECTIVE = "FinalHyperParameterTuningJobObjectiveMetric"
LOG = Logger(service="tests", level="CRITICAL")
