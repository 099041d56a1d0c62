"""Let a tuning job begin with what the tuning of the dataset's live model has learnt. Pure.

The type is always TransferLearning: the images differ, so a parent's values say where to look and nothing about which
trial is best. SageMaker's restrictions are checked here, since it refuses the whole job otherwise.
https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-warm-start.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_CHANGES = 10  # of static values, and from tuned to static
MOST_JOBS = 750  # a parent's training jobs count too
ENDED = ("Completed", "Stopped")
ADDED = "_tuning_objective_metric"  # by SageMaker, to what it describes

Request = dict[str, Any]


def build_warm_start(request: Mapping[str, Any], parent: Mapping[str, Any] | None) -> Request:
    """Return the member WarmStartConfig for a tuning job's request, or nothing if SageMaker would not take the parent.

    parent: the description of an earlier tuning job, if there is one.
    """
    if parent is None or not (has_learnt(parent) and fits(request, parent)):
        return {}
    names = [{"HyperParameterTuningJobName": parent["HyperParameterTuningJobName"]}]
    return {"WarmStartConfig": {"ParentHyperParameterTuningJobs": names, "WarmStartType": "TransferLearning"}}


def has_learnt(parent: Mapping[str, Any]) -> bool:
    """Return whether a tuning job has ended with trials to learn from."""
    counted = parent.get("ObjectiveStatusCounters", {}).get("Succeeded", 0)
    return parent.get("HyperParameterTuningJobStatus") in ENDED and counted > 0


def fits(request: Mapping[str, Any], parent: Mapping[str, Any]) -> bool:
    """Return whether SageMaker takes this parent for a Bayesian search with the same objective and hyperparameters."""
    config, other = request["HyperParameterTuningJobConfig"], parent["HyperParameterTuningJobConfig"]
    if (config["Strategy"], other["Strategy"]) != ("Bayesian", "Bayesian"):
        return False
    if config["HyperParameterTuningJobObjective"] != other["HyperParameterTuningJobObjective"]:
        return False
    jobs = sum(each["ResourceLimits"].get("MaxNumberOfTrainingJobs", MOST_JOBS) for each in (config, other))
    own, theirs = list_hyperparameters(request), list_hyperparameters(parent)
    changes = sum(own.get(name) != value for name, value in theirs.items())
    return jobs <= MOST_JOBS and own.keys() == theirs.keys() and changes <= MOST_CHANGES and not swaps(own, theirs)


def list_hyperparameters(job: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return each hyperparameter's kind, and its value if it is static."""
    ranges = job["HyperParameterTuningJobConfig"].get("ParameterRanges", {})
    static = job["TrainingJobDefinition"].get("StaticHyperParameters", {})
    tuned = {each["Name"]: (kind, "") for kind, listed in ranges.items() for each in listed}
    return {name: ("static", value) for name, value in static.items() if name != ADDED} | tuned


def swaps(own: Mapping[str, tuple[str, str]], theirs: Mapping[str, tuple[str, str]]) -> bool:
    """Return whether a tuned hyperparameter is of another kind: continuous here and categorical there."""
    return any("static" not in (own[name][0], kind) and own[name][0] != kind for name, (kind, _) in theirs.items())
