"""The step that follows from each observation, case by case. Plain values in, one step out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.models.choosing import select_model
from chalicelib.pipeline.decisions import decide, explain_problems, find_due_notices
from chalicelib.runs.observation import (
    FOREIGN,
    Endpoint,
    Observation,
    Room,
    Training,
    Trial,
    Tuning,
)
from chalicelib.runs.steps import (
    Close,
    DeleteEndpoint,
    Deploy,
    EstimateCost,
    Finish,
    Hold,
    Inspect,
    Pin,
    RecordDeployment,
    RecordTuning,
    Reserve,
    Scale,
    Select,
    StartTraining,
    StartTuning,
    StopTraining,
    StopTuning,
    Wait,
    WriteReport,
)
from tests.chalicelib.requests.test_jobs import make_run
from tests.fakes.comparisons import build_comparison

RUN = make_run()
OWN, OLD = RUN.run_id, "whippet-dev-dogs-00000000"
PRICED, DEAR = replace(RUN, cost={"worst_usd": 2.0}), replace(RUN, cost={"problem": "x"})
NOW = datetime(2026, 11, 22, 0, 10, tzinfo=UTC)
CHECKED: dict[str, Any] = {"dataset": {"problems": []}}
TUNED = {"tuned": {"best": {"name": "t-001", "objective": 0.9, "hyperparameters": {"learning_rate": "1"}}}}
NO_MODEL = {"tuned": {**TUNED["tuned"], "model_data": None}}
DAY_AGO = NOW - timedelta(days=1, minutes=1)
DECIDED_YESTERDAY = {"at": DAY_AGO.isoformat()}
STOP = {"stop": {"by": "ann"}}
IN, TUNING_DONE = "input/", "tuning.json"
DECIDED = (IN, "dataset.json", TUNING_DONE, "decision.json")
ASKED = (*DECIDED, "deployment.json")
BEST = Trial("t-001", "Completed", {"learning_rate": "1"}, 0.9)
CUT = Trial("t-003", "Stopped", {"learning_rate": "2"}, 0.8)
BROKEN = Trial("t-002", "Failed", {}, None, "AlgorithmError: no space")


def see(*files: str, **seen: Any) -> Observation:
    return Observation(**{"run": RUN, "now": NOW, "files": frozenset(files), **seen})


def evaluate(value: float, error: float = 0.02) -> dict[str, Any]:
    return {"objective": {"value": value, "standard_error": error}}


def train(evaluation: dict[str, Any] | None, model: str | None = "s3://pictures/model.tar.gz") -> Training:
    return Training("Completed", evaluation=evaluation, name=RUN.training_job, model_data=model)


STEPS: list[tuple[str, Observation, type | tuple[type, str]]] = [
    ("nothing was done", see(), Pin),
    ("the input is there", see(IN), Inspect),
    ("the checks never end", replace(see(IN), now=NOW + timedelta(hours=3)), (Finish, "failed")),
    ("the dataset is sound", see(IN, "dataset.json", **CHECKED), EstimateCost),
    ("the cost is known", see(IN, "dataset.json", **CHECKED, run=PRICED), StartTuning),
    ("the month has room", see(IN, "dataset.json", **CHECKED, run=PRICED, room=Room()), Reserve),
    ("it is reserved", see(IN, "dataset.json", **CHECKED, run=PRICED, room=Room(granted=True)), StartTuning),
    ("the month is full", see(IN, "dataset.json", **CHECKED, run=PRICED, room=Room(obstacle="x")), Hold),
    ("no month has room", see(IN, "dataset.json", **CHECKED, run=PRICED, room=Room(refused="x")), (Finish, "rejected")),
    ("the budget cannot be kept", see(IN, "dataset.json", **CHECKED, run=DEAR), (Finish, "rejected")),
    (
        "the dataset has problems",
        see(IN, "dataset.json", dataset={"problems": [{"message": "x"}]}),
        (Finish, "rejected"),
    ),
    ("the recipe is broken", replace(see(), run=replace(RUN, recipe_error="x")), (Finish, "rejected")),
    ("the tuning runs", see(IN, **CHECKED, tuning=Tuning("InProgress")), Wait),
    ("the tuning stops", see(IN, **CHECKED, tuning=Tuning("Stopping")), Wait),
    ("the tuning is done", see(IN, **CHECKED, tuning=Tuning("Completed", "t-001", (BROKEN, BEST))), RecordTuning),
    ("the time limit stopped it", see(IN, **CHECKED, tuning=Tuning("Stopped", "t-001", (BEST,))), RecordTuning),
    ("no trial did", see(IN, **CHECKED, tuning=Tuning("Completed", None, (BROKEN,))), (Finish, "failed")),
    ("the best is a parent's trial", see(IN, **CHECKED, tuning=Tuning("Completed", "p-9", (BEST,))), RecordTuning),
    ("only a stopped one did", see(IN, **CHECKED, tuning=Tuning("Completed", None, (CUT, BROKEN))), RecordTuning),
    ("the tuning failed", see(IN, **CHECKED, tuning=Tuning("Failed", "t-001", (BEST,), "x")), (Finish, "failed")),
    ("the tuning was deleted", see(IN, **CHECKED, tuning=Tuning("Deleting")), (Finish, "failed")),
    ("the tuning is a stranger's", see(IN, **CHECKED, tuning=Tuning(FOREIGN)), (Finish, "failed")),
    ("the tuning is written down", see(IN, TUNING_DONE, **TUNED), StartTraining),
    ("the training runs", see(TUNING_DONE, **TUNED, training=Training("InProgress")), Wait),
    ("the training is done", see(TUNING_DONE, **TUNED, training=train(evaluate(1))), Select),
    ("no job left a model", see(TUNING_DONE, **NO_MODEL, training=train(evaluate(1), None)), (Finish, "failed")),
    ("the time limit stopped it", see(TUNING_DONE, **TUNED, training=Training("Stopped")), Select),
    ("the training failed", see(TUNING_DONE, **TUNED, training=Training("Failed", "x")), (Finish, "failed")),
    ("the training is a stranger's", see(TUNING_DONE, **TUNED, training=Training(FOREIGN)), (Finish, "failed")),
    ("there is no endpoint", see(*DECIDED), Deploy),
    ("the model is not good enough", see(*DECIDED, decision={"declined": "x"}), (Finish, "declined")),
    ("the endpoint serves another run", see(*DECIDED, endpoint=Endpoint("InService", OLD)), Deploy),
    ("a newer run is on it", see(*DECIDED, endpoint=Endpoint("InService", "n"), rival="n"), (Finish, "superseded")),
    (
        "it serves, and a newer run is on its way",
        see(*ASKED, endpoint=Endpoint("Updating", OWN, "n"), rival="n"),
        (Finish, "deployed"),
    ),
    (
        "the same, killed before that was written",
        see(*DECIDED, endpoint=Endpoint("Updating", OWN, "n"), rival="n"),
        RecordDeployment,
    ),
    ("another run is on its way", see(*DECIDED, endpoint=Endpoint("Updating", OLD, "older")), Wait),
    ("it is being deleted", see(*DECIDED, endpoint=Endpoint("Deleting", OLD)), Wait),
    ("asked, but killed before that was written", see(*DECIDED, endpoint=Endpoint("Creating", OWN)), RecordDeployment),
    ("the same with an update", see(*DECIDED, endpoint=Endpoint("Updating", OLD, OWN)), RecordDeployment),
    (
        "it is on its way for a day",
        see(*ASKED, asked_at=DAY_AGO, endpoint=Endpoint("Creating", OWN)),
        (Finish, "failed"),
    ),
    (
        "AWS went on with it lately",
        see(*ASKED, asked_at=DAY_AGO, endpoint=Endpoint("Creating", OWN, None, None, NOW)),
        Wait,
    ),
    (
        "others are on their way for a day",
        see(*DECIDED, decision=DECIDED_YESTERDAY, endpoint=Endpoint("Updating", OLD)),
        Wait,
    ),
    ("it is on its way", see(*ASKED, endpoint=Endpoint("Creating", OWN)), Wait),
    ("it serves", see(*ASKED, endpoint=Endpoint("InService", OWN)), (Finish, "deployed")),
    ("it went back, and is scaled as before", see(*ASKED, endpoint=Endpoint("InService", OLD)), Scale),
    ("it went back", see(*ASKED, "scaling.json", endpoint=Endpoint("InService", OLD)), (Finish, "failed")),
    ("it could not be created", see(*ASKED, endpoint=Endpoint("Failed", OWN)), (Finish, "failed")),
    ("it could not go back either", see(*ASKED, endpoint=Endpoint("UpdateRollbackFailed", OLD)), (Finish, "failed")),
    ("a person deleted it", see(*ASKED), (Finish, "failed")),
    ("an older one failed", see(*DECIDED, endpoint=Endpoint("Failed", OLD)), DeleteEndpoint),
    ("stopped before anything", see(**STOP), (Finish, "stopped")),
    ("stopped while tuning", see(IN, **CHECKED, **STOP, tuning=Tuning("InProgress")), StopTuning),
    ("the tuning is stopping", see(IN, **CHECKED, **STOP, tuning=Tuning("Stopping")), Wait),
    ("it has stopped", see(IN, **CHECKED, **STOP, tuning=Tuning("Stopped", "t-001", (BEST,))), (Finish, "stopped")),
    ("a stranger's is left alone", see(IN, **CHECKED, **STOP, tuning=Tuning(FOREIGN)), (Finish, "stopped")),
    ("stopped while training", see(TUNING_DONE, **TUNED, **STOP, training=Training("InProgress")), StopTraining),
    ("stopped before the training", see(TUNING_DONE, **TUNED, **STOP), (Finish, "stopped")),
    ("stopped before the deployment", see(*DECIDED, **STOP), (Finish, "stopped")),
    ("stopped too late to tell", see(*DECIDED, **STOP, endpoint=Endpoint("Creating", OWN)), RecordDeployment),
    ("stopped too late", see(*ASKED, **STOP, endpoint=Endpoint("Creating", OWN)), Wait),
]


@pytest.mark.parametrize(("seen", "expected"), [case[1:] for case in STEPS], ids=[case[0] for case in STEPS])
def test_the_next_step(seen: Observation, expected: type | tuple[type, str]) -> None:
    """Each state of the bucket and of SageMaker has one step; a run that ends without a model has a reason."""
    step = decide(seen)
    if isinstance(expected, tuple):
        assert isinstance(step, Finish)
        assert step.status == expected[1]
        assert bool(step.reason) == (step.status != "deployed")
    else:
        assert type(step) is expected


def ended(
    status: str, minutes: float = 0.0, *, sent: bool = True, told: bool = True, decided: bool = False, **seen: Any
) -> Observation:
    result = {"status": status, "reached": ["tuning"], "ended_at": (NOW - timedelta(minutes=minutes)).isoformat()}
    final = f"run-{status}"
    files = [
        "notices/tuning-started.event.json",
        "notices/tuning-started.message.json",
        *([f"notices/{final}.event.json"] if sent else []),
        f"notices/{final}.message.json",
        *(["decision.json", "notices/training-started.json"] if decided else []),
        *(["report.html"] if told else []),
    ]
    return see(*files, result=result, **seen)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (ended("failed"), Wait),
        (ended("failed", 6), Close),
        (ended("superseded", 6), Close),
        (ended("failed", decided=True), Close),
        (ended("failed", tuning=Tuning("InProgress")), StopTuning),
        (ended("failed", told=False), WriteReport),
        (ended("stopped", told=False, training=Training("InProgress")), StopTraining),
        (ended("failed", sent=False), Wait),
        (ended("failed", 60 * 25, sent=False), Close),
        (ended("stopped"), Wait),
        (ended("stopped", 6), Close),
        (ended("stopped", tuning=Tuning("InProgress")), StopTuning),
        (ended("stopped", training=Training("InProgress")), StopTraining),
        (ended("stopped", 6, tuning=Tuning(FOREIGN)), Close),
    ],
)
def test_an_ended_run_is_closed_when_nothing_is_left(seen: Observation, expected: type) -> None:
    """It has its report, and notices are tried for a day; a stopped run is watched until no older look can launch."""
    assert type(decide(seen)) is expected


@pytest.mark.parametrize(
    ("seen", "due"),
    [
        (see(), []),
        (see(tuning=Tuning("InProgress")), ["Tuning Started"]),
        (see("notices/tuning-started.json", tuning=Tuning("InProgress")), []),
        (see("notices/tuning-started.event.json", tuning=Tuning("InProgress")), ["Tuning Started"]),
        (see(tuning=Tuning(FOREIGN)), []),
        (ended("stopped", training=Training("Stopping")), ["Training Started"]),
        (see(*DECIDED, "notices/tuning-started.json"), ["Training Started"]),
        (see(*ASKED), ["Tuning Started", "Training Started", "Deployment Started"]),
        (ended("failed", sent=False), ["Run Failed"]),
    ],
)
def test_what_is_to_be_told(seen: Observation, due: list[str]) -> None:
    """Each stage that began, and the end, are announced once."""
    assert find_due_notices(seen) == due


@pytest.mark.parametrize(
    ("trial", "training", "ships"),
    [
        (evaluate(0.90), evaluate(0.95), "training"),
        (evaluate(0.90), evaluate(0.90), "training"),
        (evaluate(0.90), evaluate(0.89), "training"),
        (evaluate(0.90), evaluate(0.87), "trial"),
        (evaluate(0.90, 0.01), evaluate(0.87, 0.05), "training"),
        (evaluate(-0.2), evaluate(-0.3), "trial"),
        (evaluate(0.90), None, "trial"),
        (None, evaluate(0.87), "trial"),
        (None, evaluate(0.89), "training"),
    ],
)
def test_which_model_ships(trial: dict[str, Any] | None, training: dict[str, Any] | None, ships: str) -> None:
    """The training's ships unless it is worse by more than the larger standard error; both numbers are recorded."""
    decision = select_model(RUN, TUNED["tuned"], trial, train(training))
    assert decision is not None
    assert decision["ships"] == ships
    assert decision["training_job_name"] == (RUN.training_job if ships == "training" else "t-001")
    assert decision["objective"]["trial"] == (trial["objective"]["value"] if trial else 0.9)
    assert decision["reason"]


