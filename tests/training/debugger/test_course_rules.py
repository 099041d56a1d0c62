"""The rules on a training's course, on courses as plain data: what each finds, what it leaves alone, what it lacks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from debugger.course import Course, Facts, add_epoch, add_losses, begin_course
from debugger.course_rules import COURSE_RULES, measure_agreement
from debugger.verdicts import ADVICE, CourseVerdict, rank
from debugger.watch import make_debugger
from hypothesis import given, settings
from hypothesis import strategies as st
from judging.evaluate import measure

GOOD = ((40, 2, 1), (1, 41, 2), (0, 3, 39))
TRAIN = [1.0, 0.6, 0.4, 0.3, 0.25, 0.2, 0.17, 0.15, 0.14, 0.13]
VALID = [1.0, 0.7, 0.5, 0.42, 0.4, 0.39, 0.38, 0.385, 0.38, 0.381]


def make_course(train: Sequence[float] = TRAIN, valid: Sequence[float] = VALID, **members: Any) -> Course:
    """Return a healthy course of ten epochs, but for the members that are given.

    tempered: the validation losses at the best temperature, if they differ; noise: the standard error of their rises.
    """
    right = members.pop("right", [0.9] * len(train))
    records = [
        {"train": {"loss": one}, "valid": {"loss": two, "accuracy": three}}
        for one, two, three in zip(train, valid, right, strict=True)
    ]
    noise, tempered = members.pop("noise", 0.01), members.pop("tempered", valid)
    healthy: dict[str, Any] = {"counts": (100, 110, 90), "batch_size": 32, "steps": 10, "epochs": len(records)}
    healthy |= {
        "losses": [(0, 1.1), (10, 0.7), (20, 0.6), (30, 0.4)],
        "records": records,
        "matrix": GOOD,
        "tempered": [(loss, noise) for loss in tempered],
        "ended": True,
    }
    healthy |= {"baseline": {"better": 9, "worse": 5}}
    return Course(**healthy | members)


def judge(course: Course) -> dict[str, dict[str, Any]]:
    verdicts = [CourseVerdict(rule()) for rule in COURSE_RULES.values()]
    for verdict in verdicts:
        verdict.look(course)
    return {verdict.name: verdict.describe() for verdict in verdicts}


def list_found(course: Course) -> list[str]:
    found = rank(judge(course).values())
    return [entry["name"] for entry in found if entry["status"] == "IssuesFound"]


def test_a_healthy_course_has_no_issues() -> None:
    """A gap between the losses, and a validation loss that stands still at the end, are usual."""
    told = judge(make_course())
    assert {name for name, entry in told.items() if entry["status"] == "IssuesFound"} == set()
    assert {name for name, entry in told.items() if entry["status"] == "NotJudged"} == {"Overtraining"}


RISING = [1.0, 0.7, 0.5, 0.42, 0.45, 0.5, 0.6, 0.95, 1.1, 1.2]
FORGETTING = [1.0, 0.7, 0.5, 0.42, 0.4, 0.42, 0.5, 0.6, 0.63, 0.65]
SURER = {"valid": RISING, "tempered": VALID}
LONG = [*TRAIN, *[0.13] * 20]
CASES: list[tuple[str, dict[str, Any]]] = [
    ("LossNotDecreasing", {"train": [1.1, 1.099, 1.101, 1.098], "valid": [1.1] * 4}),
    ("LearningRateTooHigh", {"train": [4.0, 3.0, 1.0, 0.8], "valid": [1.1] * 4}),
    ("LearningRateTooHigh", {"train": [1.0, 0.6, 0.5, 0.9, 1.0, 1.0], "valid": [1.1, 0.7, 0.6, 1.0, 1.1, 1.1]}),
    ("TinyBatch", {"batch_size": 2}),
    ("ClassImbalance", {"counts": (950, 900, 50)}),
    ("ClassImbalance", {"counts": (200, 210, 60), "matrix": ((40, 2, 1), (1, 41, 2), (10, 9, 2))}),
    ("NearChance", {"matrix": ((20, 10, 12), (19, 11, 14), (20, 12, 10))}),
    ("NearChance", {"matrix": ((0, 0, 95), (0, 0, 3), (0, 0, 2))}),
    ("LearningRateTooHigh", {"train": [1.05, 1.14, 1.11, 1.1], "valid": [1.1] * 4}),
    ("Overfit", {"valid": RISING}),
    ("Overfit", {"valid": RISING, "tempered": FORGETTING}),
    ("Overtraining", {"train": LONG, "valid": [*VALID, *[0.38] * 20]}),
    ("Confusion", {"matrix": ((22, 20, 0), (19, 24, 1), (0, 1, 41))}),
    ("Confusion", {"matrix": ((25, 22, 14), (24, 23, 14), (4, 4, 53)), **SURER}),
    ("Overfit", {"matrix": ((25, 22, 14), (24, 23, 14), (4, 4, 53)), "valid": RISING}),
    ("WorseThanBaseline", {"baseline": {"better": 5, "worse": 30}}),
]


@pytest.mark.parametrize(("name", "members"), CASES)
def test_each_fault_is_found_first_by_its_rule(name: str, members: dict[str, Any]) -> None:
    """Other rules may find what the fault causes; the one that names the fault comes first, with its advice."""
    course = make_course(**members)
    assert list_found(course)[:1] == [name]
    assert judge(course)[name]["advice"] == ADVICE[name]


# Each was a false alarm in the benchmark's first collection of trainings, or a fault that was overlooked there.
STILL = {"train": LONG[:16], "valid": [*VALID, *[0.38] * 6]}
NEIGHBOURS = ((27, 10, 0), (2, 35, 1), (0, 1, 37))
FEW_MORE = {"baseline": {"better": 0, "worse": 5}}
NOISY = {"valid": RISING, "noise": 0.3}
ALL_ALIKE = {"matrix": ((25, 12, 10), (13, 24, 11), (11, 12, 24))}


USUAL = (STILL, {"matrix": NEIGHBOURS}, FEW_MORE, SURER, NOISY, ALL_ALIKE)


@pytest.mark.parametrize("members", USUAL)
def test_what_healthy_trainings_show_is_no_fault(members: dict[str, Any]) -> None:
    """Six tenths of the epochs that improve nothing, neighbours that are confused now and then, five images fewer.

    A loss that rises as answers become too sure, or within noise; classes that are all confused alike.
    """
    assert list_found(make_course(**members)) == []


def state(name: str, *steps: int) -> dict[str, Any]:
    return {"name": name, "status": "IssuesFound" if steps else "NoIssuesFound", "steps": list(steps)}


def test_poor_initial_weights_come_before_what_they_cause() -> None:
    """Weights out of scale kill units later on; units that are dead from the start keep weights from learning."""
    initial, dead = state("PoorWeightInitialization", 0), state("DeadRelu", 50)
    assert [each["name"] for each in rank([dead, initial])] == ["PoorWeightInitialization", "DeadRelu"]
    stuck, dead = state("PoorWeightInitialization", 70), state("DeadRelu", 80)
    assert [each["name"] for each in rank([stuck, dead])] == ["DeadRelu", "PoorWeightInitialization"]
    assert [each["name"] for each in rank([state(name) for name in reversed(ADVICE)])] == list(ADVICE)


LACKING: list[tuple[str, dict[str, Any], str]] = [
    ("NearChance", {"matrix": ((2, 1), (0, 3))}, "6 validation images are too few, 20 are needed"),
    ("Confusion", {"matrix": ()}, "no validation has answered"),
    ("Overfit", {"train": TRAIN[:4], "valid": VALID[:4]}, "4 epochs are too few, 5 are needed"),
    ("WorseThanBaseline", {"baseline": {}}, "there is no baseline"),
    ("ClassImbalance", {"counts": ()}, "the labels are not known"),
    ("NearChance", {"ended": False, "epochs": 20}, "the training has run 50% of its epochs"),
]


@pytest.mark.parametrize(("name", "members", "reason"), LACKING)
def test_what_cannot_be_judged_says_why(name: str, members: dict[str, Any], reason: str) -> None:
    """`NotJudged` is a status of its own: a rule that saw nothing has not found that all is well."""
    entry = judge(make_course(**members))[name]
    assert (entry["status"], entry["details"], entry["advice"]) == ("NotJudged", reason, None)


def test_a_short_training_is_judged_too() -> None:
    """Two epochs are enough to see that the loss has not fallen."""
    assert list_found(make_course([1.1, 1.1], [1.1, 1.1]))[0] == "LossNotDecreasing"
    assert "LossNotDecreasing" not in list_found(make_course([1.0, 0.7], [1.1, 0.8]))


def test_ninety_five_to_five_is_an_imbalance() -> None:
    """Nineteen to one is named from the labels alone, before any validation."""
    course = make_course(counts=(95, 5), matrix=())
    assert list_found(course)[0] == "ClassImbalance"
    told = judge(make_course(counts=(95, 5), matrix=(), classes=["cat", "lynx"]))["ClassImbalance"]["details"]
    assert "class 'cat' has 95 training images, class 'lynx' has 5" in told


LEANING = {"matrix": ((28, 11, 11), (17, 20, 13), (16, 14, 20))}


def test_answers_that_are_right_but_never_sure_are_near_chance() -> None:
    """A kappa of 0.18 is more than luck, unless no epoch's loss was lower than that of knowing nothing."""
    assert list_found(make_course(**LEANING)) == []
    assert list_found(make_course(**LEANING, valid=[1.1] * 10))[:1] == ["NearChance"]


