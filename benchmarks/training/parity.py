"""Measure how far the endpoint's probabilities are from those of the evaluation that a report shows.

A network of each family of architectures is judged by training's own evaluation and asked through the endpoint's four
functions, in torch and in onnxruntime, on images of every mode and format, at its own size and at smaller ones.
`--quick` takes two networks. The processor time of a prediction, and of one with an explanation, is measured in torch
on one thread at the network's own size. Each network is recorded in `results/recorded/parity.jsonl`; with
`--seconds 900` the benchmark stops after so long, and the next run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import RESULTS, claim, write_result
from chalicelib.recipes.architectures import find_input
from tests.contracts.parity import compare, draw_kinds

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
MOST, MOST_TIMES = 1e-3, 3.0
RECORDED = RESULTS / "recorded" / "parity.jsonl"
TRIES = 5


def list_sizes(architecture: str) -> list[int]:
    """Return the network's own size and those of SIZES that it takes."""
    known = find_input(architecture)
    return [known.size, *(size for size in SIZES if known.least <= size <= known.most and size != known.size)]


def measure(architecture: str) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
    """Return the largest difference of a probability by size and engine, and milliseconds of a prediction by kind."""
    found, times = {}, {}
    for size in list_sizes(architecture):
        with tempfile.TemporaryDirectory() as folder:
            found[size] = compare(Path(folder), architecture, size)
            times = times or time_predictions(Path(folder) / "model")
        print(f"{architecture} at {size}: {found[size]}", flush=True)
    return found, times


def time_predictions(model: Path) -> dict[str, float]:
    """Return the milliseconds of a prediction and of one with an explanation, from a photo's bytes to the answer's."""
    import inference

    loaded, photo = inference.model_fn(str(model)), draw_kinds()["photo.jpg"]

    def ask(kind: str) -> Any:
        return inference.output_fn(inference.predict_fn(inference.input_fn(photo, kind), loaded), "application/json")

    ask("image/jpeg; explain=true")  # which makes the explainer
    plain, explained = lambda: ask("image/jpeg"), lambda: ask("image/jpeg; explain=true")
    return {"plain": time_best(plain), "explained": time_best(explained)}


def time_best(act: Callable[[], Any]) -> float:
    times = []
    for _ in range(TRIES):
        begun = time.process_time()
        act()
        times.append(1000 * (time.process_time() - begun))
    return min(times)


def tell(name: str, sizes: dict[int, dict[str, float]], times: dict[str, float]) -> list[dict[str, Any]]:
    """Return the claims about a network."""
    at = ", ".join(map(str, sizes))
    largest, ratio = max(max(each.values()) for each in sizes.values()), times["explained"] / times["plain"]
    engines = {str(size): list(each)[-1] for size, each in sizes.items()}
    text = f"{name}: largest difference of a probability, at {at} px"
    return [
        claim(text, largest, "probability", at_most=MOST, locally=engines),
        claim(f"{name}: a prediction at {next(iter(sizes))} px", times["plain"], "ms"),
        claim(f"{name}: with an explanation", ratio, "times", at_most=MOST_TIMES),
    ]


def record(seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Measure the networks that are not recorded yet, until the time is up. Return the claims about all of them."""
    lines = RECORDED.read_text().splitlines() if RECORDED.exists() else []
    known = {name: claims for each in lines for name, claims in json.loads(each).items()}
    deadline = time.monotonic() + seconds
    RECORDED.parent.mkdir(parents=True, exist_ok=True)
    with RECORDED.open("a", encoding="utf-8") as file:
        for name in FAMILIES:
            if name not in known and time.monotonic() < deadline:
                known[name] = tell(name, *measure(name))
                file.write(json.dumps({name: known[name]}, separators=(",", ":")) + "\n")
                file.flush()
    return known


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.parity")
    parser.add_argument("--quick", action="store_true", help="two networks, no result")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this long; the next run goes on")
    given = parser.parse_args([] if sys.argv[0].endswith("benchmarks/__main__.py") else None)
    torch.set_num_threads(1)
    if given.quick:
        for name in QUICK:
            print(tell(name, *measure(name)))
        return
    known = record(given.seconds)
    if len(known) == len(FAMILIES):
        claims = [each for name in FAMILIES for each in known[name]]
        write_result("parity", claims, ["torch", "torchvision", "pillow"])
    else:
        print(f"{len(known)} of {len(FAMILIES)} networks: run it again to go on")


if __name__ == "__main__":
    main()
