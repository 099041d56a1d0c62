"""Build the AWS Debugger and Profiler blocks of the profiled training, for accounts that still have them. Pure.

`off` adds nothing. `monitoring` makes SageMaker sample the instance and write its ProfilerReport. `full` also makes
AWS's hook save tensors, which AWS's built-in rules judge in containers of their own, beside our rules. The job then
contains the hook's configuration, and our own hook follows it. In a region without an image for the rules, no rules are
requested. A tuning job's trials cannot carry any of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chalicelib.runs.identity import Run
from chalicelib.settings import Settings

PROFILING_INTERVAL_MS = 500  # SageMaker accepts 100, 200, 500, 1000, 5000 and 60000
# By default AWS saves every 500 steps, which a small dataset never reaches. Each save of all weights and gradients
# writes twice the size of the model.
HOOK_PARAMETERS = {"train.save_interval": "100", "eval.save_interval": "10", "predict.save_interval": "1000000"}
LOSS = "CrossEntropyLoss"
# `health` holds the small tensors that our own rules read.
COLLECTIONS: Mapping[str, Mapping[str, str]] = {
    "losses": {},
    "gradients": {},
    "weights": {},
    "biases": {},
    "relu_input": {"include_regex": ".*relu_input"},
    "relu_output": {"include_regex": ".*relu_output"},
    "predictions": {"include_regex": f".*{LOSS}_input_0"},
    "labels": {"include_regex": f".*{LOSS}_input_1"},
    "health": {"include_regex": "^(activity|variance|saturation|update|spread)/"},
}
# AWS's defaults apply to whatever is not given; three of these rules must be told what to look at.
RULES: Mapping[str, Mapping[str, str]] = {
    "VanishingGradient": {},
    "ExplodingTensor": {"collection_names": "losses,gradients,weights"},
    "LossNotDecreasing": {},
    "Overfit": {},
    "Overtraining": {},
    "PoorWeightInitialization": {},
    "DeadRelu": {},
    "SaturatedActivation": {},
    "WeightUpdateRatio": {},
    "UnchangedTensor": {"collection_names": "weights"},
    "AllZero": {"collection_names": "weights,gradients"},
    "ClassImbalance": {},
    "Confusion": {},
}

Request = dict[str, Any]


def build_debugger_blocks(run: Run, settings: Settings) -> Request:
    """Build the members that the setting `debugger_mode` adds to CreateTrainingJob."""
    if settings.debugger_mode == "off":
        return {}
    image = settings.debugger_rules_image
    blocks = _build_profiler(run, image)
    return blocks | _build_debugger(run, image) if settings.debugger_mode == "full" else blocks


def _build_profiler(run: Run, image: str) -> Request:
    config = {
        "S3OutputPath": f"{run.uri}aws-profiler/",
        "ProfilingIntervalInMilliseconds": PROFILING_INTERVAL_MS,
        "DisableProfiler": False,
    }
    return {"ProfilerConfig": config} | _build_rules("ProfilerRuleConfigurations", image, {"ProfilerReport": {}})


def _build_debugger(run: Run, image: str) -> Request:
    collections = [
        {"CollectionName": name, "CollectionParameters": dict(parameters)} for name, parameters in COLLECTIONS.items()
    ]
    hook = {
        "S3OutputPath": f"{run.uri}aws-debugger/",
        "HookParameters": dict(HOOK_PARAMETERS),
        "CollectionConfigurations": collections,
    }
    return {"DebugHookConfig": hook} | _build_rules("DebugRuleConfigurations", image, RULES)


def _build_rules(member: str, image: str, rules: Mapping[str, Mapping[str, str]]) -> Request:
    if not image:
        return {}
    configurations = [
        {
            "RuleConfigurationName": name,
            "RuleEvaluatorImage": image,
            "RuleParameters": {"rule_to_invoke": name, **parameters},
        }
        for name, parameters in rules.items()
    ]
    return {member: configurations}
