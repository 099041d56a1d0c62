"""Measure how far the endpoint's probabilities are from those of the evaluation that a report shows.

A network of each family of architectures is judged by training's own evaluation and asked through the endpoint's four
functions, on images of every mode and format, at its own size and at smaller ones. `--quick` takes two networks.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.results import claim, write_result
from chalicelib.recipes.architectures import find_input
from tests.contracts.parity import compare

FAMILIES = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_32",
    "wide_resnet50_2",
)
QUICK = ("resnet18", "mobilenet_v3_small")
SIZES = (48, 128, 160)
MOST = 1e-3


def list_sizes(architecture: str) -> list[int]:
    """Return the network's own size and those of SIZES that it takes."""
    known = find_input(architecture)
    return [known.size, *(size for size in SIZES if known.least <= size <= known.most and size != known.size)]


def measure(architecture: str) -> dict[int, float]:
    """Return the largest difference of a probability by image size."""
    found = {}
    for size in list_sizes(architecture):
        with tempfile.TemporaryDirectory() as folder:
            found[size] = compare(Path(folder), architecture, size)
        print(f"{architecture} at {size}: {found[size]:.1e}", flush=True)
    return found


def main() -> None:
    quick = "--quick" in sys.argv
    found = {name: measure(name) for name in (QUICK if quick else FAMILIES)}
    if quick:
        return
    claims = [
        claim(
            f"{name}: largest difference of a probability, at {', '.join(map(str, sizes))} px",
            max(sizes.values()),
            "probability",
            at_most=MOST,
        )
        for name, sizes in found.items()
    ]
    write_result("parity", claims, ["torch", "torchvision", "pillow"])


if __name__ == "__main__":
    main()
