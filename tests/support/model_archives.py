"""Build model archives as training writes them, with untrained weights: small, fast, and always the same."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import torch
import torchvision

INFERENCE = Path(__file__).resolve().parents[2] / "inference"
MANIFEST: dict[str, Any] = {
    "format": 1,
    "run_id": "whippet-local-digits-0123abcd",
    "training_job_name": "whippet-local-digits-0123abcd-train",
    "architecture": "shufflenet_v2_x0_5",
    "classes": ["cat", "dog", "whippet"],
    "image_size": 64,
    "resize_size": 72,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def write_model(folder: Path, **changes: Any) -> Path:
    """Write model.pth, manifest.json and code/ into `folder`; `changes` replace members of the manifest."""
    manifest = MANIFEST | changes
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = torchvision.models.get_model(manifest["architecture"], num_classes=len(manifest["classes"]))
    torch.save(network.state_dict(), folder / "model.pth")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    shutil.copytree(INFERENCE, folder / "code", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def pack_model(folder: Path, archive: Path) -> Path:
    """Pack a model folder as SageMaker does: a gzipped tar whose root holds the folder's contents."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
    return archive
