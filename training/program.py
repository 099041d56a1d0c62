"""Run one training from its data to its artifact: the steps in order, each done by its own module."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from comparing.candidates import collect
from comparing.closing import Outcome, compare
from images.early import Decoding
from inspection import Inspection
from job.deadline import Deadline, Ending
from job.metrics import MetricsFile, ObjectiveLines, describe_epoch, describe_splits, log
from job.settings import Hyperparameters, Job, TrainingError
from judging.settling.mirroring import settle_mirroring
from judging.settling.selection import fit_once, judge_by_folds, settle_penalty
from judging.settling.turning import settle_turning
from learning.checkpoints import Checkpoint, fingerprint
from learning.engine import (
    Deferring,
    Hook,
    Metrics,
    Progress,
    Stopped,
    close_epoch,
    copy_weights,
    fit,
    restore_best,
)
from learning.preparation import Course, Setup, make_course, prepare
from learning.records import count_images, describe_start
from learning.replaying import allow_replay
from learning.shipping import Shipper
from learning.steps.team import PeerLost, Team, join
from torch import nn

# What drawing the report may take, but of a short time limit only a part.
REPORT_SECONDS, REPORT_SHARE = 60.0, 0.1
# Comparing takes about three candidates and the live model through both splits; of a time limit only a part.
COMPARED, COMPARING_SHARE = 3, 0.1
# Batches of about equal size may have three quarters of what was asked for, and batch normalisation needs two images.
LEAST_SHARE = 3


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
    team: Team


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
    try:
        with join(job.rank, job.ranks, place=job.place, on_gpu=job.gpus > 0, explain=explain) as team:
            own = job if team.is_chief else hide(job)
            carry_out(prepare(own, chosen, early), stop, begun=begun, hooks=hooks, team=team)
    except PeerLost as lost:
        raise TrainingError(str(lost)) from lost


def explain(error: BaseException) -> str:
    """Return what the other processes of this training report of an error here."""
    return str(error) if isinstance(error, TrainingError) else f"{type(error).__name__}: {error}"


def hide(job: Job) -> Job:
    """Return the job of a process that is not the chief: what it writes, nobody reads."""
    nowhere = Path(tempfile.mkdtemp())
    return replace(job, places=replace(job.places, model=nowhere / "model", checkpoints=nowhere / "checkpoints"))


def carry_out(prepared: Setup, stop: Stop, *, begun: float, hooks: Sequence[Hook], team: Team) -> None:
    """Train what is prepared, together with the other processes, and ship it."""
    setup = settle(prepared, team)
    session = open_session(setup, stop, begun, team)
    begin_together(session)
    stop.defer()
    if not team.is_chief:
        train(session, ())
        return
    chosen = setup.chosen
    inspection = Inspection(setup, session.course, begun=begun, stop_asked=session.ending) if chosen.profile else None
    lookers = [*hooks, *(inspection.open() if inspection else [])]
    finished = train(session, lookers)
    team.leave()
    session.course.batches.share(0, 1)
    if not session.progress.best:
        log("stopped before the first epoch ended: there is no model yet")
        return
    shipped = ship(session, stop, finished=finished)
    if inspection and not stop():
        inspection.shipped, inspection.before = shipped.shipped, shipped.before
        inspection.close()
    if finished:
        session.checkpoint.remove()


def settle(prepared: Setup, team: Team) -> Setup:
    """Settle what the data decide; every process takes what the chief found."""
    setup = settle_mirroring(settle_turning(settle_penalty(prepared))) if team.is_chief else prepared
    chosen, penalty, turned, choices = team.spread((setup.chosen, setup.penalty, setup.turned, setup.choices))
    setup = replace(setup, chosen=chosen, penalty=penalty, turned=turned, choices=choices)
    return enlarge_batches(setup, team.size) if team.size > 1 else setup


def enlarge_batches(setup: Setup, ranks: int) -> Setup:
    """Return the setup with batches of which every process has a part."""
    least, images = LEAST_SHARE * ranks, len(setup.dataset.train)
    if images < least:
        raise TrainingError(
            f"{images} training images are too few for {ranks} processes that train together: at least {least} are "
            "needed; set instance_count to 1 and choose an instance type with one GPU, or add images"
        )
    if (asked := setup.chosen.batch_size) >= least:
        return setup
    log(f"batch_size={asked} is too small for {ranks} processes: batches have {least} images")
    return replace(setup, chosen=replace(setup.chosen, batch_size=least))


def open_session(setup: Setup, stop: Stop, begun: float, team: Team | None = None) -> Session:
    """Plan the training, and bring it to where an earlier life of this job was."""
    course, places, team = judge_by_folds(setup, make_course(setup)), setup.job.places, team or Team()
    course.learner.team = team
    course.batches.share(team.rank, team.size)
    checkpoint = Checkpoint(places.checkpoints, identify(setup))
    progress = checkpoint.resume(course.learner, log)
    if not team.is_shared:
        allow_replay(course.learner, course.batches)
    if progress.epoch or progress.step:
        course.judge.catch_up(progress.epoch)
    metrics = MetricsFile(places.checkpoints / "metrics.jsonl")
    shipper = Shipper(setup, course, begun)
    begun -= progress.spent
    deadline = Deadline(setup.chosen.max_runtime, begun, shipper.size)
    ending = Ending(stop, deadline, lambda: reserve(setup, shipper.estimate_closing(progress)))
    return Session(setup, course, progress, checkpoint, metrics, ObjectiveLines(), shipper, ending, begun, team)


def reserve(setup: Setup, closing: float) -> float:
    """Return the seconds to keep free after the epochs; the final training also compares and draws its report."""
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


def begin_together(session: Session) -> None:
    """Begin in the chief, and bring the others to where it is."""
    team, learner, progress = session.team, session.course.learner, session.progress
    if team.is_chief:
        with team.apart():
            begin(session)
    state, reached = team.spread((learner.state(), progress) if team.is_shared else ({}, progress))
    if not team.is_chief:
        learner.restore(state)
        vars(progress).update(vars(reached))
        session.course.judge.catch_up(progress.epoch)


def begin(session: Session) -> None:
    """Report what will be trained, and fit the head first if the backbone is pretrained."""
    setup, progress = session.setup, session.progress
    start = describe_start(setup)
    session.metrics.begin(start, progress.epoch)
    log(" ".join(["start", *(f"{name}={value}" for name, value in start.items() if not isinstance(value, dict))]))
    if progress.epoch or progress.step:
        log(f"resuming after epoch {progress.epoch}, step {progress.step}")
    elif setup.pretrained == "imagenet" and isinstance(setup.head, nn.Linear):
        log(f"the head was fitted on the features of the frozen backbone, to a loss of {fit_once(setup):.4f}")
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
    setup, chosen, progress, team = session.setup, session.setup.chosen, session.progress, session.team
    deferring = Deferring(hooks)
    looking = [deferring] if team.is_shared else hooks
    try:
        fit(
            session.course.learner,
            session.course.batches,
            lambda: validate(session),
            epochs=chosen.epochs,
            patience=chosen.patience,
            objective=chosen.objective,
            seed=chosen.seed,
            progress=progress,
            save=lambda _: save(session),
            report=lambda record: report(session, record),
            keep=lambda reached: keep(session, reached),
            hooks=looking,
            stop_asked=lambda: team.agree(is_ending(session) or bool(deferring.reason)),
        )
    except Stopped as stopped:
        reason = team.spread(str(stopped) or deferring.reason)
        if not reason:
            end_early(session)
            return False
    else:
        reason = deferring.reason
    if reason:
        log(f"ended early: {reason}")
        setup.warnings.append(f"the training was ended early: {reason}")
    return True


def is_ending(session: Session) -> bool:
    """Return whether this process knows that the training must end. Only the chief knows what is still to be done."""
    return session.ending() if session.team.is_chief else session.ending.asked()


def validate(session: Session) -> Metrics:
    """Judge the epoch together. What is decided by it must be the same everywhere, so the chief's figures count."""
    return session.team.spread(session.course.validate())


