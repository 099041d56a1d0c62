"""Write a report's first half: verdict, dataset, tuning, curves, and how to reproduce it. Findings in, HTML out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from judging.intervals import find_interval

from report.charts.choices import rank_importance
from report.charts.curves import draw_by_value, draw_curves, draw_importance, draw_splits, draw_trials
from report.charts.data import Findings, JobRecord, list_tuned
from report.headline import tell_headline
from report.page import BEGIN, CHANGES, END, Html, figure, fold, note, paragraph, percent, pill, table, tiles, title

LONG = 12  # a list of more rows is folded
SPLITS = ("train", "valid", "test")


def tell_verdict(found: Findings) -> str:
    """Return the first three lines, the verdict's placeholder with a draft in it, and the figures that matter most."""
    draft = f'<p class="lead">{BEGIN}{escape(draft_verdict(found))}{END}</p>'
    return f"{tell_headline(found)}{draft}{show_tiles(found)}{CHANGES}"


def draft_verdict(found: Findings) -> str:
    """Return what is known before the run has ended."""
    test = found.job.evaluation.get("test") or {}
    if "accuracy" not in test:
        return "The training left no evaluation, so nothing is known of the model's quality."
    images = test.get("images") or 0
    low, high = find_interval(test["accuracy"], images)
    return (
        f"The model classifies {round(test['accuracy'] * images)} of {images:,} test images correctly, "
        f"{test['accuracy']:.1%}; the true share lies between {low:.1%} and {high:.1%} (95% confidence). "
        "What was deployed is not known yet: the run goes on."
    )


def show_tiles(found: Findings) -> str:
    """Return accuracy, F1, tuning, and what profiling gained."""
    values: dict[str, tuple[str, str]] = {}
    test = found.job.evaluation.get("test") or {}
    baseline = found.file("baseline")
    before = (baseline.get("test") or {}).get("accuracy")
    if "accuracy" in test:
        low, high = find_interval(test["accuracy"], test.get("images") or 0)
        values["test accuracy"] = (percent(test["accuracy"]), f"{low:.1%} to {high:.1%} (95%)")
    if "macro_f1" in test:
        values["macro F1"] = (percent(test["macro_f1"]), f"{len(test.get('classes') or [])} classes")
    if before is not None and "accuracy" in test:
        gain = f"{100 * (test['accuracy'] - before):+.1f} points"
        told = "it is its own baseline" if baseline.get("same") else f"baseline: {before:.1%}"
        values["gained over the baseline"] = (gain, told)
    if found.trials:
        values["trainings"] = (f"{len(found.trials)} + 1", "trials and the final training")
    rate = found.file("timeline").get("images_per_second")
    if rate:
        values["images a second"] = (f"{rate:,.0f}", f"trained on {found.job.start.get('device', 'one machine')}")
    return tiles(values) if values else ""


def tell_dataset(found: Findings) -> str:
    """Return classes, splits, warnings."""
    evaluation, predictions = found.job.evaluation, found.file("predictions")
    classes = predictions.get("classes") or evaluation.get("classes") or []
    images = found.job.start.get("images") or {}
    warnings = [f'<p class="note warn">{escape(text)}</p>' for text in evaluation.get("warnings") or []]
    if not images and not classes:
        return note("Nothing is known of the dataset: the training left no metrics.jsonl.") + "".join(warnings)
    total = sum(images.values())
    rows = [[split, images[split], percent(images[split] / max(1, total))] for split in SPLITS if split in images]
    count = len(classes) or found.job.start.get("classes") or 0
    parts = [paragraph(f"{total:,} images of {count:,} classes."), table(["split", "images", "share"], rows), *warnings]
    counts = count_by_class(predictions, len(classes))
    if counts:
        caption = f"Images by class. The largest has {max(map(sum, zip(*counts.values(), strict=True))):,} in all, "
        caption += f"the smallest {min(map(sum, zip(*counts.values(), strict=True))):,}."
        parts.append(figure(draw_splits(classes, counts), caption))
    if not warnings:
        parts.append(paragraph("Nothing about the images gave cause for a warning."))
    parts.append(tell_choices(evaluation.get("choices") or {}))
    return "".join(parts)


