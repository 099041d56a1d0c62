"""Define what the endpoints' operations and the runner of their servers exchange.

A deployment is one set of servers for one endpoint. The runner starts it, and reports once that it serves or why it
does not. From then on it sends the endpoint's traffic there, until a later one serves or the endpoint is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

DEFAULT_STARTUP_S = 300


@dataclass(frozen=True)
class Variant:
    """One model behind an endpoint.

    `archive` is an S3 URI, `environment` is what its container would get, and `role` is the ARN of the model's role.
    """

    name: str
    model: str
    archive: str
    environment: Mapping[str, str]
    weight: float = 1.0
    startup_seconds: int = DEFAULT_STARTUP_S
    role: str = ""


@dataclass(frozen=True)
class Deployment:
    """The servers of an endpoint for one configuration. If two serve, the one with the higher number wins."""

    endpoint: str
    number: int
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Invocation:
    """A request to a model: the body, and the headers as the container sees them."""

    body: bytes
    headers: Mapping[str, str]
    variant: str | None = None


@dataclass(frozen=True)
class Answer:
    """A container's answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    variant: str


class Overloaded(Exception):
    """The variant's queue is full. The request was not begun."""


class DeploymentReport(Protocol):
    """How a runner reports on a deployment: one call of either method, from any thread."""

    def succeed(self) -> None:
        """Report that all variants serve, and get the traffic."""

    def fail(self, reason: str) -> None:
        """Report that a variant could not be started. What had been started is stopped."""


class EndpointRunner(Protocol):
    """Runs the servers of endpoints. `deploy` and `remove` return at once."""

    def deploy(self, deployment: Deployment, report: DeploymentReport) -> None:
        """Start the servers, check their health, shift the traffic, and stop those that served before."""

    def remove(self, endpoint: str) -> None:
        """Stop the traffic and every server of the endpoint. Unknown endpoints are ignored."""

    async def invoke(self, endpoint: str, invocation: Invocation) -> Answer:
        """Send a request to one of the endpoint's variants.

        Raises LookupError for an unknown variant, Overloaded if its queue is full, ConnectionError if no server
        answers, TimeoutError after 60 s.
        """
