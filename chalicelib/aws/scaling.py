"""Scale `instance` endpoints with their requests, between the recipe's two numbers of machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalicelib import errors
from chalicelib.aws.clients import translated

POLICY = "requests-of-each-machine"
# Requests a minute that one machine can serve. The smallest one we use answers some 20 a second on its two processors.
# AWS advises planning with half of that: the rest serves while another machine starts, which takes minutes.
REQUESTS_A_MINUTE = 600.0
COOLDOWNS = {"ScaleOutCooldown": 60, "ScaleInCooldown": 300}


class Scaling:
    """Application Auto Scaling for an endpoint's only variant. `connect` creates the client when it is first needed."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect

    def register(self, endpoint: str, variant: str, fewest: int, most: int) -> None:
        """Let a variant scale between two numbers of machines. Calling it again changes the numbers."""
        target = _name_target(endpoint, variant)
        with translated(f"RegisterScalableTarget {endpoint}"):
            self._connect().register_scalable_target(**target, MinCapacity=fewest, MaxCapacity=most)
        metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
        tracking = {"TargetValue": REQUESTS_A_MINUTE, "PredefinedMetricSpecification": metric, **COOLDOWNS}
        with translated(f"PutScalingPolicy {endpoint}"):
            self._connect().put_scaling_policy(
                **target,
                PolicyName=POLICY,
                PolicyType="TargetTrackingScaling",
                TargetTrackingScalingPolicyConfiguration=tracking,
            )

    def deregister(self, endpoint: str, variant: str) -> bool:
        """Stop scaling a variant, which keeps its current machines; the policy and its alarms are removed.

        Returns False if it was not scaling.
        """
        try:
            with translated(f"DeregisterScalableTarget {endpoint}"):
                self._connect().deregister_scalable_target(**_name_target(endpoint, variant))
        except errors.ServiceNotFound:
            return False
        return True


def _name_target(endpoint: str, variant: str) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{variant}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
