"""Check what the service model cannot say of a training job's request: limits, paths, network and debugging.

A VPC and KMS keys are checked as AWS does, and have no effect here: a job's program uses this machine's network, and
the local S3 keeps objects unencrypted on its disk.
"""

from __future__ import annotations

from localcloud.common.store import Record
from localcloud.protocol.errors import Unsupported, ValidationException
from localcloud.sagemaker.core.images import check_training_image
from localcloud.sagemaker.core.metrics import compile_metrics
from localcloud.sagemaker.core.network import check_network

DEFAULT_MAX_RUNTIME = 86400
DEFAULT_HOOK_FOLDER = "/opt/ml/output/tensors"
DEFAULT_PROFILING_INTERVAL = 500
PROFILING_INTERVALS = (100, 200, 500, 1000, 5000, 60000)
MOST_RULES = 20


def check_resources(definition: Record) -> None:
    """Check the instances of a training job. Raises ValidationException if they have no type."""
    if definition.get("ResourceConfig", {}).get("InstanceType") is None:
        raise ValidationException("ResourceConfig must have an InstanceType, an InstanceCount and a VolumeSizeInGB.")


def check_definition(region: str, definition: Record, hyperparameters: dict[str, str]) -> None:
    """Check a training job's definition beyond the service model. Raises ValidationException or Unsupported."""
    if not definition["AlgorithmSpecification"].get("TrainingImage"):
        raise ValidationException("You must specify either TrainingImage or AlgorithmName in AlgorithmSpecification.")
    check_training_image(region, definition["AlgorithmSpecification"]["TrainingImage"])
    channels = [channel["ChannelName"] for channel in definition.get("InputDataConfig", [])]
    if len(set(channels)) < len(channels):
        raise ValidationException(f"Channel names must be unique; found {channels}.")
    _check_spot(definition)
    _check_places(definition)
    _check_debugging(definition)
    check_network(definition)
    try:
        compile_metrics(definition["AlgorithmSpecification"].get("MetricDefinitions", []))
    except ValueError as error:
        raise ValidationException(f"Invalid metric definition: {error}") from error
    _check_program(definition["AlgorithmSpecification"], hyperparameters)


def _check_program(algorithm: Record, hyperparameters: dict[str, str]) -> None:
    """Check that the job can run without the image: in script mode, or by the request's own entry point."""
    if algorithm.get("ContainerEntrypoint"):
        return
    if algorithm.get("ContainerArguments"):
        raise Unsupported(
            "The local cloud runs no image: ContainerArguments need a ContainerEntrypoint in AlgorithmSpecification"
        )
    for name in ("sagemaker_program", "sagemaker_submit_directory"):
        if name not in hyperparameters:
            raise Unsupported(
                "The local cloud runs no image, only programs in script mode or by a ContainerEntrypoint: the "
                f"hyperparameters need {name!r}"
            )


def _check_places(definition: Record) -> None:
    checkpoints = definition.get("CheckpointConfig", {})
    path = checkpoints.get("LocalPath", "/opt/ml/checkpoints")
    if not path.startswith("/opt/ml/") or ".." in path:
        raise Unsupported(f"The local cloud has checkpoint folders below /opt/ml/ alone, not at {path!r}")
    for uri in (definition["OutputDataConfig"]["S3OutputPath"], checkpoints.get("S3Uri", "s3://")):
        if not uri.startswith("s3://"):
            raise Unsupported(f"The local cloud writes to s3:// URIs alone, not to {uri!r}")


def _check_spot(definition: Record) -> None:
    stopping = definition.get("StoppingCondition", {})
    longest, wait = stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME), stopping.get("MaxWaitTimeInSeconds")
    if definition.get("EnableManagedSpotTraining", False):
        if wait is None or wait < longest:
            raise ValidationException(
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
            )
    elif wait is not None:
        raise ValidationException("Max wait time must not be set if EnableManagedSpotTraining is false.")


def _check_debugging(definition: Record) -> None:
    hook, profiler = definition.get("DebugHookConfig", {}), definition.get("ProfilerConfig", {})
    path = hook.get("LocalPath", DEFAULT_HOOK_FOLDER)
    if not path.startswith("/opt/ml/") or ".." in path:
        raise Unsupported(f"The local cloud has a debugger's folder below /opt/ml/ alone, not at {path!r}")
    interval = profiler.get("ProfilingIntervalInMilliseconds", DEFAULT_PROFILING_INTERVAL)
    if interval not in PROFILING_INTERVALS:
        valid = ", ".join(map(str, PROFILING_INTERVALS))
        raise ValidationException(f"ProfilingIntervalInMilliseconds is {interval}; valid values are {valid}.")
    disabled = profiler.get("DisableProfiler", False)
    if profiler and not disabled and "S3OutputPath" not in profiler:
        raise ValidationException("ProfilerConfig must have an S3OutputPath unless DisableProfiler is true.")
    for member in ("DebugRuleConfigurations", "ProfilerRuleConfigurations"):
        rules = [rule["RuleConfigurationName"] for rule in definition.get(member, [])]
        if len(rules) > MOST_RULES or len(set(rules)) < len(rules):
            raise ValidationException(f"{member} takes at most {MOST_RULES} rules of different names; found {rules}.")


def complete_debugging(request: Record) -> Record:
    """Return the request with the defaults that Describe shows for a hook and a profiler."""
    completed = dict(request)
    if "DebugHookConfig" in request:
        completed["DebugHookConfig"] = {"LocalPath": DEFAULT_HOOK_FOLDER} | request["DebugHookConfig"]
    if request.get("ProfilerConfig") and not request["ProfilerConfig"].get("DisableProfiler", False):
        defaults = {"ProfilingIntervalInMilliseconds": DEFAULT_PROFILING_INTERVAL, "DisableProfiler": False}
        completed["ProfilerConfig"] = defaults | request["ProfilerConfig"]
    return completed