def tell_choices(choices: Mapping[str, Any]) -> str:
    """Return what `auto` came to, and by which figures."""
    rows = []
    if found := choices.get("imbalance"):
        told = f"the largest class has {found['ratio']:.1f} times the training images of the smallest"
        rows.append(["imbalance", found["taken"], told])
    if found := choices.get("horizontal_flip"):
        rows.append(["horizontal_flip", "true" if found["taken"] else "false", found["why"]])
    if found := choices.get("rotation"):
        rows.append(["rotation", "true" if found["taken"] else "false", found["why"]])
    if found := choices.get("head_penalty"):
        told = f"lowest loss by {found['folds']}-fold cross-validation on {found['images']:,} images"
        rows.append(["L2 of the fitted head", f"{found['taken']:g}", told])
    return table(["decided for these images", "taken", "why"], rows, numbers=0) if rows else ""


def count_by_class(predictions: Mapping[str, Any], classes: int) -> dict[str, list[int]]:
    """Count the images of each class by split, where predictions.json lists them."""
    counts: dict[str, list[int]] = {}
    if (predictions.get("train") or {}).get("counts"):
        counts["train"] = predictions["train"]["counts"]
    for split in ("valid", "test"):
        labels = (predictions.get(split) or {}).get("labels")
        if labels:
            counts[split] = [0] * classes
            for label in labels:
                counts[split][label] += 1
    return counts


def tell_tuning(found: Findings) -> str:
    """Return trials, objective by trial, importance of each hyperparameter, best values."""
    trials = found.trials
    if not trials:
        return note("No trial left its files here, so there is nothing to tell of the tuning.")
    tuned = list_tuned(trials)
    measured = [trial for trial in trials if trial.objective is not None]
    best = max(measured, key=lambda trial: trial.objective or 0.0, default=None)
    goal = (best.evaluation["objective"].get("name") if best else None) or "objective"
    parts = [tell_best(best, tuned, goal, len(trials))]
    if measured:
        caption = f"{goal} of each trial, one standard error on either side; the best stands out."
        parts.append(figure(draw_trials(trials, best.name if best else None, goal), caption))
    rows = table_of_trials(trials, tuned)
    marked = trials.index(best) if best else None
    heads = ["trial", "status", *tuned, goal, "± error", "kept epoch", "seconds"]
    drawn = table(heads, rows, numbers=len(heads) - 2, marked=marked)
    parts.append(fold(f"All {len(trials)} trials", drawn) if len(trials) > LONG else drawn)
    parts.append(tell_importance(measured, tuned, best, goal))
    return "".join(parts)


def tell_best(best: JobRecord | None, tuned: Sequence[str], goal: str, count: int) -> str:
    if best is None:
        return note(f"None of {count} trials came to an evaluation.")
    values = ", ".join(
        f"{name} {best.hyperparameters[name]:.4g}"
        if isinstance(best.hyperparameters[name], float)
        else f"{name} {best.hyperparameters[name]}"
        for name in tuned
    )
    same = "The trials had the same hyperparameters." if count > 1 else ""
    told = f"Best values: {values}." if values else same
    which = f"The best of {count} trials" if count > 1 else "The only trial"
    return paragraph(f"{which} reached {goal} {percent(best.objective)}. {told}")


def table_of_trials(trials: Sequence[JobRecord], tuned: Sequence[str]) -> list[list[Any]]:
    rows = []
    for number, trial in enumerate(trials, 1):
        status = pill("done", "good") if trial.evaluation.get("finished", True) else pill("stopped early", "plain")
        status = status if trial.evaluation else pill("no evaluation", "bad")
        values = [trial.hyperparameters.get(name) for name in tuned]
        error = (trial.evaluation.get("objective") or {}).get("standard_error")
        kept = "–" if trial.best_epoch is None else trial.best_epoch
        epochs = f"{kept} of {len(trial.epochs)}"
        rows.append(
            [number, status, *values, percent(trial.objective), percent(error), epochs, trial.evaluation.get("seconds")]
        )
    return rows


