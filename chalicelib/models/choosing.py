"""Choose the model that ships, and whether it is deployed: candidates, the recipe's gate, the live model. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from chalicelib.models.promoting import DECLINE, Facts, is_sound, judge_promotion
from chalicelib.recipes.resolving import read_pinned
from chalicelib.runs.identity import Run
from chalicelib.runs.observation import Observation, Training, Trial, Tuning

GATES = {  # the recipe's member: the measure on the validation split, and what it is called
    "min_accuracy": ("accuracy", "accuracy"),
    "min_macro_recall": ("macro_recall", "mean recall of all classes"),
    "min_class_recall": ("lowest_recall", "lowest recall of any class"),
}
MEASURED = ("Completed", "Stopped")  # a trial that was stopped early may be the best one all the same


def rank_trials(tuning: Tuning) -> list[Trial]:
    """List the trials that have an objective, the best one first. SageMaker's own choice comes before an equal one."""
    reached = [trial for trial in tuning.trials if trial.objective is not None and math.isfinite(trial.objective)]
    measured = [trial for trial in reached if trial.status in MEASURED]
    return sorted(measured, key=lambda trial: (trial.name == tuning.best, trial.objective), reverse=True)


def choose_trial(tuning: Tuning) -> Trial | None:
    """Return the best trial that left a model; where none did, the best one, for its hyperparameters alone."""
    ranked = rank_trials(tuning)
    return next((trial for trial in ranked if trial.model_data), ranked[0] if ranked else None)


def describe_tuning(tuning: Tuning, best: Trial) -> dict[str, Any]:
    """Build tuning.json. `passed_over` says which better trials left no model."""
    ranked = rank_trials(tuning)
    passed = ranked[: ranked.index(best)] if best.model_data else []
    return {
        "format": 1,
        "status": tuning.status,
        "parallel_trials": tuning.at_once,
        "best": {"name": best.name, "objective": best.objective, "hyperparameters": best.hyperparameters},
        "model_data": best.model_data,
        "evaluation": read_metrics(best.metrics, best.objective),
        "passed_over": [{"name": trial.name, "objective": trial.objective} for trial in passed],
        "trials": [describe_trial(trial) for trial in tuning.trials],
    }


def describe_trial(trial: Trial) -> dict[str, Any]:
    """Describe a trial as tuning.json and the routes show it. Times are ISO 8601."""
    return {
        "name": trial.name,
        "status": trial.status,
        "hyperparameters": trial.hyperparameters,
        "objective": trial.objective,
        "reason": trial.reason,
        "started_at": trial.started_at.isoformat() if trial.started_at else None,
        "ended_at": trial.ended_at.isoformat() if trial.ended_at else None,
        "billable_seconds": trial.billable_seconds,
        "instance_type": trial.instance_type,
    }


COUNTS = ("images", "classes")


def read_metrics(metrics: dict[str, float], objective: float | None) -> dict[str, Any] | None:
    """Return what a job's last metrics say of its model, in the form of evaluation.json; None if they do not say all.

    A job may be stopped before it leaves a file, and AWS documents nowhere where a trial's checkpoints go.
    """
    if objective is None or not {"valid:standard_error", "valid:images"} <= metrics.keys():
        return None
    goal = {
        "value": objective,
        "standard_error": metrics["valid:standard_error"],
        "images": round(metrics["valid:images"]),
    }
    splits: dict[str, dict[str, float]] = {"valid": {}, "test": {}}
    for name, value in metrics.items():
        split, _, measure = name.partition(":")
        if split in splits:
            splits[split][measure] = round(value) if measure in COUNTS else value  # metrics are all floats
    return {"objective": goal, **{split: values for split, values in splits.items() if values}}


CANDIDATES = {
    "final": "the final training",
    "trial": "the best trial",
    "head": "the fitted head",
    "blend": "the blend of fitted head and final training",
}


def decide_on_model(seen: Observation) -> dict[str, Any] | None:
    """Build decision.json: which model ships, and whether it is deployed, declined, or for a person to decide.

    None if no job left a model. The final training's comparison counts only where the model it left is the one that
    ships.
    """
    assert seen.tuned is not None
    assert seen.training is not None
    comparison = seen.comparison if seen.training.model_data and is_sound(seen.comparison) else None
    chosen = select_model(seen.run, seen.tuned, seen.trial_evaluation, seen.training, comparison)
    if chosen is None:
        return None
    evaluation = seen.training.evaluation if chosen["ships"] == "training" else seen.trial_evaluation
    facts = Facts(seen.live, comparison, evaluation, seen.baseline)
    promotion = judge_promotion(read_pinned(seen.run.recipe).promotion, facts)
    if promotion["action"] == DECLINE and not chosen["declined"]:
        chosen["declined"] = promotion["sentence"]
    return chosen | {"promotion": promotion}


