"""Write what all servers serve: one ResNet18 at 224 pixels, as training writes it, and one photo of 60 kB."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.model_archives import write_model

PHOTO_BYTES, PHOTO_SIZE = 60_000, (500, 375)
CLASSES = [f"class {number}" for number in range(10)]
INT8_PROGRAM = '''"""The archive's own handlers, with the network in int8."""

from pathlib import Path

from inference import assemble, input_fn, output_fn, predict_fn
from localcloud.serving.sessions import open_session


def model_fn(model_dir):
    session = open_session(Path(model_dir) / "int8.onnx")
    return assemble(model_dir, lambda batch: session.run(None, {"input": batch})[0])
'''


def draw_photo(seed: int) -> Image.Image:
    """Draw an image with the structure of a photo: large shapes, edges, and grain."""
    dice = np.random.default_rng(seed)
    coarse = Image.fromarray(dice.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        PHOTO_SIZE, Image.Resampling.BICUBIC
    )
    middle = Image.fromarray(dice.integers(0, 256, (75, 100, 3), dtype=np.uint8)).resize(PHOTO_SIZE)
    fine = Image.fromarray(dice.integers(0, 256, (PHOTO_SIZE[1], PHOTO_SIZE[0], 3), dtype=np.uint8))
    return Image.blend(Image.blend(coarse, middle, 0.15), fine, 0.06)


def encode_photo(seed: int) -> bytes:
    """Return a photo as a JPEG of about 60 kB."""
    photo = draw_photo(seed)
    return min((encode(photo, quality) for quality in range(50, 99)), key=lambda data: abs(len(data) - PHOTO_BYTES))


def encode(photo: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return file.getvalue()


def write_resnet(folder: Path) -> Path:
    """Write the model's archive. Its weights are random, which costs what trained ones cost."""
    return write_model(folder, architecture="resnet18", classes=CLASSES, image_size=224, resize_size=256)


def write_int8(model: Path, converted: Path, folder: Path) -> Path:
    """Write the same archive with its network in int8, calibrated on 32 photos."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "code" / "int8.py").write_text(INT8_PROGRAM)
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(converted), str(prepared))
    quantize_static(
        str(prepared),
        str(folder / "int8.onnx"),
        Photos(range(100, 132)),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    prepared.unlink()
    return folder


class Photos:
    """What calibration reads: preprocessed photos, one at a time, then None."""

    def __init__(self, seeds: range) -> None:
        self._seeds = iter(seeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        seed = next(self._seeds, None)
        return None if seed is None else {"input": preprocess(draw_photo(seed))}


def preprocess(photo: Image.Image) -> np.ndarray:
    """Return a photo as the archive's own code gives it to the network."""
    from tests.support.model_archives import MANIFEST

    scale = 256 / min(photo.size)
    scaled = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BILINEAR)
    left, top = (scaled.width - 224) // 2, (scaled.height - 224) // 2
    pixels = np.asarray(scaled.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
    normal = (pixels - np.array(MANIFEST["mean"], np.float32)) / np.array(MANIFEST["std"], np.float32)
    return normal.transpose(2, 0, 1)[None].astype(np.float32)
