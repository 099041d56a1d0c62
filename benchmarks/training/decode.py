"""Measure how fast a zip becomes pixels, against unzip, ImageFolder and DataLoader with as many workers.

Both sides are processes that take turns; what is timed begins after the imports. Ours reads, decodes, scales, hashes
and looks for near copies, and keeps the pixels; the peer unpacks, decodes, scales, crops and normalises. Images of 3000
x 2000 are decoded as batches that only train them need it: at a reduced scale, but for those that are judged. Memory is
followed in a turn of its own: one look at three processes takes 30 ms of a processor.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results import claim, spread, write_result
from benchmarks.training.photos import unzip, write_photos

ROOT = Path(__file__).parents[2]
CORES = os.cpu_count() or 1
REPEATS = 3
SIDE = 256
SIZES = {"500x375": ((500, 375), 800, 1.8), "3000x2000": ((3000, 2000), 120, 2.5)}
GROWTH = (1_000, 10_000, 100_000)
OFTEN, SELDOM = 0.05, 1.0  # seconds between two looks at the memory


def split(count: int) -> dict[str, int]:
    return {"train": count * 8 // 10, "valid": count // 10, "test": count // 10}


def decode_ours(archive: Path, side: int, look: float) -> dict[str, float]:
    """Read a dataset in this process and the ones that it forks. Return seconds and the most memory beside pixels.

    look: the seconds after which memory is looked at again; 0 for never.
    """
    sys.path.append(str(ROOT / "training"))
    from images.data import read_dataset

    with Watch(look) as watch:
        begun, busy = time.perf_counter(), count_processor()
        dataset = read_dataset(archive, side, threads=CORES, scratch=archive.parent, only_train=True)
        seconds, processor = time.perf_counter() - begun, count_processor() - busy
    memory = max(0.0, watch.most - len(dataset) * 3 * side**2) / 1e6
    return {"seconds": seconds, "processor": processor, "images": len(dataset), "memory_mb": memory}


def decode_peer(archive: Path, side: int, look: float) -> dict[str, float]:
    """Unpack the zip, and take one epoch from the loader of each split."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    level = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    steps = [transforms.Resize(side), transforms.CenterCrop(side * 224 // 256), transforms.ToTensor(), level]
    with tempfile.TemporaryDirectory() as folder, Watch(look) as watch:
        begun, busy = time.perf_counter(), count_processor()
        unzip(archive, Path(folder))
        seen = 0
        for name in ("train", "valid", "test"):
            images = datasets.ImageFolder(f"{folder}/{name}", transforms.Compose(steps))
            seen += sum(len(labels) for _, labels in DataLoader(images, 32, shuffle=name == "train", num_workers=CORES))
        seconds, processor = time.perf_counter() - begun, count_processor() - busy
    return {"seconds": seconds, "processor": processor, "images": seen, "memory_mb": watch.most / 1e6}


def count_processor() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


class Watch:
    """Follow the memory of this process and its children beyond what it had at first: private and shared, in bytes."""

    def __init__(self, look: float) -> None:
        self.look, self.most, self.ended = look, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def __enter__(self) -> Watch:
        self.before = self.read()
        if self.look:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.follow_once()
        self.ended.set()
        if self.look:
            self.thread.join()

    def follow(self) -> None:
        while not self.ended.wait(self.look):
            self.follow_once()

    def follow_once(self) -> None:
        self.most = max(self.most, self.read() - self.before)

    def read(self) -> float:
        """Return the proportional set size, so that what processes share counts once."""
        import psutil

        total = 0.0
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except (psutil.Error, OSError):
                continue
        return total


def run_apart(side: str, archive: Path, pixels: int = SIDE, look: float = 0) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training.decode", "--side", side, "--archive", str(archive)]
    command += ["--pixels", str(pixels), "--look", str(look)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def compare(archive: Path) -> dict[str, list[dict[str, float]]]:
    """Let both sides take turns, and each another one in which its memory is followed."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for _ in range(REPEATS):
        for side in found:
            found[side].append(run_apart(side, archive))
    for side, runs in found.items():
        runs[0]["memory_mb"] = run_apart(side, archive, look=OFTEN)["memory_mb"]
    return found


def describe(name: str, found: dict[str, list[dict[str, float]]], bar: float) -> dict[str, Any]:
    rates = {side: [run["images"] / run["seconds"] for run in runs] for side, runs in found.items()}
    busy = {side: statistics.median(run["processor"] / run["images"] for run in runs) for side, runs in found.items()}
    ratio = statistics.median(rates["ours"]) / statistics.median(rates["peer"])
    middle = {side: f"{statistics.median(values):.0f} images/s" for side, values in rates.items()}
    details: dict[str, Any] = {"peer": "unzip, ImageFolder", "ours": middle["ours"], "theirs": middle["peer"]}
    details |= {f"{side}_images_per_second": spread(values) for side, values in rates.items()}
    details |= {f"{side}_memory_mb": runs[0]["memory_mb"] for side, runs in found.items()}
    details |= {"load": os.getloadavg()[0], "processor_ratio": busy["peer"] / busy["ours"]}
    return claim(f"{name}: images a second over unzip and ImageFolder", ratio, "ratio", at_least=bar, **details)


def measure_growth(folder: Path, counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """Decode more and more small images; the seconds of an image must not grow with their number."""
    runs = []
    for count in counts:
        archive = folder / "many" / f"{count}.zip"
        write_photos(archive, split(count), (64, 48), different=500)
        runs.append(run_apart("ours", archive, 32, SELDOM))
        archive.unlink()
    each = [run["seconds"] / run["images"] for run in runs]
    details = {"images": counts, "seconds": [run["seconds"] for run in runs]}
    memory = max(run["memory_mb"] for run in runs)
    what = f"seconds of an image, {counts[-1]:,} images over {counts[-2]:,}"
    return [
        claim(what, each[-1] / each[-2], "ratio", at_most=1.3, **details),
        claim("memory beside the pixels, at the most", memory, "MB", at_most=600),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=("ours", "peer"))
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--pixels", type=int, default=SIDE)
    parser.add_argument("--look", type=float, default=0, help="seconds between two looks at the memory; 0: none")
    parser.add_argument("--quick", action="store_true", help="few images, no result file")
    told = parser.parse_args(None if __name__ == "__main__" else [])
    if told.side:
        sides: dict[str, Callable[[Path, int, float], dict[str, float]]] = {"ours": decode_ours, "peer": decode_peer}
        print(json.dumps(sides[told.side](told.archive, told.pixels, told.look)))
        return
    claims = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (size, count, bar) in SIZES.items():
            archive = Path(folder) / f"{name}.zip"
            write_photos(archive, split(count // (10 if told.quick else 1)), size, different=100)
            claims.append(describe(name, compare(archive), bar))
            print(json.dumps(claims[-1]), flush=True)
        claims += measure_growth(Path(folder), (100, 1000) if told.quick else GROWTH)
    if told.quick:
        print(json.dumps(claims, indent=1))
        return
    write_result("decode", claims, packages=["torch", "torchvision", "pillow"])


if __name__ == "__main__":
    main()
