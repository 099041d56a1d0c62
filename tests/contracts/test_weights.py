"""Pretrained weights, the inputs they were trained on, and the networks that take them: torchvision is the judge."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image

from chalicelib.recipes.architectures import find_input
from chalicelib.recipes.documents import recipe_schema
from tests.support.image_kinds import draw
from tests.training.tiny import smooth

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "training"), str(ROOT / "inference")]

import preprocessing  # noqa: E402
from images.pixels import Preprocessing, crop_centre, normalise, to_square  # noqa: E402
from job.artifact import write_model  # noqa: E402
from job.settings import TrainingError  # noqa: E402
from learning.model import build_network, choose_options, find_tail, load_weights  # noqa: E402
from learning.weights import choose_preprocessing, find_entry, read_state  # noqa: E402

import inference  # noqa: E402 - the folders are on the path only now

ARCHITECTURES = torchvision.models.list_models(module=torchvision.models)
# One of each way in which torchvision prepares images for a network's weights, and each of its exceptions.
PREPARED = (
    "resnet18",
    "convnext_tiny",
    "convnext_small",
    "efficientnet_b3",
    "efficientnet_v2_l",
    "inception_v3",
    "googlenet",
    "maxvit_t",
    "swin_s",
    "swin_v2_t",
    "vit_l_16",
    "vit_h_14",
    "regnet_y_128gf",
)


def prepare_as_training(image: Image.Image, inputs: Preprocessing) -> torch.Tensor:
    """The input on which training's evaluation judges an image, from its cache."""
    square = torch.from_numpy(to_square(image, inputs.resize_size, inputs.interpolation).copy())
    return normalise(crop_centre(square[None], inputs.image_size), inputs.mean, inputs.std)[0]


def prepare_as_endpoint(image: Image.Image, inputs: Preprocessing) -> torch.Tensor:
    names = ("resize_size", "image_size", "mean", "std", "interpolation")
    return torch.from_numpy(preprocessing.make_array(image, **{name: getattr(inputs, name) for name in names}))


def find_inputs(architecture: str) -> Preprocessing:
    """The inputs of a network that begins with ImageNet's weights, at its own size."""
    return choose_preprocessing(architecture, find_input(architecture).size, pretrained=True)


@pytest.mark.parametrize("architecture", PREPARED)
def test_inputs_are_those_that_the_weights_were_trained_on(architecture: str) -> None:
    """The inputs are torchvision's own for these weights, to a grey level, or to a pixel where margins are odd."""
    image, inputs = smooth(3, 640, 480), find_inputs(architecture)
    expected = find_entry(architecture).transforms()(image)
    if architecture in ("googlenet", "inception_v3"):  # whose networks convert ImageNet's normalisation to halves
        expected = expected * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        expected = (expected + torch.tensor([0.485, 0.456, 0.406])[:, None, None] - 0.5) / 0.5
    ours = prepare_as_training(image, inputs)
    assert ours.shape == expected.shape
    assert float((ours - expected).abs().mean()) * 255 * min(inputs.std) < 1.5
    assert inputs.interpolation == find_entry(architecture).transforms().interpolation.value


@pytest.mark.parametrize("size", [(500, 375), (375, 501), (641, 333)])
@pytest.mark.parametrize("architecture", PREPARED)
def test_the_endpoint_sees_what_training_judged(architecture: str, size: tuple[int, int]) -> None:
    """With each family's preprocessing, bit by bit."""
    image, inputs = draw(*size).convert("RGB"), find_inputs(architecture)
    assert torch.equal(prepare_as_endpoint(image, inputs), prepare_as_training(image, inputs))


@pytest.mark.parametrize("architecture", ["googlenet", "inception_v3"])
def test_halves_are_what_transform_input_makes(architecture: str) -> None:
    """torchvision sets `transform_input` with these weights: without it our inputs give the same answers."""
    torch.manual_seed(0)
    network = build_network(architecture, 3).eval()
    pixels = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    inputs = choose_preprocessing(architecture, 96, pretrained=True)
    with torch.inference_mode():
        ours = network(normalise(pixels, inputs.mean, inputs.std))
        network.transform_input = True
        assert torch.allclose(network(normalise(pixels)), ours, atol=1e-4)


def test_a_network_from_scratch_is_prepared_for_as_ever() -> None:
    """Without weights there is nothing that the inputs belong to: ImageNet's normalisation, bilinear."""
    assert choose_preprocessing("efficientnet_v2_l", 224, pretrained=False) == Preprocessing(224, 256)
    assert choose_preprocessing("resnet18", 224, pretrained=True) == Preprocessing(224, 256)


# Regnets compute their widths with tensors, which a device without memory cannot hold: small ones stand for all.
REGNETS = ("regnet_x_400mf", "regnet_y_400mf")