@pytest.mark.parametrize(
    ("refit", "told"),
    [
        (None, "the best on the validation images."),
        ({"done": True, "images": 360}, "trained again on all 360 training and validation images."),
        ({"done": False, "why": "no time was left"}, "not trained again on validation images too: no time was left."),
        ("broken", "the best on the validation images."),
    ],
)
def test_a_refit_is_told(refit: Any, told: str) -> None:
    """The reason says that what ships has learnt its validation images too, or why it has not."""
    comparison = {**build_comparison(run=None), "refit": refit}
    decision = select_model(RUN, TUNED["tuned"], evaluate(0.90), train(evaluate(0.95)), comparison)
    assert decision is not None
    assert decision["reason"].endswith(told)


@pytest.mark.parametrize(
    ("least", "accuracy", "told"), [(0.0, None, None), (0.8, 0.8, None), (0.8, 0.79, "0.7900"), (0.8, None, "unknown")]
)
def test_the_gate_declines_what_is_not_good_enough(least: float, accuracy: float | None, told: str | None) -> None:
    """The gate compares the accuracy of the model that would ship; an unmeasured model does not pass either."""
    run = replace(RUN, recipe={"gate": {"min_accuracy": least}})
    measured = {**evaluate(0.95), "valid": {} if accuracy is None else {"accuracy": accuracy}}
    decision = select_model(run, TUNED["tuned"], evaluate(0.90), train(measured))
    assert decision is not None
    declined = decision["declined"]
    assert (told is None) == (declined is None)
    assert declined is None or (told or "") in declined


@pytest.mark.parametrize(
    ("member", "measure"), [("min_macro_recall", "macro_recall"), ("min_class_recall", "lowest_recall")]
)
@pytest.mark.parametrize(("reached", "passes"), [(0.6, True), (0.5, True), (0.49, False), (None, False)])
def test_the_gate_may_ask_for_recall(member: str, measure: str, reached: float | None, passes: bool) -> None:
    """A model that is right on the large classes alone does not pass, however accurate it is."""
    run = replace(RUN, recipe={"gate": {"min_accuracy": 0.9, member: 0.5}})
    measured = {**evaluate(0.95), "valid": {"accuracy": 0.95, **({} if reached is None else {measure: reached})}}
    decision = select_model(run, TUNED["tuned"], evaluate(0.90), train(measured))
    assert decision is not None
    assert (decision["declined"] is None) == passes
    assert passes or f"gate.{member} is 0.5" in decision["declined"]


def test_many_problems_are_counted() -> None:
    """A reason stays readable, and dataset.json holds all of them."""
    reason = explain_problems([{"message": f"Problem {number}."} for number in range(9)])
    assert "Problem 4." in reason
    assert "Problem 5." not in reason
    assert "4 more" in reason
