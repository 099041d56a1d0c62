"""Write the artifact, which describes itself: model.pth, manifest.json and code/ in the model directory."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from filecmp import cmp
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from job.settings import TrainingError

FORMAT = 1


def write_model(folder: Path, network: nn.Module, manifest: Mapping[str, Any], code: Path) -> None:
    """Write the model directory. code: the training program's folder; `inference/` lies in it or beside it.

    A kill at any moment leaves a model that can be loaded, if there was one before. Weights and manifest are both
    written before either is replaced, so that hardly any moment is left in which they are of different epochs.
    """
    copy_code(find_inference(code), folder / "code")
    weights = network.state_dict()  # with its metadata: torchvision's mnasnet cannot be loaded without
    for name, value in weights.items():
        weights[name] = value.detach().cpu().contiguous()
    partial = folder / "model.partial"
    torch.save(weights, partial)
    described = write_partial(folder / "manifest.json", describe(manifest))
    partial.replace(folder / "model.pth")
    described.replace(folder / "manifest.json")


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace the manifest of a model that is in place."""
    write_json(folder / "manifest.json", describe(manifest))


def describe(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, **manifest, "versions": list_versions()}


def find_inference(code: Path) -> Path:
    """Find the serving program: beside train.py in the tarball, one folder up in the source tree."""
    for folder in (code / "inference", code.parent / "inference"):
        if (folder / "inference.py").is_file():
            return folder
    raise TrainingError(f"inference/inference.py lies neither beside {code} nor in it; publish the code again")


def copy_code(source: Path, target: Path) -> None:
    """Copy the serving program's modules, unless they are there, and keep nothing else."""
    wanted = {path.name: path for path in sorted(source.glob("*.py"))}
    if holds(target, wanted):
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, path in wanted.items():
        shutil.copyfile(path, target / name)


def holds(folder: Path, wanted: Mapping[str, Path]) -> bool:
    """Return whether a folder holds copies of these files and nothing else."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return names == wanted.keys() and all(cmp(path, folder / name, shallow=False) for name, path in wanted.items())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_partial(path, content).replace(path)


def write_partial(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a JSON file beside its place. Return where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return partial


def list_versions() -> dict[str, str]:
    """List the versions that the weights were made with."""
    packages = ("torch", "torchvision", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
