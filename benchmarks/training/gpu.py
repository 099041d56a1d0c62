"""Measure the training on a GPU against the limit of the same card, torchvision's reference, and an earlier program.

    python -m benchmarks.training.gpu --baseline build/baseline      on a machine with a GPU: at most six minutes
    python -m benchmarks.training.gpu --small                        a few tiny images, on any machine: no result file

The baseline is the source tarball of an earlier commit, unpacked into a folder; without one its claims are left out.
The limit is the network alone on one synthetic batch: half precision, channels last, the whole step a CUDA graph. The
bare import is a process that imports torch and torchvision and touches the device: every job pays for it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import claim, spread, write_result
from benchmarks.training.photos import unzip, write_photos

ROOT = Path(__file__).parents[2]
CORES = os.cpu_count() or 1
TOUCH = "import torch, torchvision; torch.cuda.is_available() and torch.ones(1, device='cuda').item()"


@dataclass(frozen=True)
class Scale:
    """How large the measurement is."""

    images: int
    photo: tuple[int, int]
    side: int
    batches: tuple[int, ...]
    epochs: int
    steps: int
    repeats: int


FULL = Scale(8000, (500, 375), 224, (16, 64, 256), 6, 60, 3)
SMALL = Scale(60, (64, 48), 32, (4, 8), 2, 4, 1)


def sort_out(scale: Scale) -> dict[str, int]:
    return {"train": scale.images * 8 // 10, "valid": scale.images // 10, "test": scale.images // 10}


def measure_limit(batch: int, scale: Scale) -> float:
    """Return the images a second of the network alone, on one synthetic batch that lies on the device."""
    import torch
    from learning.engine import Learner
    from learning.model import build_network
    from learning.steps.precision import choose_precision, compute_exactly
    from learning.steps.replay import CudaRecorder

    compute_exactly()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_network("resnet18", 20).to(device, memory_format=torch.channels_last).train()
    precision = choose_precision(device, scale.side)
    options: dict[str, Any] = {"weight_decay": 0.01, "steps": 1000, "device": device, "precision": precision}
    learner = Learner(network, rate=1e-4, **options)
    if device.type == "cuda":
        learner.replay = learner.make_replay(CudaRecorder())
    inputs = torch.rand((batch, 3, scale.side, scale.side), device=device).to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=device) % 20
    rates = []
    for _ in range(scale.repeats + 1):
        begun = time.perf_counter()
        for _ in range(scale.steps):
            learner.learn(inputs, labels)
        learner.tally.read()
        rates.append(batch * scale.steps / (time.perf_counter() - begun))
    return statistics.median(rates[1:])


def set_up(folder: Path, batch: int, scale: Scale) -> Any:
    """Set up a training from scratch, with replayed steps where there is a GPU. Return its course."""
    import torch
    from job.settings import Hyperparameters, Job, Places
    from learning.preparation import make_course, prepare
    from learning.replaying import allow_replay

    names = ("model", "output", "checkpoints", "code")
    places = Places(dataset=folder, weights=None, **{name: folder / name for name in names})
    chosen = Hyperparameters(batch_size=batch, image_size=scale.side, epochs=scale.epochs, pretrained="none")
    setup = prepare(Job("gpu", places, CORES, torch.cuda.device_count()), chosen)
    course = make_course(setup)
    return course, allow_replay(course.learner, course.batches)


def measure_ours(folder: Path, batch: int, scale: Scale) -> dict[str, Any]:
    """Train some epochs; return images a second of the later ones, and the GPU's share of a traced one."""
    import torch
    from learning.engine import Progress, run_epoch

    course, replayed = set_up(folder, batch, scale)
    rates = []
    for number in range(scale.repeats + 1):
        progress, begun = Progress(epoch=number), time.perf_counter()
        run_epoch(course.learner, course.batches, progress, 0, (), lambda _: None, lambda: False)
        rates.append(progress.totals.images / (time.perf_counter() - begun))
    busy = None
    if torch.cuda.is_available():
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            begun = time.perf_counter()
            run_epoch(course.learner, course.batches, Progress(epoch=9), 0, (), lambda _: None, lambda: False)
            seconds = time.perf_counter() - begun
        busy = sum(each.self_device_time_total for each in profile.key_averages()) / 1e6 / seconds
    return {"rates": rates[1:], "replayed": replayed, "busy": busy}


def measure_steps(folder: Path, scale: Scale) -> list[dict[str, Any]]:
    """Compare the training's steps with the limit, batch by batch."""
    claims, limits = [], {batch: measure_limit(batch, scale) for batch in scale.batches}
    for batch in scale.batches:
        own = measure_ours(folder, batch, scale)
        small = batch == scale.batches[0]
        limit, bar = (limits[scale.batches[1]], 0.5) if small else (limits[batch], 0.85)
        rate = statistics.median(own["rates"])
        details = {"images_per_second": spread(own["rates"]), "limit": limits[batch], "kernels_over_wall": own["busy"]}
        what = f"batch {batch}: images a second over the limit of batch {scale.batches[1] if small else batch}"
        claims.append(claim(what, rate / limit, "ratio", at_least=bar, **details))
        claims.append(claim(f"batch {batch}: replayed steps are the bits of plain ones", own["replayed"], "proven"))
    return claims


