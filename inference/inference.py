"""Serve a model on a SageMaker endpoint: the four functions of AWS's PyTorch serving contract.

Shipped as `code/` in the model archive, beside `model.pth` (a state dictionary) and `manifest.json`. Needs only torch,
torchvision, numpy and Pillow, which AWS's image holds. Images, rules and answers are numpy's. torch is imported where
it computes (`networks`, `explaining`), so that a server with another engine needs none (`assemble`).

Request: the bytes of a JPEG, PNG or WebP, or JSON `{"url": …}` with a signed URL of the app's bucket. Answer:
`{"results": [{"predictions": [{"class": "7", "probability": 0.99}, …]}], "run_id": "…"}`, all classes, best first. With
`; explain=true` behind the content type, a result also has `explanation`: {"class": "7", "image": a PNG as a data URL}.
Where the manifest says how to tell images of no class, a result has `known`, and `nearest` if that is false.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fetching import fetch_image
from knowing import Rule, read_rule
from PIL import Image
from preprocessing import decode_image, make_array, show_square
from refusals import refuse_accept, refuse_request, refuse_size, refuse_type

MANIFEST_FORMAT = 1
MAX_BYTES = 25_000_000  # the limit of InvokeEndpoint
JSON_TYPE = "application/json"
# The last two do not tell the format, but AWS's clients send them by default. The bytes decide in every case.
CONTENT_TYPES = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/jpg",
    "application/octet-stream",
    "application/x-image",
)
DIGITS = 6
EXPLAIN = "explain"
SEEN = ("resize_size", "image_size", "mean", "std", "interpolation")  # the last one is not in older manifests


Compute = Callable[[np.ndarray], np.ndarray]  # the network's outputs for images (n, 3, h, w) in float32


@dataclass(frozen=True)
class Classifier:
    """What answers, and what its manifest says about it. network: torch's, or None where another engine computes."""

    network: Any
    manifest: dict[str, Any]
    folder: Path
    rule: Rule | None = None
    engine: Compute | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    explainers: list[Any] = field(default_factory=list)

    def find_explainer(self, batch: np.ndarray) -> Any:
        """Return what explains the network's answers, or None if nothing can; the first request makes it."""
        from explaining import make_explainer
        from networks import load_network, place

        with self.lock:
            if not self.explainers:
                network = load_network(self.folder, self.manifest) if self.network is None else self.network
                self.explainers.append(make_explainer(network, place(network, batch)))
            return self.explainers[0]

    def answer(self, batch: np.ndarray) -> np.ndarray:
        """Return the logits (classes,) of one image."""
        if self.engine:
            return self.engine(batch)[0]
        from networks import compute

        return compute(self.network, batch)[0]


def model_fn(model_dir: str) -> Classifier:
    """Load the model. Raises ValueError if the manifest has another format or the weights do not fit it."""
    from networks import load_network

    folder = Path(model_dir)
    manifest = read_manifest(folder / "manifest.json")
    return Classifier(load_network(folder, manifest), manifest, folder, read_rule(manifest))


def assemble(model_dir: str, engine: Compute) -> Classifier:
    """Return what `model_fn` returns, but with another engine that computes what the network does."""
    folder = Path(model_dir)
    manifest = read_manifest(folder / "manifest.json")
    return Classifier(None, manifest, folder, read_rule(manifest), engine)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what training wrote beside the weights. Unknown members are ignored."""
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format") != MANIFEST_FORMAT:
        raise ValueError(
            f"{path} has format {manifest.get('format')!r}, and this code reads {MANIFEST_FORMAT}. "
            "Deploy the model with the code of its own archive."
        )
    return manifest


def input_fn(request_body: bytes | str, content_type: str | None) -> Image.Image:
    """Decode the image. Raises Refusal: 400 no body, 413 too large, 415 wrong content type, 422 not an image."""
    kind, explained = read_type(content_type or "application/octet-stream")
    image = decode_image(read_body(request_body, kind, content_type))
    image.info[EXPLAIN] = explained
    return image


def read_type(content_type: str) -> tuple[str, bool]:
    """Return a content type in lower case, and whether its parameters ask for an explanation."""
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    return kind, f"{EXPLAIN}=true" in parameters


def read_body(request_body: bytes | str, kind: str, content_type: str | None) -> bytes:
    """Return the bytes of the image that a request holds or names. Raises Refusal."""
    if kind == JSON_TYPE:
        return fetch_image(request_body, os.environ.get("UPLOADS_ORIGIN", ""), MAX_BYTES)
    if kind not in CONTENT_TYPES or isinstance(request_body, str):
        raise refuse_type(f"Content type {content_type!r} is not served. Send one of {', '.join(CONTENT_TYPES)}.")
    if not request_body:
        raise refuse_request("The body is empty. Send the bytes of an image.")
    if len(request_body) > MAX_BYTES:
        raise refuse_size(f"The body has {len(request_body)} bytes; at most {MAX_BYTES} are taken. Shrink the image.")
    return bytes(request_body)


def predict_fn(image: Image.Image, classifier: Classifier) -> dict[str, Any]:
    """Classify the image: every class with its probability, best first; with a map of what decided if it is wanted."""
    manifest = classifier.manifest
    settings = {name: manifest[name] for name in SEEN if name in manifest}
    batch = make_array(image, **settings)[None]
    if image.info.get(EXPLAIN):
        logits, explained = explain(image, batch, classifier)
    else:
        logits, explained = classifier.answer(batch), {}
    return {"results": [describe_result(logits, classifier) | explained], "run_id": manifest["run_id"]}


def explain(image: Image.Image, batch: np.ndarray, classifier: Classifier) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the logits, and the explanation: the class and the image with its map, or None without a map."""
    explainer, manifest = classifier.find_explainer(batch), classifier.manifest
    if explainer is None:
        return classifier.answer(batch), {"explanation": None}
    from explaining import paint, to_address
    from networks import place

    logits, heat = explainer.explain(place(explainer.network, batch))
    shown = paint(show_square(image, manifest["resize_size"], manifest["image_size"]), heat)
    explanation = {"class": manifest["classes"][int(logits.argmax())], "image": to_address(shown)}
    return logits.cpu().numpy(), {"explanation": explanation}


def describe_result(logits: np.ndarray, classifier: Classifier) -> dict[str, Any]:
    """Return every class with its probability, best first, and whether the image fits any, if the model can tell."""
    manifest, rule = classifier.manifest, classifier.rule
    probabilities = soften(logits.astype(np.float64) / manifest.get("temperature", 1.0)).tolist()
    ranked = sorted(zip(manifest["classes"], probabilities, strict=True), key=lambda pair: -pair[1])
    known = rule.judge(logits, [name for name, _ in ranked]) if rule else {}
    return {"predictions": [{"class": name, "probability": round(value, DIGITS)} for name, value in ranked], **known}


def soften(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of logits (classes,)."""
    powers = np.exp(logits - logits.max())
    shares: np.ndarray = powers / powers.sum()
    return shares


def output_fn(prediction: dict[str, Any], accept: str | None) -> tuple[str, str]:
    """Return the answer and its content type. Raises Refusal (406) if the caller does not accept JSON."""
    kinds = {part.split(";")[0].strip().lower() for part in (accept or "*/*").split(",")}
    if not kinds & {JSON_TYPE, "application/*", "*/*"}:
        raise refuse_accept(f"The answer is {JSON_TYPE}, and Accept asks for {accept!r}. Ask for {JSON_TYPE}.")
    return json.dumps(prediction), JSON_TYPE
