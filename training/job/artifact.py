"""Write the artifact, which describes itself: model.pth, manifest.json and code/ in the model directory."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from job.settings import TrainingError

FORMAT = 1


def write_artifact(folder: Path, network: nn.Module, manifest: Mapping[str, Any], code: Path) -> None:
    """Write the model directory. code: the training program's folder; `inference/` lies in it or beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    torch.save(weights, folder / "model.pth")
    write_json(folder / "manifest.json", {"format": FORMAT, **manifest, "versions": list_versions()})
    copy_code(find_inference(code), folder / "code")


def find_inference(code: Path) -> Path:
    """Find the serving program: beside train.py in the tarball, one folder up in the source tree."""
    for folder in (code / "inference", code.parent / "inference"):
        if (folder / "inference.py").is_file():
            return folder
    raise TrainingError(f"inference/inference.py lies neither beside {code} nor in it; publish the code again")


def copy_code(source: Path, target: Path) -> None:
    """Copy the serving program's modules, and keep nothing from before a restart of this job."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in sorted(source.glob("*.py")):
        shutil.copyfile(path, target / path.name)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def list_versions() -> dict[str, str]:
    """List the versions that the weights were made with."""
    packages = ("torch", "torchvision", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
