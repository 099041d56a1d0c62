"""Tests of heads that are judged by cross-validation: which trainings, by what, and what the evaluation says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judging.settling.selection import FoldJudge, can_fold, judge_by_folds, settle_penalty
from learning.preparation import make_course

from tests.training.learning.test_network import fill_channel
from tests.training.profiled import set_up
from tests.training.tiny import Runner

CHOSEN = {"image_size": 16, "batch_size": 8, "epochs": 3, "pretrained": "imagenet", "profile": False}


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_channel(tmp_path_factory.mktemp("weights"))


def prepare_head(tmp_path: Path, **chosen: Any) -> Any:
    """Return a setup whose backbone counts as pretrained, and the course that is judged by folds."""
    setup, _ = set_up(tmp_path, profile=False, fine_tune="head", **chosen)
    setup = settle_penalty(replace(setup, pretrained="imagenet", chosen=replace(setup.chosen, fine_tune="head")))
    return setup, judge_by_folds(setup, make_course(setup))


def test_a_head_is_judged_by_all_images_that_it_has_not_seen(tmp_path: Path) -> None:
    """The objective is measured on train and validation together, and its standard error is that of so many images."""
    setup, course = prepare_head(tmp_path)
    assert isinstance(course.judge, FoldJudge)
    found = [course.validate() for _ in range(3)]
    chosen = course.judge.describe_selection()
    assert chosen is not None
    assert chosen["images"] == len(setup.dataset.train) + len(setup.dataset.valid) == 90
    assert chosen["value"] == max(each["score"] for each in found)
    assert course.judge.logits.shape == (len(setup.dataset.valid), 3)
    assert setup.choices["head_penalty"]["taken"] == setup.penalty


def test_a_resumed_training_is_judged_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    """The folds are trained again up to where the training goes on."""
    _, whole = prepare_head(tmp_path)
    _, resumed = prepare_head(tmp_path)
    fitted, first, second = whole.validate(), whole.validate(), whole.validate()
    resumed.judge.catch_up(1)
    assert resumed.validate() == second
    assert fitted != first != second


@pytest.mark.parametrize(("pretrained", "depth", "folded"), [("none", "all", False), ("imagenet", "all", False)])
def test_deeper_trainings_keep_their_split(tmp_path: Path, pretrained: str, depth: str, folded: bool) -> None:
    """Only a head can be trained five more times for nearly nothing."""
    setup, course = set_up(tmp_path, profile=False)
    setup = replace(setup, pretrained=pretrained, chosen=replace(setup.chosen, fine_tune=depth))
    assert isinstance(judge_by_folds(setup, course).judge, FoldJudge) == folded
    assert can_fold(setup) == (pretrained == "imagenet")


def test_a_job_tells_what_judged_it(runner: Runner, channel: Path) -> None:
    """Log and evaluation hold the cross-validated objective, and what the split alone says."""
    options = {"pretrained": "imagenet", "fine_tune": "head"}
    code, log = runner.run(options, SM_CHANNEL_WEIGHTS=str(channel))
    assert code == 0, log
    assert "judged by 5-fold cross-validation" in log
    found = runner.evaluation()
    assert found["selection"]["by"] == "cross_validation"
    assert found["objective"]["value"] == found["selection"]["value"]
    assert found["objective"]["images"] == found["selection"]["images"] > found["valid"]["images"]
    above = found["selection"]["validation"] - found["selection"]["value"]
    assert found["selection"]["validation_is_higher_by"] == pytest.approx(above)
    last = [line for line in log.splitlines() if line.startswith("best epoch=")][-1]
    assert f"valid:score={found['objective']['value']:.6f}" in last
