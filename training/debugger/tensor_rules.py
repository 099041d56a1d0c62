"""Define the rules on saved tensors as subclasses of smdebug's Rule, with the names and default parameters of AWS's
built-in rules, which run only in AWS's rule container. Imports smdebug, so only watch.py imports this module, and does
so in a try. The rules on a training's course are in course_rules.py.

A step of a rule is a saved step. Two saves lie at least ten training steps apart, so patience and num_steps count saves
(of validations, where validation is meant). Where AWS does not say which tensors are checked, a rule checks those that
a healthy training does not break: no gradients of biases, which a following normalisation makes vanish, and no frozen
weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from smdebug import modes
from smdebug.rules import Rule

GRADIENTS = r"^gradient/.*weight$"
LOSS = r"[Ll]oss_output_0$"
SPREAD = 3.29  # 5th to 95th percentile of a normal distribution, in standard deviations
PREDICTIONS = r"[Ll]oss_input_0$"
ALIKE = 1e-6  # deviation between the inputs of a batch below which its images are all the same
LEARNT = 0.05  # a loss below which nothing is left to learn, and gradients vanish because all is well


class Readings:
    """A trial's tensors, each read once for all rules."""

    def __init__(self, trial: Any) -> None:
        self.trial = trial
        self.known: dict[Any, Any] = {}

    def names(self, step: int, pattern: str) -> list[str]:
        """List the tensors of a step whose names match."""
        names = self.once(("names", step), lambda: self.trial.tensor_names(step=step))
        return self.once((pattern, step), lambda: [name for name in names if re.search(pattern, name)])

    def value(self, name: str, step: int) -> np.ndarray[Any, Any]:
        return self.once((name, step), lambda: np.asarray(self.trial.tensor(name).value(step)))

    def reduction(self, name: str, step: int, kind: str) -> float:
        """Return a reduction such as abs_mean; the tensor itself may not have been saved."""
        plain, absolute = kind.removeprefix("abs_"), kind.startswith("abs_")
        read = lambda: float(self.trial.tensor(name).reduction_value(step, plain, abs=absolute))  # noqa: E731
        return self.once((name, step, kind), read)

    def once(self, key: Any, read: Callable[[], Any]) -> Any:
        if key not in self.known:
            self.known[key] = read()
        return self.known[key]

    def forget(self) -> None:
        """Drop what was read: rules keep what they need from earlier steps."""
        self.known.clear()


class HealthRule(Rule):  # type: ignore[misc]
    """The base of the rules: parameters, and a sentence on the last finding."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {}
    NEEDS = ""  # what is missing when nothing the rule checks was saved

    def __init__(self, readings: Readings, **parameters: Any) -> None:
        super().__init__(readings.trial, action_str="")
        self.readings = readings
        self.parameters = {**self.DEFAULTS, **parameters}
        self.finding = ""
        self.judged: set[int] = set()

    def invoke_at_step(self, step: int) -> bool:
        found = self.judge(step)
        self.finding = found or self.finding
        return bool(found)

    def judge(self, step: int) -> str:
        """Check one saved step, of training or of validation; return what is wrong, or an empty string."""
        raise NotImplementedError

    def is_training(self, step: int) -> bool:
        return bool(self.base_trial.mode(step) == modes.TRAIN)

    def each(self, step: int, pattern: str, kind: str) -> dict[str, float]:
        """Return a reduction of every tensor that matches."""
        found = {name: self.readings.reduction(name, step, kind) for name in self.readings.names(step, pattern)}
        self.judged |= {step} if found else set()
        return found

    def vectors(self, step: int, pattern: str) -> dict[str, np.ndarray[Any, Any]]:
        """Return every tensor that matches."""
        found = {name: self.readings.value(name, step) for name in self.readings.names(step, pattern)}
        self.judged |= {step} if found else set()
        return found

    def loss(self, step: int) -> float | None:
        return next((float(np.mean(value)) for value in self.vectors(step, LOSS).values()), None)

    def has_blank_images(self, step: int) -> bool:
        """Return whether all images of the step's batch are the same: then no layer can be blamed for what it does."""
        names = self.readings.names(step, "^spread/")
        return any(float(self.readings.value(name, step)[0]) < ALIKE for name in names)

    def find_shape(self, step: int) -> tuple[int, int] | None:
        """Return how many images and classes the step's predictions have; None if they were not saved."""
        shapes = [self.readings.value(name, step).shape for name in self.readings.names(step, PREDICTIONS)]
        return next((shape for shape in shapes if len(shape) == 2), None)


