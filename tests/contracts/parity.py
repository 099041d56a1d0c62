"""Answer the same images as training's evaluation and as the endpoint, with any network, and compare.

Weights are random, with statistics of batch normalisation that fit them and a last layer that is scaled until answers
are as sure and as doubtful as those of a trained network.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from chalicelib.recipes.architectures import find_input
from tests.support.image_kinds import draw, encode

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "training"), str(ROOT / "inference")]  # flat, as in the archives that are shipped
CLASSES = ("ant", "bee", "cat", "dog", "elk")
TEMPERATURE = 1.3
SPREAD = 2.0  # the standard deviation that an image's logits get
Answer = Callable[[bytes], Mapping[str, float]]


def draw_kinds() -> dict[str, bytes]:
    """Return a file of every mode and format that a dataset may hold, by its name."""
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = draw(301, 207, "I;16")
    twelve = Image.fromarray((np.asarray(grey) >> 4).astype(np.uint16))
    return {
        "photo.jpg": encode(draw(500, 375, seed=1), "JPEG"),
        "grey.jpg": encode(draw(375, 500, "L", seed=2), "JPEG"),
        "cmyk.jpg": encode(draw(300, 200, "CMYK", seed=3), "JPEG"),
        "turned.jpg": encode(draw(641, 333, seed=4), "JPEG", exif=turned),
        "16-bit.png": encode(grey),
        "12-bit.png": encode(twelve),
        "bilevel.png": encode(draw(301, 207, "1")),
        "palette.png": encode(draw(301, 207, "P"), transparency=3),
        "alpha.png": encode(draw(301, 207, "RGBA")),
        "grey-alpha.png": encode(draw(207, 301, "LA")),
        "photo.webp": encode(draw(640, 480, seed=5), "WEBP"),
        "tiny.bmp": encode(draw(20, 30), "BMP"),
        "animated.gif": encode(draw(301, 207, "P"), "GIF", save_all=True, append_images=[draw(301, 207, "P", seed=1)]),
        "scan.tiff": encode(draw(301, 207, seed=6), "TIFF"),
    }


def write_dataset(path: Path) -> dict[str, bytes]:
    """Write a zip whose test split holds an image of every kind. Return those by their names in the zip."""
    kinds = draw_kinds()
    test = {f"test/{CLASSES[place % len(CLASSES)]}/{name}": data for place, (name, data) in enumerate(kinds.items())}
    others = {
        f"{split}/{name}/{number}.png": encode(draw(64, 48, seed=100 * place + number + 50 * (split == "valid")))
        for split, count in (("train", 2), ("valid", 1))
        for place, name in enumerate(CLASSES)
        for number in range(count)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in {**others, **test}.items():
            opened.writestr(name, data)
    return test


def evaluate(folder: Path, architecture: str, image_size: int | None) -> dict[str, dict[str, float]]:
    """Judge the test images as a training does, and write its model to folder/model: class to probability, by image.

    image_size: None for the network's own.
    """
    from job.artifact import write_model
    from job.settings import Hyperparameters, Job, Places
    from judging.evaluate import describe_test, measure
    from learning.preparation import inputs_of, make_course, prepare
    from learning.records import describe_model

    write_dataset(folder / "input/dataset.zip")
    places = {name: folder / name for name in ("model", "output", "checkpoints")}
    job = Job("parity", Places(dataset=folder / "input", weights=None, code=ROOT / "training", **places), 1, 0)
    size = image_size or find_input(architecture).size
    setup = prepare(job, Hyperparameters(architecture=architecture, image_size=size, pretrained="none"))
    course, data = make_course(setup), setup.dataset
    settle(setup.network, setup.head, torch.cat([*inputs_of(setup, data.test)]), course.judge.answer)
    logits = course.judge.answer("test")
    test = describe_test(logits, data.test.labels, data.classes, TEMPERATURE)
    manifest = describe_model(setup, measure(logits, data.test.labels), test)
    write_model(places["model"], setup.network, manifest, ROOT / "training")
    likely = (logits.double() / TEMPERATURE).softmax(1).tolist()
    return {name: dict(zip(data.classes, row, strict=True)) for name, row in zip(data.test.names, likely, strict=True)}


def settle(network: nn.Module, head: nn.Module, inputs: torch.Tensor, answer: Callable[[str], torch.Tensor]) -> None:
    """Fit batch normalisation's statistics to random weights, and scale the last layer until answers are like real."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.momentum = None  # the mean of all batches
        layer.train()
    with torch.no_grad():
        if layers:
            network(inputs)
        network.eval()
        weights = next(iter(head.parameters()))
        if not weights.any():  # as torchvision begins a vision transformer's
            nn.init.normal_(weights)
        weights.mul_(SPREAD / float(answer("test").std(dim=1).mean().clamp(min=1e-6)))
    assert (
        SPREAD / 2 < float(answer("test").std(dim=1).mean()) < 2 * SPREAD
    )  # answers that are alike show no difference


def ask_torch(model: Path) -> tuple[str, Answer]:
    """Return an engine and a function that answers an image's bytes as the endpoint's four functions do."""
    import inference

    loaded = inference.model_fn(str(model))

    def answer(data: bytes) -> dict[str, float]:
        return read_probabilities(inference.predict_fn(inference.input_fn(data, "application/octet-stream"), loaded))

    return "torch", answer


def ask_onnx(model: Path) -> tuple[str, Answer]:
    """Return what an endpoint of the local cloud answers with: onnxruntime where torch agrees; else it says why not.

    Random weights of some deep networks are too sensitive to rounding for onnxruntime.
    """
    import inference
    from localcloud.serving.engine import choose_engine

    def predict(loaded: Any, data: bytes) -> Any:
        return inference.predict_fn(inference.input_fn(data, "application/octet-stream"), loaded)

    chosen = choose_engine(inference.model_fn(str(model)), predict, model, model.parent / "converted")
    return chosen.description, lambda data: read_probabilities(predict(chosen.model, data))


def read_probabilities(told: Mapping[str, Any]) -> dict[str, float]:
    return {each["class"]: each["probability"] for each in told["results"][0]["predictions"]}


def find_difference(judged: Mapping[str, Mapping[str, float]], images: Mapping[str, bytes], answer: Answer) -> float:
    """Return the largest difference of a probability between evaluation and endpoint, over all images and classes."""
    answers = {name: answer(data) for name, data in images.items()}
    assert answers.keys() == judged.keys()
    return max(abs(answers[name][label] - value) for name, row in judged.items() for label, value in row.items())


def compare(folder: Path, architecture: str, image_size: int | None) -> dict[str, float]:
    """Return how far evaluation and endpoint are apart with a network at a size: in torch, and in the local cloud."""
    judged = evaluate(folder, architecture, image_size)
    images = write_dataset(folder / "again.zip")
    asks = [ask(folder / "model") for ask in (ask_torch, ask_onnx)]
    return {engine: find_difference(judged, images, answer) for engine, answer in asks}
