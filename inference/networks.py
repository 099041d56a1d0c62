"""Build the archive's network in torch, and compute with it. Imported only where torch computes: it takes 350 MB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision


def load_network(folder: Path, manifest: dict[str, Any]) -> torch.nn.Module:
    """Load the network, ready to answer. Raises ValueError if the weights do not fit the manifest."""
    options = {"num_classes": len(manifest["classes"]), **manifest.get("options", {})}
    network = torchvision.models.get_model(manifest["architecture"], weights=None, **options)
    try:
        network.load_state_dict(torch.load(folder / "model.pth", map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise ValueError(f"{folder / 'model.pth'} is no {manifest['architecture']}: {error}") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.allow_tf32 = False  # a GPU then answers as a CPU does, and as training's evaluation did
    ready: torch.nn.Module = network.eval().to(device, memory_format=torch.channels_last)
    return ready


def place(network: torch.nn.Module, batch: np.ndarray) -> torch.Tensor:
    """Return images as a tensor where the network is."""
    device = next(network.parameters()).device
    return torch.from_numpy(batch).to(device, memory_format=torch.channels_last)


def compute(network: torch.nn.Module, batch: np.ndarray) -> np.ndarray:
    """Return the network's outputs for images (n, 3, h, w)."""
    with torch.inference_mode():
        outputs: np.ndarray = network(place(network, batch)).cpu().numpy()
    return outputs