def tell_importance(trials: Sequence[JobRecord], tuned: Sequence[str], best: JobRecord | None, goal: str) -> str:
    pairs = [(trial.hyperparameters, trial.objective) for trial in trials if trial.objective is not None]
    found = rank_importance(pairs, tuned)
    if not found:
        return note("Too few different trials to say which hyperparameter mattered.")
    clear = [each.name for each in found if each.share > each.chance]
    told = f"Beyond chance: {', '.join(clear)}." if clear else f"With {len(pairs)} trials, none is beyond chance."
    caption = "The mark is what chance alone reaches in one case of twenty: a bar short of it proves nothing. " + told
    values = draw_by_value(found, best.hyperparameters if best else {}, goal)
    return (
        title("Which hyperparameter mattered")
        + figure(draw_importance(found), caption)
        + figure(values, "Each trial by the values it had; the best trial's values stand out.")
    )


def tell_curves(found: Findings) -> str:
    """Return loss and accuracy by epoch."""
    epochs = found.job.epochs
    if not epochs:
        return note("No epoch came to its end, or metrics.jsonl is missing.")
    kept = f"Epoch {found.job.best_epoch} was kept. " if found.job.best_epoch else ""
    kept = "No epoch was better than the fitted head that it began with. " if found.job.best_epoch == 0 else kept
    seconds = sum(record.get("seconds") or 0 for record in epochs)
    caption = f"{kept}{len(epochs)} epochs in {seconds:,.0f} s. Grey: validation of the trials."
    rows = [
        [
            record["epoch"],
            *(value for split in ("train", "valid") for value in pick(record, split)),
            record.get("seconds"),
            record.get("images_per_second"),
        ]
        for record in epochs
    ]
    heads = ["epoch", "train loss", "train accuracy", "valid loss", "valid accuracy", "seconds", "images/s"]
    return figure(draw_curves(found.job, found.trials), caption) + fold("Every epoch", table(heads, rows))


def pick(record: Mapping[str, Any], split: str) -> list[Any]:
    values = record.get(split) or {}
    return [values.get("loss"), values.get("accuracy")]


def tell_reproduction(found: Findings, about: Mapping[str, Any]) -> str:
    """Return the hyperparameters, versions and commands that reproduce the run."""
    threads, gpus = found.job.start.get("threads", 1), int(found.job.start.get("device") == "cuda")
    chosen = found.job.hyperparameters
    run_id = about.get("run_id") or found.job.name.removesuffix("-train")
    texts = {name: json.dumps(value) if isinstance(value, bool) else str(value) for name, value in chosen.items()}
    commands = "\n".join(
        [
            f"aws s3 cp s3://$BUCKET/runs/{run_id}/input/dataset.zip again/dataset/dataset.zip",
            f"mkdir -p again/job && SAGEMAKER_BASE_DIR=$PWD/again/job SM_CHANNEL_DATASET=$PWD/again/dataset \\\n"
            f"  SM_MODEL_DIR=$PWD/again/model TRAINING_JOB_NAME=again SM_NUM_CPUS={threads} SM_NUM_GPUS={gpus} \\\n"
            f"  SM_HPS={shlex.quote(json.dumps(texts | {'profile': 'false'}))} \\\n  python training/train.py",
        ]
    )
    parts = [
        paragraph(
            "The same data, seed, versions and number of threads give the same weights on a CPU; "
            "another number of threads differs in the last digits."
        ),
        f"<pre>{escape(commands)}</pre>",
        paragraph(f"Or train again on the same input: whippet retry {run_id}."),
    ]
    rows = [
        ["run", run_id],
        ["training job", found.job.name],
        *([name, value] for name, value in about.items() if name != "run_id"),
    ]
    parts.append(table(["what", "value"], [[name, tell_value(value)] for name, value in rows], numbers=0))
    if chosen:
        parts.append(fold("All hyperparameters", table(["hyperparameter", "value"], list(chosen.items()), numbers=0)))
    return "".join(parts)


def tell_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Html("<br>".join(f"{escape(str(name))} {escape(str(each))}" for name, each in value.items()))
    return value
