"""Write the folders of a trained run without training: any number of classes, images and trials."""

from __future__ import annotations

import colorsys
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RUN = "whippet-dev-pets-0123abcd"
JOB = f"{RUN}-train"
PHASES = {"data": 31.0, "copy": 1.2, "forward": 44.0, "backward": 82.0, "optimizer": 6.5, "hook": 3.1}
BREEDS = ("Affenpinscher", "Bearded_collie", "Cane_corso", "Dandie_dinmont_terrier", "English_springer_spaniel")


def name_classes(count: int) -> list[str]:
    """Return class names such as the dogs have: a number and words."""
    if count <= 10:
        return [str(number) for number in range(count)] if count > 2 else ["cat", "dog"]
    return [f"{number:03d}.{BREEDS[number % len(BREEDS)]}_{number}" for number in range(1, count + 1)]


def write_run(jobs: Path, *, classes: int = 3, images: int = 60, trials: int = 4, seed: int = 0) -> Path:
    """Write the folders of the trials and of the final training, with all files. Returns the latter folder."""
    rng = np.random.default_rng(seed)
    names = name_classes(classes)
    for number in range(1, trials + 1):
        values = {
            "learning_rate": float(10 ** rng.uniform(-1, 1)),
            "batch_size": int(rng.choice([16, 32, 64])),
            "weight_decay": float(10 ** rng.uniform(-5, -1)),
            "fine_tune": str(rng.choice(["last_block", "all"])),
        }
        reached = 0.9 - 0.08 * abs(np.log10(values["learning_rate"])) + rng.normal(0, 0.004)
        write_job(jobs / f"{RUN}-{number:03d}-0123abcd", values, float(reached), names, images, rng)
    folder = jobs / JOB
    values = {"learning_rate": 1.1, "batch_size": 32, "weight_decay": 0.01, "fine_tune": "all"}
    write_job(folder, values, 0.91, names, images, rng)
    write_findings(folder, names, images, rng)
    return folder


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_job(folder: Path, values: dict[str, Any], score: float, names: list[str], images: int, rng: Any) -> None:
    """Write metrics.jsonl and evaluation.json of one job."""
    folder.mkdir(parents=True)
    chosen = {"architecture": "resnet18", "image_size": 224, "epochs": 6, "seed": 0, "profile": False} | values
    start = {"epochs": 6, "threads": 2, "classes": len(names), "pretrained": "imagenet", "device": "cpu"}
    start |= {"images": {"train": images * 8, "valid": images, "test": images}, "hyperparameters": chosen}
    lines: list[dict[str, Any]] = [{"start": start}]
    for epoch in range(1, 7):
        left = 2.2 * 0.5**epoch
        valid = {"loss": left + 0.12, "accuracy": score - left / 8, "macro_f1": score - left / 7, "score": score - left}
        train = {"loss": left, "accuracy": min(1.0, score + 0.05 - left / 8)}
        lines.append({"epoch": epoch, "train": train, "valid": valid, "seconds": 8.1, "images_per_second": 140.0})
    lines.append({"best": {"epoch": 6, "valid": lines[-1]["valid"]}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    labels, predicted = judge(len(names), images)
    objective = {"name": "valid:score", "value": score, "standard_error": 0.008, "images": images}
    evaluation = {"format": 1, "objective": objective, "test": describe_test(names, labels, predicted), "seconds": 50.0}
    evaluation |= {"classes": names, "warnings": ["3 of 836 test images are in train too, so the test flatters"]}
    write_json(folder / "evaluation.json", evaluation | {"finished": True, "pretrained": "imagenet"})


def judge(classes: int, images: int) -> tuple[Any, Any]:
    """Return labels, and predictions of which one in ten is wrong, mostly by the next class; always the same."""
    rng = np.random.default_rng(1)
    labels = np.sort(np.arange(images) % classes)
    neighbour = (labels + rng.choice([1, 1, 1, 2, 7], images)) % classes
    return labels, np.where(rng.random(images) < 0.1, neighbour, labels)


def describe_test(names: list[str], labels: Any, predicted: Any) -> dict[str, Any]:
    count = len(names)
    confusion = np.bincount(labels * count + predicted, minlength=count**2).reshape(count, count)
    right, said, held = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    precision, recall, f1 = (
        right / np.maximum(said, 1),
        right / np.maximum(held, 1),
        2 * right / np.maximum(said + held, 1),
    )
    rows = [
        {"class": name, "precision": p, "recall": r, "f1": f, "support": int(n)}
        for name, p, r, f, n in zip(names, precision.tolist(), recall.tolist(), f1.tolist(), held, strict=True)
    ]
    bins = [{"images": 4 + 9 * n, "confidence": 0.1 * n + 0.05, "accuracy": 0.09 * n + 0.1} for n in range(2, 10)]
    return {
        "images": len(labels),
        "accuracy": float((labels == predicted).mean()),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "classes": rows,
        "confusion": confusion.tolist(),
        "calibration": {"ece": 0.031, "temperature": 1.4, "ece_at_temperature": 0.012, "bins": bins},
    }


def write_findings(folder: Path, names: list[str], images: int, rng: Any) -> None:
    """Write what only the profiled training writes: predictions, rules, timeline, plan, baseline, utilisation."""
    columns = {}
    for split in ("valid", "test"):
        labels, predicted = judge(len(names), images)
        sure = rng.uniform(0.6, 1, images)
        columns[split] = {
            "files": [f"{split}/{names[label]}/{number:05d}.jpg" for number, label in enumerate(labels)],
            "labels": labels.tolist(),
            "predicted": predicted.tolist(),
            "probability": sure.round(4).tolist(),
            "given": np.where(labels == predicted, sure, (1 - sure) * 0.7).round(4).tolist(),
        }
    train = {"counts": rng.integers(20, 80, len(names)).tolist()}
    write_json(
        folder / "predictions.json", {"format": 1, "classes": names, "temperature": 1.4, "train": train, **columns}
    )
    status = {
        "VanishingGradient": "NoIssuesFound",
        "Overfit": "IssuesFound",
        "DeadRelu": "Error",
        "Confusion": "NotJudged",
    }
    rules = [
        {"name": name, "status": each, "parameters": {"threshold": 1e-7}, "details": "As seen.", "steps": [10, 20]}
        for name, each in status.items()
    ]
    hook = {"available": True, "reason": None, "save_interval": 10}
    write_json(folder / "rules.json", {"format": 1, "rules": rules, "hook": hook})
    steps = [
        {"step": number, **{name: value * rng.uniform(0.8, 1.3) for name, value in PHASES.items()}}
        for number in range(0, 400, 4)
    ]
    phases = {
        name: {"mean_ms": value, "p95_ms": value * 1.4, "share": value / sum(PHASES.values())}
        for name, value in PHASES.items()
    }
    write_json(folder / "profile/timeline.json", {"phases": phases, "steps": steps, "images_per_second": 190.4})
    operators = [
        {"name": f"aten::operator_{number}", "calls": 400, "self_ms": 90.0 / number, "share": 0.3 / number}
        for number in range(1, 12)
    ]
    write_json(folder / "profile/operators.json", {"operators": operators})
    before = PHASES | {"data": 190.0}
    candidates = [
        {"setting": "workers", "value": 2, "before_ms": 326.0, "after_ms": 167.8, "gain": 0.485, "taken": True},
        {
            "setting": "memory_format",
            "value": "plain",
            "before_ms": 167.0,
            "after_ms": 188.0,
            "gain": -0.12,
            "taken": False,
        },
    ]
    advice = {
        "hyperparameter": "batch_size",
        "throughput": {"32": 190.0, "64": 231.0, "128": 240.0},
        "text": "A batch of 64 would train 21 % more images a second; it changes what is learnt: yours to try.",
    }
    write_json(
        folder / "execution_plan.json",
        {
            "format": 1,
            "chosen": {"workers": 2},
            "candidates": candidates,
            "recommendations": [advice],
            "before": {"phases": before, "images_per_second": 98.0},
            "after": {"phases": PHASES, "images_per_second": 190.4},
            "verdict": "Decoding ahead on 2 threads made the step 1.9 times as fast.",
        },
    )
    worse = {"accuracy": 0.79, "macro_precision": 0.78, "macro_recall": 0.77, "macro_f1": 0.77}
    baseline = {"format": 1, "kind": "default_hyperparameters", "same": False, "epochs": 6, "fine_tune": "all"}
    write_json(folder / "baseline.json", {**baseline, "test": worse, "seconds": 20.0})
    write_json(folder / "comparison.json", describe_comparison(images))
    for name in ("BatchSize", "CPUBottleneck", "IOBottleneck"):
        rule = {
            "RuleTriggered": int(name == "BatchSize"),
            "Violations": 3,
            "Datapoints": 120,
            "Details": {},
            "RuleParameters": {"threshold": 50, "patience": 10},
        }
        write_json(folder / f"profiler-reports/{name}.json", rule)
    write_utilisation(folder / "profile/system/incremental/2026112210/1795342800.algo-1.json", rng)


def describe_comparison(images: int) -> dict[str, Any]:
    """Return a comparison.json in which a blend ships and a live model was met."""
    candidates = [
        {
            "candidate": name,
            "job": JOB,
            "alpha": 0.5 if name == "blend" else None,
            "valid": {"images": images, "objective": value, "standard_error": 0.01, "accuracy": value + 0.02},
            "test": {"images": images, "accuracy": value, "correct": round(value * images)},
        }
        for name, value in {"final": 0.9, "head": 0.88, "blend": 0.92, "trial": 0.91}.items()
    ]
    left_out = {"seen": 4, "near_duplicates": 0, "other_classes": 1}
    counts = {"images": 60, "both": 50, "neither": 3, "left_out": left_out}
    tests = [
        {"name": "new", "only_new": 4, "only_live": 2, **counts},
        {"name": "live", "only_new": 3, "only_live": 4, **counts},
    ]
    return {
        "format": 1,
        "candidates": candidates,
        "ships": "blend",
        "problems": [],
        "floor": {
            "images": 60,
            "correct": 54,
            "accuracy": 0.9,
            "lower": 0.799,
            "classes": 3,
            "chance": 1 / 3,
            "most_frequent": 0.34,
        },
        "live": {
            "run": "whippet-dev-pets-00000000",
            "problem": None,
            "classes": {"shared": ["cat"], "lost": ["<b>"], "new": []},
            "labels_changed": {"changed": 12, "compared": 400},
            "tests": tests,
        },
    }


def write_utilisation(path: Path, rng: Any) -> None:
    """Write system metrics in SageMaker's on-disk format, twice a second."""
    path.parent.mkdir(parents=True)
    lines = []
    for number in range(200):
        stamp = {"NodeId": "algo-1", "Timestamp": 1795342800 + number / 2}
        for core in range(2):
            lines.append(
                {"Type": "cpu", "Name": f"cpu{core}", "Dimension": "CPUUtilization", "Value": rng.uniform(70, 99)}
                | stamp
            )
        lines.append(
            {"Type": "memory", "Name": "MemoryUsedPercent", "Dimension": "", "Value": 31.0 + number / 50} | stamp
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def draw_picture(split: str, number: int) -> Image.Image:
    """Draw a soft colourful square, another one for each number."""
    rng = np.random.default_rng(number + 7919 * len(split))
    hue = [tuple(round(255 * part) for part in colorsys.hsv_to_rgb(rng.random(), 0.55, 0.9)) for _ in range(16)]
    pixels = np.array(hue, dtype=np.uint8).reshape(4, 4, 3)
    return Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC)
