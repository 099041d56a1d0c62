"""Build accounts with a history for the page to show."""

from __future__ import annotations

import base64
import json
import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.pipeline.intake import begin_run
from chalicelib.pipeline.sweep import sweep
from chalicelib.runs.listing import Facts
from tests.fakes.world import World
from tests.support.pictures import build_colour_zip, draw_test_picture

ZIP = build_colour_zip(counts={"train": 3, "valid": 3})
CLASSES = [str(digit) for digit in range(10)]
ROUNDS = 8


def advance(world: World, rounds: int = 1) -> None:
    for _ in range(rounds):
        sweep(world.services())
        world.end_everything()
    sweep(world.services())


def tell_of_a_model(world: World, name: str = "digits") -> str:
    """Take a dataset the whole way, with all findings of its jobs. Returns the run's id."""
    world.trial_scores = [0.71, 0.83, 0.64, 0.93, 0.9, 0.88]
    world.upload(f"{name}.zip", ZIP)
    advance(world, ROUNDS)
    run_id = world.services().runs.list_all(1)[0][0]["run_id"]
    for number, score in enumerate(world.trial_scores, 1):
        write_metrics(world, run_id, f"{run_id}-{number:03d}-0123abcd", epochs=6, ends_at=score or 0)
    write_metrics(world, run_id, f"{run_id}-train", epochs=8, ends_at=0.95)
    findings = make_findings()
    for file, document in findings.items():
        world.s3.store(f"runs/{run_id}/jobs/{run_id}-train/{file}", json.dumps(document).encode())
    evaluation = findings["evaluation.json"]
    change_result(world, run_id, metrics={split: evaluation[split] for split in ("valid", "test")})
    return run_id


def tell_of_an_undecided_model(world: World, name: str = "dogs") -> str:
    """Make a run whose model was not shown to be as good as the live one."""
    world.upload(f"{name}.zip", ZIP)
    advance(world, ROUNDS)
    world.against_live = "even"
    world.upload(f"{name}.zip", build_colour_zip(1, counts={"train": 3, "valid": 3}))
    advance(world, ROUNDS)
    return str(world.services().runs.list_all(1)[0][0]["run_id"])


def change_result(world: World, run_id: str, **members: Any) -> None:
    """Put what a real training would have measured into the run's result."""
    key = f"runs/{run_id}/result.json"
    world.s3.store(key, json.dumps(world.read(key) | members).encode())


def tell_of_a_failure(world: World, name: str = "cats & dogs") -> str:
    """Make a run whose trials all failed."""
    world.trial_scores = [None, None]
    world.upload(f"{name}.zip", ZIP)
    advance(world, ROUNDS)
    return str(world.services().runs.list_all(1)[0][0]["run_id"])


def tell_of_a_tuning(world: World, name: str = "flowers") -> str:
    """Make a run whose trials are in progress."""
    world.trial_scores = [0.7, 0.8]
    world.upload(f"{name}.zip", ZIP)
    sweep(world.services())
    sweep(world.services())
    run_id = str(world.services().runs.list_all(1)[0][0]["run_id"])
    trials = [world._make_trial(run_id, number, score) for number, score in ((1, 0.72), (2, 0.5))]
    trials[1] |= {"TrainingJobStatus": "InProgress", "TrainingEndTime": None}
    world.sagemaker.trials[run_id] = trials
    write_metrics(world, run_id, trials[0]["TrainingJobName"], epochs=6, ends_at=0.72)
    write_metrics(world, run_id, trials[1]["TrainingJobName"], epochs=3, ends_at=0.5, has_ended=False)
    return run_id


def fill_with_runs(world: World, count: int) -> None:
    """Add many runs of the last weeks, in the list alone."""
    services, dice = world.services(), random.Random(0)
    world.upload("many.zip", ZIP)
    upload = services.bucket.describe("datasets/many.zip")
    assert upload is not None
    sample = begin_run("many", upload, 1, services)
    services.runs.close(sample.run_id)
    for number in range(count):
        created = datetime(2026, 11, 21, tzinfo=UTC) - timedelta(minutes=17 * number)
        status = dice.choice(["deployed", "deployed", "failed", "rejected", "stopped"])
        run = replace(
            sample,
            run_id=f"whippet-dev-many-{number:08x}",
            dataset=f"pictures-{number % 40:02d}",
            created_at=created.isoformat(),
        )
        facts = Facts(dice.uniform(0.7, 1), 350, 10, 742, 0.06) if status == "deployed" else Facts()
        services.runs.index(run, status, "The zip holds no image." if status == "rejected" else None, facts)


def write_metrics(world: World, run_id: str, job: str, *, epochs: int, ends_at: float, has_ended: bool = True) -> None:
    """Write a job's metrics.jsonl, rising to a score; while the job runs, the last line is cut off."""
    lines: list[dict[str, Any]] = [{"start": {"epochs": epochs, "threads": 1, "classes": 10, "pretrained": "none"}}]
    for epoch in range(1, epochs + 1):
        score = ends_at * (1 - math.exp(-epoch / 2)) / (1 - math.exp(-epochs / 2))
        valid = {"loss": 1.2 - score, "accuracy": min(1, score + 0.03), "macro_f1": score, "score": score}
        train = {"loss": 1.1 - score, "accuracy": score}
        lines.append({"epoch": epoch, "train": train, "valid": valid, "seconds": 2.5, "images_per_second": 150.0})
    if has_ended:
        lines.append({"best": {"epoch": epochs, "valid": lines[-1]["valid"]}})
    text = "".join(json.dumps(line) + "\n" for line in lines) + ("" if has_ended else '{"epoch": 4, "tra')
    world.s3.store(f"runs/{run_id}/jobs/{job}/metrics.jsonl", text.encode())


