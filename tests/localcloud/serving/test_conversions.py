"""Serving without torch: a conversion that agreed with torch answers alone, and torch wherever anything goes wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from localcloud.serving.conversions import Opened, Program, flatten, open_converted
from localcloud.serving.sessions import AGREEMENT, draw_sample
from tests.support.image_kinds import draw, encode
from tests.support.model_archives import write_model
from tests.support.model_servers import end_server, post, start_server

JPEG = encode(draw(120, 90), "JPEG")


def make_network() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    return torch.nn.Sequential(*layers).eval()


def predict(model: Any, jpeg: bytes) -> Any:
    """Ask a network of torch, or an engine, about an image."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).resize((16, 16)), np.float32).transpose(2, 0, 1)[None] / 255
    if not isinstance(model, torch.nn.Module):
        return model(np.ascontiguousarray(pixels))
    with torch.inference_mode():
        return model(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()


def open_model(folder: Path, load: Callable[[], Any] = make_network) -> Opened:
    (folder / "archive").mkdir(exist_ok=True)
    (folder / "archive" / "model.pth").write_bytes(b"weights")
    return open_converted(Program(load, lambda engine: engine, predict, folder / "archive", folder / "engines"))


def refuse() -> Any:
    raise AssertionError("torch was asked, though a conversion that agrees with it is there")


def list_kept(folder: Path, kind: str) -> list[Path]:
    return list((folder / "engines").glob(f"*.{kind}"))


def test_the_second_start_loads_nothing_with_torch(tmp_path: Path) -> None:
    """The first start converts in a child; the next one compares with what torch answered then, and answers alike."""
    first, second = open_model(tmp_path), open_model(tmp_path, refuse)
    expected = predict(make_network(), draw_sample(1))
    for opened in (first, second):
        assert opened.description.startswith("onnxruntime")
        assert np.abs(predict(opened.model, draw_sample(1)) - expected).max() <= AGREEMENT


def spoil_outputs(folder: Path) -> None:
    (record,) = list_kept(folder, "json")
    told = json.loads(record.read_text())
    told["outputs"][1][0][2] += 2 * AGREEMENT
    record.write_text(json.dumps(told))


def spoil_conversion(folder: Path) -> None:
    (converted,) = list_kept(folder, "onnx")
    converted.write_bytes(converted.read_bytes()[:100])


def lose_conversion(folder: Path) -> None:
    list_kept(folder, "onnx")[0].unlink()


@pytest.mark.parametrize("damage", [spoil_outputs, spoil_conversion, lose_conversion])
def test_what_does_not_agree_with_its_record_is_made_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A start never serves a conversion that differs from what torch answered, is cut, or is gone."""
    open_model(tmp_path)
    damage(tmp_path)
    assert open_model(tmp_path).description.startswith("onnxruntime")
    assert open_model(tmp_path, refuse).model is not None


@pytest.mark.parametrize(
    ("load", "why"),
    [(lambda: os._exit(7), "ended with 7"), (lambda: "a name", "no single network"), (refuse, "ended with 1")],
)
def test_torch_serves_where_the_child_fails(tmp_path: Path, load: Callable[[], Any], why: str) -> None:
    """A child that dies or cannot convert is told in one line, and leaves no record."""
    opened = open_model(tmp_path, load)
    assert opened.model is None
    assert why in opened.description
    assert list_kept(tmp_path, "json") == []


def test_nested_numbers_are_compared_in_their_order() -> None:
    """Outputs are recorded as nested lists."""
    assert flatten([[[1.0, 2.0]], [[3.0]]]) == [1.0, 2.0, 3.0]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server of an archive as training writes it, in an interpreter of its own."""
    folder = tmp_path_factory.mktemp("served")
    process, url = start_server(write_model(folder / "model"), folder, engines=folder / "engines")
    yield process, url
    end_server(process)


def test_an_endpoint_holds_no_torch_until_it_explains(served: tuple[subprocess.Popen[bytes], str]) -> None:
    """The archive's own handlers answer without importing torch; an explanation needs the layers, and imports it."""
    process, url = served
    maps = Path(f"/proc/{process.pid}/maps")
    answer = post(url, JPEG, content_type="image/jpeg").json()["results"][0]
    assert "libtorch" not in maps.read_text()
    explained = post(url, JPEG, content_type="image/jpeg; explain=true").json()["results"][0]
    assert "libtorch" in maps.read_text()
    for one, other in zip(answer["predictions"], explained["predictions"], strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)
