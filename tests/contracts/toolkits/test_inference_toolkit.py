"""`inference/` under AWS's own PyTorch serving handler: it answers there as it does in the local cloud."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.toolkits.environments import build_environment
from tests.support.image_kinds import announce_png, draw, encode
from tests.support.model_archives import write_model
from tests.support.model_servers import end_server, post, start_server

PROGRAM = Path(__file__).with_name("answer_with_toolkit.py")
JPEG = encode(draw(120, 90), "JPEG")
JSON = "application/json"
REQUESTS: dict[str, tuple[bytes, str, str, int]] = {
    "jpeg": (JPEG, "image/jpeg", JSON, 200),
    "png": (encode(draw(90, 120, "RGBA")), "image/png", JSON, 200),
    "webp": (encode(draw(64, 64), "WEBP"), "image/webp", "*/*", 200),
    "16 bits": (encode(draw(70, 70, "I;16")), "application/octet-stream", JSON, 200),
    "no body": (b"", "image/jpeg", JSON, 400),
    "accept csv": (JPEG, "image/jpeg", "text/csv", 406),
    "too large": (bytes(25_000_001), "image/jpeg", JSON, 413),
    "wrong type": (JPEG, "image/tiff", JSON, 415),
    "text": (b"1,2", "text/csv", JSON, 415),
    "bytes as text": (JPEG, "text/csv", JSON, 500),
    "no picture": (b"GIF89a", "image/png", JSON, 422),
    "truncated": (JPEG[:800], "image/jpeg", JSON, 422),
    "900 megapixels": (announce_png(30_000, 30_000), "image/png", JSON, 422),
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("contract") / "model", architecture="resnet18")


@pytest.fixture(scope="module")
def by_aws(model_dir: Path) -> dict[str, dict[str, Any]]:
    """What AWS's handler answers to each request."""
    lines = [
        json.dumps({"body": base64.b64encode(body).decode(), "content_type": kind, "accept": accept})
        for body, kind, accept, _ in REQUESTS.values()
    ]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(model_dir / "code"), "OMP_NUM_THREADS": "1"}
    command = [build_environment("inference") / "python", PROGRAM, model_dir]
    ended = subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, env=environment, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return dict(zip(REQUESTS, map(json.loads, ended.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def server(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The local cloud's server of the same model."""
    process, url = start_server(model_dir, tmp_path_factory.mktemp("server"))
    yield url
    end_server(process)


@pytest.mark.parametrize("name", REQUESTS)
def test_aws_and_the_local_cloud_answer_alike(name: str, by_aws: dict[str, dict[str, Any]], server: str) -> None:
    """The same status; for a picture the same JSON to the last digit, for an error the same first line."""
    body, kind, accept, status = REQUESTS[name]
    here, there = post(server, body, content_type=kind, accept=accept), by_aws[name]
    assert here.status_code == there["status"] == status
    if status == 200:
        assert here.text == there["body"]
        assert here.headers["content-type"] == there["content_type"] == JSON
    else:
        assert here.text.splitlines()[0] == there["body"].splitlines()[0]
