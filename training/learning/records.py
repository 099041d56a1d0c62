"""Describe a training as plain data: the first line of metrics.jsonl, evaluation.json and manifest.json."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from job.artifact import list_versions

from learning.model import choose_options
from learning.preparation import SPLITS, Setup

SUMMARY = ("images", "loss", "accuracy", "macro_precision", "macro_recall", "macro_f1")


def describe_start(setup: Setup) -> dict[str, Any]:
    """Describe what is about to be trained."""
    return {
        "epochs": setup.chosen.epochs,
        "threads": setup.job.threads,
        **({"processes": setup.job.ranks} if setup.job.ranks > 1 else {}),
        "classes": len(setup.dataset.classes),
        "images": {name: len(getattr(setup.dataset, name)) for name in SPLITS},
        "pretrained": setup.pretrained,
        "fine_tune": setup.chosen.fine_tune,
        "device": setup.device.type,
        "hyperparameters": {name: value for name, value in asdict(setup.chosen).items() if name != "run_id"},
    }


def count_images(setup: Setup) -> dict[str, dict[str, int]]:
    """Count what a metric line says of the splits: the control plane reads it of every trial."""
    data = setup.dataset
    return {"train": {"images": len(data.train), "classes": len(data.classes)}, "valid": {"images": len(data.valid)}}


def describe_evaluation(
    setup: Setup, valid: dict[str, Any], error: float, test: dict[str, Any], *, finished: bool, seconds: float
) -> dict[str, Any]:
    """Build evaluation.json. error: the objective's standard error; finished: whether every epoch was run."""
    objective, images = setup.chosen.objective, len(setup.dataset.valid)
    goal = {"name": f"valid:{objective}", "value": valid[objective], "standard_error": error, "images": images}
    return {
        "format": 1,
        "objective": goal,
        "valid": {"images": images, **valid},
        "test": test,
        "classes": setup.dataset.classes,
        "warnings": setup.warnings,
        "choices": setup.choices,
        "pretrained": setup.pretrained,
        "threads": setup.job.threads,
        "finished": finished,
        "seconds": round(seconds, 3),
    }


def tell_selection(objective: dict[str, Any], selection: dict[str, Any] | None) -> dict[str, Any]:
    """Build what evaluation.json says of a model that something else than the validation split selected.

    Its value is then the objective, and how much higher the split alone would put it is told beside it.
    """
    if selection is None:
        return {}
    told = {name: selection[name] for name in ("value", "standard_error", "images")}
    above = selection["validation"] - selection["value"]
    return {"objective": {**objective, **told}, "selection": {**selection, "validation_is_higher_by": above}}


def describe_model(setup: Setup, valid: dict[str, Any], test: dict[str, Any]) -> dict[str, Any]:
    """Build manifest.json: what the endpoint needs, and where the model comes from."""
    chosen = setup.chosen
    return {
        "run_id": chosen.run_id,
        "training_job_name": setup.job.name,
        "architecture": chosen.architecture,
        "classes": setup.dataset.classes,
        "image_size": chosen.image_size,
        **{name: getattr(setup.inputs, name) for name in ("resize_size", "mean", "std", "interpolation")},
        "options": choose_options(chosen.architecture),
        "temperature": test["calibration"]["temperature"],
        "pretrained": setup.pretrained,
        "fine_tune": chosen.fine_tune,
        "hyperparameters": asdict(chosen),
        "metrics": {"valid": {"images": len(setup.dataset.valid), **valid}, "test": pick(test, SUMMARY)},
        "training_image_hashes": setup.dataset.train.hashes,
        "image_hashes": {name: getattr(setup.dataset, name).hashes for name in SPLITS},
        "image_keys": setup.keys,
        "cut": setup.dataset.cut.describe() if setup.dataset.cut else None,
        "warnings": setup.warnings,
        "choices": setup.choices,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def pick(values: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: values[name] for name in names}


def describe_origin(setup: Setup) -> dict[str, Any]:
    """Describe what a report shows beside hyperparameters, so that the training can be repeated."""
    images = hashlib.sha256("".join(sorted(setup.dataset.train.hashes)).encode()).hexdigest()[:16]
    return {"run_id": setup.chosen.run_id, "training images (hash)": images, "versions": list_versions()}
