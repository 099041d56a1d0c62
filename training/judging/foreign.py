"""Settle how images of no class are told, once the model is safe, and measure how well: manifest.json, unknown.json.

A head is fitted without some classes, whose images are then unknown to it. Its features come from ImageNet's weights,
which have learnt none of the classes. Without such weights they come from the model itself, which has seen all of them:
what is measured then flatters, and is reported as such.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from images.assembly import Dataset
from job.artifact import write_json
from job.metrics import log

from judging.unknown import (
    FEWEST,
    FitAndAnswer,
    choose_references,
    compare_methods,
    describe_unknown,
    measure_coverage,
    score,
)

Answer = Callable[[str], torch.Tensor]


@dataclass(frozen=True)
class Probe:
    """How to measure: what fits a head on some classes and answers, and whether its features have seen them all."""

    fit: FitAndAnswer
    seen: bool


def settle_unknown(
    data: Dataset, folder: Path, manifest: Path, answer: Answer, probe: Probe | None, before: Answer | None = None
) -> None:
    """Write the chosen rule into the manifest, and unknown.json into a job's folder.

    answer: gives the shipped network's logits of a split. probe: None where no head can be fitted. before:
    the logits of the same network before it was refitted, if it was: only that can be judged by validation images.
    """
    judged = before or answer
    valid = judged("valid")
    if len(valid) < FEWEST:
        reason = f"there are {len(valid)} validation images, and {FEWEST} are needed"
        write_json(folder / "unknown.json", {"format": 1, "on": False, "reason": reason})
        return
    labels, classes = (data.train.labels, data.valid.labels), len(data.classes)
    measured = compare_methods(probe.fit, labels, classes) if probe else None
    method = measured["method"] if measured else "max_logit"
    references = choose_references(judged("train"), data.train.labels) if method == "neighbours" else None
    rule: dict[str, Any] = describe_unknown(valid, method, references) or {}
    if before and references is not None:
        references = choose_references(answer("train"), data.train.labels)
        rule["references"] = references.tolist()
    write_json(manifest, json.loads(manifest.read_text(encoding="utf-8")) | {"unknown": rule})
    known = score(method, answer("test"), references) >= rule["threshold"]
    told = {name: rule[name] for name in ("method", "threshold", "images")}
    told |= {"coverage": measure_coverage(known), "measured": measured, "seen": probe.seen if probe else False}
    write_json(folder / "unknown.json", {"format": 1, "on": True, **told})
    log(f"images of no class are told by {method}")
