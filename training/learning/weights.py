"""Find a network's ImageNet weights in the job's channel, in torch's cache, or at torchvision's address."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from images.pixels import Preprocessing, choose_resize
from job.settings import TrainingError
from torchvision import models

CONNECT_SECONDS = 10.0
DOWNLOAD_SECONDS = 600.0


State = dict[str, torch.Tensor]
# Networks whose ImageNet weights were trained on inputs normalised by these; torchvision's `transform_input` converts.
HALVES = (0.5, 0.5, 0.5)
CONVERTING = ("googlenet", "inception_v3")
# Files of densenets are older than their layers' names.
OLD_NAME = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$")


def choose_preprocessing(architecture: str, image_size: int, *, pretrained: bool) -> Preprocessing:
    """Choose how images become inputs: as the network's ImageNet weights were trained, if it begins with them."""
    entry = find_entry(architecture) if pretrained else None
    if entry is None:
        return Preprocessing(image_size, choose_resize(image_size))
    known = entry.transforms()
    resize = choose_resize(image_size, known.crop_size[0], known.resize_size[0])
    mean, std = (HALVES, HALVES) if architecture in CONVERTING else (tuple(known.mean), tuple(known.std))
    return Preprocessing(image_size, resize, mean, std, known.interpolation.value)


def takes_size(architecture: str, image_size: int) -> bool:
    """Return whether a network takes images of this size for sure: its ImageNet weights were trained on such."""
    entry = find_entry(architecture) if architecture in models.list_models(module=torchvision.models) else None
    return entry is not None and entry.transforms().crop_size[0] == image_size


def find_weights(architecture: str, wish: str, folder: Path | None, log: Callable[[str], None]) -> State | None:
    """Find ImageNet weights in the channel, torch's cache or torchvision's download. None means from scratch.

    wish: auto (use weights if there are any), imagenet (raise TrainingError if there are none) or none.
    """
    if wish == "none":
        return None
    state = read_channel(architecture, folder, log) or read_torchvision(architecture, log)
    if state is None and wish == "imagenet":
        raise TrainingError(
            f"pretrained=imagenet, but the weights of {architecture} lie in no channel `weights` and cannot be "
            f"fetched: put them into the bucket with `make weights ARCH={architecture}`, or choose pretrained=auto."
        )
    return state


def read_channel(architecture: str, folder: Path | None, log: Callable[[str], None]) -> State | None:
    """Read the channel's file for this network: torchvision's own, ARCHITECTURE.pth or ARCHITECTURE-*.pth."""
    if folder is None:
        return None
    own = (find_address(architecture) or "").rsplit("/", 1)[-1]
    files = sorted(folder.glob("*.pth"))
    pattern = re.compile(rf"{re.escape(architecture)}(-.*)?\.pth")
    fitting = [path for path in files if path.name == own] or [path for path in files if pattern.fullmatch(path.name)]
    if not fitting:
        held = ", ".join(path.name for path in files) or "nothing"
        log(f"WARNING: channel weights holds {held}, and {architecture} needs {own or architecture + '.pth'}")
        return None
    return read_state(fitting[0].read_bytes(), fitting[0].name)


def read_torchvision(architecture: str, log: Callable[[str], None]) -> State | None:
    """Read the weights from torch's cache or their address. Return None, and log it, if neither has them."""
    address = find_address(architecture)
    if address is None:
        return None
    name = address.rsplit("/", 1)[-1]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    try:
        return read_state(cached.read_bytes() if cached.is_file() else download(address), name)
    except (OSError, TrainingError) as error:
        log(f"weights {name} could not be downloaded: {error}")
        return None


def find_address(architecture: str) -> str | None:
    """Find the address of a network's ImageNet weights."""
    entry = find_entry(architecture)
    return entry.url if entry else None


def find_entry(architecture: str) -> Any:
    """Find torchvision's entry of a network's ImageNet weights; None if there is none.

    Prefer the first version: its plainly trained features transfer better than those of later recipes.
    """
    weights = models.get_model_weights(architecture)
    return getattr(weights, "IMAGENET1K_V1", None) or next(iter(weights), None)


def download(address: str) -> bytes:
    """Fetch an address in bounded time. A thread does it, because name resolution has no timeout of its own."""
    begun, result = threading.Event(), {}
    worker = threading.Thread(target=fetch, args=(address, begun, result), daemon=True)
    worker.start()
    begun.wait(CONNECT_SECONDS)
    worker.join(DOWNLOAD_SECONDS if begun.is_set() else 0)
    if "error" in result:
        raise result["error"]
    if "data" not in result:
        raise TimeoutError(f"{address} did not answer in time")
    return result["data"]


def fetch(address: str, begun: threading.Event, result: dict[str, Any]) -> None:
    try:
        with urllib.request.urlopen(address, timeout=CONNECT_SECONDS) as answer:  # noqa: S310  torchvision's own table
            begun.set()
            result["data"] = answer.read()
    except OSError as error:
        result["error"] = error
    begun.set()


def read_state(data: bytes, name: str) -> State:
    """Load a state dictionary. Check the digits of its hash that torchvision puts into file names."""
    expected = re.search(r"-([0-9a-f]{8,})\.pth$", name)
    if expected and not hashlib.sha256(data).hexdigest().startswith(expected[1]):
        raise TrainingError(f"weights {name} are damaged: their hash is not that of their name; copy them again")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return {OLD_NAME.sub(r"\1\2", key): value for key, value in state.items()}
    except Exception as error:
        raise TrainingError(f"weights {name} are not a state dictionary of tensors ({error})") from error
