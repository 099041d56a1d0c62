"""What is checked once the model is safe: labels of every split, and images of no class."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from images.assembly import Dataset
from judging.fixes import HEADS, find_fixes
from judging.foreign import settle_unknown
from judging.predictions import describe_predictions
from judging.unknown import METHODS, find_threshold, score
from learning.baseline import extract_unseen, make_probe
from learning.preparation import Course, Setup

from tests.training.profiled import set_up
from tests.training.tiny import make_zip, png, shapes_zip, smooth

COUNTS = {"train": 110, "valid": 36, "test": 6}


def write_files(setup: Setup, course: Course, folder: Path) -> None:
    """Write what a training leaves before its labels are checked."""
    folder.mkdir(exist_ok=True)
    logits = {name: course.judge.answer(name) for name in ("valid", "test")}
    (folder / "predictions.json").write_text(json.dumps(describe_predictions(setup.dataset, logits, 1.0)))
    setup.job.places.model.mkdir(exist_ok=True)
    (setup.job.places.model / "manifest.json").write_text(json.dumps({"format": 1, "unknown": None}))


def settle(setup: Setup, course: Course, folder: Path) -> None:
    manifest = setup.job.places.model / "manifest.json"
    settle_unknown(setup.dataset, folder, manifest, course.judge.answer, make_probe(setup))


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "dataset-fixes.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == HEADS
    return rows


def relabel(data: Dataset, numbers: list[int]) -> Dataset:
    """Return the dataset with other labels for some training images."""
    labels = data.train.labels.clone()
    labels[numbers] = (labels[numbers] + 1) % len(data.classes)
    return replace(data, train=replace(data.train, labels=labels))


def test_wrong_labels_of_the_training_split_are_listed(tmp_path: Path) -> None:
    """Each has its file, its label and the class that it looks like; hardly an image with a right label is named."""
    setup, course = set_up(tmp_path, shapes_zip(COUNTS), pretrained="none")
    wrong = list(range(0, 330, 33))
    setup = replace(setup, dataset=relabel(setup.dataset, wrong))
    folder = tmp_path / "job"
    write_files(setup, course, folder)
    find_fixes(setup.dataset, folder, None)
    rows = [row for row in read_rows(folder) if row["split"] == "train"]
    names = [setup.dataset.train.names[number] for number in wrong]
    found = [row for row in rows if row["file"] in names]
    assert len(found) >= 8
    assert len(rows) <= len(found) + 3
    assert all(row["file"].split("/")[1] == row["looks_like"] != row["label"] for row in found)
    assert {row["verdict"] for row in rows} == {"looks wrong"}
    told = json.loads((folder / "labels.json").read_text())
    assert (told["sure"], told["images"], told["features"], len(told["train"])) == (True, 330, "pixels", len(rows))


def test_a_refitted_model_keeps_the_threshold_of_before(tmp_path: Path) -> None:
    """Its own answers on validation images say nothing: it has learnt them. The test is answered by what ships."""
    setup, course = set_up(tmp_path, shapes_zip(COUNTS), pretrained="none")
    folder, manifest = tmp_path / "job", setup.job.places.model / "manifest.json"
    write_files(setup, course, folder)
    before = course.judge.answer
    settle_unknown(setup.dataset, folder, manifest, lambda name: before(name) - 99, None, before)
    rule, told = json.loads(manifest.read_text())["unknown"], json.loads((folder / "unknown.json").read_text())
    assert rule["threshold"] == find_threshold(score("max_logit", before("valid")))
    assert told["coverage"]["share"] == 0


def test_few_training_images_are_only_ranked(tmp_path: Path) -> None:
    """The list says of each that too little is known."""
    setup, course = set_up(tmp_path)
    write_files(setup, course, tmp_path / "job")
    find_fixes(setup.dataset, tmp_path / "job", None)
    assert not json.loads((tmp_path / "job/labels.json").read_text())["sure"] or not read_rows(tmp_path / "job")
    assert "looks wrong" not in {row["verdict"] for row in read_rows(tmp_path / "job") if row["split"] == "train"}


def make_patterns(counts: dict[str, int]) -> bytes:
    """Return a dataset of eight classes of soft colours."""
    files = {
        f"{split}/{label}/{number:03}.png": png(smooth(label, 16 + number % 7, 16 + number % 5))
        for split, count in counts.items()
        for label in range(8)
        for number in range(count)
    }
    return make_zip(files)


def test_the_rule_and_its_measures_are_written(tmp_path: Path) -> None:
    """The manifest gets the method and the threshold; unknown.json says what was measured, and that it flatters."""
    setup, course = set_up(tmp_path, make_patterns({"train": 8, "valid": 14, "test": 4}))
    write_files(setup, course, tmp_path / "job")
    settle(setup, course, tmp_path / "job")
    rule = json.loads((setup.job.places.model / "manifest.json").read_text())["unknown"]
    told = json.loads((tmp_path / "job/unknown.json").read_text())
    assert rule["method"] == told["method"] in METHODS
    assert (rule["images"], told["on"], told["seen"]) == (112, True, True)
    assert ("references" in rule) == (rule["method"] == "neighbours")
    assert 0 <= told["coverage"]["low"] <= told["coverage"]["share"] <= told["coverage"]["high"] <= 1
    assert 0 <= told["measured"]["fpr_at_95"] <= 1
    assert told["measured"]["held_out"] == 4


def test_with_few_validation_images_the_rule_is_off(tmp_path: Path) -> None:
    """unknown.json says why, and the manifest stays as it is."""
    setup, course = set_up(tmp_path)
    write_files(setup, course, tmp_path / "job")
    settle(setup, course, tmp_path / "job")
    told = json.loads((tmp_path / "job/unknown.json").read_text())
    assert (told["on"], told["reason"]) == (False, "there are 18 validation images, and 100 are needed")
    assert json.loads((setup.job.places.model / "manifest.json").read_text())["unknown"] is None


@pytest.mark.parametrize("depth", ["all", "head"])
def test_pretrained_features_have_not_seen_the_labels(tmp_path: Path, depth: str) -> None:
    """Under pretrained weights features come from the weights as loaded, whatever the training made of the network."""
    plain, _ = set_up(tmp_path / "plain")
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(plain.network.state_dict(), folder / "resnet18.pth")
    setup = replace(plain, pretrained="imagenet", chosen=replace(plain.chosen, pretrained="imagenet", fine_tune=depth))
    setup = replace(setup, job=replace(setup.job, places=replace(setup.job.places, weights=folder)))
    found = []
    for _ in range(2):
        [features] = extract_unseen(setup, setup.dataset.train) or []
        found.append(features)
        with torch.no_grad():
            for parameter in setup.network.parameters():
                parameter.mul_(0.5)
    assert torch.equal(*found)
    assert extract_unseen(plain, plain.dataset.train) is None
