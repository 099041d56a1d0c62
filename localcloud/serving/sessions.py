"""What a converted network is, without torch: its file in the cache, its session, and the images it is tried on."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import onnxruntime
from PIL import Image

AGREEMENT = 1e-4  # the largest difference between the two engines' outputs
OPSET = 17
KEPT = 16  # conversions in the cache; ResNet18's has 45 MB
SAMPLES = ((320, 240), (240, 320), (500, 375))  # pixels of the images that the engines are compared on


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a converted network. A call computes on the thread that makes it, so each worker keeps to one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def describe(difference: float) -> str:
    """Return a line for the log about an engine that agrees with torch."""
    agreed = f"differs from torch by at most {difference:.1e} on {len(SAMPLES)} images"
    return f"onnxruntime {onnxruntime.__version__} ({agreed})"


def draw_sample(number: int) -> bytes:
    """Return a JPEG with coarse and fine structure, the same every time."""
    dice, size = random.Random(number), SAMPLES[number]  # noqa: S311 - it draws test images
    coarse = Image.frombytes("RGB", (8, 6), dice.randbytes(8 * 6 * 3)).resize(size, Image.Resampling.BICUBIC)
    fine = Image.frombytes("RGB", size, dice.randbytes(size[0] * size[1] * 3))
    file = io.BytesIO()
    Image.blend(coarse, fine, 0.2).save(file, "JPEG", quality=90)
    return file.getvalue()


def hash_archive(model_dir: Path, shape: Sequence[int]) -> str:
    """Return the cache's key: every file of the archive by name and content, the input's shape, and the versions."""
    digest = hashlib.sha256(f"{version('torch')} {onnxruntime.__version__} {OPSET} {tuple(shape)}".encode())
    for path in sorted(each for each in model_dir.rglob("*") if each.is_file() and "__pycache__" not in each.parts):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"\n{path.relative_to(model_dir)} {content}".encode())
    return digest.hexdigest()


def forget_old(paths: Iterable[Path]) -> None:
    """Delete all but the conversions that were used last."""
    for path in sorted(paths, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT:]:
        path.unlink(missing_ok=True)