class VanishingGradient(HealthRule):
    """Trigger when the mean absolute gradient of a layer's weights stays below the threshold before all is learnt.

    It must be so at two saves in a row: at the first step a layer may get no gradient because of what another one
    holds, and learn well afterwards.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"threshold": 1e-7}
    NEEDS = "gradients"

    def __init__(self, readings: Readings, **parameters: Any) -> None:
        super().__init__(readings, **parameters)
        self.low: list[str] = []

    def judge(self, step: int) -> str:
        losses = [float(np.mean(self.readings.value(name, step))) for name in self.readings.names(step, LOSS)]
        if self.has_blank_images(step) or (losses and losses[0] < LEARNT):
            self.low = []
            return ""
        gradients = self.each(step, GRADIENTS, "abs_mean")
        if not gradients:
            return ""
        low = [name for name, mean in gradients.items() if mean < self.parameters["threshold"]]
        vanished, self.low = [name for name in low if name in self.low], low
        return f"the gradient of {tell(vanished)} vanishes" if vanished else ""


class ExplodingTensor(HealthRule):
    """Trigger when a tensor holds infinity or NaN."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"collection_names": None, "tensor_regex": None, "only_nan": False}
    NEEDS = "tensors"

    def judge(self, step: int) -> str:
        pattern = self.parameters["tensor_regex"] or r"^gradient/|weight$|bias$"
        means = {**self.each(step, pattern, "abs_mean"), "the loss": self.loss(step) or 0.0}
        bad = math.isnan if self.parameters["only_nan"] else (lambda value: not math.isfinite(value))
        exploded = [name for name, mean in means.items() if bad(mean)]
        return f"{tell(exploded)} is not a finite number" if exploded else ""


class AllZero(HealthRule):
    """Trigger when every weight of a layer is zero. Reductions allow no threshold other than 100%.

    AWS's rule also takes gradients and activations; zero ones are findings of VanishingGradient and DeadRelu.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "collection_names": "weights",
        "tensor_regex": None,
        "threshold": 100,
    }
    NEEDS = "weights"

    def judge(self, step: int) -> str:
        pattern = self.parameters["tensor_regex"] or r"^(?!gradient/|update/).*weight$"
        zero = [name for name, mean in self.each(step, pattern, "abs_mean").items() if mean == 0]
        return f"{tell(zero)} is zero throughout" if zero else ""


class WeightUpdateRatio(HealthRule):
    """Trigger when weights change far too much, or not at all, from one saved step to the next."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "num_steps": None,
        "large_threshold": 10.0,
        "small_threshold": 1e-8,
        "epsilon": 1e-9,
    }
    NEEDS = "updates of weights"

    def judge(self, step: int) -> str:
        if self.has_blank_images(step):
            return ""
        ratios = {name: float(value[0]) for name, value in self.vectors(step, "^update/").items()}
        lowest, highest = self.parameters["small_threshold"], self.parameters["large_threshold"]
        strange = [name for name, ratio in ratios.items() if not lowest <= ratio <= highest]
        if not strange:
            return ""
        extreme = "little" if ratios[strange[0]] < lowest else "much"
        return f"{tell(strange)} is {ratios[strange[0]]:.2g} of the weights, which is too {extreme}"


