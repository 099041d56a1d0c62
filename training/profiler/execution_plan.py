"""Let the profile act: before a profiled training, safe settings are tried, and those that shorten the step are kept.

Safe settings leave every weight as it would be without them: how many workers decode, batches fetched ahead, keeping
decoded images, and on a GPU the images in its memory, replayed steps and pinned memory, with which it begins and of
which one may be taken back. Precision and memory format follow the hardware and are never tried: they change bits. The
probe says which phase a setting could shorten at all. Where there is nothing to try there is no probe: observing.py
makes the plan from the training's own first steps. Trials cost at most 3 % of the training's time or a second, and
at most half of the time spent waiting for data. Afterwards the
weights, the optimizer and every source of randomness are as before. "Nothing to gain" is a valid answer.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from images.data import Batches
from images.early import MEMORY_LIMIT
from images.streaming import ImageStream
from job.artifact import write_json
from job.metrics import log
from learning.engine import Learner, Stopped
from learning.preparation import Course, Setup
from learning.steps.replay import REAL_STEPS

from profiler.probing import (
    LEAST_GAIN,
    ROUNDS,
    STEPS,
    WARM_UP,
    Probe,
    Snapshot,
    compare_interleaved,
    count_cores,
    is_worth_taking,
    make_steps,
    weigh,
)
from profiler.rules import Recording, judge_all

NAME = "execution_plan.json"
PROBED = 5
UNDECIDED = 1  # steps that are probed where there is nothing to try, so that they only tell the phases
COST = 0.03
LEAST_SECONDS = 1.0
EVIDENCE = 0.5
# The overhead that a larger batch spreads over more images: the part of a step that does not grow with its images.
OVERHEAD = 0.15
OVERHEADS = ("copy", "optimizer", "hook")
COMPUTE = ("forward", "backward", "optimizer")
PREFETCHED = 2


@dataclass(frozen=True)
class Candidate:
    """A setting that can be changed, and changed back, while nothing else changes.

    phases: those it could shorten. fills: its first steps pay for what later ones save.
    """

    setting: str
    value: str
    phases: tuple[str, ...]
    change: Callable[[], None]
    undo: Callable[[], None]
    fills: bool = False


class Budget:
    """How many more seconds may be spent only for timing, of a training that takes `total` seconds."""

    def __init__(self, total: float, least: float = LEAST_SECONDS) -> None:
        self.total, self.least, self.spent = total, least, 0.0

    def allows(self, seconds: float, evidence: float) -> bool:
        """Return whether `seconds` more may be spent; evidence: the part of the training that they could save."""
        return self.spent + seconds <= max(self.least, self.total * (COST + evidence))

    def spend(self, seconds: float) -> None:
        self.spent += seconds


def choose_plan(
    setup: Setup,
    job_folder: Path,
    course: Course,
    *,
    candidates: Sequence[Candidate] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    stop_asked: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Probe the training, try what could help, keep what does, and write execution_plan.json; return its content.

    Call it before the first step, without any debugger hook. A resumed job takes the plan of its earlier life. Returns
    None if a stop was asked for meanwhile: the job's next life then makes a new plan.
    """
    known = list_candidates(setup, course) if candidates is None else list(candidates)
    path = job_folder / NAME
    if path.is_file():
        return repeat_plan(path, known)
    snapshot = Snapshot(course.learner)
    try:
        plan = try_out(setup, course, known, Gauge(snapshot, setup.job.threads, clock, stop_asked))
    except Stopped:
        return None
    finally:
        snapshot.restore()
    keep_plan(job_folder, plan)
    return plan


def has_nothing_to_try(setup: Setup, job_folder: Path, course: Course) -> bool:
    """Return whether a training has no setting to try, and no earlier plan: its own first steps tell the rest."""
    return not (job_folder / NAME).is_file() and not list_candidates(setup, course)


def keep_plan(job_folder: Path, plan: dict[str, Any]) -> None:
    write_json(job_folder / NAME, plan)
    log(f"execution plan: {plan['verdict']}")


def repeat_plan(path: Path, known: Sequence[Candidate]) -> dict[str, Any]:
    """Apply the settings of a plan that was made earlier."""
    plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for candidate in known:
        if plan["chosen"].get(candidate.setting) == candidate.value:
            candidate.change()
    log(f"execution plan of this job's earlier life: {plan['verdict']}")
    return plan


