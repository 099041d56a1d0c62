"""Keep the other services in memory: EventBridge, SNS, Secrets Manager, and what answers at endpoints."""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ReadTimeoutError

from tests.fakes.clients import Client, fail

if TYPE_CHECKING:
    from tests.fakes.world import World


class FakeEvents(Client):
    """The default bus. With `refuses` it accepts the call and fails the entry."""

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
    """One topic. `refuses` makes it refuse every message."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.sent: list[dict[str, str]] = []
        self.refuses = False

    def do_publish(self, **message: str) -> Any:
        if self.refuses:
            raise fail("AuthorizationError", "User is not authorized to perform: SNS:Publish", "Publish")
        self.sent.append(message)
        return {}


class FakeSecrets(Client):
    """The secret with the tokens. `reads` counts how often it was read."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.text = json.dumps({"tokens": {"ann": "ann-token", "bob": "bob-token"}})
        self.reads = 0

    def do_get_secret_value(self, SecretId: str) -> Any:
        self.reads += 1
        return {"SecretString": self.text}


class FakeLogs(Client):
    """The logs of jobs: `lines` by the job's name."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.lines: dict[str, list[str]] = {}

    def do_describe_log_streams(self, logGroupName: str, logStreamNamePrefix: str) -> Any:
        if not self.lines:
            text = "The specified log group does not exist."
            raise fail("ResourceNotFoundException", text, "DescribeLogStreams")
        names = [f"{job}/algo-1-1" for job in self.lines]
        return {"logStreams": [{"logStreamName": name} for name in names if name.startswith(logStreamNamePrefix)]}

    def do_get_log_events(self, logGroupName: str, logStreamName: str, limit: int, startFromHead: bool) -> Any:
        lines = self.lines[logStreamName.partition("/")[0]]
        kept = lines[:limit] if startFromHead else lines[-limit:]
        return {"events": [{"timestamp": 0, "message": line} for line in kept]}


class FakeRuntime(Client):
    """What answers at endpoints: `answer` is a body, or an error to raise. An endpoint that sleeps until `awake_at`
    answers 429 until then. A client that waits for less than `seconds` gives up.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        predictions = [{"class": str(digit), "probability": 0.1} for digit in range(10)]
        self.answer: dict[str, Any] | bytes | ClientError = {"results": [{"predictions": predictions}], "run_id": "r"}
        self.asked: list[dict[str, Any]] = []
        self.awake_at: datetime | None = None
        self.seconds, self.patience = 0.0, 60.0

    def with_patience(self, seconds: float) -> FakeRuntime:
        """Return this client, which waits that long for an answer."""
        self.patience = seconds
        return self

    def do_invoke_endpoint(self, **request: Any) -> Any:
        self.asked.append(request)
        if self.awake_at and self.world.clock.now() < self.awake_at:
            text = "Model has insufficient resources or is scaling up. Retry your request."
            raise fail("ModelNotReadyException", text, "InvokeEndpoint")
        self.world.clock.sleep(min(self.seconds, self.patience))
        if self.seconds > self.patience:
            raise ReadTimeoutError(endpoint_url="https://runtime.sagemaker.us-east-1.amazonaws.com")
        if request["EndpointName"] not in self.world.sagemaker.kept["Endpoint"]:
            text = f"Endpoint {request['EndpointName']} of account 123456789012 not found."
            raise fail("ValidationError", text, "InvokeEndpoint")
        if isinstance(self.answer, ClientError):
            raise self.answer
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return {"Body": io.BytesIO(body)}
