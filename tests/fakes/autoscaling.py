"""Keep Application Auto Scaling in memory: the variants that scale, and their policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes.clients import Client, fail

if TYPE_CHECKING:
    from tests.fakes.world import World

ON_INSTANCES = "CurrentInstanceCount"


class FakeAutoscaling(Client):
    """The variants that scale: `targets` holds (fewest, most) by resource. `refuses` makes it refuse every target."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.targets: dict[str, tuple[int, int]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.refuses = False

    def do_register_scalable_target(
        self, ServiceNamespace: str, ResourceId: str, ScalableDimension: str, MinCapacity: int, MaxCapacity: int
    ) -> Any:
        self._check(ResourceId, "RegisterScalableTarget")
        if MinCapacity > MaxCapacity:
            text = "Maximum capacity cannot be less than minimum capacity"
            raise fail("ValidationException", text, "RegisterScalableTarget")
        self.targets[ResourceId] = (MinCapacity, MaxCapacity)
        return {}

    def _check(self, resource: str, operation: str) -> None:
        """Check as AWS does that the variant exists and can scale now."""
        _, endpoint, _, variant = resource.split("/")
        found = self.world.sagemaker.kept["Endpoint"].get(endpoint, {})
        variants = {each["VariantName"]: each for each in self.world.sagemaker.list_variants(found)}
        if self.refuses or found.get("EndpointStatus") != "InService" or ON_INSTANCES not in variants.get(variant, {}):
            raise fail("ValidationException", f"Resource ID {resource} cannot be scaled", operation)

    def do_put_scaling_policy(self, ResourceId: str, PolicyName: str, **request: Any) -> Any:
        if ResourceId not in self.targets:
            text = f"No scalable target registered for service namespace: sagemaker, resource ID: {ResourceId}"
            raise fail("ObjectNotFoundException", text, "PutScalingPolicy")
        self.policies[ResourceId] = {"PolicyName": PolicyName, **request}
        return {}

    def do_deregister_scalable_target(self, ServiceNamespace: str, ResourceId: str, ScalableDimension: str) -> Any:
        if ResourceId not in self.targets:
            text = f"No scalable target found for service namespace: sagemaker, resource ID: {ResourceId}"
            raise fail("ObjectNotFoundException", text, "DeregisterScalableTarget")
        del self.targets[ResourceId]
        self.policies.pop(ResourceId, None)
        return {}