def keep(session: Session, progress: Progress) -> None:
    """Ship the best epoch so far: the chief alone."""
    if session.team.is_chief:
        with session.team.apart():
            session.shipper.offer(progress)


def save(session: Session) -> None:
    """Write the checkpoint, with the time that the job has taken: the chief alone."""
    if not session.team.is_chief:
        return
    session.progress.spent = time.time() - session.begun
    session.checkpoint.save(session.course.learner, session.progress)


def report(session: Session, record: dict[str, Any]) -> None:
    """Report an epoch: in metrics.jsonl, and in the log if its last line is not too recent."""
    full, brief = (describe_epoch(record, count_images(session.setup), judged=judged) for judged in (True, False))
    following = max(1, session.setup.chosen.epochs - record["epoch"])  # a last epoch that took long is logged in full
    session.lines.add(full, brief, left=following * record["seconds"])
    session.metrics.add(record)


def end_early(session: Session) -> None:
    """Report that the epochs were stopped. Out of time within the first, validate what there is: it is the model."""
    setup, progress = session.setup, session.progress
    epochs, limit = setup.chosen.epochs, setup.chosen.max_runtime
    is_late = session.team.spread(session.ending.is_out_of_time())
    reason = f", because the time limit of {limit} s is near" if is_late else ""
    log(f"stopped in epoch {progress.epoch + 1} of {epochs}{reason}; the state was saved")
    if reason and not progress.best:
        steps = f"{progress.step} of {session.course.batches.steps}"
        setup.warnings.append(f"the training was stopped after {steps} steps of its first epoch{reason}")
        report(session, close_epoch(lambda: validate(session), setup.chosen.objective, progress, ()))
        return
    setup.warnings.append(f"the training was stopped after {progress.epoch} of {epochs} epochs{reason}")


def ship(session: Session, stop: Stop, *, finished: bool) -> Outcome:
    """Ship the best epoch. The final training then looks for a better model, and compares what ships with the live one.

    For that it has the time that was kept free, but not what drawing the report takes.
    """
    setup = session.setup
    rivals = collect(setup, session.course, session.progress) if setup.chosen.profile else None
    close(session, finished=finished)
    if rivals is None:
        return Outcome(setup, setup)
    closing = session.shipper.estimate_closing(session.progress)
    ending = Ending(stop, session.ending.deadline, lambda: find_report_seconds(setup))
    return compare(rivals, session.shipper, ending, lambda seconds: ending.has_time(seconds + closing))


def close(session: Session, *, finished: bool) -> None:
    """Ship the best epoch, and report its metrics once more: a tuning job reads the last value of a metric."""
    progress, best = session.progress, session.progress.best
    restore_best(session.course.learner.network, progress)
    session.metrics.add({"best": {"epoch": progress.best_epoch, "valid": best}})
    session.shipper.finish(progress, finished=finished)
    told = describe_splits({"valid": best}, count_images(session.setup))
    session.lines.add_final(" ".join([f"best epoch={progress.best_epoch}", *told]))
