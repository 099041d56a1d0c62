"""Make tiny datasets, and run train.py on them as SageMaker's script mode does: a process with an environment."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ("bar", "disc", "ring")
QUICK = {"epochs": "3", "image_size": "16", "batch_size": "16", "pretrained": "none", "run_id": "whippet-test-1"}


def shape(label: str, rng: np.random.Generator, size: int = 16) -> Image.Image:
    """Draw a noisy image of a bar, a disc or a ring near the middle."""
    down, across = np.mgrid[0:size, 0:size] - size / 2 + rng.uniform(-2, 2, (2, 1, 1))
    radius = np.hypot(down, across)
    masks = {"bar": abs(across) < size / 8, "disc": radius < size / 3.2, "ring": abs(radius - size / 3) < size / 10}
    pixels = masks[label] * rng.uniform(120, 200) + rng.normal(30, 8, (size, size))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def smooth(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    """Draw soft coloured blobs, different for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    return encode(image, "PNG")


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    """Return the image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def make_zip(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of these files, in this order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return buffer.getvalue()


def shapes_zip(
    counts: Mapping[str, int], *, seed: int = 0, root: str = "", extra: Mapping[str, bytes] | None = None
) -> bytes:
    """Return a dataset with `counts` images per class in each split; split "" puts class folders at the root."""
    rng = np.random.default_rng(seed)
    files = {
        f"{root}{split}{'/' if split else ''}{label}/{number:03}.png": png(shape(label, rng))
        for split, count in counts.items()
        for label in SHAPES
        for number in range(count)
    }
    return make_zip({**files, **(extra or {})})


class Template:
    """The process that jobs are forked from: it imported torch once for all tests."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("template.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.codes: dict[int, int] = {}

    def start(self, request: Mapping[str, Any]) -> int:
        """Start a job and return its process id."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.read(lambda message: "code" not in message)["pid"]

    def wait(self, pid: int) -> int:
        """Wait for a job and return its exit code."""
        if pid not in self.codes:
            self.read(lambda message: message["pid"] == pid)
        return self.codes[pid]

    def read(self, wanted: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        while line := self.process.stdout.readline():
            message = json.loads(line)
            if "code" in message:
                self.codes[message["pid"]] = message["code"]
            if wanted(message):
                return message
        raise RuntimeError("the template process ended")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)


class Runner:
    """A base folder (/opt/ml) and a way to start train.py in it."""

    def __init__(self, folder: Path, archive: Path, template: Template) -> None:
        self.template, self.log_path = template, folder / "log"
        self.base = folder / "ml"
        self.job = "whippet-test-1-train"
        self.channel = self.base / "input/data/dataset"
        self.channel.mkdir(parents=True)
        shutil.copy(archive, self.channel / "dataset.zip")
        self.model, self.folder = self.base / "model", self.base / "checkpoints" / self.job

    def environ(self, hyperparameters: Mapping[str, Any], threads: int = 1, **more: str) -> dict[str, str]:
        """Return the environment that the toolkit would give the script."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.base),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SAGEMAKER_BASE_DIR": str(self.base),
            "TRAINING_JOB_NAME": self.job,
            "SM_NUM_CPUS": str(threads),
            "SM_NUM_GPUS": "0",
            "SM_CHANNEL_DATASET": str(self.channel),
            "SM_MODEL_DIR": str(self.model),
            "SM_OUTPUT_DIR": str(self.base / "output"),
            "SM_HPS": json.dumps({**QUICK, **hyperparameters}),
            **more,
        }

    def start(self, hyperparameters: Mapping[str, Any] | None = None, **options: Any) -> int:
        """Fork train.py from the template and return its process id."""
        code = options.pop("code", ROOT / "training")
        environ = self.environ(hyperparameters or {}, **options)
        argv = ["--epochs", "ignored: SM_HPS counts"]
        script = {"script": str(code / "train.py"), "cwd": str(code), "argv": argv}
        return self.template.start({**script, "environ": environ, "log": str(self.log_path)})

    def run(self, hyperparameters: Mapping[str, Any] | None = None, **options: Any) -> tuple[int, str]:
        """Run train.py and return (exit code, log)."""
        return self.finish(self.start(hyperparameters, **options))

    def finish(self, pid: int) -> tuple[int, str]:
        """Wait for a run and return (exit code, log)."""
        return self.template.wait(pid), self.log()

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def read(self, path: str) -> Any:
        """Read a JSON file of the base folder."""
        return json.loads((self.base / path).read_text())

    def evaluation(self) -> Any:
        return json.loads((self.folder / "evaluation.json").read_text())

    def metrics(self) -> list[Any]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def failure(self) -> str:
        return (self.base / "output/failure").read_text()