@dataclass
class Gauge:
    """Time steps, always from the point where the training will begin, and count what that takes."""

    snapshot: Snapshot
    threads: int
    clock: Callable[[], float]
    stop_asked: Callable[[], bool]
    steps: int = 0
    seconds: float = 0.0

    def __call__(self, batches: Batches, steps: int, *, warm_up: int = WARM_UP) -> Probe:
        if self.stop_asked():
            raise Stopped
        begun, warm_up = self.clock(), self.least_warm_up(warm_up)
        self.snapshot.restore()
        options = {"warm_up": warm_up, "threads": self.threads, "clock": self.clock}
        probe = make_steps(self.snapshot.learner, batches, steps, **options)
        self.steps += warm_up + steps
        self.seconds += self.clock() - begun
        return probe

    def least_warm_up(self, wished: int = WARM_UP) -> int:
        """Return how many steps must be made before they are those of a long training: a graph comes after some."""
        return REAL_STEPS + 1 if self.snapshot.learner.replay else wished


def try_out(setup: Setup, course: Course, known: Sequence[Candidate], gauge: Gauge) -> dict[str, Any]:
    """Compare the candidates one by one, each on top of those already taken."""
    total = setup.chosen.epochs * course.batches.steps
    measure = partial(gauge, course.batches)
    affordable = int(COST * total)  # a short training affords one step, which pays for one-time work as well
    most = PROBED if known else UNDECIDED
    first = now = measure(max(1, min(most, affordable - WARM_UP)), warm_up=WARM_UP if affordable > 1 else 0)
    budget = Budget(total * first.mean)
    budget.spend(gauge.seconds)
    rows, chosen, start = [], {}, first
    for candidate in known:
        begun, steps = gauge.seconds, 2 * (ROUNDS + candidate.fills) * (gauge.least_warm_up() + STEPS)
        share = now.share(*candidate.phases)
        evidence = EVIDENCE * share if candidate.phases == ("data",) else 0.0
        if share <= LEAST_GAIN or not budget.allows(steps * now.mean, evidence):
            continue
        if candidate.fills:
            compare_interleaved(candidate.change, candidate.undo, partial(measure, STEPS), rounds=1)
        before, after = compare_interleaved(candidate.change, candidate.undo, partial(measure, STEPS))
        budget.spend(gauge.seconds - begun)
        rows.append(describe_candidate(candidate, before, after))
        if rows[-1]["taken"]:
            candidate.change()
            # What was measured in turn with the first gain is a fairer baseline than what was measured long before.
            start = start if chosen else before
            chosen[candidate.setting], now = candidate.value, after
    recommendations = advise(setup, course, now, gauge, budget)
    plan = describe_plan(setup, total, first, start, now, recommendations)
    made = {"probed_steps": gauge.steps, "probed_seconds": round(gauge.seconds, 3)}
    return {**plan, "chosen": chosen, "candidates": rows, **made, "verdict": sum_up(chosen, start, now)}


