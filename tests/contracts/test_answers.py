"""The endpoint answers what the training's evaluation and its report say of the same images."""

from __future__ import annotations

import json
import math
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.tiny import ROOT, Runner, Template, shapes_zip

sys.path += [str(ROOT / "training"), str(ROOT / "inference")]

import inference


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A profiled job with enough images for validation that a temperature may be chosen."""
    folder = tmp_path_factory.mktemp("answers")
    (folder / "dataset.zip").write_bytes(shapes_zip({"train": 16, "valid": 24, "test": 8}))
    template = Template()
    runner = Runner(folder, folder / "dataset.zip", template)
    code, log = runner.run({"profile": "true", "image_size": "32", "epochs": "4"}, WHIPPET_INSTALL="0")
    assert code == 0, log
    yield runner
    template.close()


def test_the_endpoint_gives_the_probabilities_of_the_report(trained: Runner) -> None:
    """The prediction of each test image and its probability, at the temperature that the manifest holds, to 0.001."""
    told = json.loads((trained.folder / "predictions.json").read_text())
    classifier = inference.model_fn(str(trained.model))
    assert classifier.manifest["temperature"] == told["temperature"]
    calibration = trained.evaluation()["test"]["calibration"]
    assert calibration["temperature"] == told["temperature"]
    columns = told["test"]
    with zipfile.ZipFile(trained.channel / "dataset.zip") as archive:
        for name, predicted, probability in zip(
            columns["files"], columns["predicted"], columns["probability"], strict=True
        ):
            image = inference.input_fn(archive.read(name), "image/png")
            best = inference.predict_fn(image, classifier)["results"][0]["predictions"][0]
            assert best["class"] == told["classes"][predicted]
            assert best["probability"] == pytest.approx(probability, abs=1e-3)


def test_an_older_model_without_a_temperature_is_served_as_it_is(trained: Runner, tmp_path: Path) -> None:
    """A manifest from before divides by nothing; one with a temperature of 2 takes the logarithms' half."""
    answers = []
    for temperature in (None, 1.0, 2.0):
        folder = tmp_path / str(temperature)
        shutil.copytree(trained.model, folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["temperature"]
        manifest |= {"temperature": temperature} if temperature else {}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        classifier = inference.model_fn(str(folder))
        with zipfile.ZipFile(trained.channel / "dataset.zip") as archive:
            image = inference.input_fn(archive.read("test/disc/000.png"), "image/png")
        rows = inference.predict_fn(image, classifier)["results"][0]["predictions"]
        answers.append({row["class"]: row["probability"] for row in rows})
    older, plain, halved = answers
    assert older == plain
    (first, one), (second, other) = list(plain.items())[:2]
    ratio = math.log(one / other)
    assert math.log(halved[first] / halved[second]) == pytest.approx(ratio / 2, abs=0.01)
