"""Tests of reading another job's artifact, which may be anything."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from comparing.archives import GROWTH, NAME, Unusable, read_artifact
from images.pixels import MEAN, STD

MANIFEST = {"architecture": "squeezenet1_1", "classes": ["a", "b"], "image_size": 32, "resize_size": 32}


def save(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def weights() -> bytes:
    return save(torchvision.models.get_model("squeezenet1_1", num_classes=2).state_dict())


def write(folder: Path, files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> Path:
    """Write a model.tar.gz with these files and symbolic links into a channel."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / NAME, "w:gz") as archive:
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return folder


def pack(folder: Path, weights: bytes, **changes: Any) -> Path:
    return write(folder, {"model.pth": weights, "manifest.json": json.dumps({**MANIFEST, **changes}).encode()})


def test_an_artifact_is_read_whatever_the_order_and_the_names_beside_it(tmp_path: Path, weights: bytes) -> None:
    """As tar writes a folder: names with ./ in front, the serving code, folders; nothing is left in the scratch."""
    files = {
        "./code/inference.py": b"exit(1)",
        "./model.pth": weights,
        "./manifest.json": json.dumps(MANIFEST).encode(),
    }
    artifact = read_artifact(write(tmp_path / "channel", files), tmp_path / "scratch")
    assert (artifact.classes, artifact.inputs.image_size) == (["a", "b"], 32)
    assert (artifact.inputs.mean, artifact.inputs.std, artifact.inputs.interpolation) == (MEAN, STD, "bilinear")
    assert not (tmp_path / "scratch").exists()


def test_a_network_without_auxiliary_classifiers_is_read(tmp_path: Path) -> None:
    """Its manifest says that it has none; an older manifest does not, and its weights hold them."""
    lean = torchvision.models.get_model("googlenet", num_classes=2, aux_logits=False, init_weights=False)
    told = {"architecture": "googlenet", "options": {"aux_logits": False}}
    artifact = read_artifact(pack(tmp_path / "channel", save(lean.state_dict()), **told), tmp_path / "scratch")
    assert artifact.network.state_dict().keys() == lean.state_dict().keys()


def test_what_lies_outside_or_elsewhere_is_neither_written_nor_followed(tmp_path: Path, weights: bytes) -> None:
    """Paths that lead out, links and files of other names are passed over."""
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(MANIFEST))
    files = {"../manifest.json": b"{}", str(tmp_path / "evil"): b"x", "sub/manifest.json": b"{}", "model.pth": weights}
    channel = write(tmp_path / "channel", files, links={"manifest.json": str(secret)})
    with pytest.raises(Unusable, match="holds no manifest"):
        read_artifact(channel, tmp_path / "scratch")
    assert {path.name for path in tmp_path.iterdir()} == {"channel", "secret.json"}


class Hostile:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/whippet-was-here"),))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"architecture": "resnet19"}, "does not know"),
        ({"architecture": ["resnet18"]}, "does not know"),
        ({"architecture": "shufflenet_v2_x0_5"}, "its weights are no shufflenet"),
        ({"classes": ["a", "b", "c"]}, "its weights are no squeezenet"),
        ({"classes": "ab"}, "does not list its classes"),
        ({"classes": None}, "does not list its classes"),
        ({"classes": [1, 2]}, "does not list its classes"),
        ({"image_size": "32"}, "how images become its inputs"),
        ({"image_size": 10**9}, "how images become its inputs"),
        ({"resize_size": None}, "how images become its inputs"),
        ({"mean": [0, 0]}, "how images become its inputs"),
        ({"std": [1, 1, 0]}, "how images become its inputs"),
        ({"std": [1, 1, float("inf")]}, "how images become its inputs"),
        ({"interpolation": "nearest"}, "how images become its inputs"),
        ({"interpolation": []}, "how images become its inputs"),
    ],
)
def test_a_manifest_that_does_not_fit_is_told(tmp_path: Path, weights: bytes, changes: Any, told: str) -> None:
    """A sentence, whatever its members hold."""
    with pytest.raises(Unusable, match=told):
        read_artifact(pack(tmp_path / "channel", weights, **changes), tmp_path / "scratch")


def test_options_cannot_choose_more_than_an_image_size(tmp_path: Path, weights: bytes) -> None:
    """A manifest's options come to torchvision, which would also take an address of weights."""
    read_artifact(pack(tmp_path / "channel", weights, options={"weights": "DEFAULT", "x": 1}), tmp_path / "scratch")
    read_artifact(pack(tmp_path / "channel", weights, options=["weights"]), tmp_path / "scratch")


@pytest.mark.parametrize("body", [b"no pickle", save(Hostile()), save({"a": torch.zeros(1)}), save([1, 2])[:-9]])
def test_only_tensors_that_fit_are_loaded(tmp_path: Path, body: bytes) -> None:
    """No code of the file runs."""
    with pytest.raises(Unusable, match="its weights are no squeezenet1_1"):
        read_artifact(pack(tmp_path / "channel", body), tmp_path / "scratch")
    assert not Path("/tmp/whippet-was-here").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[: len(body) // 2],
        lambda body: body[:20],
        lambda _: b"",
        lambda _: b"not a tar at all" * 100,
        lambda _: gzip.compress(b"not a tar at all" * 100),
        lambda body: body[:3000] + b"\0" * 3000 + body[6000:],
    ],
)
def test_a_torn_archive_is_told(tmp_path: Path, weights: bytes, damage: Callable[[bytes], bytes]) -> None:
    """Cut off, overwritten, or another file: one kind of error."""
    channel = pack(tmp_path / "channel", weights)
    path = channel / NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Unusable):
        read_artifact(channel, tmp_path / "scratch")


@pytest.mark.parametrize("manifest", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_object_is_told(tmp_path: Path, weights: bytes, manifest: bytes) -> None:
    """Broken JSON, JSON of another kind, other bytes, and nesting without end."""
    channel = write(tmp_path / "channel", {"model.pth": weights, "manifest.json": manifest})
    with pytest.raises(Unusable, match="its manifest"):
        read_artifact(channel, tmp_path / "scratch")


@pytest.mark.parametrize("channel", [None, Path("/nowhere")])
def test_no_artifact_is_told(tmp_path: Path, channel: Path | None) -> None:
    """The channel is not there, or is empty."""
    with pytest.raises(Unusable, match="is gone"):
        read_artifact(channel, tmp_path / "scratch")


def test_an_archive_that_unpacks_without_end_is_given_up(tmp_path: Path) -> None:
    """A kilobyte for each megabyte of zeros: it is read no further than a model may be large."""
    (tmp_path / "channel").mkdir()
    size = 40 * 2**20
    entry = tarfile.TarInfo("model.pth")
    entry.size = size
    with gzip.open(tmp_path / "channel" / NAME, "wb", compresslevel=1) as packed:
        packed.write(entry.tobuf())
        for _ in range(size // 2**20):
            packed.write(bytes(2**20))
    assert GROWTH * (tmp_path / "channel" / NAME).stat().st_size < size / 4
    with pytest.raises(Unusable, match="far more than a model"):
        read_artifact(tmp_path / "channel", tmp_path / "scratch", slack=2**20)
    assert not (tmp_path / "scratch").exists()
