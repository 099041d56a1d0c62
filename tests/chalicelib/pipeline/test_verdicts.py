"""The verdict's paragraph, built from a run's folder, and the report that holds it."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.pipeline.advance import advance
from chalicelib.pipeline.intake import look_at_dataset
from chalicelib.pipeline.verdicts import (
    Story,
    explain_failures,
    fill_report,
    find_overstatement,
    list_advice,
    list_typical,
    tell_verdict,
)
from tests.fakes.world import World
from tests.support.pictures import build_small_zip

TEST: dict[str, Any] = {
    "images": 200,
    "accuracy": 0.95,
    "macro_precision": 0.951,
    "macro_recall": 0.949,
    "classes": [{"class": "cat"}, {"class": "dog"}],
    "confusion": [[97, 7], [3, 93]],
}
DEPLOYED = {"dataset": "pets", "status": "deployed", "endpoint": "whippet-dev-pets-1", "metrics": {"test": TEST}}
TRIAL = {"name": "pets-001-0a", "objective": 0.99}
GOALS = {"training": 0.982, "trial": 0.994, "standard_error": 0.004}


def test_the_paragraph_answers_every_question() -> None:
    """How good, how sure, how many billable seconds, what was deployed, what to do next."""
    text = tell_verdict(Story(DEPLOYED, trials=[TRIAL, TRIAL], trainings=1, seconds=122))
    assert "95.0% of the test images are classified correctly, 190 of 200." in text
    assert "between 91.0% and 97.3% (95% confidence)" in text
    assert "Macro precision is 95.1% and macro recall is 94.9%." in text
    assert "2 trials and the final training took 122 billable seconds" in text
    assert "Deployed: the final training. The endpoint is whippet-dev-pets-1." in text
    assert "look at images of cat classified as dog (7 of 104 images), the worst confusion" in text


@pytest.mark.parametrize(
    ("confusion", "told"),
    [
        ([[0, 3, 0], [0, 31, 9], [0, 0, 40]], "astronaut classified as nine (3 of 3 images)"),
        ([[9, 1, 0], [5, 200, 0], [0, 0, 9]], "astronaut classified as nine (1 of 10 images)"),
        ([[9, 1, 0], [0, 9, 1], [0, 0, 9]], "astronaut classified as nine (1 of 10 images; 1 other pair is as bad)"),
    ],
)
def test_the_worst_confusion_is_the_worst_for_a_class(confusion: list[list[int]], told: str) -> None:
    """A class with no right answer comes first, then the share of a class's images; ties are counted."""
    test = {"images": 93, "accuracy": 0.8, "confusion": confusion}
    test["classes"] = [{"class": name} for name in ("astronaut", "nine", "two")]
    assert f"look at images of {told}" in tell_verdict(Story(DEPLOYED | {"metrics": {"test": test}}))


def test_the_shipped_model_is_named_with_its_score_and_the_others() -> None:
    """A trial has its number, the one that the page shows too."""
    other = {"name": "pets-002-0b", "objective": 0.8}
    decision = {"ships": "trial", "training_job_name": TRIAL["name"], "objective": GOALS}
    text = tell_verdict(Story(DEPLOYED, decision=decision, trials=[other, TRIAL]))
    assert "Deployed: trial 2. It scored 99.4%; the final training 98.2%." in text
    decision |= {"ships": "training", "training_job_name": "pets-train"}
    text = tell_verdict(Story(DEPLOYED, decision=decision, trials=[other, TRIAL]))
    assert "Deployed: the final training. It scored 98.2%; the best trial 99.4%." in text


def test_failures_are_told_by_their_most_common_reason() -> None:
    """SageMaker's wrapping is left out, and what has no reason only counts."""
    broken = "AlgorithmError: the weights of resnet18 cannot be fetched, exit code: 1"
    assert explain_failures([broken, broken]) == "2 of 2 trials: the weights of resnet18 cannot be fetched"
    assert explain_failures(["AlgorithmError: no space", broken, None, broken], "jobs").startswith("2 of 4 jobs: the w")
    assert explain_failures([None]) is None
    assert list_typical(["AlgorithmError: no space", broken, None, broken]) == [1, 3]  # whose log is the one to read


@pytest.mark.parametrize("status", ["rejected", "declined", "failed", "stopped", "superseded"])
def test_a_run_without_a_model_says_why_and_what_to_do(status: str) -> None:
    """No quality is claimed if nothing was measured."""
    text = tell_verdict(Story({"dataset": "pets", "status": status, "reason": "The zip is empty."}))
    assert text.startswith(f"Nothing was deployed. The run ended {status}: The zip is empty.")
    assert "What to do next:" in text


