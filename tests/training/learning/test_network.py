"""Tests of the network: built by name, weights from a channel, frozen to a depth, its head fitted on features."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import program
import pytest
import torch
from job.settings import Hyperparameters, TrainingError
from learning.features import extract, fit_head
from learning.model import build_network, choose_rate, count_weights, find_head, freeze, list_stages, load_weights
from learning.preparation import choose_normalisation, prepare
from learning.weights import download, find_weights, read_state
from torch import nn

from tests.training.comparing.compared import Never
from tests.training.profiled import make_job
from tests.training.tiny import ROOT, Runner

ARCHITECTURES = ("resnet18", "mobilenet_v3_small", "squeezenet1_1", "efficientnet_b0", "vit_b_32", "convnext_tiny")


def to_bytes(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_channel(tmp_path_factory.mktemp("weights"))


def fill_channel(folder: Path) -> Path:
    """Write the weights of a network into a channel's folder, in a file named as torchvision names it."""
    torch.manual_seed(7)
    data = to_bytes(build_network("resnet18", 1000).state_dict())
    (folder / f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}.pth").write_bytes(data)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("depth", ["head", "last_block"])
def test_freezing_leaves_the_end_of_any_network(name: str, depth: str) -> None:
    """In every family of networks the head, or it and a tail of at least a tenth, is trained; the rest is frozen."""
    with torch.device("meta"):
        network = build_network(name, 7)
    head = find_head(network, 7)
    frozen = freeze(network, head, depth)
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert all(parameter.requires_grad for parameter in head.parameters())
    assert not next(network.parameters()).requires_grad
    assert frozen
    if depth == "head":
        assert trained == count_weights(head)
    else:
        assert 0.1 * (count_weights(network) - count_weights(head)) <= trained < 0.8 * count_weights(network)


def test_the_last_block_of_resnet18_is_its_fourth_stage() -> None:
    """layer4 and fc are trained, as the course understands fine-tuning."""
    network = build_network("resnet18", 7)
    freeze(network, network.fc, "last_block")
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {"layer4", "fc"}
    assert list_stages(network) == list(network.children())


def test_the_rate_depends_on_the_depth() -> None:
    """One range of the multiplier serves every depth: new weights take larger steps, many pretrained ones smaller."""
    rates = [choose_rate(depth, True, 1.0) for depth in ("head", "last_block", "all")]
    assert rates == sorted(rates, reverse=True)
    assert choose_rate("all", False, 3.0) == pytest.approx(3 * choose_rate("all", False, 1.0))
    assert choose_rate("all", False, 1.0) > choose_rate("all", True, 1.0)


def test_weights_of_a_thousand_classes_start_a_network_of_few(channel: Path) -> None:
    """All layers but the head are loaded from the channel's file."""
    state = find_weights("resnet18", "imagenet", channel, print)
    network = build_network("resnet18", 3)
    before = network.fc.weight.clone()
    load_weights(network, state, "resnet18")
    assert torch.equal(network.conv1.weight, state["conv1.weight"])
    assert torch.equal(network.fc.weight, before)


def test_weights_of_another_network_are_refused(channel: Path) -> None:
    """Weights that do not fit raise an error rather than leave a network half loaded."""
    state = find_weights("resnet18", "auto", channel, print)
    with pytest.raises(TrainingError, match="do not fit"):
        load_weights(build_network("mobilenet_v3_small", 3), state, "mobilenet_v3_small")


def test_a_channel_without_the_right_file_is_told(channel: Path) -> None:
    """The log names what the channel holds and what is needed."""
    lines: list[str] = []
    find_weights("vgg11", "auto", channel, lines.append)
    assert "holds resnet18-" in lines[0]
    assert "needs vgg11-8a719046.pth" in lines[0]


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"x", "resnet18-00000000.pth", "damaged"),
        (b"x", "resnet18.pth", "not a state dictionary"),
        (to_bytes({"a": torch.zeros(1)})[:-40], "resnet18.pth", "not a state dictionary"),
    ],
)
def test_damaged_weights_are_refused(data: bytes, name: str, reason: str) -> None:
    """The hash in torchvision's file names is checked, and only tensors are read."""
    with pytest.raises(TrainingError, match=reason):
        read_state(data, name)


def test_a_download_that_nobody_answers_fails() -> None:
    """A refused connection raises OSError at once; the caller goes on without weights."""
    with pytest.raises(OSError, match="refused"):
        download("http://127.0.0.1:9/resnet18.pth")