@settings(deadline=None)
@given(st.integers(2, 6), st.data())
def test_agreement_by_chance_is_that_of_shuffled_answers(classes: int, data: st.DataObject) -> None:
    """Expectation and deviation are those that shuffling the answers gives."""
    row = st.lists(st.integers(0, 6), min_size=classes, max_size=classes)
    matrix = torch.tensor(data.draw(st.lists(row, min_size=classes, max_size=classes)))
    if matrix.sum() < 2:
        return
    labels, answers = (torch.repeat_interleave(torch.arange(classes), matrix.sum(side)) for side in (1, 0))
    generator = torch.Generator().manual_seed(0)
    shuffled = [int((labels == answers[torch.randperm(len(answers), generator=generator)]).sum()) for _ in range(400)]
    hits = torch.tensor(shuffled, dtype=torch.float64)
    right, expected, deviation, images = measure_agreement(matrix.tolist())
    assert (right, images) == (int(matrix.trace()), int(matrix.sum()))
    assert expected == pytest.approx(float(hits.mean()), abs=0.35 * max(1.0, deviation))
    assert deviation == pytest.approx(float(hits.std()), abs=0.25 * max(1.0, deviation))


def test_a_training_that_recovers_is_not_accused() -> None:
    """The last look counts: a validation loss that falls again clears Overfit."""
    verdict = CourseVerdict(COURSE_RULES["Overfit"]())
    verdict.look(make_course(valid=RISING))
    assert verdict.status == "IssuesFound"
    verdict.look(make_course([*TRAIN, 0.12], [*RISING, 0.5]))
    assert (verdict.status, verdict.steps) == ("NoIssuesFound", [])


