"""Explanations: the map points at what decided, in every family of networks, and costs at most two predictions."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from explaining import Explainer, make_explainer, paint
from PIL import Image
from torch import nn

from inference import Classifier, input_fn, model_fn, output_fn, predict_fn
from tests.support.image_kinds import draw, encode
from tests.support.model_archives import INFERENCE, write_model

PHOTO = encode(draw(500, 375), "JPEG")
MOST = 3.0  # times a prediction
# A network of each way in which maps are found, and how: its own maps, the last layer's weights, the gradient.
FAMILIES = {
    "squeezenet1_1": (96, "maps"),
    "resnet18": (128, "linear"),
    "shufflenet_v2_x0_5": (128, "linear"),
    "densenet121": (128, "linear"),
    "googlenet": (128, "linear"),
    "mobilenet_v3_small": (128, "gradient"),
    "resnet50": (32, "gradient"),
    "alexnet": (96, "gradient"),
    "convnext_tiny": (64, "gradient"),
    "swin_v2_t": (64, "gradient"),
    "vit_b_32": (224, "gradient"),
}


class Corner(nn.Module):
    """A network whose first class is what is bright, so that its maps are known."""

    def __init__(self, *, pooled: bool) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 2, 8, 8)
        nn.init.constant_(self.look.weight, 1.0)
        nn.init.zeros_(self.look.bias)
        self.pool, self.flat, self.head = nn.AdaptiveAvgPool2d(1 if pooled else 2), nn.Flatten(), nn.LazyLinear(2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.flat(self.pool(self.look(inputs))))


def make_bright(row: int, column: int) -> torch.Tensor:
    """An image (1, 3, 64, 64) that is bright in one of its 8 x 8 fields."""
    inputs = torch.zeros(1, 3, 64, 64)
    inputs[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1.0
    return inputs


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5), (7, 7)])
@pytest.mark.parametrize("pooled", [True, False])
def test_a_map_points_at_what_decided(pooled: bool, row: int, column: int) -> None:
    """In closed form and by gradient alike: the field that made the class is 1, and all others are 0."""
    network, inputs = Corner(pooled=pooled), make_bright(row, column)
    network(inputs)
    nn.init.constant_(network.head.weight, 0.7)  # whose logits are no means of the maps
    explainer = Explainer(network, torch.rand(1, 3, 64, 64))
    assert explainer.place.how == ("linear" if pooled else "gradient")
    _, heat = explainer.explain(inputs, label=0)
    assert heat.shape == (8, 8)
    assert heat[row, column] == 1.0
    assert heat.sum() == 1.0


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family_has_maps_and_the_same_logits(architecture: str) -> None:
    """A map of at least four places a side is found, and explaining does not change what is answered."""
    size, how = FAMILIES[architecture]
    torch.manual_seed(0)
    network = torchvision.models.get_model(architecture, num_classes=3).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and layer.out_features == 3:
            nn.init.normal_(layer.weight, std=0.02)  # transformers begin with none
    explainer = make_explainer(network, torch.zeros(1, 3, size, size))
    assert explainer is not None
    assert explainer.place.how == how
    inputs = torch.rand(1, 3, size, size)
    with torch.no_grad():
        expected = network(inputs)[0]
    logits, heat = explainer.explain(inputs, label=1)
    assert torch.allclose(logits, expected, atol=1e-4)
    assert min(heat.shape) >= 4
    assert float(heat.min()) >= 0.0
    assert float(heat.max()) in (0.0, 1.0)


def test_maps_follow_the_class() -> None:
    """The map of another class is another map."""
    torch.manual_seed(0)
    network = torchvision.models.get_model("shufflenet_v2_x0_5", num_classes=3)
    explainer, inputs = make_explainer(network, torch.zeros(1, 3, 128, 128)), torch.rand(1, 3, 128, 128)
    assert explainer is not None
    assert not torch.equal(explainer.explain(inputs, 0)[1], explainer.explain(inputs, 1)[1])


def ask(classifier: Classifier, content_type: str) -> dict[str, Any]:
    answer, _ = output_fn(predict_fn(input_fn(PHOTO, content_type), classifier), "application/json")
    result: dict[str, Any] = json.loads(answer)["results"][0]
    return result


def test_an_explanation_is_a_png_beside_the_same_predictions(model_dir: Path) -> None:
    """Only where the content type asks for it; of the best class, as large as people can see."""
    classifier = model_fn(str(model_dir))
    plain, explained = ask(classifier, "image/jpeg"), ask(classifier, "image/jpeg; Explain=True")
    explanation = explained.pop("explanation")
    assert explained == plain
    assert explanation["class"] == plain["predictions"][0]["class"]
    kind, _, data = explanation["image"].partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (kind, picture.format, picture.size) == ("data:image/png;base64", "PNG", (112, 112))


def test_a_network_without_places_is_answered_without_a_map(tmp_path: Path) -> None:
    """An image too small for a map is classified all the same."""
    folder = write_model(tmp_path / "m", architecture="shufflenet_v2_x0_5", image_size=4, resize_size=4)
    result = ask(model_fn(str(folder)), "image/jpeg;explain=true")
    assert result["explanation"] is None
    assert len(result["predictions"]) == 3


def test_others_may_predict_meanwhile(model_dir: Path) -> None:
    """Predictions on other threads neither disturb maps nor are disturbed by them."""
    classifier = model_fn(str(model_dir))
    plain, explained = ask(classifier, "image/jpeg"), ask(classifier, "image/jpeg; explain=true")
    found: list[bool] = []

    def repeat(content_type: str, expected: dict[str, Any]) -> None:
        found.extend(ask(classifier, content_type) == expected for _ in range(8))

    kinds = {"image/jpeg": plain, "image/png; explain=true": explained}
    threads = [threading.Thread(target=repeat, args=pair) for pair in kinds.items() for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 32


@pytest.mark.parametrize(("architecture", "image_size"), [("resnet18", 128), ("mobilenet_v3_small", 96)])
def test_an_explanation_takes_at_most_three_predictions(tmp_path: Path, architecture: str, image_size: int) -> None:
    """From the bytes of a photo to the answer's bytes, the best of several."""
    folder = write_model(tmp_path / "m", architecture=architecture, image_size=image_size, resize_size=image_size + 16)
    classifier = model_fn(str(folder))
    ask(classifier, "image/jpeg; explain=true")
    times = {kind: [measure(classifier, kind) for _ in range(12)] for kind in ("image/jpeg", "image/jpeg;explain=true")}
    assert min(times["image/jpeg;explain=true"]) <= MOST * min(times["image/jpeg"])


def measure(classifier: Classifier, content_type: str) -> float:
    begun = time.perf_counter()
    ask(classifier, content_type)
    return time.perf_counter() - begun


def test_what_mattered_is_bright() -> None:
    """Bright stands for much, for those too who see no colours."""
    heat = torch.zeros(4, 4)
    heat[0, 0] = 1.0
    for level in (0, 80, 160):
        grey = np.asarray(paint(Image.new("RGB", (64, 64), (level,) * 3), heat).convert("L"), dtype=float)
        assert grey[:8, :8].mean() > grey[40:, 40:].mean()


def test_both_units_explain_alike() -> None:
    """The report's maps and the endpoint's come from the same text."""
    other = INFERENCE.parent / "training/judging/explaining.py"
    assert other.read_text(encoding="utf-8") == (INFERENCE / "explaining.py").read_text(encoding="utf-8")