def describe_plan(
    setup: Setup, steps: int, first: Probe, start: Probe, now: Probe, recommendations: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the plan of a training of so many steps in which nothing was tried."""
    return {
        "format": 1,
        "chosen": {},
        "candidates": [],
        "rules": judge_probe(setup, first),
        "before": start.describe(),
        "after": now.describe(),
        "recommendations": recommendations,
        "probed_steps": 0,
        "probed_seconds": 0.0,
        "steps": steps,
        "verdict": sum_up({}, start, now),
    }


def describe_candidate(candidate: Candidate, before: Probe, after: Probe) -> dict[str, Any]:
    gain, noise = weigh(before.seconds, after.seconds)
    means = [1e3 * sum(probe.seconds) / len(probe.seconds) for probe in (before, after)]
    return {
        "setting": candidate.setting,
        "value": candidate.value,
        "before_ms": round(means[0], 3),
        "after_ms": round(means[1], 3),
        "gain": round(gain, 4),
        "noise": round(noise, 4),
        "taken": is_worth_taking(gain, noise),
    }


def judge_probe(setup: Setup, probe: Probe) -> list[str]:
    """Return the names of the profiler's rules that the probe breaks."""
    stream = setup.dataset.train.cache
    workers = stream.workers if isinstance(stream, ImageStream) else None
    recording = Recording(steps=probe.steps, first_step=0.0, cores=count_cores(), workers=workers)
    return [name for name, report in judge_all(recording).items() if report["RuleTriggered"]]


def sum_up(chosen: dict[str, str], before: Probe, after: Probe) -> str:
    """Return one sentence on the outcome."""
    if not chosen:
        return "Profiling found no faster setting."
    factor = sum(before.seconds) / len(before.seconds) / (sum(after.seconds) / len(after.seconds))
    settings = ", ".join(f"{name} {value}" for name, value in chosen.items())
    return f"A step is {factor:.1f} times as fast as before: {settings}."


def list_candidates(setup: Setup, course: Course) -> list[Candidate]:
    """List what could be tried for this job on this machine."""
    stream, batches, learner = setup.dataset.train.cache, course.batches, course.learner
    whole = learner.network is setup.network
    found = list_stream_candidates(setup, stream, batches) if isinstance(stream, ImageStream) and whole else []
    if setup.device.type == "cuda":
        found += list_device_candidates(learner, batches)
    return found


def list_device_candidates(learner: Learner, batches: Batches) -> list[Candidate]:
    """List what a GPU begins with, which may be taken back: it is the faster way almost everywhere."""
    found = []
    if learner.replay:
        found.append(switch("graph", "off", COMPUTE, learner, "replay", None))
    if batches.held is not None:
        found.append(switch("device_cache", "off", ("data", "copy"), batches, "held", None))
    elif batches.pin:
        found.append(switch("pin_memory", "off", ("data", "copy"), batches, "pin", False))
    return found


def list_stream_candidates(setup: Setup, stream: ImageStream, batches: Batches) -> list[Candidate]:
    """List what could deliver decoded images sooner."""
    found = []
    if count_cores() > stream.workers:
        found.append(switch("workers", str(count_cores()), ("data",), stream, "workers", count_cores()))
    if setup.chosen.epochs > 1 and has_room(stream, setup.job.places.output):
        found.append(switch("cache", "decoded", ("data",), stream, "keeping", True, fills=True))
    found.append(switch("prefetch", str(PREFETCHED), ("data",), batches, "prefetch", PREFETCHED))
    return found


def switch(
    setting: str, value: str, phases: tuple[str, ...], owner: Any, name: str, new: Any, **more: bool
) -> Candidate:
    """Make a candidate that sets an attribute."""
    old = getattr(owner, name)
    return Candidate(
        setting, value, phases, lambda: setattr(owner, name, new), lambda: setattr(owner, name, old), **more
    )


def has_room(stream: ImageStream, output: Path) -> bool:
    """Return whether all decoded images fit where data.make_cache would put them: half of the free memory, or disk."""
    if stream.bytes <= MEMORY_LIMIT:
        return stream.bytes <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 2
    place = next(folder for folder in (output, *output.parents) if folder.is_dir())
    return stream.bytes <= shutil.disk_usage(place).free / 2


def advise(setup: Setup, course: Course, now: Probe, gauge: Gauge, budget: Budget) -> list[dict[str, Any]]:
    """Recommend a larger batch, with its measured throughput, where much of a step does not grow with the batch."""
    share, size = now.share(*OVERHEADS), setup.chosen.batch_size
    measured = {str(size): now.describe()["images_per_second"]}
    for larger in list_larger(setup, now):
        begun, steps = gauge.seconds, (gauge.least_warm_up() + STEPS) * larger // size
        if not budget.allows(steps * now.mean, share * OVERHEAD):
            break
        own = course.batches
        batches = copy(own)
        batches.steps = max(1, round(len(own.labels) / larger))
        try:
            probe = gauge(batches, STEPS)
        except RuntimeError as error:  # how torch reports that memory is short
            log(f"a batch of {larger} could not be measured: {error}")
            break
        budget.spend(gauge.seconds - begun)
        measured[str(larger)] = probe.describe()["images_per_second"]
    return describe_advice(size, measured)


def list_larger(setup: Setup, now: Probe) -> list[int]:
    """List the larger batches that are worth measuring: none if little of a step would be spread over more images."""
    size = setup.chosen.batch_size
    sizes = [size * factor for factor in (2, 4) if len(setup.dataset.train) >= 2 * size * factor]
    return sizes if now.share(*OVERHEADS) >= OVERHEAD else []


def describe_advice(size: int, measured: dict[str, float]) -> list[dict[str, Any]]:
    """Return the recommendation, if a larger batch is faster by more than LEAST_GAIN."""
    best = max(measured, key=lambda name: measured[name])
    gain = measured[best] / max(measured[str(size)], 1e-9) - 1
    if gain <= LEAST_GAIN:
        return []
    text = (
        f"batch_size {best} would train {gain:.0%} more images a second than {size}; it changes what is learnt, "
        "so add it to the recipe's ranges and let the tuning decide"
    )
    return [{"hyperparameter": "batch_size", "throughput": measured, "text": text}]