class UnchangedTensor(HealthRule):
    """Trigger when a trained weight has not changed in num_steps saved steps, within the tolerance."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "collection_names": "weights",
        "tensor_regex": None,
        "num_steps": 3,
        "rtol": 1e-5,
        "atol": 1e-8,
    }
    NEEDS = "updates of weights"

    def __init__(self, readings: Readings, **parameters: Any) -> None:
        super().__init__(readings, **parameters)
        self.still: dict[str, int] = {}

    def judge(self, step: int) -> str:
        updates = {} if self.has_blank_images(step) else self.vectors(step, "^update/")
        for name, value in updates.items():
            self.still[name] = self.still.get(name, 0) + 1 if float(value[0]) <= self.parameters["rtol"] else 0
        unchanged = [name for name in updates if self.still[name] >= self.parameters["num_steps"]]
        return f"{tell(unchanged)} has been zero for {self.parameters['num_steps']} saves" if unchanged else ""


class DeadRelu(HealthRule):
    """Trigger when most units of a ReLU layer are hardly ever active, and stay so.

    The units of a small batch are often all inactive by chance, so saves are taken together until they hold ENOUGH
    images. Units that are inactive before the first steps often come to life, so they must be found twice in a row.
    """

    ENOUGH: ClassVar[int] = 32

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "tensor_regex": "^activity/",
        "threshold_inactivity": 1.0,
        "threshold_layer": 50.0,
    }
    NEEDS = "ReLU activities (the network may have none)"

    def __init__(self, readings: Readings, **parameters: Any) -> None:
        super().__init__(readings, **parameters)
        self.gathered: list[tuple[int, dict[str, np.ndarray[Any, Any]]]] = []
        self.still: dict[str, np.ndarray[Any, Any]] = {}  # by layer, whether each unit was inactive last time

    def judge(self, step: int) -> str:
        limit = self.parameters["threshold_inactivity"] / 100
        layers = self.vectors(step, self.parameters["tensor_regex"])
        if not layers or self.has_blank_images(step):
            return ""
        self.gathered.append(((self.find_shape(step) or (self.ENOUGH, 0))[0], layers))
        if sum(images for images, _ in self.gathered) < self.ENOUGH:
            return ""
        active = {name: np.mean([each[name] for _, each in self.gathered if name in each], axis=0) for name in layers}
        still = {name: activity < limit for name, activity in active.items()}
        dead = {name: 100 * float((units & self.still.get(name, False)).mean()) for name, units in still.items()}
        self.gathered, self.still = [], still
        worst = [name for name, share in dead.items() if share > self.parameters["threshold_layer"]]
        return f"{dead[worst[0]]:.0f}% of the units are dead in {tell(worst)}" if worst else ""


class SaturatedActivation(HealthRule):
    """Trigger when most units of a tanh or sigmoid layer get inputs where it has no slope left."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "tensor_regex": "^saturation/",
        "threshold_tanh_min": -9.4999,
        "threshold_tanh_max": 9.4999,
        "threshold_sigmoid_min": -23.0,
        "threshold_sigmoid_max": 16.99999,
        "threshold_inactivity": 1.0,
        "threshold_layer": 50.0,
    }
    NEEDS = "inputs of tanh or sigmoid (the network may have none)"

    def judge(self, step: int) -> str:
        limit = 1 - self.parameters["threshold_inactivity"] / 100
        layers = self.vectors(step, self.parameters["tensor_regex"])
        stuck = {name: 100 * float((share > limit).mean()) for name, share in layers.items()}
        worst = [name for name, share in stuck.items() if share > self.parameters["threshold_layer"]]
        return f"{stuck[worst[0]]:.0f}% of the units are saturated in {tell(worst)}" if worst else ""


class PoorWeightInitialization(HealthRule):
    """Trigger when, in the first saved steps, activations differ in scale or gradients hardly differ.

    Networks with normalisation and pretrained ones show either sign and still learn well. So activations count only
    where the loss also begins far above that of guessing, and gradients only where it does not fall, which is the third
    sign that AWS's text names.
    """

    FAR: ClassVar[float] = 3.0  # times the loss of guessing

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "activation_inputs_regex": "^variance/",
        "threshold": 10.0,
        "distribution_range": 0.001,
        "patience": 5,
        "steps": 10,
    }
    NEEDS = "losses"

    def __init__(self, readings: Readings, **parameters: Any) -> None:
        super().__init__(readings, **parameters)
        self.losses: list[float] = []
        self.sign = ""

    def judge(self, step: int) -> str:
        loss = self.loss(step) if self.is_training(step) and len(self.losses) < self.parameters["steps"] else None
        if loss is None or self.has_blank_images(step):
            return ""
        self.losses.append(loss)
        _, classes = self.find_shape(step) or (0, 0)
        if len(self.losses) == 1 and classes > 1 and loss > self.FAR * math.log(classes):
            differ = self.compare_variances(step)
            return f"{differ}, and the loss begins at {loss:.3g}, where guessing has {math.log(classes):.3g}" * bool(
                differ
            )
        self.sign = self.sign or self.compare_gradients(step)
        waited = len(self.losses) - 1 - int(np.argmin(np.nan_to_num(self.losses, nan=np.inf)))
        return f"{self.sign}, and the loss does not fall" if waited >= self.parameters["patience"] and self.sign else ""

    def compare_variances(self, step: int) -> str:
        found = self.vectors(step, self.parameters["activation_inputs_regex"])
        values = [float(value[0]) for value in found.values()]
        differ = len(values) > 1 and not max(values) <= self.parameters["threshold"] * min(values)
        return f"the variance of activation inputs goes from {min(values):.2g} to {max(values):.2g}" if differ else ""

    def compare_gradients(self, step: int) -> str:
        ranges = {name: SPREAD * deviation for name, deviation in self.each(step, GRADIENTS, "std").items()}
        narrow = [name for name, value in ranges.items() if not value >= self.parameters["distribution_range"]]
        return f"{tell(narrow)} hardly differs between weights" if narrow else ""


def tell(names: list[str]) -> str:
    """Name the first, and say how many others there are."""
    shown = re.sub(r"(_output)?_\d+$", "", names[0])
    return shown if len(names) == 1 else f"{shown} (and {len(names) - 1} more)"


TENSOR_RULES: dict[str, type[HealthRule]] = {
    rule.__name__: rule
    for rule in (
        VanishingGradient,
        ExplodingTensor,
        PoorWeightInitialization,
        DeadRelu,
        SaturatedActivation,
        WeightUpdateRatio,
        UnchangedTensor,
        AllZero,
    )
}
