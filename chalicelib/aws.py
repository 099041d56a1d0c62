"""The only module that talks to AWS: the calls we use, in our words, with AWS's errors as our own.

Each class wraps one boto3 client, which it is given. `connect` builds the real ones; boto3 and smart_open are imported
there, on first use, since they take longer to import than all of the app.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, BinaryIO, cast

from chalicelib import errors
from chalicelib.aws_errors import ERRORS, translate
from chalicelib.errors import ServiceError

COPY_LIMIT = 5 * 1024**3  # CopyObject takes objects up to 5 GiB; larger ones are copied in parts
READ_BUFFER = 1024 * 1024
RANGE = 8 * 1024 * 1024
CONFLICT_TRIES = 5


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises what botocore raises within it as an error of ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise translate(error, doing) from error
    except OSError as error:  # smart_open hides botocore's errors behind OSError
        if isinstance(error.__cause__, ClientError):
            raise translate(error.__cause__, doing) from error
        raise


@dataclass(frozen=True)
class Stored:
    """An object as it was read, and the etag under which it may be replaced."""

    body: bytes
    etag: str

    def as_json(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.body))


@dataclass(frozen=True)
class Entry:
    """An object's description. `version` is None in a bucket without versions, and in a listing."""

    key: str
    etag: str
    size: int
    modified: datetime
    version: str | None = None