def write_evaluation(world: World, run_id: str, classes: int) -> None:
    """Write the evaluation of a run's training job, with that many classes with long names."""
    names = [f"a breed of dogs with a long name, number {number}" for number in range(classes)]
    job = f"{run_id}-train"
    evaluation = make_evaluation(names)
    world.s3.store(f"runs/{run_id}/jobs/{job}/evaluation.json", json.dumps(evaluation).encode())
    change_result(world, run_id, metrics={split: evaluation[split] for split in ("valid", "test")})


def make_evaluation(classes: list[str]) -> dict[str, Any]:
    dice, count = random.Random(1), len(classes)
    confusion = [[34 if i == j else int(dice.random() < 0.8 / count) for j in range(count)] for i in range(count)]
    rows = [
        {"class": name, "precision": 0.97, "recall": 0.6 if number == 3 else 0.96, "f1": 0.965, "support": 35}
        for number, name in enumerate(classes)
    ]
    measured = {"images": 350, "loss": 0.1, "accuracy": 0.964, "macro_precision": 0.966, "macro_recall": 0.963}
    test = measured | {"macro_f1": 0.9645, "classes": rows, "confusion": confusion}
    objective = {"name": "valid:score", "value": 0.95, "standard_error": 0.01, "images": 350}
    return {
        "format": 1,
        "objective": objective,
        "valid": {"accuracy": 0.97},
        "test": test,
        "classes": classes,
        "pretrained": "imagenet",
    }


def make_pictures() -> dict[str, Any]:
    """Return small images as the training keeps them."""
    data = base64.b64encode(draw_test_picture("green")).decode()
    one = {
        "split": "test",
        "file": "test/3/0007.png",
        "label": "3",
        "predicted": "8",
        "probability": 0.91,
        "given": 0.05,
    }
    picture = one | {"image": f"data:image/png;base64,{data}"}
    samples = [picture | {"label": str(digit)} for digit in range(6)]
    return {"format": 1, "mistakes": [picture] * 3, "suspects": [picture], "samples": samples}


def make_predictions(images: int = 200) -> dict[str, Any]:
    """Return the answers to test images: the surer, the more often right."""
    dice = random.Random(2)
    likely = [round(0.4 + 0.6 * dice.random(), 4) for _ in range(images)]
    predicted = [0 if dice.random() < each else 1 for each in likely]
    return {"format": 1, "test": {"labels": [0] * images, "predicted": predicted, "probability": likely}}


def make_findings() -> dict[str, Any]:
    """Return what a run's training job leaves behind, in the training program's formats."""
    phases = {"data": 0.46, "copy": 0.02, "forward": 0.2, "backward": 0.27, "optimizer": 0.04, "hook": 0.01}
    return {
        "evaluation.json": make_evaluation(CLASSES),
        "pictures.json": make_pictures(),
        "predictions.json": make_predictions(),
        "rules.json": {
            "format": 1,
            "hook": {"available": True, "reason": None, "save_interval": 10},
            "rules": [
                {"name": "VanishingGradient", "status": "NoIssuesFound", "details": "No gradient fell below 1e-7."},
                {
                    "name": "Overfit",
                    "status": "IssuesFound",
                    "details": "The validation loss rose from step 240 on.",
                    "advice": "Add images",
                },
                {"name": "NearChance", "status": "NotJudged", "details": "9 validation images are too few."},
                {"name": "DeadRelu", "status": "NoIssuesFound", "details": "At most 12 % of a layer was inactive."},
                {"name": "AllZero", "status": "NoIssuesFound", "details": "nothing to judge: no tensors were saved"},
            ],
        },
        "baseline.json": {
            "format": 1,
            "kind": "default_hyperparameters",
            "test": {"accuracy": 0.871, "macro_precision": 0.872, "macro_recall": 0.869, "macro_f1": 0.8695},
        },
        "skipped.json": {
            "format": 1,
            "images": 1_230,
            "skipped": [
                {
                    "name": "train/three/0007.jpg",
                    "reason": "it ends too early",
                    "format": "JPEG",
                    "error": "image file is truncated",
                }
            ],
        },
        "execution_plan.json": {
            "format": 1,
            "chosen": {"cache": True},
            "verdict": "Caching the decoded images made a step 2.3 times as fast.",
            "before": {"images_per_second": 61.0},
            "after": {"images_per_second": 141.0},
            "candidates": [
                {"setting": "cache_decoded_images", "value": True, "before_ms": 524, "after_ms": 227, "taken": True},
                {
                    "setting": "memory_format",
                    "value": "channels_last",
                    "before_ms": 227,
                    "after_ms": 221,
                    "taken": False,
                },
            ],
            "recommendations": [
                {"hyperparameter": "batch_size", "text": "A batch of 64 gives 12 % more images a second."}
            ],
        },
        "profile/timeline.json": {
            "phases": {
                name: {"mean_ms": 227 * share, "p95_ms": 300 * share, "share": share} for name, share in phases.items()
            },
            "images_per_second": 141.0,
        },
        "profiler-reports/Dataloader.json": {"RuleTriggered": 1, "Violations": 18, "Datapoints": 40, "Details": {}},
        "profiler-reports/StepOutlier.json": {"RuleTriggered": 0, "Violations": 0, "Datapoints": 40, "Details": {}},
        "profiler-reports/LowGPUUtilization.json": {
            "RuleTriggered": 0,
            "Violations": 0,
            "Datapoints": 0,
            "Details": {},
        },
    }