@pytest.mark.parametrize("architecture", [*REGNETS, *(name for name in ARCHITECTURES if "regnet" not in name)])
def test_weights_of_a_thousand_classes_fit_the_network_of_few(architecture: str) -> None:
    """Of every architecture, at its own size; only classifiers differ."""
    with torch.device("cpu" if architecture in REGNETS else "meta"):
        network = build_network(architecture, 7)
        size = {name: value for name, value in choose_options(architecture).items() if name == "image_size"}
        given = torchvision.models.get_model(architecture, weights=None, num_classes=1000, **size).state_dict()
    load_weights(network, given, architecture)


def test_weights_that_differ_elsewhere_are_refused() -> None:
    """A position embedding of another image size, or a layer that is missing, is not left to chance."""
    given = torchvision.models.get_model("vit_b_32", num_classes=1000, image_size=384).state_dict()
    with pytest.raises(TrainingError, match=r"encoder\.pos_embedding"):
        load_weights(build_network("vit_b_32", 7), given, "vit_b_32")
    given = build_network("resnet18", 1000).state_dict()
    del given["layer4.1.conv2.weight"]
    with pytest.raises(TrainingError, match=r"layer4\.1\.conv2\.weight"):
        load_weights(build_network("resnet18", 7), given, "resnet18")


def test_the_old_names_of_densenets_files_are_understood(tmp_path: Path) -> None:
    """torchvision's files say `norm.1` where its networks say `norm1`."""
    state = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value
        for name, value in build_network("densenet121", 1000).state_dict().items()
    }
    torch.save(state, tmp_path / "densenet121.pth")
    load_weights(build_network("densenet121", 7), read_state((tmp_path / "densenet121.pth").read_bytes(), "x.pth"), "d")


@pytest.mark.parametrize("architecture", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_are_left_out(architecture: str) -> None:
    """What no loss reads would never learn, count as the last block, and fail on images smaller than its own."""
    with torch.device("meta"):
        network = build_network(architecture, 3)
        tail = find_tail(network, network.fc)
    assert not [name for name in network.state_dict() if name.lower().startswith("aux")]
    assert any(isinstance(module, torch.nn.Conv2d) for stage in tail for module in stage.modules())


@pytest.mark.parametrize("architecture", ["mnasnet0_5", "mobilenet_v3_small", "googlenet"])
def test_what_training_writes_the_endpoint_loads(tmp_path: Path, architecture: str) -> None:
    """With the weights' metadata: without its version, torchvision refuses to load an mnasnet."""
    network = build_network(architecture, 3)
    manifest = {"architecture": architecture, "classes": ["a", "b", "c"], "options": choose_options(architecture)}
    write_model(tmp_path, network, manifest, ROOT / "training")
    loaded = inference.model_fn(str(tmp_path)).network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())


# A network of each family that limits the size of its inputs.
LIMITED = ("alexnet", "convnext_tiny", "densenet121", "inception_v3", "squeezenet1_0", "squeezenet1_1", "vgg11")


@pytest.mark.parametrize("architecture", LIMITED)
def test_the_least_size_is_the_least_that_the_network_takes(architecture: str) -> None:
    """One pixel fewer fails in the network, so the recipe refuses it before it costs. It is enough to learn from."""
    network, least = build_network(architecture, 3).eval(), find_input(architecture).least
    with torch.inference_mode():
        assert network.train()(torch.zeros(2, 3, least, least)).shape == (2, 3)
        network.eval()(torch.zeros(1, 3, least, least))
        with pytest.raises((RuntimeError, ValueError)):
            network(torch.zeros(1, 3, least - 1, least - 1))


@pytest.mark.parametrize("architecture", ["vit_b_32", "maxvit_t"])
def test_a_size_that_is_fixed_is_the_only_one_that_the_network_takes(architecture: str) -> None:
    """Neither a larger nor a smaller image passes."""
    known = find_input(architecture)
    assert known.least == known.size == known.most
    network = build_network(architecture, 3).eval()
    with torch.inference_mode():
        network(torch.zeros(1, 3, known.size, known.size))
        for other in (known.size - 32, known.size + 32):
            with pytest.raises((RuntimeError, AssertionError, ValueError)):
                network(torch.zeros(1, 3, other, other))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_sizes_of_recipes_are_torchvisions(architecture: str) -> None:
    """A network's own size is that of its ImageNet weights, and lies within what it takes and what recipes may say."""
    known, schema = find_input(architecture), recipe_schema()["properties"]["image_size"]
    assert known.size == find_entry(architecture).transforms().crop_size[0]
    assert schema["minimum"] <= known.least <= known.size <= known.most <= schema["maximum"]
