"""Measure what the forms of a prediction request cost: a multipart form, base64 in JSON, and an upload's id.

The peer is the same photo of 60 kB as raw bytes, through the same route, in turns.
"""

from __future__ import annotations

import base64
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.results import claim, spread, write_result
from benchmarks.serving.archive import encode_photo
from benchmarks.serving.endpoint import NAME, deploy
from benchmarks.serving.servers import FORM, JPEG, write_bodies
from tests.support.local_cloud import LocalCloud, run_local_cloud
from tests.support.model_archives import write_model

ROUNDS, WARM = 100, 10
JSON = {"Content-Type": "application/json"}
RAW = "raw bytes"
Form = tuple[bytes, dict[str, str]]


def make_forms(cloud: LocalCloud, folder: Path) -> dict[str, Form]:
    """Return the photo in each form: the body and its content type."""
    photo = encode_photo(1)
    _, form = write_bodies(folder, photo)
    told = cloud.api.post("/uploads", json={"kind": "image", "size": len(photo)}).raise_for_status().json()
    httpx.put(told["url"], content=photo).raise_for_status()
    return {
        RAW: (photo, JPEG),
        "multipart": (form.read_bytes(), FORM),
        "base64 in JSON": (json.dumps({"image": base64.b64encode(photo).decode()}).encode(), JSON),
        "an upload's id": (json.dumps({"upload": told["id"]}).encode(), JSON),
    }


def time_forms(cloud: LocalCloud, forms: dict[str, Form]) -> dict[str, list[float]]:
    """Return the milliseconds of predictions in each form, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(ROUNDS + WARM):
        for name, (body, headers) in forms.items():
            start = time.perf_counter()
            cloud.api.post(f"/models/{NAME}/predict", content=body, headers=headers).raise_for_status()
            taken[name].append((time.perf_counter() - start) * 1000)
    return {name: each[WARM:] for name, each in taken.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as name, run_local_cloud(Path(name) / "cloud") as cloud:
        folder = Path(name)
        deploy(cloud, write_model(folder / "model", architecture="resnet18", image_size=224, resize_size=256), folder)
        taken = time_forms(cloud, make_forms(cloud, folder))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    write_result(
        "forms",
        [
            *(claim_added(name, each, medians[RAW]) for name, each in medians.items() if name != RAW),
            *(claim(f"a prediction, {name}", medians[name], "ms", **spread(each)) for name, each in taken.items()),
        ],
        packages=["torch", "onnxruntime", "starlette", "uvicorn", "httpx", "boto3"],
    )


def claim_added(name: str, ours: float, raw: float) -> dict[str, Any]:
    """Return the claim about what a form adds."""
    told = {"peer": RAW, "ours": f"{ours:.1f} ms", "theirs": f"{raw:.1f} ms"}
    return claim(f"a prediction by {name}: what it adds at the median", ours - raw, "ms", at_most=5, **told)


if __name__ == "__main__":
    main()
