"""What the endpoints' operations and the runner of their servers say to each other.

A deployment is one set of servers for one endpoint. The runner starts it, reports once that it serves or why it does
not, and from then on sends it the endpoint's traffic, until a later deployment serves or the endpoint is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

DEFAULT_STARTUP_S = 300


@dataclass(frozen=True)
class Variant:
    """One model behind an endpoint. `archive` is an S3 URI, `environment` what its container would get, `role` the ARN
    of the model's execution role."""

    name: str
    model: str
    archive: str
    environment: Mapping[str, str]
    weight: float = 1.0
    startup_seconds: int = DEFAULT_STARTUP_S
    role: str = ""


@dataclass(frozen=True)
class Deployment:
    """The servers of an endpoint for one configuration. Of two that serve, the one with the higher number wins."""

    endpoint: str
    number: int
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Invocation:
    """A request to a model: the body, and its headers as the container sees them."""

    body: bytes
    headers: Mapping[str, str]
    variant: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a container answered."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    variant: str


class DeploymentReport(Protocol):
    """How a runner reports on a deployment: one call of one of the two, from any thread."""

    def succeed(self) -> None:
        """All variants serve, and the traffic goes to them."""

    def fail(self, reason: str) -> None:
        """A variant could not be started; what had been started is stopped again."""


class EndpointRunner(Protocol):
    """Runs the servers of endpoints. `deploy` and `remove` return at once."""

    def deploy(self, deployment: Deployment, report: DeploymentReport) -> None:
        """Start the servers, check their health, shift the traffic, stop those that served before."""

    def remove(self, endpoint: str) -> None:
        """Take the traffic away and stop every server of the endpoint; unknown ones are passed over."""

    async def invoke(self, endpoint: str, invocation: Invocation) -> Answer:
        """Send a request to one of the endpoint's variants.

        Raises LookupError for an unknown variant, ConnectionError if no server answers, TimeoutError after 60 s.
        """
