"""Run one training from its data to its artifact: the steps in order, each done by its own module."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from inspection import Inspection
from job.artifact import write_artifact, write_json
from job.metrics import MetricsFile, describe, describe_epoch, log
from job.settings import Hyperparameters, Job
from learning.checkpoints import Checkpoint, fingerprint
from learning.engine import Hook, Progress, Stopped, fit, restore_best
from learning.evaluate import describe_test, fit_temperature, measure, standard_error
from learning.features import fit_head
from learning.predictions import describe_predictions
from learning.preparation import Course, Setup, extract_split, inputs_of, make_course, prepare
from learning.records import describe_evaluation, describe_model, describe_start, pick
from torch import nn


class Stop(Protocol):
    """Whether the job was asked to stop. After `defer`, a request waits until the training checks for it."""

    def __call__(self) -> bool: ...

    def defer(self) -> None: ...


def run(job: Job, chosen: Hyperparameters, stop: Stop, *, begun: float, hooks: Sequence[Hook] = ()) -> None:
    """Train, evaluate and ship. begun: when the program started, in Unix seconds.

    Raises TrainingError for what a user can correct. A training stopped within its first epoch ships nothing.
    """
    setup = prepare(job, chosen)
    course = make_course(setup)
    checkpoint = Checkpoint(job.places.checkpoints, identify(setup))
    progress = checkpoint.resume(course.learner, log)
    metrics = MetricsFile(job.places.checkpoints / "metrics.jsonl")
    begin(setup, progress, metrics)
    stop.defer()
    inspection = Inspection(setup, course, begun=begun, stop_asked=stop) if chosen.profile else None
    lookers = [*hooks, *(inspection.open() if inspection else [])]
    finished = train(setup, course, progress, checkpoint, metrics, stop, lookers)
    if not progress.best_epoch:
        log("stopped before the first epoch ended: there is no model yet")
        return
    restore_best(course.learner.network, progress)
    report_best(progress, metrics)
    ship(setup, course, begun, finished=finished)
    if inspection and not stop():
        inspection.close()
    if finished:
        checkpoint.remove()


def identify(setup: Setup) -> str:
    """Hash what a checkpoint depends on. Threads are left out: a job may resume with another share of the cores."""
    data = setup.dataset
    parts = {"chosen": asdict(setup.chosen), "classes": data.classes, "train": data.train.hashes}
    return fingerprint({**parts, "pretrained": setup.pretrained})


def begin(setup: Setup, progress: Progress, metrics: MetricsFile) -> None:
    """Report what will be trained, and fit the head first if the backbone is pretrained."""
    start = describe_start(setup)
    metrics.begin(start, progress.epoch)
    log(" ".join(["start", *(f"{name}={value}" for name, value in start.items() if not isinstance(value, dict))]))
    if progress.epoch or progress.step:
        log(f"resuming after epoch {progress.epoch}, step {progress.step}")
    elif setup.pretrained == "imagenet" and isinstance(setup.head, nn.Linear):
        loss = fit_head(setup.head, extract_split(setup, setup.dataset.train), setup.dataset.train.labels)
        log(f"the head was fitted on the features of the frozen backbone, to a loss of {loss:.4f}")


def train(
    setup: Setup,
    course: Course,
    progress: Progress,
    checkpoint: Checkpoint,
    metrics: MetricsFile,
    stop: Stop,
    hooks: Sequence[Hook],
) -> bool:
    """Run the epochs. Return True if they finished, False if they were stopped and the state was saved.

    A training that a hook ends with a reason counts as finished, as it does when patience runs out.
    """

    def report(record: dict[str, Any]) -> None:
        log(describe_epoch(record))
        metrics.add(record)

    chosen = setup.chosen
    try:
        fit(
            course.learner,
            course.batches,
            course.validate,
            epochs=chosen.epochs,
            patience=chosen.patience,
            objective=chosen.objective,
            seed=chosen.seed,
            progress=progress,
            save=lambda known: checkpoint.save(course.learner, known),
            report=report,
            hooks=hooks,
            stop_asked=stop,
        )
    except Stopped as stopped:
        if str(stopped):
            log(f"ended early: {stopped}")
            setup.warnings.append(f"the training was ended early: {stopped}")
            return True
        log(f"stopped in epoch {progress.epoch + 1} of {chosen.epochs}; the state was saved")
        setup.warnings.append(f"the training was stopped after {progress.epoch} of {chosen.epochs} epochs")
        return False
    return True


def ship(setup: Setup, course: Course, begun: float, *, finished: bool) -> None:
    """Evaluate the best weights on valid and test, and write the artifact and evaluation.json."""
    learner, data, places = course.learner, setup.dataset, setup.job.places
    learner.network = setup.network
    valid_logits, test_logits = (learner.judge(inputs_of(setup, split)) for split in (data.valid, data.test))
    valid = measure(valid_logits, data.valid.labels)
    error = standard_error(valid_logits, data.valid.labels, setup.chosen.objective)
    temperature = fit_temperature(valid_logits, data.valid.labels)
    test = describe_test(test_logits, data.test.labels, data.classes, temperature)
    write_artifact(places.model, setup.network, describe_model(setup, valid, test), places.code)
    seconds = time.time() - begun
    evaluation = describe_evaluation(setup, valid, error, test, finished=finished, seconds=seconds)
    write_json(places.checkpoints / "evaluation.json", evaluation)
    if setup.chosen.profile:
        shown = describe_predictions(data, {"valid": valid_logits, "test": test_logits}, temperature)
        write_json(places.checkpoints / "predictions.json", shown)
    told = pick(test, ("accuracy", "macro_precision", "macro_recall", "macro_f1"))
    log(" ".join(describe("test", told)))


def report_best(progress: Progress, metrics: MetricsFile) -> None:
    """Report the best epoch's metrics once more: a tuning job reads the last value of a metric."""
    metrics.add({"best": {"epoch": progress.best_epoch, "valid": progress.best}})
    log(" ".join([f"best epoch={progress.best_epoch}", *describe("valid", progress.best)]))
