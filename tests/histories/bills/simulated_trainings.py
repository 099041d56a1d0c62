"""How long trainings take, epoch by epoch, on machines that are not quite those that were published.

Written down apart from `chalicelib.costs.throughput`, whose functions are not used here: what it sums up in a formula
is walked through here, with what it leaves out (what each batch and each epoch cost by themselves) and with what it
guesses by a share (which trials end early, and when). The constants are those that are published, measured or
promised, each off by a factor of its own.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict
from dataclasses import dataclass

from chalicelib.costs.plans import Plan
from chalicelib.costs.throughput import read_throughput
from chalicelib.recipes.resolving import Recipe
from localcloud.sagemaker.tuning.search import judge_median

START = 75.0  # seconds until the training program begins
NETWORK = 60e6  # bytes a second
PICTURES = (150.0, 15e6)  # that one vCPU decodes in a second: so many, and so many bytes
LOADING = {"gpu": 9000.0, "cpu": 1200.0}  # images a second that can be brought to the network and back, whatever it is
STEPS_OF_TRAINING = {"head": 0.0, "last_block": 1.5, "all": 3.0}  # ways forward through the network
WATCHING = 1.25  # what hooks and samplers make of an epoch of the final training
WATCHING_SECONDS = 120.0  # what they install and draw
LEAVING = 10.0  # seconds of the archive's upload
BATCH_SECONDS = 0.001  # between two batches
EPOCH_SECONDS = 0.3  # a checkpoint and a line of metrics
RUNGS = tuple(3**power for power in range(7))  # epochs after which Hyperband lets the best third go on


@dataclass(frozen=True)
class Took:
    """The seconds of a job's way in and out, and those of its work."""

    moving: float
    working: float


def count_parameters(architecture: str) -> float:
    return float(read_throughput()["architectures"][architecture][2]) * 1e6


class Machines:
    """The machines of one world."""

    def __init__(self, dice: random.Random, error: float) -> None:
        self._dice, self._error = dice, error
        self._off: dict[str, float] = {}
        self._ways: dict[tuple[str, int, str], float] = {}

    def time_start(self) -> float:
        return START * self._be_off("start")

    def time_trial(self, plan: Plan, instance_type: str, depth: str, epochs: int) -> Took:
        working = self._prepare(plan, instance_type) + epochs * self._walk(plan, instance_type, depth)
        return Took(self._move(plan), working)

    def time_training(self, plan: Plan, instance_type: str, depth: str, epochs: int) -> Took:
        """The last one, which is watched, and the baseline, which is not."""
        watched = WATCHING * self._be_off("watching") * epochs * self._walk(plan, instance_type, depth)
        more = WATCHING_SECONDS * self._be_off("watching seconds")
        working = self._prepare(plan, instance_type) + watched + self._train_baseline(plan, instance_type, epochs)
        return Took(self._move(plan) + more, working)

    def _train_baseline(self, plan: Plan, instance_type: str, epochs: int) -> float:
        """As many epochs at the greatest depth, after the training images went through the frozen network."""
        frozen = (plan.images.train + plan.images.test) * self._pass(plan.recipe, instance_type)
        return frozen + epochs * self._walk(plan, instance_type, plan.recipe.deepest)

    def _be_off(self, what: str) -> float:
        """The factor of one constant, the same for as long as this world lasts."""
        if what not in self._off:
            self._off[what] = (1 + self._error) ** self._dice.uniform(-1, 1)
        return self._off[what]

    def _move(self, plan: Plan) -> float:
        return plan.zip_bytes / NETWORK * self._be_off("network") + LEAVING * self._be_off("leaving")

    def _prepare(self, plan: Plan, instance_type: str) -> float:
        """Every picture is decoded once, and goes once through the frozen network."""
        by_count, by_bytes = plan.images.total / PICTURES[0], plan.zip_bytes / PICTURES[1]
        decoded = max(by_count, by_bytes) / self._count_processors(instance_type) * self._be_off("decoding")
        return decoded + plan.images.total * self._pass(plan.recipe, instance_type)

    def _walk(self, plan: Plan, instance_type: str, depth: str) -> float:
        """One epoch: batches, the validation split, a checkpoint. A head has the features of all images already."""
        batches = math.ceil(plan.images.train / 32) if STEPS_OF_TRAINING[depth] else 0
        judged = plan.images.valid if STEPS_OF_TRAINING[depth] else 0
        passes = plan.images.train * STEPS_OF_TRAINING[depth] * self._be_off(depth) + judged
        return passes * self._pass(plan.recipe, instance_type) + batches * BATCH_SECONDS + EPOCH_SECONDS

    def _pass(self, recipe: Recipe, instance_type: str) -> float:
        """One image's way forward: worked out once for each network and machine."""
        place = (recipe.architecture, recipe.image_size, instance_type)
        if place not in self._ways:
            self._ways[place] = self._find_way(recipe, instance_type)
        return self._ways[place]

    def _find_way(self, recipe: Recipe, instance_type: str) -> float:
        known, family = read_throughput(), instance_type.split(".")[1]
        multiplications, size, _ = known["architectures"][recipe.architecture]
        kind = "gpu" if family in known["devices"] else "cpu"
        rate = known["devices"].get(family) or known["vcpu"] * self._count_processors(instance_type)
        pixels = (recipe.image_size / size) ** 2
        return multiplications * pixels / rate * self._be_off(family) + self._be_off(f"loading {kind}") / LOADING[kind]

    def _count_processors(self, instance_type: str) -> int:
        return int(read_throughput()["vcpus"][instance_type.rpartition(".")[2]])


