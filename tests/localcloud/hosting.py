"""Run real servers on free loopback ports for the tests of the hosting rooms."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
import uvicorn
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotocoreCredentials

from localcloud.common.keys import generate_credentials
from localcloud.iam.call_log import CallLog
from localcloud.iam.guard import Guard
from localcloud.iam.identity import Identities
from localcloud.s3.keeper import S3Keeper
from localcloud.server.origin import Origin, Router, make_moto

KEYS = generate_credentials()
REGION = "us-east-1"
Event = tuple[str, str, dict[str, Any], list[str]]


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Serve an ASGI application on a free port of 127.0.0.1 and yield its URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


async def no_sagemaker(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer 418 in SageMaker's place, so that a test sees that a request has reached it."""
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def client(service: str, url: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEYS.access_key_id,
        aws_secret_access_key=KEYS.secret_access_key,
        config=Config(retries={"max_attempts": 0}),
    )


def send_signed(method: str, url: str, service: str, content: bytes, **headers: str) -> httpx.Response:
    """Send a request that no client of AWS's would make, signed as one of theirs. A header's `_` stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, url, headers=named, data=content)
    keys = BotocoreCredentials(KEYS.access_key_id, KEYS.secret_access_key)
    SigV4Auth(keys, service, REGION).add_auth(request)
    return httpx.request(method, url, headers=dict(request.headers), content=content)


def make_guard(home: Path, identities: Identities | None = None) -> Guard:
    """Build the guard of an account whose administrator has these tests' keys."""
    return Guard(identities or Identities(REGION, KEYS), CallLog(home / "calls.jsonl"), REGION)


@contextmanager
def make_origin(home: Path, events: list[Event]) -> Iterator[Origin]:
    """Build the AWS origin with S3 kept in `home`; S3's events are appended to `events`."""
    moto = make_moto()
    keeper = S3Keeper(moto, home, lambda *event: events.append(event))
    origin = Origin(Router(moto, keeper), no_sagemaker, make_guard(home))
    try:
        yield origin
    finally:  # a test that fails here must not fail those after it
        origin.close()
        keeper.close()
        forget_buckets()


@contextmanager
def aws(home: Path, events: list[Event]) -> Iterator[str]:
    """Serve the AWS origin."""
    with make_origin(home, events) as origin, serve(origin) as url:
        yield url


def forget_buckets() -> None:
    """Empty moto's memory, as the end of the process would."""
    from moto.s3.models import s3_backends

    s3_backends["123456789012"]["aws"].buckets.clear()
    s3_backends.bucket_accounts.clear()
