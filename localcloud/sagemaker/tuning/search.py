"""Search by Optuna behind SageMaker's strategies, as functions of a tuning job's history: no state between calls.

A history is the list of trials so far, in the order in which they began. So a restarted cloud continues exactly where
the killed one was. Bayesian is multivariate TPE: running trials count as bad, so that parallel trials spread out, and
the first `RANDOM_TRIALS` are random. A trial that failed or diverged counts as worse than every other, so that its
neighbourhood is avoided; one that was lost (the machine's fault, or a stop before its first value) teaches nothing. No
point is tried twice while others are left. Hyperband adds Optuna's pruner, whose brackets and rungs are kept in
`attributes`.
Optuna is imported on first use: it costs 30 MB and half a second, which a cloud that tunes nothing does not pay.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import operator
import random
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

RANDOM_TRIALS = 3
REDRAWS = 10
LOG_FACTOR = 100.0  # Auto scaling is logarithmic for ranges of two orders of magnitude or more
FEWEST_PREVIOUS = 3  # the median rule needs at least so many finished trials
MOST_LISTED = 10_000  # points of a space that is looked through for one that is left
State = Literal["running", "finished", "stopped", "failed", "lost"]


@dataclass(frozen=True)
class Range:
    """One tuned hyperparameter. `kind` is float, int or categorical; `scaling` is SageMaker's word, including Auto."""

    name: str
    kind: Literal["float", "int", "categorical"]
    low: float = 0.0
    high: float = 0.0
    scaling: str = "Auto"
    choices: tuple[str, ...] = ()

    @property
    def is_reversed(self) -> bool:
        return self.scaling == "ReverseLogarithmic"

    @property
    def is_logarithmic(self) -> bool:
        if self.scaling == "Auto":
            return self.low > 0 and self.high / self.low >= LOG_FACTOR
        return self.scaling in ("Logarithmic", "ReverseLogarithmic")

    def encode(self, text: str) -> Any:
        """Return a hyperparameter's string as the sampler's value."""
        if self.kind == "categorical":
            return text
        value = float(text)
        return 1 - value if self.is_reversed else int(value) if self.kind == "int" else value

    def decode(self, value: Any) -> str:
        """Return the sampler's value as the hyperparameter's string, never outside the range."""
        if self.kind == "categorical":
            return str(value)
        number = min(max(1 - value if self.is_reversed else value, self.low), self.high)
        return str(int(number)) if self.kind == "int" else repr(float(number))

    def list_values(self) -> Sequence[str]:
        """List the values of a range that is not continuous."""
        if self.kind == "categorical":
            return self.choices
        return [str(value) for value in range(int(self.low), int(self.high) + 1)]

    def count_points(self) -> float:
        """Return how many values there are; infinitely many in a continuous range."""
        if self.kind == "categorical":
            return float(len(self.choices))
        return self.high - self.low + 1 if self.kind == "int" else math.inf

    def contains(self, text: str) -> bool:
        if self.kind == "categorical":
            return text in self.choices
        try:
            return self.low <= float(text) <= self.high
        except ValueError:
            return False


@dataclass(frozen=True)
class Search:
    """What is searched, and how. `resources` are Hyperband's minimum and maximum, in values of the objective."""

    name: str
    strategy: str
    ranges: tuple[Range, ...]
    maximize: bool
    seed: int
    resources: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Trial:
    """One trial: its hyperparameters' strings, the objective's values so far, and the pruner's notes.

    `failed` means by its own fault: its hyperparameters may be the reason.
    """

    parameters: Mapping[str, str]
    state: State
    values: Sequence[float] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finite(self) -> list[float]:
        """The values that are numbers."""
        return [value for value in self.values if math.isfinite(value)]

    @property
    def is_bad(self) -> bool:
        """Whether it ended without a usable value by its own fault: it failed or diverged."""
        diverged = bool(self.values) and not math.isfinite(self.values[-1])
        unmeasured = self.state == "finished" and not self.values
        return self.state == "failed" or (self.state in ("finished", "stopped") and (diverged or unmeasured))


