"""Autoscaling of `instance` endpoints: as many machines as there are requests for, within the recipe's two numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalicelib import errors
from chalicelib.aws.clients import translated

POLICY = "requests-of-each-machine"
# Requests a minute for which one machine is enough. The smallest that is served answers some 20 a second on its two
# processors, and AWS advises to plan with half: what is left serves while another machine starts, which takes minutes.
REQUESTS_A_MINUTE = 600.0
COOLDOWNS = {"ScaleOutCooldown": 60, "ScaleInCooldown": 300}


class Scaling:
    """Application Auto Scaling, for the one variant of an endpoint. `connect` makes the client when it is needed."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect

    def register(self, endpoint: str, variant: str, fewest: int, most: int) -> None:
        """Have a variant scale between two numbers of machines. Doing it again changes the numbers."""
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
        """Leave a variant with the machines that it has; its policy and alarms go too. False where it did not scale."""
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
