"""Read another job's model.tar.gz, which this program does not trust: it may be torn, older, or not what it says.

Nothing but manifest.json and model.pth is unpacked, into a folder of ours, within limits; the weights are read as
tensors alone. Whatever is wrong becomes an Unusable with a sentence.
"""

from __future__ import annotations

import gzip
import json
import math
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import torch
import torchvision
from images.decoding.decoder import FILTERS
from images.pixels import MEAN, STD, Preprocessing
from torch import nn
from torchvision import models

NAME = "model.tar.gz"
# Weights hardly shrink when packed. Beside them lies code, which shrinks to a quarter, and so do lists of hashes.
GROWTH, SLACK = 4, 256 * 2**20
MOST_CLASSES, SIDES = 100_000, (8, 4096)


class Unusable(Exception):
    """What another job left cannot be compared; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class Artifact:
    """A model as its archive describes it: the network, the names of its outputs, and how images become its inputs."""

    manifest: Mapping[str, Any]
    network: nn.Module
    architecture: str
    classes: list[str]
    inputs: Preprocessing


class Bounded:
    """A stream that may give only so many bytes: a few kilobytes of gzip can hold terabytes."""

    def __init__(self, stream: BinaryIO, left: int) -> None:
        self.stream, self.left = stream, left

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size if 0 <= size <= self.left else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise Unusable(f"{NAME} unpacks to far more than a model is")
        return data


def read_artifact(channel: Path | None, scratch: Path, slack: int = SLACK) -> Artifact:
    """Read the model in a channel. scratch: a folder for what is unpacked, which is deleted again."""
    if channel is None or not (channel / NAME).is_file():
        raise Unusable(f"its {NAME} is gone")
    try:
        unpack(channel / NAME, scratch, slack)
        manifest = read_manifest(scratch / "manifest.json")
        return build(manifest, scratch / "model.pth")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise Unusable(f"its {NAME} cannot be read ({type(error).__name__}: {error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def unpack(path: Path, folder: Path, slack: int) -> None:
    """Write the two files that are wanted into a folder. Links, folders and every other name are passed over."""
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(path) as packed:
        bounded = Bounded(packed, GROWTH * path.stat().st_size + slack)
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            for member in archive:
                name = str(PurePosixPath(member.name))
                file = archive.extractfile(member) if member.isreg() else None
                if file and name in ("manifest.json", "model.pth"):
                    with (folder / name).open("wb") as target:
                        shutil.copyfileobj(file, target)
    for name in ("manifest.json", "model.pth"):
        if not (folder / name).is_file():
            raise Unusable(f"its {NAME} holds no {name}")


def read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Unusable(f"its manifest is not JSON ({error})") from error
    if not isinstance(manifest, dict):
        raise Unusable("its manifest is not a JSON object")
    return manifest


def build(manifest: Mapping[str, Any], weights: Path) -> Artifact:
    """Build the network that a manifest describes, and load its weights."""
    classes, architecture = manifest.get("classes"), manifest.get("architecture")
    if not is_list_of_names(classes) or not 2 <= len(classes) <= MOST_CLASSES:
        raise Unusable("its manifest does not list its classes")
    if not isinstance(architecture, str) or architecture not in models.list_models(module=torchvision.models):
        raise Unusable(f"its architecture is {architecture!r}, which this torchvision does not know")
    try:
        network = models.get_model(architecture, weights=None, num_classes=len(classes), **read_options(manifest))
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises whatever its unpickler meets in a damaged file
        first = str(error).strip().partition("\n")[0]
        raise Unusable(f"its weights are no {architecture} ({type(error).__name__}: {first})") from error
    return Artifact(manifest, network.eval(), architecture, classes, read_inputs(manifest))


def read_options(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Read what torchvision must know to build the network. Older manifests of two networks lack `aux_logits`."""
    told = manifest.get("options")
    options = told if isinstance(told, dict) else {}
    size, lean = options.get("image_size"), options.get("aux_logits") is False
    return ({"image_size": size} if is_side(size) else {}) | ({"aux_logits": False} if lean else {})


def read_inputs(manifest: Mapping[str, Any]) -> Preprocessing:
    """Read how images become inputs; older manifests lack the mean, the deviation or the interpolation."""
    sides = [manifest.get("image_size"), manifest.get("resize_size")]
    mean, std = manifest.get("mean", MEAN), manifest.get("std", STD)
    interpolation = manifest.get("interpolation", "bilinear")
    sound = all(map(is_side, sides)) and is_triple(mean) and is_triple(std) and min(std) > 0
    if not sound or not isinstance(interpolation, str) or interpolation not in FILTERS:
        raise Unusable("its manifest does not say how images become its inputs")
    return Preprocessing(sides[0], sides[1], tuple(mean), tuple(std), interpolation)


def is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def is_side(value: Any) -> bool:
    return type(value) is int and SIDES[0] <= value <= SIDES[1]


def is_triple(value: Any) -> bool:
    numbers = isinstance(value, list | tuple) and all(type(each) in (int, float) for each in value)
    return numbers and len(value) == 3 and all(map(math.isfinite, value))