def suggest(search: Search, history: Sequence[Trial], parents: Sequence[Trial] = ()) -> dict[str, str] | None:
    """Return the next trial's hyperparameters; None if a grid has no point left.

    `parents` are a warm start's trials; those outside the ranges are ignored. The answer depends only on the arguments.
    """
    if search.strategy == "Grid":
        return _next_grid_point(search, len(history))
    known = [*_level(_usable(search, parents), history), *history]
    tried = [dict(trial.parameters) for trial in history]
    for attempt in range(REDRAWS):
        drawn = _draw(search, known, attempt)
        if drawn not in tried:
            return drawn
    return _find_untried(search, tried, drawn) or drawn


def count_grid(ranges: Sequence[Range]) -> int:
    """Return the number of all combinations of categorical ranges."""
    return math.prod(len(item.choices) for item in ranges)


def count_points(ranges: Sequence[Range]) -> float:
    """Return the number of all combinations of any ranges; infinite with a continuous one."""
    return math.prod(item.count_points() for item in ranges)


def judge_hyperband(
    search: Search, history: Sequence[Trial], index: int, steps: int, parents: Sequence[Trial] = ()
) -> tuple[bool, dict[str, Any]]:
    """Return whether the pruner would stop the trial at `index` after its first `steps` values, and its notes."""
    known = [*_level(_usable(search, parents), history), *history]
    position = len(known) - len(history) + index
    known[position] = Trial(
        known[position].parameters, "running", known[position].values[:steps], known[position].attributes
    )
    study = _build_study(search, known, seed=0)
    pruned = study.pruner.prune(study, study.get_trials(deepcopy=False)[position])
    return bool(pruned), dict(study.get_trials()[position].system_attrs)


def judge_median(maximize: bool, values: Sequence[float], previous: Sequence[Sequence[float]]) -> bool:
    """Return whether TrainingJobEarlyStoppingType Auto stops a trial.

    SageMaker's rule stops a trial whose newest value is worse than the median of the running averages of all finished
    trials up to the same epoch. A value that is no number stops it at once: the trial has diverged.
    """
    epoch = len(values)
    if values and not math.isfinite(values[-1]):
        return True
    complete = [other[:epoch] for other in previous if len(other) >= epoch > 0]
    averages = [statistics.fmean(other) for other in complete if all(map(math.isfinite, other))]
    if len(averages) < FEWEST_PREVIOUS:
        return False
    median = statistics.median(averages)
    return values[-1] < median if maximize else values[-1] > median


def find_best(maximize: bool, values: Sequence[float | None]) -> int | None:
    """Return the index of the best value, the first among equals; None if none is a finite number."""
    sign = -1 if maximize else 1
    known = [(sign * value, index) for index, value in enumerate(values) if value is not None and math.isfinite(value)]
    return min(known)[1] if known else None


def make_seed(*parts: Any) -> int:
    """Return a seed of 32 bits that depends on all parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def _next_grid_point(search: Search, number: int) -> dict[str, str] | None:
    points = itertools.product(*(item.choices for item in search.ranges))
    point = next(itertools.islice(points, number, None), None)
    return None if point is None else {item.name: value for item, value in zip(search.ranges, point, strict=True)}


def _usable(search: Search, parents: Sequence[Trial]) -> list[Trial]:
    return [
        trial
        for trial in parents
        if trial.state == "finished"
        and all(item.contains(trial.parameters.get(item.name, "")) for item in search.ranges)
    ]


def _level(parents: Sequence[Trial], history: Sequence[Trial]) -> list[Trial]:
    """Shift the parents' values by the difference of medians: other data are easier or harder throughout."""
    own, theirs = ([trial.finite[-1] for trial in each if trial.finite] for each in (history, parents))
    if not own or not theirs:
        return list(parents)
    shift = statistics.median(own) - statistics.median(theirs)
    return [replace(trial, values=[value + shift for value in trial.values]) for trial in parents]


