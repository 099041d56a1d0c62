"""Check the VpcConfig of jobs and models as AWS does. There is no VPC here, so it has no effect."""

from __future__ import annotations

from localcloud.common.store import Record
from localcloud.protocol.errors import ValidationException


def check_network(request: Record) -> None:
    """Raise ValidationException for IDs that cannot be subnets or security groups."""
    config = request.get("VpcConfig", {})
    for member, prefix, word in (("Subnets", "subnet-", "subnet"), ("SecurityGroupIds", "sg-", "security group")):
        ids = config.get(member, [])
        if wrong := [one for one in ids if not one.startswith(prefix)]:
            raise ValidationException(f"The {word} IDs {wrong} do not exist: each begins with {prefix!r}.")
        if len(set(ids)) < len(ids):
            raise ValidationException(f"The {word} IDs of a VpcConfig must be unique; found {ids}.")
