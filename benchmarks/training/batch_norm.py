"""Measure what batch normalisation should do under pretrained weights: keep their statistics, or learn new ones.

A network is pretrained on generated patterns, since ImageNet's weights are not at hand, and then fine-tuned on scanned
digits: on few and on many, with each setting and several seeds. Valid and test are the same every time.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from benchmarks.results import claim, write_result
from benchmarks.training.pretrain import pretrain, train
from localcloud.cli.digits import find_source, list_pictures

ARCHITECTURE, SIDE, EPOCHS, SEEDS = "mobilenet_v2", 32, 6, 3
SIZES = {70: "keep", 140: "keep", 1200: "keep"}  # images for training, and what `auto` takes
CHOSEN = {"architecture": ARCHITECTURE, "image_size": SIDE, "epochs": EPOCHS, "batch_size": 16}


def choose_digits(train: int) -> dict[str, bytes]:
    """The digits with `train` of them for training, 50 for validation and all that the demo tests on."""
    places: dict[tuple[str, ...], int] = defaultdict(int)
    most = {"train": train // 10, "valid": 5, "test": 10**6}
    kept = {}
    for name, picture in list_pictures(find_source()):
        place = tuple(name.split("/")[:2])
        places[place] += 1
        if places[place] <= most[place[0]]:
            kept[name] = picture
    return kept


def compare(folder: Path, weights: Path, images: int) -> dict[str, list[float]]:
    """The test accuracies of each setting, seed by seed."""
    files = choose_digits(images)
    return {
        setting: [
            train(
                folder / f"{images}-{setting}-{seed}",
                files,
                weights,
                pretrained="imagenet",
                batch_norm=setting,
                seed=seed,
                **CHOSEN,
            )
            for seed in range(SEEDS)
        ]
        for setting in ("keep", "learn")
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base)
        weights = folder / "weights"
        pretrain(weights, ARCHITECTURE, side=SIDE, epochs=EPOCHS)
        claims = []
        for images, taken in SIZES.items():
            found = compare(folder, weights, images)
            other = {"keep": "learn", "learn": "keep"}[taken]
            gains = [one - two for one, two in zip(found[taken], found[other], strict=True)]
            print(f"{images} images: {found}", flush=True)
            text = (
                f"{images} images: points of accuracy by `{taken}`, which auto takes ({mean(found[taken]):.3f}), over "
            )
            text += f"`{other}` ({mean(found[other]):.3f}); {SEEDS} seeds, standard deviation {100 * stdev(gains):.1f}"
            claims.append(claim(text, 100 * mean(gains), "points", at_least=-1.0))
        write_result("batch_norm", claims, ["torch", "torchvision"])


if __name__ == "__main__":
    main()
