"""Find a network's ImageNet weights, in a file or at torchvision's address, and check that they are whole."""

from __future__ import annotations

import hashlib
import re
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from infrastructure.errors import CannotFetch, Unusable

SECONDS = 20.0  # without a byte, after which a server counts as out of reach
BLOCK = 1 << 20
HASH = re.compile(r"-([0-9a-f]{8,})\.pth$")


@dataclass(frozen=True)
class Published:
    """A weights file as torchvision publishes it. Its name ends with the first digits of its SHA-256."""

    architecture: str
    address: str

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[-1]


def find_published(architecture: str) -> Published:
    """Return the file from which a training of this network begins. Raises Unusable for an unknown network."""
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        near = get_close_matches(architecture, known, 3) or ["resnet18", "resnet50", "mobilenet_v3_large"]
        raise Unusable(
            f"ARCH is {architecture!r}, which is not a network that a recipe can name. Try {', '.join(near)}."
        )
    weights = torchvision.models.get_model_weights(architecture)
    chosen = getattr(weights, "IMAGENET1K_V1", None) or next(iter(weights))
    return Published(architecture, chosen.url)


def check(path: Path, published: Published) -> Path:
    """Return the path of a file whose SHA-256 begins as torchvision's name says. Raises CannotFetch."""
    wanted = HASH.search(published.name)
    if not path.is_file():
        raise CannotFetch(f"There is no file {path}. {tell_how(published)}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted and not found.startswith(wanted[1]):
        raise CannotFetch(
            f"{path} ({path.stat().st_size:,} bytes) is not {published.name}: its SHA-256 begins with "
            f"{found[: len(wanted[1])]} instead of {wanted[1]}. It was cut off, or is another file. "
            f"{tell_how(published)}"
        )
    return path


def fetch(published: Published, folder: Path, tell: Callable[[str], None]) -> Path:
    """Return a checked file: torch's own copy if it is there, else a download. Raises CannotFetch without internet."""
    import torch

    kept = Path(torch.hub.get_dir()) / "checkpoints" / published.name
    if kept.is_file():
        tell(f"Found {kept}.")
        return check(kept, published)
    tell(f"Fetching {published.address} ...")
    return check(download(published, folder), published)


def download(published: Published, folder: Path) -> Path:
    """Download a file into a folder. Raises CannotFetch, with what to do on a machine without internet."""
    try:
        with (
            urllib.request.urlopen(published.address, timeout=SECONDS) as answer,  # noqa: S310  torchvision's own table
            tempfile.NamedTemporaryFile(dir=folder, delete=False) as file,
        ):
            while block := answer.read(BLOCK):
                file.write(block)
    except OSError as error:
        raise CannotFetch(
            f"{published.address} cannot be fetched from here ({error}). {tell_how(published)}"
        ) from error
    return Path(file.name).rename(folder / published.name)


def tell_how(published: Published) -> str:
    """Return what to do where the file cannot be fetched."""
    return (
        f"Fetch {published.address} on a machine with internet, copy the file here, and run: "
        f"make weights ARCH={published.architecture} FILE={published.name}"
    )
