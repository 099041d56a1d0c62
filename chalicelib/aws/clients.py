"""AWS's clients: `connect` builds them, the only importer of boto3; and the services of which we use a call or two.

What we call of S3 stands in `buckets.py`, of SageMaker in `sagemaker.py`. Every class is given its boto3 client, and
AWS's errors leave as our own. boto3 is imported on first use, since it takes longer to import than all of the app.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chalicelib.aws.errors import ERRORS, translate
from chalicelib.errors import ServiceError


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