@pytest.mark.parametrize(("best", "told"), [("9.8", True), ("0.102", True), ("1.0", False)])
def test_a_best_value_at_the_edge_of_its_range_is_pointed_out(best: str, told: bool) -> None:
    """Edges are those of the logarithmic scale that was searched."""
    recipe = {"ranges": {"learning_rate": {"min": 0.1, "max": 10.0}, "batch_size": [16, 32]}}
    text = tell_verdict(Story(DEPLOYED, recipe=recipe, best={"learning_rate": best, "batch_size": "16"}))
    assert ("widen the range of learning_rate" in text) == told


@pytest.mark.parametrize(("wish", "told"), [("auto", True), ("none", False)])
def test_training_from_scratch_is_pointed_out_unless_it_was_wished(wish: str, told: bool) -> None:
    """Pretrained weights promise more than anything else."""
    text = tell_verdict(Story(DEPLOYED, recipe={"pretrained": wish}, evaluation={"pretrained": "none"}))
    assert ("pretrained weights" in text) == told


def test_the_paragraph_takes_the_drafts_place_in_the_page() -> None:
    """The text between the marks is replaced, and the rest of the page is kept byte for byte."""
    page = b"<p>\xff<!-- verdict -->draft<!-- /verdict --></p>"
    filled = fill_report(page, Story({"dataset": "<b>", "status": "stopped", "reason": "<script>"}))
    assert filled.startswith(b"<p>\xff<!-- verdict -->Nothing was deployed")
    assert b"&lt;script&gt;" in filled
    assert filled.endswith(b"<!-- /verdict --></p>")
    assert b"draft" not in filled


def test_a_model_that_beats_no_floor_is_told_so_once() -> None:
    """The paragraph begins with it; the reason that comes later has the same sentence."""
    floor = "The model is not shown to be better than the most frequent class."
    result = {"dataset": "d", "status": "declined", "reason": f"Nothing goes live. {floor}"}
    told = tell_verdict(Story(result, decision={"promotion": {"floor": {"sentence": floor}}}))
    assert told.startswith(floor)
    assert told.count(floor) == 1


def test_the_reports_next_step_is_the_pages() -> None:
    """What the training alone advised is replaced: one run has one next step."""
    page = b"<!-- verdict --><!-- /verdict --><dd><!-- next -->Use it.<!-- /next --></dd>"
    story = Story(DEPLOYED)
    told = "; ".join(list_advice(story))
    assert f"<!-- next -->{told[0].upper()}{told[1:]}.<!-- /next -->".encode() in fill_report(page, story)


def test_the_page_says_which_run_it_is_about_and_leads_back() -> None:
    """Dataset, date and duration, which the training does not know, and the run's place on the page if known."""
    result = {"dataset": "pets & co", "status": "stopped", "run_id": "whippet-dev-pets-1", "seconds": 754.2}
    result |= {"ended_at": "2026-11-22T10:05:00+00:00"}
    page = b"<p><!-- run --></p><!-- verdict --><!-- /verdict -->"
    plain = fill_report(page, Story(result)).decode()
    assert plain.startswith("<p>Dataset pets &amp; co · 22 November 2026, 10:05 UTC · took 13 min</p>")
    linked = fill_report(page, Story(result, page_url="http://127.0.0.1:8000/")).decode()
    assert '<a href="http://127.0.0.1:8000/#/runs/whippet-dev-pets-1">this run on the page</a></p>' in linked


@pytest.mark.parametrize("page", [None, b"", b"no marks"])
def test_without_a_page_the_paragraph_is_the_report(page: bytes | None) -> None:
    """There is a report even if the job could not draw one."""
    filled = fill_report(page, Story({"dataset": "<pets>", "status": "stopped", "reason": None})).decode()
    assert filled.startswith("<!doctype html>")
    assert "&lt;pets&gt;: stopped" in filled
    assert "Nothing was deployed" in filled


def test_the_report_of_a_failed_run_ends_with_its_log(world: World) -> None:
    """It leads with the real reason and shows the last 50 lines of the job that failed."""
    world.trial_scores = [None, None]
    world.upload("dogs.zip", build_small_zip())
    run_id = look_at_dataset("dogs", world.services()) or ""
    world.logs.lines = {f"{run_id}-001-0123abcd": [f"<line {number}>" for number in range(60)]}
    for _ in range(3):
        world.end_everything()
        advance(run_id, world.services())
    page = world.s3.versions[f"runs/{run_id}/report.html"][-1].body.decode()
    assert "1 of 2 trials: trial 1 broke" in page
    assert "&lt;line 59&gt;" in page
    assert "&lt;line 9&gt;" not in page