class _ObjectFile(io.RawIOBase):
    """A file that raises our errors: zipfile takes an OSError, which smart_open's are, for a broken archive."""

    def __init__(self, file: Any, doing: str) -> None:
        super().__init__()
        self._file = file
        self._doing = doing

    def read(self, size: int | None = -1, /) -> bytes:
        with translated(self._doing):
            return cast(bytes, self._file.read(size))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        with translated(self._doing):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class Bucket:
    """One S3 bucket."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def read(self, key: str) -> Stored | None:
        """An object's body, or None where there is none."""
        try:
            with translated(f"Reading s3://{self.name}/{key}"):
                answer = self._client.get_object(Bucket=self.name, Key=key)
                return Stored(answer["Body"].read(), answer["ETag"])
        except errors.ServiceNotFound:
            return None

    def describe(self, key: str) -> Entry | None:
        """An object's current version, or None where there is none."""
        try:
            with translated(f"Looking at s3://{self.name}/{key}"):
                answer = self._client.head_object(Bucket=self.name, Key=key)
        except errors.ServiceNotFound:
            return None
        version = {"null": None}.get(answer.get("VersionId"), answer.get("VersionId"))  # "null": before versioning
        return Entry(key, answer["ETag"], answer["ContentLength"], answer["LastModified"], version)

    def create(self, key: str, body: bytes, content_type: str = "application/json") -> str | None:
        """Write an object that must not exist yet. Returns its etag, or None where there is one already."""
        return self._put_if(key, body, IfNoneMatch="*", ContentType=content_type)

    def replace(self, key: str, body: bytes, etag: str) -> str | None:
        """Write an object over the one with this etag. Returns its new etag, or None where it is another or gone."""
        try:
            return self._put_if(key, body, IfMatch=etag)
        except errors.ServiceNotFound:
            return None

    def _put_if(self, key: str, body: bytes, **condition: str) -> str | None:
        for attempt in range(CONFLICT_TRIES):
            try:
                with translated(f"Writing s3://{self.name}/{key}"):
                    return str(self._client.put_object(Bucket=self.name, Key=key, Body=body, **condition)["ETag"])
            except errors.PreconditionFailed:
                return None
            except errors.Busy:  # S3's 409: another conditional put is under way, and neither has won yet
                if attempt == CONFLICT_TRIES - 1:
                    raise
        return None

    def write(self, key: str, body: bytes = b"") -> None:
        """Write an object, whatever was there."""
        with translated(f"Writing s3://{self.name}/{key}"):
            self._client.put_object(Bucket=self.name, Key=key, Body=body)

    def delete(self, key: str) -> None:
        with translated(f"Deleting s3://{self.name}/{key}"):
            self._client.delete_object(Bucket=self.name, Key=key)

    def list_entries(self, prefix: str, *, after: str = "", page: int = 1000) -> Iterator[Entry]:
        """The objects right below a prefix and deeper, by key; `page` many are asked for at a time."""
        for found in self._pages(prefix, StartAfter=after, MaxKeys=page):
            for each in found.get("Contents", []):
                yield Entry(each["Key"], each["ETag"], each["Size"], each["LastModified"])

    def list_names(self, prefix: str) -> list[str]:
        """What lies right below a prefix that ends in `/`: names of files, and of folders with a `/` at their end."""
        names: list[str] = []
        for page in self._pages(prefix, Delimiter="/"):
            names += [each["Key"].removeprefix(prefix) for each in page.get("Contents", [])]
            names += [each["Prefix"].removeprefix(prefix) for each in page.get("CommonPrefixes", [])]
        return names

    def _pages(self, prefix: str, **options: str | int) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            with translated(f"Listing s3://{self.name}/{prefix}"):
                page = self._client.list_objects_v2(Bucket=self.name, Prefix=prefix, **options, **token)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def copy(self, source: str, target: str, *, etag: str, size: int, version: str | None = None) -> None:
        """Copy one version of an object on the server side.

        Raises PreconditionFailed where the source is another by now, and ServiceNotFound where it is gone. Above 5 GiB
        the copy is made in parts, which can take longer than a function may run: that limit is the dataset's.
        """
        origin = {"Bucket": self.name, "Key": source} | ({"VersionId": version} if version else {})
        with translated(f"Copying s3://{self.name}/{source} to {target}"):
            if size > COPY_LIMIT:
                self._client.copy(origin, self.name, target, ExtraArgs={"CopySourceIfMatch": etag})
            else:
                self._client.copy_object(Bucket=self.name, Key=target, CopySource=origin, CopySourceIfMatch=etag)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """A seekable file over an object, read by ranged GETs. Raises our errors on opening, and while it is read."""
        from smart_open import s3

        doing = f"Reading s3://{self.name}/{key}"
        options = {"buffer_size": READ_BUFFER, "range_chunk_size": RANGE, "client": self._client}
        with translated(doing):
            file = s3.open(self.name, key, "rb", **options)
        with file:
            yield cast(BinaryIO, _ObjectFile(file, doing))

    def sign_upload(self, key: str, seconds: int) -> str:
        """A URL that lets its holder PUT this one object for that long."""
        return self._sign("put_object", key, seconds)

    def sign_download(self, key: str, seconds: int) -> str:
        """A URL that lets its holder GET this one object for that long."""
        return self._sign("get_object", key, seconds)

    def _sign(self, operation: str, key: str, seconds: int) -> str:
        with translated(f"Signing {operation} of s3://{self.name}/{key}"):
            parameters = {"Bucket": self.name, "Key": key}
            return str(self._client.generate_presigned_url(operation, Params=parameters, ExpiresIn=seconds))


class Kind(Enum):
    """What SageMaker keeps, by the names of its operations: (CreateX, XName), (create_x)."""

    TUNING_JOB = ("HyperParameterTuningJob", "hyper_parameter_tuning_job")
    TRAINING_JOB = ("TrainingJob", "training_job")
    MODEL = ("Model", "model")
    ENDPOINT_CONFIG = ("EndpointConfig", "endpoint_config")
    ENDPOINT = ("Endpoint", "endpoint")

    def __init__(self, title: str, method: str) -> None:
        self.title = title
        self.method = method


