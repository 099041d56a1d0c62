"""The account and the region that a command works on, and AWS's errors in an operator's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from infrastructure.errors import CannotDeploy, Unusable

Clients = Callable[[str], Any]
CREDENTIALS_AT = "Set AWS_PROFILE, run `aws configure` or `aws sso login`, or give PROFILE=NAME."


@dataclass(frozen=True)
class Account:
    """Where a stage is deployed. `clients(service)` gives boto3 clients."""

    number: str
    region: str
    clients: Clients


@dataclass(frozen=True)
class Stage:
    """An application's stage in an account: what every name of it is made of."""

    app: str
    name: str
    account: Account

    @property
    def stack(self) -> str:
        return f"{self.app}-{self.name}"

    @property
    def prefix(self) -> str:
        """What every name begins with."""
        return f"{self.stack}-"

    @property
    def bucket(self) -> str:
        """The bucket of the stage's data, as the template names it."""
        return f"{self.prefix}{self.account.number}-{self.account.region}"

    @property
    def artifacts(self) -> str:
        """The bucket of what is deployed: the code's archive and the template."""
        return f"{self.prefix}artifacts-{self.account.number}-{self.account.region}"


def connect(profile: str, region: str) -> tuple[Clients, str]:
    """boto3 clients of a profile and a region, either empty for the environment's. Raises Unusable."""
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
    """Whose account this is. Raises CannotDeploy where the credentials are none."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        number = clients("sts").get_caller_identity()["Account"]
    except BotoCoreError as error:
        raise CannotDeploy(f"AWS cannot be asked who you are ({error}). {CREDENTIALS_AT}") from error
    except ClientError as error:
        raise CannotDeploy(f"AWS refuses the credentials: {describe_error(error)}. {CREDENTIALS_AT}") from error
    return Account(str(number), region, clients)


def describe_error(error: Exception) -> str:
    """What AWS said: the code and the message of its answer, or the client's own words."""
    answer = getattr(error, "response", {}).get("Error", {})
    if "Code" not in answer:
        return str(error)
    message = re.sub(r"<[^>]*>|\s+", " ", answer.get("Message", ""))  # an answer on the way may be a page
    return f"{answer['Code']}: {' '.join(message.split())}"


def read_code(error: Exception) -> str:
    """The code of an error of AWS's."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def page_through(client: Any, operation: str, member: str, **request: Any) -> Iterator[Any]:
    """Every entry of a paginated list, asked for page by page; `member` is what a page calls them."""
    pages = client.get_paginator(operation).paginate(**request)
    return (each for page in pages for each in page.get(member, []))


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Raises what boto3 and botocore raise within it as CannotDeploy."""
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