def test_the_runs_end_puts_the_jobs_report_into_the_runs_folder(world: World) -> None:
    """The verdict is in it, it is written once, and the first one stands; the list of wrong labels is beside it."""
    world.upload("dogs.zip", build_small_zip())
    run_id = look_at_dataset("dogs", world.services()) or ""
    drawn = b"<h1>Drawn</h1><!-- verdict --><!-- /verdict -->"
    world.s3.store(f"runs/{run_id}/jobs/{run_id}-train/report.html", drawn)
    world.s3.store(f"runs/{run_id}/jobs/{run_id}-train/dataset-fixes.csv", b"file,split\n")
    for _ in range(3):
        world.end_everything()
        advance(run_id, world.services())
    [fixes] = world.s3.versions[f"runs/{run_id}/dataset-fixes.csv"]
    assert fixes.body == b"file,split\n"
    [report] = world.s3.versions[f"runs/{run_id}/report.html"]
    assert report.body.startswith(b"<h1>Drawn</h1><!-- verdict -->95.0% of the test images are classified correctly")
    assert world.list_keys("active/") == []


def test_a_rejected_dataset_has_a_report_too(world: World) -> None:
    """It says why and what to do."""
    world.upload("dogs.zip", b"no zip")
    run_id = look_at_dataset("dogs", world.services()) or ""
    assert b"fix the dataset" in world.s3.versions[f"runs/{run_id}/report.html"][-1].body


@pytest.mark.parametrize(
    ("ratio", "objective", "told"),
    [(10.0, "valid:macro_f1", True), (10.0, "valid:score", False), (2.0, "valid:macro_f1", False)],
)
def test_a_selection_by_macro_f1_is_told_where_classes_differ_in_size(ratio: float, objective: str, told: bool) -> None:
    """A reader who sees an accuracy would think that it was maximised."""
    evaluation = {"objective": {"name": objective}, "choices": {"imbalance": {"ratio": ratio}}}
    text = tell_verdict(Story(DEPLOYED, evaluation=evaluation))
    assert ("selected by macro F1" in text) == told
    assert ("10.0 times the training images" in text) == told


@pytest.mark.parametrize(("trials", "most"), [(2, 0.0113), (6, 0.0254), (12, 0.0326)])
def test_what_selection_overstates_is_told(trials: int, most: float) -> None:
    """The expected maximum of so many normal values, in standard errors: 0.56, 1.27 and 1.63 of them."""
    objective = {"name": "valid:score", "value": 0.9, "standard_error": 0.02, "images": 120}
    told = [{"objective": 0.9}] * trials
    text = tell_verdict(Story(DEPLOYED, trials=told, evaluation={"objective": objective}))
    assert find_overstatement(0.02, trials) == pytest.approx(most, abs=5e-4)
    assert f"among {trials} trials on 120 images: its valid:score there, 90.0%, overstates by up to" in text
    folds = {"objective": objective, "selection": {"folds": 5}}
    assert "120 images by 5-fold cross-validation" in tell_verdict(Story(DEPLOYED, trials=told, evaluation=folds))
    assert "overstates" not in tell_verdict(Story(DEPLOYED, trials=told[:1], evaluation=folds))


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        ({"spent_usd": 0.1, "expected_usd": 0.2, "worst_usd": 2.4}, "seconds, $0.10 (expected $0.20, at most $2.40)."),
        (
            {"spent_usd": 0.1, "expected_usd": 0.2, "worst_usd": 2.4, "billed": False},
            "seconds, free here; on AWS about $0.10 (expected $0.20).",
        ),
        ({"spent_usd": 0.001, "billed": False}, "seconds, free here; on AWS under $0.01."),
        ({"spent_usd": None}, "seconds."),
    ],
)
def test_a_price_says_whose_it_is(cost: dict[str, Any], told: str) -> None:
    """Where nobody is charged it is AWS's, and what a run may cost at most is nobody's concern."""
    assert f"billable {told}" in tell_verdict(Story(DEPLOYED, seconds=122, cost=cost))


def test_a_failed_runs_report_begins_with_the_reason_and_what_to_do() -> None:
    """Before what it cost. What to do is a command, and times are written as people write them."""
    result = {"dataset": "pets", "run_id": "whippet-dev-pets-1", "status": "failed", "reason": "2 of 2 trials: no disk"}
    result |= {"started_at": "2026-11-22T10:05:00.005+00:00"}
    page = fill_report(None, Story(result, seconds=7, log=["first", "<last>"])).decode()
    first = (
        "Nothing was deployed. The run ended failed: 2 of 2 trials: no disk. What to do next: fix what the reason names"
    )
    assert f"<!-- verdict -->{first}, then try again (whippet retry whippet-dev-pets-1). 0 trials took" in page
    assert "<dd>22 November 2026, 10:05 UTC</dd>" in page
    assert "whippet run whippet-dev-pets-1 --logs --lines 10000" in page
    assert "first\n&lt;last&gt;" in page
