"""What a network computes in: onnxruntime where its answers are torch's, and torch wherever anything goes wrong."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from localcloud.serving import engine
from localcloud.serving.engine import OnnxNetwork, choose_engine
from localcloud.serving.model_server import Handler, speed_up
from localcloud.serving.sessions import AGREEMENT, KEPT, draw_sample, forget_old


class Small(torch.nn.Module):
    """Four numbers of an image, with what happens beside that: while it is converted, or always."""

    def __init__(self, beside: Callable[[torch.Tensor], torch.Tensor] = lambda output: output) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.beside = beside
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        )

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.beside(self.layers(batch))


@dataclass(frozen=True)
class Loaded:
    """What a `model_fn` may return: a network, and something else."""

    network: torch.nn.Module
    classes: tuple[str, ...] = ("a", "b")


def predict(model: Any, jpeg: bytes, size: int = 16) -> torch.Tensor:
    """Ask the network about an image, as an archive's handlers do."""
    network = model.network if isinstance(model, Loaded) else model
    pixels = np.array(Image.open(io.BytesIO(jpeg)).resize((size, size)), dtype=np.float32) / 255
    with torch.inference_mode():
        answer: torch.Tensor = network(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    return answer


def choose(model: Any, folder: Path, asked: Callable[[Any, bytes], Any] = predict) -> engine.Engine:
    """Choose the engine of a model whose archive holds one file."""
    (folder / "archive").mkdir(exist_ok=True)
    (folder / "archive" / "model.pth").write_bytes(b"weights")
    return choose_engine(model, asked, folder / "archive", folder / "engines")


def count_converted(folder: Path) -> int:
    return len(list((folder / "engines").iterdir()))


def fail_while_tracing(fail: Callable[[], object]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Fail in the exporter alone."""

    def beside(output: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():  # type: ignore[no-untyped-call]
            fail()
        return output

    return beside


def differ_while_tracing(output: torch.Tensor) -> torch.Tensor:
    """Convert into a network that is wrong by a little."""
    return output + 10 * AGREEMENT if torch.jit.is_tracing() else output  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("wrap", [Loaded, lambda network: network], ids=["dataclass", "network"])
def test_a_network_computes_in_onnxruntime(tmp_path: Path, wrap: Callable[[torch.nn.Module], Any]) -> None:
    """Its answers stay within the agreement, and what stood beside it stays."""
    network = Small()
    chosen = choose(wrap(network), tmp_path)
    assert "onnxruntime" in chosen.description
    assert isinstance(chosen.model.network if isinstance(chosen.model, Loaded) else chosen.model, OnnxNetwork)
    picture = draw_sample(1)
    assert torch.allclose(predict(chosen.model, picture), predict(network, picture), rtol=0, atol=AGREEMENT)
    assert getattr(chosen.model, "classes", ("a", "b")) == ("a", "b")


def test_an_input_of_another_shape_is_left_to_torch(tmp_path: Path) -> None:
    """The conversion is for one shape, and a program may change its mind."""
    network = Small()
    chosen = choose(Loaded(network), tmp_path)
    picture = draw_sample(1)
    assert torch.equal(predict(chosen.model, picture, size=32), predict(network, picture, size=32))


def test_hooks_and_gradients_are_torchs(tmp_path: Path) -> None:
    """What is not asked in inference mode runs through the network's own layers: explanations need their outputs."""
    network = Small()
    chosen = choose(Loaded(network), tmp_path)
    seen: list[torch.Tensor] = []
    network.layers[0].register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    predict(chosen.model, draw_sample(1))
    assert seen == []
    chosen.model.network(torch.zeros(1, 3, 16, 16, requires_grad=True)).sum().backward()
    assert len(seen) == 1


def test_a_network_is_converted_once(tmp_path: Path) -> None:
    """The second start takes the first one's conversion, and does not trace the network again."""
    choose(Loaded(Small()), tmp_path)
    again = choose(Loaded(Small(fail_while_tracing(lambda: os._exit(3)))), tmp_path)
    assert "onnxruntime" in again.description
    assert count_converted(tmp_path) == 1


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"\0" * len(whole)])
def test_a_damaged_conversion_is_made_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A cut or overwritten file in the cache neither answers nor fails the endpoint."""
    choose(Loaded(Small()), tmp_path)
    (kept,) = (tmp_path / "engines").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert "onnxruntime" in choose(Loaded(Small()), tmp_path).description
    assert len(kept.read_bytes()) == len(whole)


def test_a_changed_archive_is_another_network(tmp_path: Path) -> None:
    """The key holds every file: the code may change what the weights mean."""
    choose(Loaded(Small()), tmp_path)
    (tmp_path / "archive" / "inference.py").write_text("# changed")
    choose(Loaded(Small()), tmp_path)
    assert count_converted(tmp_path) == 2


def fail_with_an_error() -> None:
    raise RuntimeError("no such operator")


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Loaded(Small(differ_while_tracing)), "differ from torch's by 1.0e-03"),
        (Loaded(Small(lambda output: output + torch.rand(1))), "differ from torch's"),
        (Loaded(Small(fail_while_tracing(fail_with_an_error))), "its conversion ended with 1"),
        (
            Loaded(Small(fail_while_tracing(lambda: os.kill(os.getpid(), signal.SIGKILL)))),
            "its conversion ended with -9",
        ),
        (Loaded(Small().double()), "RuntimeError"),
        ("a name", "no single network is found"),
    ],
    ids=["wrong", "random", "error", "killed", "double", "no network"],
)
def test_whatever_goes_wrong_the_network_stays_in_torch(tmp_path: Path, model: Any, why: str) -> None:
    """A wrong, failed or killed conversion is told in one line, leaves nothing behind, and the endpoint serves."""
    chosen = choose(model, tmp_path)
    assert chosen.model is model
    assert chosen.description.startswith("torch ")
    assert why in chosen.description
    assert not (tmp_path / "engines").exists() or count_converted(tmp_path) == 0


@pytest.mark.parametrize("sizes", [[16, 16, 32], [16]], ids=["shapes", "calls"])
def test_a_network_with_inputs_of_several_shapes_stays_in_torch(tmp_path: Path, sizes: list[int]) -> None:
    """One conversion could not answer them all; nor a program that asks its network now and then."""
    left = list(sizes)
    chosen = choose(Loaded(Small()), tmp_path, lambda model, jpeg: predict(model, jpeg, left.pop(0)) if left else None)
    assert chosen.description.startswith("torch ")


def test_only_the_conversions_used_last_are_kept(tmp_path: Path) -> None:
    """The cache does not grow with every model that was ever deployed."""
    for number in range(KEPT + 3):
        path = tmp_path / f"{number}.onnx"
        path.write_text("")
        os.utime(path, (number, number))
    forget_old(tmp_path.glob("*.onnx"))
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == list(range(3, KEPT + 3))


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v3_small", "efficientnet_b0"])
def test_the_architectures_are_converted(tmp_path: Path, architecture: str) -> None:
    """Batch normalisation, depthwise convolutions and squeeze-and-excitation agree with torch."""
    network = torchvision.models.get_model(architecture, weights=None, num_classes=10).eval()
    asked = partial(predict, size=64)
    assert "onnxruntime" in choose(Loaded(network), tmp_path, asked).description


def test_every_worker_is_warm_before_the_server_listens(tmp_path: Path) -> None:
    """Each has answered an image with the chosen engine: nobody's first request pays for it."""
    answered: list[str] = []

    def predict_fn(jpeg: bytes, model: Any) -> torch.Tensor:
        answered.append(f"{type(model).__name__} on {threading.current_thread().name.partition('_')[0]}")
        return predict(model, jpeg)

    module = SimpleNamespace(input_fn=lambda body, _: body, predict_fn=predict_fn)
    (tmp_path / "model.pth").write_bytes(b"weights")
    with ThreadPoolExecutor(2, thread_name_prefix="worker") as workers:
        handler = speed_up(Handler(cast(ModuleType, module), Small()), tmp_path, tmp_path / "engines", workers, 2)
    assert isinstance(handler.model, OnnxNetwork)
    assert answered == ["Recorder on MainThread"] * 3 + ["OnnxNetwork on worker"] * 2