def test_the_answers_of_the_best_epoch_are_kept() -> None:
    """Later epochs that are less accurate do not replace them."""
    logits = torch.eye(3)
    facts = Facts((5, 5, 5), torch.tensor([0, 1, 2]), lambda: logits, 8, 4, 3)
    course = begin_course(facts)
    add_epoch(course, {"valid": {"loss": 1.0, "accuracy": 1.0}}, facts)
    logits = torch.zeros(3, 3)
    add_epoch(course, {"valid": {"loss": 1.0, "accuracy": 0.3}}, facts)
    assert course.matrix == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert course.step == 8


def follow(*epochs: torch.Tensor) -> Course:
    """Return the course of epochs with these logits, whose right class is the first for nine images of ten."""
    labels = (torch.arange(100) % 10 == 0).long()
    answers: list[torch.Tensor] = []
    facts = Facts((100, 100), labels, lambda: answers[-1], 8, 4, len(epochs))
    course = begin_course(facts)
    for logits in epochs:
        answers.append(logits)
        add_epoch(course, {"valid": measure(logits, labels)}, facts)
    return course


ANSWERS = torch.tensor([[1.0, 0.0]]).repeat(100, 1)


def test_answers_that_become_too_sure_have_lost_nothing() -> None:
    """A temperature mends that: the loss doubles, and is the same at each epoch's best temperature."""
    course = follow(2 * ANSWERS, 8 * ANSWERS)
    raw, tempered = course.list_losses("valid"), [mean for mean, _ in course.tempered]
    assert raw[1] > 2 * raw[0]
    assert tempered[1] == pytest.approx(tempered[0], abs=1e-3)


def test_a_rise_of_the_loss_is_measured_image_by_image() -> None:
    """The lowest epoch is the reference. One image that alone becomes wrong leaves the mean rise within its error."""
    course, low = Course(), torch.full((100,), 0.2)
    one = low.clone()
    one[0] = 20.2
    for each in (low, one, low + 0.2):
        add_losses(course, each)
    assert course.tempered[0] == pytest.approx((0.2, 0.0))
    assert course.tempered[1] == pytest.approx((0.4, 0.2))
    assert course.tempered[2] == pytest.approx((0.4, 0.0), abs=1e-6)


def test_the_baseline_is_compared_after_the_training(tmp_path: Path) -> None:
    """rules.json says that there is none, until there is one."""
    debugger = make_debugger(tmp_path, tmp_path, say=lambda _: None)
    debugger.on_end()

    def read() -> str:
        rules = json.loads((tmp_path / "rules.json").read_text())["rules"]
        return str(next(rule["status"] for rule in rules if rule["name"] == "WorseThanBaseline"))

    assert read() == "NotJudged"
    debugger.compare({"better": 3, "worse": 40})
    assert read() == "IssuesFound"
    debugger.compare({"better": 0, "worse": 0})
    assert read() == "NoIssuesFound"
