"""Connect to the account and the region that a command works on, and put AWS's errors into an operator's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from infrastructure.errors import CannotDeploy, Unusable

Clients = Callable[[str], Any]
CREDENTIALS_AT = (
    "Set AWS_PROFILE, run `aws configure` or `aws sso login`, or give PROFILE=NAME. "
    "For the local cloud: . .localcloud/env"
)


@dataclass(frozen=True)
class Account:
    """The account and the region of a stage. `clients(service)` returns boto3 clients."""

    number: str
    region: str
    clients: Clients


@dataclass(frozen=True)
class Stage:
    """One stage of an application in an account: all its names are made from this."""

    app: str
    name: str
    account: Account

    @property
    def stack(self) -> str:
        return f"{self.app}-{self.name}"

    @property
    def prefix(self) -> str:
        """Return what every name begins with."""
        return f"{self.stack}-"

    @property
    def bucket(self) -> str:
        """Return the name of the bucket with the stage's data, as the template names it."""
        return f"{self.prefix}{self.account.number}-{self.account.region}"

    @property
    def artifacts(self) -> str:
        """Return the name of the bucket with what is deployed: the code's archive and the template."""
        return f"{self.prefix}artifacts-{self.account.number}-{self.account.region}"


def connect(profile: str, region: str) -> tuple[Clients, str]:
    """Return boto3 clients for a profile and a region; empty means the environment's. Raises Unusable."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session(profile_name=profile or None, region_name=region or None)
    except BotoCoreError as error:
        raise Unusable(f"{error}. `aws configure list-profiles` lists those that there are.") from error
    if not session.region_name:
        raise Unusable("No region is set. Give one: make deploy REGION=eu-west-1")
    return cache(session.client), str(session.region_name)


def identify(clients: Clients, region: str) -> Account:
    """Return the account that the credentials belong to. Raises CannotDeploy if AWS does not accept them."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        number = clients("sts").get_caller_identity()["Account"]
    except BotoCoreError as error:
        raise CannotDeploy(f"AWS cannot be asked who you are ({error}). {CREDENTIALS_AT}") from error
    except ClientError as error:
        raise CannotDeploy(f"AWS refuses the credentials: {describe_error(error)}. {CREDENTIALS_AT}") from error
    return Account(str(number), region, clients)


def describe_error(error: Exception) -> str:
    """Return what AWS said: its code and message, or the client's own message if AWS did not answer."""
    answer = getattr(error, "response", {}).get("Error", {})
    if "Code" not in answer:
        return str(error)
    message = re.sub(r"<[^>]*>|\s+", " ", answer.get("Message", ""))  # a proxy may answer with an HTML page
    return f"{answer['Code']}: {' '.join(message.split())}"


def read_code(error: Exception) -> str:
    """Return the code of one of AWS's errors."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def page_through(client: Any, operation: str, member: str, **request: Any) -> Iterator[Any]:
    """Yield every entry of a paginated list; `member` is the member of a page that holds its entries."""
    pages = client.get_paginator(operation).paginate(**request)
    return (each for page in pages for each in page.get(member, []))


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Raise boto3's and botocore's errors from the enclosed block as CannotDeploy."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise CannotDeploy(f"{doing} failed. {describe_error(error)}{_advise(read_code(error))}") from error


def _advise(code: str) -> str:
    if code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"):
        return "\nWhoever deploys needs this permission; docs/aws.md lists them."
    if code in ("ExpiredToken", "ExpiredTokenException"):
        return f"\n{CREDENTIALS_AT}"
    return ""
