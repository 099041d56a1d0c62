"""Choose the instances of a tuning job's training jobs: one type, or several in order of preference.

HyperParameterTuningResourceConfig replaces ResourceConfig. Of its InstanceConfigs, Prioritized (AWS's only strategy)
takes the first that has capacity.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from localcloud.common.store import Record
from localcloud.protocol.errors import ValidationException

SINGLE = ("InstanceType", "InstanceCount", "VolumeSizeInGB")


def check_tuning_resources(definition: Record) -> None:
    """Raise ValidationException unless the definition states its instances in exactly one way."""
    config = definition.get("HyperParameterTuningResourceConfig")
    if (config is None) == ("ResourceConfig" not in definition):
        raise ValidationException(
            "You must specify either ResourceConfig or HyperParameterTuningResourceConfig in TrainingJobDefinition, "
            "and not both."
        )
    if config is None:
        _require_type(definition["ResourceConfig"], "ResourceConfig")
    elif "InstanceConfigs" not in config:
        _require_type(config, "HyperParameterTuningResourceConfig")
    else:
        _check_choices(config)


def list_resources(definition: Record) -> list[dict[str, Any]]:
    """Return the ResourceConfigs that a training job may get, the preferred first."""
    config = definition.get("HyperParameterTuningResourceConfig")
    if config is None:
        return [definition["ResourceConfig"]]
    shared = {key: config[key] for key in ("VolumeKmsKeyId",) if key in config}
    choices = config.get("InstanceConfigs", [config])
    return [{key: choice[key] for key in SINGLE if key in choice} | shared for choice in choices]


def choose_resources(definition: Record, lacking: Collection[str]) -> dict[str, Any]:
    """Return the first of the definition's resources that is not lacking; the first of all if every one is."""
    choices = list_resources(definition)
    return next((choice for choice in choices if choice["InstanceType"] not in lacking), choices[0])


def _require_type(config: Record, member: str) -> None:
    if "InstanceType" not in config:
        raise ValidationException(f"{member} must have an InstanceType, an InstanceCount and a VolumeSizeInGB.")


def _check_choices(config: Record) -> None:
    if both := [name for name in SINGLE if name in config]:
        raise ValidationException(
            f"HyperParameterTuningResourceConfig has InstanceConfigs, so it must not have {', '.join(both)}."
        )
    types = [choice["InstanceType"] for choice in config["InstanceConfigs"]]
    if len(set(types)) < len(types):
        raise ValidationException(f"The instance types of InstanceConfigs must be unique; found {types}.")