def _find_untried(
    search: Search, tried: Sequence[Mapping[str, str]], drawn: Mapping[str, str]
) -> dict[str, str] | None:
    """Return a point that was not tried, the nearest to the drawn one in a small space; None if none is left.

    Points are near that share many values. Of equally near ones the seed chooses, and in a large space of all.
    """
    if math.isinf(size := count_points(search.ranges)):
        return None
    names, values = [item.name for item in search.ranges], [item.list_values() for item in search.ranges]
    known, wanted = {tuple(point[name] for name in names) for point in tried}, [drawn[name] for name in names]
    dice = random.Random(make_seed(search.seed, len(tried)))  # noqa: S311  a search is no secret
    if size > MOST_LISTED:
        endless = (tuple(dice.choice(each) for each in values) for _ in itertools.count())
        found = next(point for point in endless if point not in known)
        return dict(zip(names, found, strict=True))
    left: list[tuple[str, ...]] = [point for point in itertools.product(*values) if point not in known]
    dice.shuffle(left)
    apart = [sum(map(operator.ne, point, wanted)) for point in left]
    return dict(zip(names, left[apart.index(min(apart))], strict=True)) if left else None


def _draw(search: Search, known: Sequence[Trial], attempt: int) -> dict[str, str]:
    study = _build_study(search, known, make_seed(search.seed, len(known), attempt))
    drawn = study.ask(_distributions(search.ranges)).params
    return {item.name: item.decode(drawn[item.name]) for item in search.ranges}


def _build_study(search: Search, known: Sequence[Trial], seed: int) -> Any:
    optuna = _load_optuna()
    sampler = (
        optuna.samplers.RandomSampler(seed=seed)
        if search.strategy == "Random"
        else optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=RANDOM_TRIALS, multivariate=True, constant_liar=True, n_ei_candidates=64
        )
    )
    least, most = search.resources
    pruner = (
        optuna.pruners.HyperbandPruner(least, most) if search.strategy == "Hyperband" else optuna.pruners.NopPruner()
    )
    direction = "maximize" if search.maximize else "minimize"
    study = optuna.create_study(sampler=sampler, pruner=pruner, study_name=search.name, direction=direction)
    worst = _find_worst(search.maximize, known)
    study.add_trials([_to_optuna(search, trial, worst) for trial in known])
    return study


def _find_worst(maximize: bool, known: Sequence[Trial]) -> float:
    """Return a value that is worse than every other: what a trial that failed or diverged is told to have reached."""
    values = [value for trial in known for value in trial.finite] or [0.0]
    return min(values) - 1 if maximize else max(values) + 1


def _to_optuna(search: Search, trial: Trial, worst: float) -> Any:
    optuna = _load_optuna()
    states = optuna.trial.TrialState
    told = {"running": states.RUNNING, "finished": states.COMPLETE, "stopped": states.PRUNED, "lost": states.FAIL}
    state = states.COMPLETE if trial.is_bad else told[trial.state]
    values = [value if math.isfinite(value) else worst for value in trial.values]
    return optuna.trial.create_trial(
        state=state,
        params={item.name: item.encode(trial.parameters[item.name]) for item in search.ranges},
        distributions=_distributions(search.ranges),
        value=(worst if trial.is_bad else values[-1]) if state is states.COMPLETE else None,
        intermediate_values=dict(enumerate(values, 1)),
        system_attrs=dict(trial.attributes),
    )


def _distributions(ranges: Sequence[Range]) -> dict[str, Any]:
    kinds = _load_optuna().distributions
    made: dict[str, Any] = {}
    for item in ranges:
        if item.kind == "categorical":
            made[item.name] = kinds.CategoricalDistribution(item.choices)
        elif item.kind == "int" and not item.is_reversed:
            made[item.name] = kinds.IntDistribution(int(item.low), int(item.high), log=item.is_logarithmic)
        else:
            low, high = (1 - item.high, 1 - item.low) if item.is_reversed else (item.low, item.high)
            made[item.name] = kinds.FloatDistribution(low, high, log=item.is_logarithmic)
    return made


@cache
def _load_optuna() -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
