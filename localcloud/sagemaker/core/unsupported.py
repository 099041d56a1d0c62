"""Refuse by name what AWS would accept and the local cloud cannot do, since ignoring it would mislead.

A rule names a member by its path (`[]` stands for every item of a list) and the values that change nothing here. So
clients that spell out defaults are served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from localcloud.protocol.errors import Unsupported
from localcloud.sagemaker.core.cloud import Request

Rules = dict[str, tuple[Any, ...]]  # path of a member -> its harmless values

_CHANNELS: Rules = {
    "InputDataConfig[].DataSource.FileSystemDataSource": (),
    "InputDataConfig[].DataSource.DatasetSource": (),
    "InputDataConfig[].DataSource.S3DataSource.S3DataType": ("S3Prefix",),
    "InputDataConfig[].DataSource.S3DataSource.S3DataDistributionType": ("FullyReplicated", "ShardedByS3Key"),
    "InputDataConfig[].DataSource.S3DataSource.AttributeNames": ([],),
    "InputDataConfig[].DataSource.S3DataSource.InstanceGroupNames": ([],),
    "InputDataConfig[].DataSource.S3DataSource.ModelAccessConfig": (),
    "InputDataConfig[].DataSource.S3DataSource.HubAccessConfig": (),
    "InputDataConfig[].CompressionType": ("None",),
    "InputDataConfig[].RecordWrapperType": ("None",),
    "InputDataConfig[].InputMode": ("File", "FastFile"),
    "InputDataConfig[].ShuffleConfig": (),
}
_RESOURCES: Rules = {
    "ResourceConfig.InstanceCount": (1,),
    "ResourceConfig.InstanceGroups": ([],),
    "ResourceConfig.KeepAlivePeriodInSeconds": (0,),
    "ResourceConfig.TrainingPlanArn": (),
    "ResourceConfig.InstancePlacementConfig": (),
    "ResourceConfig.InstancePreferences": (),
    "ResourceConfig.SelectedInstanceType": (),
    "ResourceConfig.SelectedInstanceCount": (),
    "StoppingCondition.MaxPendingTimeInSeconds": (),
    "EnableNetworkIsolation": (False,),
    "OutputDataConfig.CompressionType": ("GZIP",),
    "AlgorithmSpecification.AlgorithmName": (),
    "AlgorithmSpecification.TrainingInputMode": ("File", "FastFile"),
}
TRAINING_JOB: Rules = {
    **_CHANNELS,
    **_RESOURCES,
    "ResourceConfig.InstanceCount": (1, 2, 3, 4),  # all of them are this machine
    "AlgorithmSpecification.TrainingImageConfig": ({"TrainingRepositoryAccessMode": "Platform"},),
    "TensorBoardOutputConfig": (),
    "ExperimentConfig": ({},),
    "RemoteDebugConfig": ({"EnableRemoteDebug": False}, {}),
    "InfraCheckConfig": ({"EnableInfraCheck": False}, {}),
    "SessionChainingConfig": ({"EnableSessionTagChaining": False}, {}),
    "ServerlessJobConfig": (),
    "MlflowConfig": (),
    "ModelPackageConfig": (),
}
TUNING_JOB: Rules = {
    "TrainingJobDefinition.HyperParameterTuningResourceConfig.InstanceCount": (1,),
    "TrainingJobDefinition.HyperParameterTuningResourceConfig.InstanceConfigs[].InstanceCount": (1,),
    **{f"TrainingJobDefinition.{path}": values for path, values in {**_CHANNELS, **_RESOURCES}.items()},
    "TrainingJobDefinition.HyperParameterRanges.AutoParameters": ([],),
    "HyperParameterTuningJobConfig.ParameterRanges.AutoParameters": ([],),
    "TrainingJobDefinitions": (),
    "Autotune": (),
}


def refuse_unsupported(request: Request, rules: Rules) -> None:
    """Raise Unsupported, with the member's path and value, for the first rule that the request breaks."""
    for path, harmless in rules.items():
        for value in _find_values(request, path.split(".")):
            if value not in harmless:
                allowed = f"; it takes {' or '.join(map(repr, harmless))}" if harmless else "; leave it out"
                raise Unsupported(f"The local cloud does not support {path} = {value!r}{allowed}")


def _find_values(value: Any, path: Sequence[str]) -> Iterator[Any]:
    if not path:
        yield value
        return
    name = path[0].removesuffix("[]")
    if name in value:
        for item in value[name] if path[0].endswith("[]") else [value[name]]:
            yield from _find_values(item, path[1:])
