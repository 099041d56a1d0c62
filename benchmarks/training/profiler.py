"""Measure what acting on the profile gains a starved training, and what it costs a healthy one.

Starved: photographs of 3000 x 2000 pixels, decoded anew for every batch (no cache), a small network input, two cores.
Healthy: the same machine and network, small pictures decoded beforehand; each is a whole training in this process.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.results import claim, write_result

ROOT = Path(__file__).parents[2]
THREADS = 2
LARGE, SMALL = (3000, 2000), (64, 64)
STARVED = {"image_size": 64, "batch_size": 16, "epochs": 30, "cache": "none"}
HEALTHY = {"image_size": 64, "batch_size": 32, "epochs": 12, "cache": "auto"}
COUNTS = {"starved": {"train": 96, "valid": 4, "test": 4}, "healthy": {"train": 960, "valid": 20, "test": 20}}


def draw_picture(seed: int, size: tuple[int, int]) -> bytes:
    """Draw a JPEG like a photograph: soft shapes under the grain of a sensor."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (size[1], size[0], 1)).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_dataset(folder: Path, counts: dict[str, int], size: tuple[int, int]) -> None:
    """Write a dataset of two classes. Only a few of its images differ, because drawing takes longer than decoding."""
    folder.mkdir(parents=True)
    pictures = [draw_picture(seed, size) for seed in range(16)]
    with zipfile.ZipFile(folder / "dataset.zip", "w") as archive:
        for split, count in counts.items():
            for number in range(count):
                name = f"{split}/{'ab'[number % 2]}/{number:04}.jpg"
                archive.writestr(name, pictures[number % len(pictures)])


def set_up(folder: Path, chosen: dict[str, Any]) -> tuple[Any, Any]:
    """Set up a job to the point where its training begins."""
    from job.settings import Hyperparameters, Job, Places
    from learning.preparation import make_course, prepare

    names = ("model", "output", "checkpoints", "code")
    places = Places(dataset=folder / "input", weights=None, **{name: folder / name for name in names})
    job = Job("benchmark", places, threads=THREADS, gpus=0)
    setup = prepare(job, Hyperparameters(**chosen, pretrained="none", profile=True))
    return setup, make_course(setup)


def train(course: Any, epochs: int, hooks: list[Any]) -> float:
    """Train for some epochs. Returns the seconds it took."""
    from learning.engine import Progress, fit

    begun = time.perf_counter()
    known = {"patience": 0, "objective": "score", "seed": 0, "progress": Progress()}
    ignored: Callable[[Any], None] = lambda _: None  # noqa: E731
    fit(
        course.learner,
        course.batches,
        course.validate,
        epochs=epochs,
        save=ignored,
        report=ignored,
        hooks=hooks,
        **known,
    )
    return time.perf_counter() - begun


def measure_starved(base: Path) -> list[dict[str, Any]]:
    from profiler.execution_plan import choose_plan

    write_dataset(base / "input", COUNTS["starved"], LARGE)
    setup, course = set_up(base, STARVED)
    begun = time.perf_counter()
    plan = choose_plan(setup, base / "job", course)
    seconds = time.perf_counter() - begun
    factor = plan["before"]["step_ms"] / plan["after"]["step_ms"]
    details = {name: plan[name] for name in ("before", "after", "candidates", "verdict", "rules")}
    return [
        claim("starved loader: step before over step after", factor, "ratio", at_least=2, **details),
        claim("starved loader: seconds spent on the plan", seconds, "s"),
    ]


def measure_healthy(base: Path) -> list[dict[str, Any]]:
    from profiler.execution_plan import choose_plan
    from profiler.recorder import make_profiler

    write_dataset(base / "input", COUNTS["healthy"], SMALL)
    setup, course = set_up(base, HEALTHY)
    begun = time.perf_counter()
    plan = choose_plan(setup, base / "job", course)
    planning = time.perf_counter() - begun
    unwatched = [train(course, 1, []) for _ in range(HEALTHY["epochs"] - 1)]
    profiler = make_profiler(base / "job", setup, course, begun=time.time())
    watched = train(course, 1, [profiler])
    training = sum(unwatched) + watched
    details = {"training_s": training, "plan_s": planning, "verdict": plan["verdict"], "before": plan["before"]}
    return [
        claim("healthy training: settings that were changed", len(plan["chosen"]), "settings", at_most=0),
        claim("healthy training: cost of the plan", 100 * planning / training, "%", at_most=3, **details),
        claim("an epoch watched over the median of those unwatched", watched / median(unwatched), "ratio"),
    ]


def main() -> None:
    sys.path.append(str(ROOT / "training"))
    with tempfile.TemporaryDirectory() as folder:
        claims = [*measure_starved(Path(folder) / "starved"), *measure_healthy(Path(folder) / "healthy")]
    write_result("profiler", claims, packages=["torch", "pillow"])


if __name__ == "__main__":
    main()
