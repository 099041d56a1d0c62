"""Run one training from its data to its artifact: the steps in order, each done by its own module."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from comparing.candidates import collect
from comparing.closing import compare
from images.early import Decoding
from inspection import Inspection
from job.deadline import Deadline, Ending
from job.metrics import MetricsFile, ObjectiveLines, describe_epoch, describe_splits, log
from job.settings import Hyperparameters, Job
from judging.deciding.imbalance import make_fitting_criterion
from judging.settling.mirroring import settle_mirroring
from judging.settling.selection import judge_by_folds, settle_penalty
from learning.checkpoints import Checkpoint, fingerprint
from learning.engine import Hook, Progress, Stopped, close_epoch, copy_weights, fit, restore_best
from learning.features import fit_head
from learning.preparation import Course, Setup, extract_split, make_course, prepare, weigh
from learning.records import count_images, describe_start
from learning.replaying import allow_replay
from learning.shipping import Shipper
from torch import nn

# What drawing the report may take, but of a short time limit only a part.
REPORT_SECONDS, REPORT_SHARE = 60.0, 0.1
# Comparing takes about three candidates and the live model through both splits; of a time limit only a part.
COMPARED, COMPARING_SHARE = 3, 0.1


class Stop(Protocol):
    """Whether the job was asked to stop. After `defer`, a request waits until the training checks for it."""

    def __call__(self) -> bool: ...

    def defer(self) -> None: ...


@dataclass(frozen=True)
class Session:
    """The parts of one training that take turns while it runs. begun: in Unix seconds, earlier lives taken off."""

    setup: Setup
    course: Course
    progress: Progress
    checkpoint: Checkpoint
    metrics: MetricsFile
    lines: ObjectiveLines
    shipper: Shipper
    ending: Ending
    begun: float


def run(
    job: Job,
    chosen: Hyperparameters,
    stop: Stop,
    *,
    begun: float,
    hooks: Sequence[Hook] = (),
    early: Decoding | None = None,
) -> None:
    """Train, evaluate and ship. begun: when the program started, in Unix seconds; early: images in the making.

    Raises TrainingError for what a user can correct. A training stopped within its first epoch
    ships nothing but its fitted head, if it has one.
    """
    setup = settle_penalty(settle_mirroring(prepare(job, chosen, early)))
    session = open_session(setup, stop, begun)
    begin(session)
    stop.defer()
    inspection = Inspection(setup, session.course, begun=begun, stop_asked=session.ending) if chosen.profile else None
    lookers = [*hooks, *(inspection.open() if inspection else [])]
    finished = train(session, lookers)
    if not session.progress.best:
        log("stopped before the first epoch ended: there is no model yet")
        return
    shipped = ship(session, stop, finished=finished)
    if inspection and not stop():
        inspection.shipped = shipped
        inspection.close()
    if finished:
        session.checkpoint.remove()


def open_session(setup: Setup, stop: Stop, begun: float) -> Session:
    """Plan the training, and bring it to where an earlier life of this job was."""
    course, places = judge_by_folds(setup, make_course(setup)), setup.job.places
    checkpoint = Checkpoint(places.checkpoints, identify(setup))
    progress = checkpoint.resume(course.learner, log)
    allow_replay(course.learner, course.batches)
    if progress.epoch or progress.step:
        course.judge.catch_up(progress.epoch)
    metrics = MetricsFile(places.checkpoints / "metrics.jsonl")
    shipper = Shipper(setup, course, begun)
    begun -= progress.spent
    deadline = Deadline(setup.chosen.max_runtime, begun, shipper.size)
    ending = Ending(stop, deadline, lambda: reserve(setup, shipper.estimate_closing(progress)))
    return Session(setup, course, progress, checkpoint, metrics, ObjectiveLines(), shipper, ending, begun)


def reserve(setup: Setup, closing: float) -> float:
    """Return the seconds to keep free after the epochs; the last training also compares and draws its report."""
    if not setup.chosen.profile:
        return closing
    limit = setup.chosen.max_runtime
    return closing + min(COMPARED * closing, COMPARING_SHARE * limit) + find_report_seconds(setup)


def find_report_seconds(setup: Setup) -> float:
    return min(REPORT_SECONDS, REPORT_SHARE * setup.chosen.max_runtime)


def identify(setup: Setup) -> str:
    """Hash what a checkpoint depends on. Threads are left out: a job may resume with another share of the cores."""
    data = setup.dataset
    parts = {"chosen": asdict(setup.chosen), "classes": data.classes, "train": data.train.hashes}
    return fingerprint({**parts, "pretrained": setup.pretrained})


def begin(session: Session) -> None:
    """Report what will be trained, and fit the head first if the backbone is pretrained."""
    setup, progress = session.setup, session.progress
    start = describe_start(setup)
    session.metrics.begin(start, progress.epoch)
    log(" ".join(["start", *(f"{name}={value}" for name, value in start.items() if not isinstance(value, dict))]))
    if progress.epoch or progress.step:
        log(f"resuming after epoch {progress.epoch}, step {progress.step}")
    elif setup.pretrained == "imagenet" and isinstance(setup.head, nn.Linear):
        train, criterion = setup.dataset.train, make_fitting_criterion(*weigh(setup))
        loss = fit_head(
            setup.head, extract_split(setup, train), train.labels, penalty=setup.penalty, criterion=criterion
        )
        log(f"the head was fitted on the features of the frozen backbone, to a loss of {loss:.4f}")
        keep_head(session)


def keep_head(session: Session) -> None:
    """Judge the pretrained network with its fitted head, as epoch 0: what fine-tuning must beat."""
    progress, course = session.progress, session.course
    progress.head = copy_weights(session.setup.head)
    progress.best_epoch, progress.best, progress.best_weights = 0, course.validate(), None
    log(f"epoch 0, the fitted head, classifies {progress.best['accuracy']:.1%} of the validation images correctly")
    session.shipper.offer(progress)


def train(session: Session, hooks: Sequence[Hook]) -> bool:
    """Run the epochs. Return True if they finished, False if they were stopped and the state was saved.

    A training that a hook ends with a reason counts as finished, as it does when patience runs out.
    """
    setup, chosen, progress = session.setup, session.setup.chosen, session.progress
    try:
        fit(
            session.course.learner,
            session.course.batches,
            session.course.validate,
            epochs=chosen.epochs,
            patience=chosen.patience,
            objective=chosen.objective,
            seed=chosen.seed,
            progress=progress,
            save=lambda _: save(session),
            report=lambda record: report(session, record),
            keep=session.shipper.offer,
            hooks=hooks,
            stop_asked=session.ending,
        )
    except Stopped as stopped:
        if str(stopped):
            log(f"ended early: {stopped}")
            setup.warnings.append(f"the training was ended early: {stopped}")
            return True
        end_early(session)
        return False
    return True


def save(session: Session) -> None:
    """Write the checkpoint, with the time that the job has taken."""
    session.progress.spent = time.time() - session.begun
    session.checkpoint.save(session.course.learner, session.progress)


def report(session: Session, record: dict[str, Any]) -> None:
    """Report an epoch: in metrics.jsonl, and in the log if its last line is not too recent."""
    session.lines.add(describe_epoch(record, count_images(session.setup)))
    session.metrics.add(record)


def end_early(session: Session) -> None:
    """Report that the epochs were stopped. Out of time within the first, validate what there is: it is the model."""
    setup, progress = session.setup, session.progress
    epochs, limit = setup.chosen.epochs, setup.chosen.max_runtime
    reason = f", because the time limit of {limit} s is near" if session.ending.is_out_of_time() else ""
    log(f"stopped in epoch {progress.epoch + 1} of {epochs}{reason}; the state was saved")
    if reason and not progress.best:
        steps = f"{progress.step} of {session.course.batches.steps}"
        setup.warnings.append(f"the training was stopped after {steps} steps of its first epoch{reason}")
        report(session, close_epoch(session.course.validate, setup.chosen.objective, progress, ()))
        return
    setup.warnings.append(f"the training was stopped after {progress.epoch} of {epochs} epochs{reason}")


def ship(session: Session, stop: Stop, *, finished: bool) -> Setup:
    """Ship the best epoch. The last training then looks for a better model, and compares what ships with the live one.

    For that it has the time that was kept free, but not what drawing the report takes. Return the setup of what ships.
    """
    setup = session.setup
    rivals = collect(setup, session.course, session.progress) if setup.chosen.profile else None
    close(session, finished=finished)
    if rivals is None:
        return setup
    deadline = session.ending.deadline
    return compare(rivals, session.shipper, Ending(stop, deadline, lambda: find_report_seconds(setup)))


def close(session: Session, *, finished: bool) -> None:
    """Ship the best epoch, and report its metrics once more: a tuning job reads the last value of a metric."""
    progress, best = session.progress, session.progress.best
    restore_best(session.course.learner.network, progress)
    session.metrics.add({"best": {"epoch": progress.best_epoch, "valid": best}})
    session.shipper.finish(progress, finished=finished)
    told = describe_splits({"valid": best}, count_images(session.setup))
    session.lines.add_final(" ".join([f"best epoch={progress.best_epoch}", *told]))