def select_model(
    run: Run,
    tuned: dict[str, Any],
    of_trial: dict[str, Any] | None,
    training: Training,
    comparison: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Choose among the models of a run's jobs: (part of) decision.json, or None where no job left one.

    The final training leaves the best of all candidates, where it could compare them. Where it could not, its model
    ships unless the best trial's is better by over one standard error. Both evaluations are of the validation split;
    the test split never selects. The larger of the two standard errors counts, so that chance alone seldom rejects the
    training. A training that left no evaluation is rejected, if there is a trial's model in its place.
    """
    best, of_training = tuned["best"], training.evaluation
    trial_data = tuned.get("model_data", f"{run.uri}output/{best['name']}/output/model.tar.gz")
    if not (trial_data or training.model_data):
        return None
    trial_value = of_trial["objective"]["value"] if of_trial else best["objective"]
    error = max(each["objective"]["standard_error"] for each in (of_trial, of_training) if each) if of_training else 0.0
    value = of_training["objective"]["value"] if of_training else None
    ships, why = _compare(value, trial_value, error)
    candidate = {"training": "final", "trial": "trial"}
    if comparison:
        ships, why = "training", _tell_candidates(comparison)
        candidate["training"] = comparison["ships"]
    elif not training.model_data:
        ships, why = "trial", "The training left no model, so the best trial's ships."
    elif not trial_data:
        ships, why = "training", "No trial left a model, so the training's ships."
    if tuned.get("passed_over"):
        names = ", ".join(each["name"] for each in tuned["passed_over"])
        why += f" The best trial is {best['name']}, as {names} left no model."
    return {
        "format": 1,
        "ships": ships,
        "candidate": candidate[ships],
        "training_job_name": training.name if ships == "training" else best["name"],
        "model_data": training.model_data if ships == "training" else trial_data,
        "objective": {"training": value, "trial": trial_value, "standard_error": error},
        "reason": why,
        "declined": explain_decline(run, of_training if ships == "training" else of_trial),
        "evaluation": _shorten(of_training if ships == "training" else of_trial),
    }


def _shorten(evaluation: dict[str, Any] | None) -> dict[str, Any]:
    """Return the numbers of an evaluation, without its tables."""
    splits = {split: (evaluation or {}).get(split) or {} for split in ("valid", "test")}
    numbers = {
        split: {name: value for name, value in values.items() if isinstance(value, int | float)}
        for split, values in splits.items()
    }
    return {split: values for split, values in numbers.items() if values}


def _tell_candidates(comparison: dict[str, Any]) -> str:
    """Say which candidate ships, and what each has reached on the validation split."""
    reached = (
        f"{CANDIDATES.get(each['candidate'], each['candidate'])} {each['valid']['objective']:.1%}"
        for each in comparison["candidates"]
    )
    told = ", ".join(reached)
    best = CANDIDATES.get(comparison["ships"], comparison["ships"])
    ships = f"The model of {best} was chosen, the best on the validation images{f': {told}' if told else ''}."
    return " ".join([ships, *_tell_refit(comparison.get("refit")), *(comparison.get("problems") or ())])


def _tell_refit(refit: Any) -> Iterator[str]:
    """Say that the model was trained again on validation images too, or why it was not, if the recipe asks for it."""
    if not isinstance(refit, dict):
        return
    if refit.get("done") is True:
        yield f"It was then trained again on all {refit.get('images')} training and validation images."
    else:
        yield f"It was not trained again on validation images too: {refit.get('why')}."


def _compare(value: float | None, of_trial: float | None, error: float) -> tuple[str, str]:
    if value is None:
        return "trial", "The training left no evaluation, so the best trial's model ships."
    if of_trial is not None and value < of_trial - error:
        why = f"The training reached {value:.1%}, the best trial {of_trial:.1%}: worse by more than {error:.1%}."
        return "trial", why
    return "training", f"The training reached {value:.1%}, within one standard error or better."


def explain_decline(run: Run, evaluation: dict[str, Any] | None) -> str | None:
    """Explain why the recipe's gate rejects a model with this evaluation. Returns None if the model passes."""
    gate, valid = (run.recipe or {}).get("gate", {}), (evaluation or {}).get("valid", {})
    for member, (measure, name) in GATES.items():
        least, reached = gate.get(member, 0.0), valid.get(measure)
        if least and (reached is None or reached < least):
            told = "is unknown, as its job left no evaluation" if reached is None else f"is {reached:.4f}"
            return f"The model's {name} on the validation split {told}, and the recipe's gate.{member} is {least:g}."
    return None
