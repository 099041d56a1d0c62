"""Simulate cold starts of serverless endpoints, where faults.json asks for them: after idling, they are not ready.

On AWS most cold starts are only slow. Some are answered with ModelNotReadyException, which clients must handle.
"""

from __future__ import annotations

from datetime import timedelta

from localcloud.common.store import Record
from localcloud.protocol.errors import ServiceError
from localcloud.sagemaker.core.cloud import Cloud


class ModelNotReady(ServiceError):
    """The serverless endpoint is being provisioned. The request may be sent again."""

    code = "ModelNotReadyException"
    status = 429


def refuse_cold(cloud: Cloud, endpoint: Record) -> None:
    """Raise ModelNotReady while a serverless endpoint starts because it was idle or is new."""
    if not endpoint["_serverless"] or (cold := cloud.faults().cold_start) is None:
        return
    name, now = f"{endpoint['EndpointName']} {endpoint['_number']}", cloud.clock.now()
    with cloud.lock:
        used, ready = cloud.warmth.get(name, (None, now))
        if used is None or now - used > timedelta(seconds=cold.idle_seconds):
            ready = now + timedelta(seconds=cold.seconds)
        cloud.warmth[name] = (now, ready)
    if now < ready:
        raise ModelNotReady(
            f"The resources of the serverless endpoint {endpoint['EndpointName']} are still being provisioned. Wait "
            "and try your request again."
        )
