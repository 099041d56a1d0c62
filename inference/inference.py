"""Serve a model on a SageMaker endpoint: the four functions of AWS's PyTorch serving contract.

Shipped as `code/` in the model archive, beside `model.pth` (a state dictionary) and `manifest.json`. Needs only torch,
torchvision, numpy and Pillow, which AWS's image holds.

Request: the bytes of a JPEG, PNG or WebP, or JSON `{"url": …}` with a signed URL of the app's bucket. Answer:
`{"results": [{"predictions": [{"class": "7", "probability": 0.99}, …]}], "run_id": "…"}`, all classes, best first. With
`; explain=true` behind the content type, a result also has `explanation`: {"class": "7", "image": a PNG as a data URL}.
Where the manifest says how to tell images of no class, a result has `known`, and `nearest` if that is false.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision
from explaining import Explainer, make_explainer, paint, to_address
from fetching import fetch_image
from knowing import Rule, read_rule
from PIL import Image
from preprocessing import decode_image, make_tensor, show_square
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


@dataclass(frozen=True)
class Classifier:
    """A network that is ready to answer, and what its manifest says about it."""

    network: torch.nn.Module
    manifest: dict[str, Any]
    rule: Rule | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    explainers: list[Explainer | None] = field(default_factory=list)

    def find_explainer(self, batch: torch.Tensor) -> Explainer | None:
        """Return what explains the network's answers, or None if nothing can; the first request makes it."""
        with self.lock:
            if not self.explainers:
                self.explainers.append(make_explainer(self.network, batch))
            return self.explainers[0]

    def answer(self, batch: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = self.network(batch)[0]
        return logits


def model_fn(model_dir: str) -> Classifier:
    """Load the model. Raises ValueError if the manifest has another format or the weights do not fit it."""
    folder = Path(model_dir)
    manifest = read_manifest(folder / "manifest.json")
    options = {"num_classes": len(manifest["classes"]), **manifest.get("options", {})}
    network = torchvision.models.get_model(manifest["architecture"], weights=None, **options)
    try:
        network.load_state_dict(torch.load(folder / "model.pth", map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise ValueError(f"{folder / 'model.pth'} is no {manifest['architecture']}: {error}") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.allow_tf32 = False  # a GPU then answers as a CPU does, and as training's evaluation did
    return Classifier(network.eval().to(device, memory_format=torch.channels_last), manifest, read_rule(manifest))


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
    device = next(classifier.network.parameters()).device
    batch = make_tensor(image, **settings)[None].to(device, memory_format=torch.channels_last)
    if image.info.get(EXPLAIN):
        logits, explained = explain(image, batch, classifier)
    else:
        logits, explained = classifier.answer(batch), {}
    return {"results": [describe_result(logits, classifier) | explained], "run_id": manifest["run_id"]}


def explain(image: Image.Image, batch: torch.Tensor, classifier: Classifier) -> tuple[torch.Tensor, dict[str, Any]]:
    """Return the logits, and the explanation: the class and the image with its map, or None without a map."""
    explainer, manifest = classifier.find_explainer(batch), classifier.manifest
    if explainer is None:
        return classifier.answer(batch), {"explanation": None}
    logits, heat = explainer.explain(batch)
    shown = paint(show_square(image, manifest["resize_size"], manifest["image_size"]), heat)
    return logits, {"explanation": {"class": manifest["classes"][int(logits.argmax())], "image": to_address(shown)}}


def describe_result(logits: torch.Tensor, classifier: Classifier) -> dict[str, Any]:
    """Return every class with its probability, best first, and whether the image fits any, if the model can tell."""
    manifest, rule = classifier.manifest, classifier.rule
    probabilities = (logits.double() / manifest.get("temperature", 1.0)).softmax(0).tolist()
    ranked = sorted(zip(manifest["classes"], probabilities, strict=True), key=lambda pair: -pair[1])
    known = rule.judge(logits, [name for name, _ in ranked]) if rule else {}
    return {"predictions": [{"class": name, "probability": round(value, DIGITS)} for name, value in ranked], **known}


def output_fn(prediction: dict[str, Any], accept: str | None) -> tuple[str, str]:
    """Return the answer and its content type. Raises Refusal (406) if the caller does not accept JSON."""
    kinds = {part.split(";")[0].strip().lower() for part in (accept or "*/*").split(",")}
    if not kinds & {JSON_TYPE, "application/*", "*/*"}:
        raise refuse_accept(f"The answer is {JSON_TYPE}, and Accept asks for {accept!r}. Ask for {JSON_TYPE}.")
    return json.dumps(prediction), JSON_TYPE