class SageMaker:
    """SageMaker's control plane. Requests and answers are its own dictionaries."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def _call(self, verb: str, kind: Kind, request: dict[str, Any]) -> dict[str, Any]:
        name = request.get(f"{kind.title}Name", "")
        with translated(f"{verb.title()}{kind.title} {name}".rstrip()):
            return cast(dict[str, Any], getattr(self._client, f"{verb}_{kind.method}")(**request))

    def describe(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """What SageMaker says of a thing, or None where it has none of this name."""
        try:
            return self._call("describe", kind, {f"{kind.title}Name": name})
        except errors.ServiceNotFound:
            return None

    def create(self, kind: Kind, request: dict[str, Any]) -> None:
        """Create a thing. Raises AlreadyExists where the name is taken."""
        self._call("create", kind, request)

    def stop(self, kind: Kind, name: str) -> None:
        self._call("stop", kind, {f"{kind.title}Name": name})

    def delete(self, kind: Kind, name: str) -> bool:
        """Delete a thing. Returns False where there is none. Raises Busy while it is changing."""
        try:
            self._call("delete", kind, {f"{kind.title}Name": name})
        except errors.ServiceNotFound:
            return False
        return True

    def update_endpoint(self, name: str, config: str) -> None:
        self._call("update", Kind.ENDPOINT, {"EndpointName": name, "EndpointConfigName": config})

    def list_trials(self, tuning_job: str) -> list[dict[str, Any]]:
        """The training jobs of a tuning job, oldest first."""
        call = self._client.list_training_jobs_for_hyper_parameter_tuning_job
        request = {"HyperParameterTuningJobName": tuning_job, "SortBy": "CreationTime", "SortOrder": "Ascending"}
        return self._list(call, "TrainingJobSummaries", request)

    def list_all(self, kind: Kind, containing: str) -> list[dict[str, Any]]:
        """The models, endpoint configs or endpoints whose names contain a text."""
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
    """What answers at an endpoint."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def invoke(self, endpoint: str, body: bytes, content_type: str) -> bytes:
        """The endpoint's answer. Raises ModelError with what the container said where it refused."""
        with translated(f"InvokeEndpoint {endpoint}"):
            answer = self._client.invoke_endpoint(
                EndpointName=endpoint, Body=body, ContentType=content_type, Accept="application/json"
            )
            return cast(bytes, answer["Body"].read())


class Publisher:
    """Where word of a run is sent: EventBridge's default bus, and an SNS topic where there is one."""

    def __init__(self, events: Any, sns: Any, topic_arn: str) -> None:
        self._events = events
        self._sns = sns
        self._topic_arn = topic_arn

    def put_event(self, source: str, detail_type: str, detail: dict[str, Any]) -> None:
        """Send one event. Raises ServiceError also where PutEvents took the call and refused the event."""
        entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail)}
        with translated(f"PutEvents {detail_type}"):
            answer = self._events.put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            failed = answer["Entries"][0]
            kind = ERRORS.get(failed.get("ErrorCode", ""), ServiceError)
            raise kind(f"PutEvents {detail_type}: {failed.get('ErrorCode')}: {failed.get('ErrorMessage')}")

    def publish(self, subject: str, message: dict[str, Any]) -> None:
        """Send one message to the topic; nothing where there is no topic."""
        if self._topic_arn:
            with translated(f"Publish to {self._topic_arn}"):
                self._sns.publish(TopicArn=self._topic_arn, Subject=subject, Message=json.dumps(message))


class Secrets:
    """Secrets Manager."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, secret_id: str) -> str:
        with translated(f"GetSecretValue {secret_id}"):
            return str(self._client.get_secret_value(SecretId=secret_id)["SecretString"])


def connect(service: str, *, read_timeout: float = 30, tries: int = 4) -> Any:
    """A boto3 client of the environment's account and region. Times in seconds."""
    import boto3
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": tries}
    config = Config(connect_timeout=3, read_timeout=read_timeout, retries=retries, tcp_keepalive=True)
    if service == "s3":  # a signed URL is still of version 2 by default, which newer regions refuse
        config = config.merge(Config(signature_version="s3v4"))
    with translated(f"Connecting to {service}"):
        return boto3.client(service, config=config)