def time_import() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", TOUCH], check=True)
    return time.perf_counter() - begun


def describe_job(base: str, folder: Path, values: dict[str, Any], gpus: int) -> dict[str, str]:
    """Return the environment of a job that trains on a folder's dataset with these hyperparameters, below `base`."""
    return {
        **os.environ,
        "SAGEMAKER_BASE_DIR": base,
        "TRAINING_JOB_NAME": "job",
        "SM_CHANNEL_DATASET": str(folder),
        "SM_MODEL_DIR": f"{base}/model",
        "SM_OUTPUT_DIR": f"{base}/output",
        "SM_NUM_CPUS": str(CORES),
        "SM_NUM_GPUS": str(gpus),
        "SM_HPS": json.dumps(values),
    }


def run_job(code: Path, folder: Path, scale: Scale) -> dict[str, float]:
    """Run a whole job of a program as a process; return its seconds, and those before its first epoch."""
    import torch

    with tempfile.TemporaryDirectory() as base:
        own = {"epochs": scale.epochs, "batch_size": scale.batches[1], "image_size": scale.side, "pretrained": "none"}
        environment = describe_job(base, folder, own, torch.cuda.device_count())
        begun = time.time()
        done = subprocess.run([sys.executable, str(code / "train.py")], env=environment, capture_output=True, text=True)
        seconds = time.time() - begun
        if done.returncode:
            raise SystemExit(f"{code} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        lines = (Path(base) / "checkpoints/job/metrics.jsonl").read_text().splitlines()
    first = next(each for each in map(json.loads, lines) if each.get("epoch") == 1)
    return {"seconds": seconds, "first_step": first["time"] - first["seconds"] - begun}


def measure_jobs(folder: Path, scale: Scale, baseline: Path | None) -> list[dict[str, Any]]:
    """Compare whole jobs, less what a bare import takes."""
    imports, ours = [time_import() for _ in range(3)], run_job(ROOT / "training", folder, scale)
    bare = statistics.median(imports)
    details = {"bare_import_s": spread(imports), "job_s": ours["seconds"]}
    claims = [claim("first step beyond the bare import", ours["first_step"] - bare, "s", at_most=4, **details)]
    if baseline:
        before = run_job(baseline, folder, scale)
        share = (ours["seconds"] - bare) / (before["seconds"] - bare)
        details = {"baseline_s": before["seconds"], "ours_s": ours["seconds"]}
        claims.append(
            claim("whole job over the baseline's, less the bare import", share, "ratio", at_most=0.5, **details)
        )
    return claims


def measure_reference(folder: Path, scale: Scale) -> list[float]:
    """Return the reference's images a second in training, from its second epoch on."""
    files = unzip(folder / "dataset.zip", folder / "files")
    options = [
        "--workers",
        str(CORES),
        "--batch-size",
        str(scale.batches[1]),
        "--epochs",
        str(max(2, scale.epochs // 2)),
    ]
    command = ["-m", "benchmarks.peers.reference", "--data", str(files), "--size", str(scale.side), *options]
    done = subprocess.run(
        [sys.executable, *command, "--amp", "--channels-last"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    told = json.loads(done.stdout.splitlines()[-1])
    return [told["images"]["train"] / epoch["train"] for epoch in told["epochs"][1:]]


def measure(folder: Path, scale: Scale, baseline: Path | None) -> list[dict[str, Any]]:
    sys.path.append(str(ROOT / "training"))
    write_photos(
        folder / "dataset.zip", sort_out(scale), scale.photo, classes=20 if scale is FULL else 3, different=1000
    )
    claims = measure_jobs(folder, scale, baseline)
    steps = measure_steps(folder, scale)
    ours = steps[2]["images_per_second"]["median"]  # of the middle batch
    peer = measure_reference(folder, scale)
    ratio = ours / statistics.median(peer)
    return [
        *claims,
        *steps,
        claim(
            "images a second over the reference's", ratio, "ratio", at_least=3, reference_images_per_second=spread(peer)
        ),
    ]


def main() -> None:
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--baseline", type=Path)
    told = parser.parse_args(None if __name__ == "__main__" else [])
    if not told.small and not torch.cuda.is_available():
        print("gpu: unmeasured, there is no GPU here; --small shows that the script runs")
        return
    with tempfile.TemporaryDirectory() as folder:
        claims = measure(Path(folder), SMALL if told.small else FULL, told.baseline)
    if told.small:
        print(json.dumps(claims, indent=1))
        return
    write_result("gpu", [*claims, claim("cards", torch.cuda.device_count(), torch.cuda.get_device_name())], ["torch"])


if __name__ == "__main__":
    main()
