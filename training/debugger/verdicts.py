"""Turn what rules find into the entries of rules.json: a status, a sentence, and one sentence of advice.

Entries are in the order of ADVICE: what causes other findings comes before them, so the first rule that found something
is the one to act on. Initial weights that are found to be poor before the first step cause what comes later; where poor
ones are found because nothing is learnt, another rule may say why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from debugger.course import Course
from debugger.course_rules import CourseRule

FOUND, CLEAN, NOT_JUDGED, ERROR = "IssuesFound", "NoIssuesFound", "NotJudged", "Error"
SHOWN_STEPS = 5
# Every rule, causes before symptoms, and what to do about what it finds.
ADVICE: Mapping[str, str] = {
    "ExplodingTensor": "Lower the learning rate tenfold, and look for images whose pixels make no sense.",
    "AllZero": "Give the layer other initial weights: one that is zero throughout passes nothing on.",
    "LearningRateTooHigh": "Lower the end of the learning rate's range three- to tenfold.",
    "SaturatedActivation": "Scale the weights before that layer down, or put a normalisation between them.",
    "DeadRelu": "Lower the learning rate, or give the layer other initial weights: dead units never come back.",
    "VanishingGradient": "Take a network with normalisation or residual connections, or pretrained weights.",
    "PoorWeightInitialization": "Begin from pretrained weights, or from torchvision's own initial weights.",
    "UnchangedTensor": "Raise the learning rate, or train deeper (fine_tune): these weights learn nothing.",
    "TinyBatch": "Raise batch_size to 16 or more.",
    "WeightUpdateRatio": "Lower the learning rate where weights change too much, raise it where they hardly change.",
    "ClassImbalance": "Add images of the rare class, and judge by macro F1 (objective macro_f1).",
    "WorseThanBaseline": "Widen the ranges to include the defaults, or run more trials: these values are worse.",
    "LossNotDecreasing": "Look at the images: they may hold nothing that tells the classes apart at this size.",
    "NearChance": "Look whether labels and images belong together: what was learnt does not carry over.",
    "Overfit": "Add images, train fewer layers (fine_tune), or set patience so that the training ends earlier.",
    "Confusion": "Look at images of both classes: labels may be mixed up, or the size too small to tell them apart.",
    "Overtraining": "Ask for fewer epochs, or set patience: the same model costs less.",
}


class Verdict(Protocol):
    """What a rule has said so far."""

    name: str
    steps: list[int]

    @property
    def status(self) -> str: ...

    @property
    def first(self) -> str: ...

    def describe(self) -> dict[str, Any]: ...


def describe_verdict(
    name: str, status: str, details: str, parameters: Mapping[str, Any], steps: list[int]
) -> dict[str, Any]:
    """Build an entry of rules.json."""
    return {
        "name": name,
        "status": status,
        "parameters": dict(parameters),
        "details": details,
        "steps": steps[:SHOWN_STEPS],
        "advice": ADVICE[name] if status == FOUND else None,
    }


class CourseVerdict:
    """What a rule of the course says: its last look counts, as a training may recover."""

    def __init__(self, rule: CourseRule) -> None:
        self.rule, self.name = rule, rule.rule_name
        self.steps: list[int] = []
        self.finding = ""
        self.error = ""
        self.missing = "the training has not begun"

    def look(self, course: Course) -> None:
        """Judge the course as it is now. A rule that raises an error reports it and is not asked again."""
        if self.error:
            return
        try:
            self.missing = self.rule.find_missing(course)
            self.finding = "" if self.missing else self.rule.judge(course)
        except Exception as error:  # noqa: BLE001  one broken rule must not silence the others
            self.error = f"{type(error).__name__}: {error}"
        self.steps = [*self.steps, course.step] if self.finding else []

    @property
    def status(self) -> str:
        if self.error:
            return ERROR
        return NOT_JUDGED if self.missing else FOUND if self.finding else CLEAN

    @property
    def first(self) -> str:
        return f"step {self.steps[0]}: {self.finding}" if self.steps else ""

    def describe(self) -> dict[str, Any]:
        """Return the rule's entry in rules.json."""
        told = {ERROR: self.error, NOT_JUDGED: self.missing, FOUND: self.first, CLEAN: "nothing was found"}
        return describe_verdict(self.name, self.status, told[self.status], self.rule.parameters, self.steps)


def not_judge(name: str, reason: str) -> dict[str, Any]:
    """Build the entry of a rule that cannot be judged at all."""
    return describe_verdict(name, NOT_JUDGED, reason, {}, [])


def rank(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put entries into the order in which they are to be acted on."""
    return sorted(entries, key=find_place)


def find_place(entry: dict[str, Any]) -> float:
    order, name = list(ADVICE), entry["name"]
    is_initial = name == "PoorWeightInitialization" and entry["status"] == FOUND and entry["steps"][0] == 0
    return order.index("DeadRelu") - 0.5 if is_initial else order.index(name)


def find_stop(verdicts: Iterable[Verdict], names: Iterable[str]) -> dict[str, Any] | None:
    """Return what rule-stop.json says: the first of the named rules that found something."""
    wanted = set(names)
    for verdict in verdicts:
        if verdict.status == FOUND and verdict.name in wanted:
            return {"rule": verdict.name, "step": verdict.steps[0], "reason": verdict.first}
    return None