def test_features_are_what_the_head_is_fed() -> None:
    """Feeding the features to the head gives the whole network's outputs."""
    network = build_network("resnet18", 5).eval()
    batches = [torch.randn(3, 3, 32, 32), torch.randn(2, 3, 32, 32)]
    features = extract(network, network.fc, batches)
    assert features.shape == (5, 512)
    with torch.no_grad():
        assert torch.allclose(network.fc(features), torch.cat([network(batch) for batch in batches]), atol=1e-5)
        assert network(batches[0]).shape == (3, 5)


def test_a_fitted_head_separates_what_can_be_separated() -> None:
    """Logistic regression separates the classes, and a second fit gives the same result."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(60, 8, generator=generator) + 4 * nn.functional.one_hot(labels, 8)
    heads = [nn.Linear(8, 3) for _ in range(2)]
    losses = [fit_head(head, features, labels) for head in heads]
    assert (heads[0](features).argmax(1) == labels).float().mean() > 0.95
    assert losses[0] == losses[1]


def test_a_job_with_pretrained_weights_records_them(runner: Runner, channel: Path) -> None:
    """It fits the head first, judges that as epoch 0, and changes nothing but the head."""
    code, log = runner.run({"pretrained": "auto", "fine_tune": "head"}, SM_CHANNEL_WEIGHTS=str(channel))
    assert code == 0, log
    assert "the head was fitted" in log
    assert "epoch 0, the fitted head, classifies" in log
    manifest = runner.read("model/manifest.json")
    assert (manifest["pretrained"], manifest["fine_tune"], manifest["warnings"]) == ("imagenet", "head", [])
    assert list_changes(channel, torch.load(runner.model / "model.pth")) == {"fc"}


def train(folder: Path, channel: Path, **chosen: Any) -> program.Session:
    """Train inside this process, without shipping: the network keeps the weights of its last epoch."""
    job = make_job(folder)
    job = replace(job, places=replace(job.places, weights=channel, code=ROOT / "training"))
    quick = {"epochs": 2, "image_size": 16, "batch_size": 16, "pretrained": "auto"}
    session = program.open_session(prepare(job, Hyperparameters(**quick, **chosen)), Never(), time.time())
    program.begin(session)
    program.train(session, ())
    return session


def list_changes(channel: Path, after: dict[str, torch.Tensor]) -> set[str]:
    """Return the parts of a network whose weights are not those of the channel."""
    given = find_weights("resnet18", "auto", channel, print)
    return {name.split(".")[0] for name, value in given.items() if not same(value, after[name])}


@pytest.mark.parametrize(("depth", "changed"), [("head", {"fc"}), ("last_block", {"fc", "layer4"})])
def test_frozen_layers_come_out_as_they_went_in(tmp_path: Path, channel: Path, depth: str, changed: set[str]) -> None:
    """Training changes no frozen layer, nor the statistics of one."""
    session = train(tmp_path, channel, fine_tune=depth)
    assert list_changes(channel, session.setup.network.state_dict()) == changed


@pytest.mark.parametrize(
    ("wish", "pretrained", "images", "taken"),
    [
        ("auto", "imagenet", 140, "keep"),
        ("auto", "imagenet", 6680, "learn"),
        ("learn", "imagenet", 140, "learn"),
        ("keep", "imagenet", 6680, "keep"),
        ("auto", "none", 140, "learn"),
        ("keep", "none", 140, "learn"),
    ],
)
def test_batch_normalisation_keeps_good_statistics_where_there_are_few_images(
    wish: str, pretrained: str, images: int, taken: str
) -> None:
    """By the number of images or as the recipe says; a network without pretrained weights has none to keep."""
    assert choose_normalisation(Hyperparameters(batch_norm=wish), pretrained, images).batch_norm == taken


@pytest.mark.parametrize(("wish", "kept"), [("auto", True), ("learn", False)])
def test_kept_statistics_are_those_of_the_channel(tmp_path: Path, channel: Path, wish: str, kept: bool) -> None:
    """Of a small dataset every layer is trained, its factors of normalisation too, and the statistics stay."""
    session = train(tmp_path, channel, batch_norm=wish)
    assert session.setup.chosen.batch_norm == ("keep" if kept else "learn")
    given, after = find_weights("resnet18", "auto", channel, print), session.setup.network.state_dict()
    statistics = [name for name in given if name.endswith(("running_mean", "running_var"))]
    assert {same(given[name], after[name]) for name in statistics} == {kept}
    assert not same(given["layer1.0.bn1.weight"], after["layer1.0.bn1.weight"])


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