class Judge:
    """Which trials are ended early, by SageMaker's rules and the training program's own, on curves that are drawn."""

    def __init__(self, recipe: Recipe, dice: random.Random) -> None:
        self._recipe, self._dice = recipe, dice
        self._ends_trials = recipe.strategy == "Hyperband" or recipe.early_stopping == "Auto" or recipe.patience > 0
        self._finished: list[list[float]] = []
        self._rungs: dict[int, list[float]] = defaultdict(list)

    def count_epochs(self) -> int:
        """The epochs of one more trial."""
        if not self._ends_trials:  # then no curve has to be drawn, which is most of the simulation's time
            return self._recipe.epochs
        curve = self._draw_curve()
        for epoch in range(1, len(curve) + 1):
            if self._is_hopeless(curve[:epoch]):
                return epoch
        self._finished.append(curve)
        return len(curve)

    def count_last_epochs(self) -> int:
        """Those of the final training: nobody ends it but itself."""
        return len(self._draw_curve()) if self._recipe.patience else self._recipe.epochs

    def _draw_curve(self) -> list[float]:
        """Scores that rise to a height of their own, with noise; cut where patience is over."""
        height, pace = self._dice.uniform(0.5, 1.0), self._dice.uniform(1.0, self._recipe.epochs / 2 + 1)
        curve: list[float] = []
        best = 1
        for epoch in range(1, self._recipe.epochs + 1):
            curve.append(height * (1 - math.exp(-epoch / pace)) + self._dice.gauss(0, 0.01))
            best = epoch if curve[-1] > curve[best - 1] else best
            if 0 < self._recipe.patience <= epoch - best:
                break
        return curve

    def _is_hopeless(self, curve: list[float]) -> bool:
        if self._recipe.strategy == "Hyperband":
            return self._is_below_the_best_third(curve)
        return self._recipe.early_stopping == "Auto" and judge_median(True, curve, self._finished)

    def _is_below_the_best_third(self, curve: list[float]) -> bool:
        if len(curve) not in RUNGS or len(curve) == self._recipe.epochs:
            return False
        rung = self._rungs[len(curve)]
        rung.append(curve[-1])
        return len(rung) > 2 and curve[-1] < statistics.quantiles(rung, n=3)[1]
