"""The prediction door of a running app, asked as strangers ask it: by forms, JSON, uploads, and a generated client."""

from __future__ import annotations

import base64
import importlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.local_cloud import LocalCloud
from tests.support.pictures import draw_test_picture

DOCUMENT = Path(__file__).parents[2] / "openapi.json"
PREDICT = "models/colours/predict"
MEGAPIXELS = (4000, 3000)


@pytest.fixture(scope="module")
def door(cloud: LocalCloud, deployed_run: dict[str, Any]) -> LocalCloud:
    """A cloud in which the model `colours` answers."""
    return cloud


def ask(door: LocalCloud, method: str = "POST", path: str = PREDICT, **request: Any) -> httpx.Response:
    return door.api.request(method, path, **request)


def find_best(result: dict[str, Any]) -> str:
    return str(result["predictions"][0]["class"])


@pytest.mark.parametrize("kind", ["image/jpg", "binary/octet-stream", "application/x-www-form-urlencoded", None])
def test_raw_bytes_arrive_whole_under_any_type(door: LocalCloud, kind: str | None) -> None:
    """Through the gateway, which would ruin bytes that it took for text."""
    answer = ask(door, content=draw_test_picture("red"), headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["predictions"]


def test_a_form_is_answered_in_order_and_each_file_for_itself(door: LocalCloud) -> None:
    """As `requests.post(url, files=…)` and `curl -F` send it."""
    picture = draw_test_picture("red")
    files = [("file", ("a.png", picture)), ("file", ("notes.pdf", b"%PDF-1.7")), ("file", ("b.png", picture))]
    first, second, third = ask(door, files=files).json()["results"]
    assert (first["name"], second["name"], third["name"]) == ("a.png", "notes.pdf", "b.png")
    assert second["error"]["code"] == "UnreadableImage"
    assert first["predictions"] == third["predictions"]


def test_json_is_answered_as_raw_bytes_are(door: LocalCloud) -> None:
    """The same image gives the same answer, whichever way it comes; a threshold says whether it is sure."""
    picture = draw_test_picture("red")
    text = base64.b64encode(picture).decode()
    raw = ask(door, content=picture, headers={"Content-Type": "image/png"}).json()["results"]
    assert ask(door, json={"image": f"data:image/png;base64,{text}"}).json()["results"] == raw
    assert ask(door, json={"images": [text, text]}).json()["results"] == raw * 2
    told = ask(door, json={"image": text}, params={"threshold": "1", "top": "1"}).json()["results"][0]
    assert (told["sure"], len(told["predictions"])) == (False, 1)


def draw_photo() -> bytes:
    """Draw a photo of 12 megapixels and several megabytes, which no request can hold."""
    noise = Image.frombytes("RGB", MEGAPIXELS, os.urandom(MEGAPIXELS[0] * MEGAPIXELS[1] * 3))
    buffer = io.BytesIO()
    Image.blend(noise, Image.new("RGB", MEGAPIXELS, "red"), 0.7).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def test_a_photo_of_12_megapixels_is_uploaded_and_classified(door: LocalCloud) -> None:
    """It is too large for a request, which says so; its id is not, and the endpoint fetches it once it is there."""
    photo = draw_photo()
    assert len(photo) > 5_000_000
    refused = ask(door, content=photo, headers={"Content-Type": "image/jpeg"})
    assert refused.status_code == 413
    upload = ask(door, path="uploads", json={"kind": "image", "name": "photo.jpg", "size": len(photo)}).json()
    early = ask(door, json={"upload": upload["id"]})
    assert (early.status_code, early.json()["error"]["code"]) == (404, "NotFound"), early.text
    assert httpx.put(upload["url"], content=photo, timeout=30).status_code == 200
    answer = ask(door, json={"upload": upload["id"]})
    assert answer.status_code == 200, answer.text
    assert find_best(answer.json()["results"][0]) == "red"


def test_an_upload_in_parts_is_put_together(door: LocalCloud) -> None:
    """Each part goes to its own address; together they are the object that was announced."""
    size = 130_000_000
    upload = ask(door, path="uploads", json={"kind": "dataset", "name": "in-parts", "size": size}).json()
    parts = [
        {
            "number": part["number"],
            "etag": httpx.put(part["url"], content=bytes(part["size"]), timeout=60).headers["ETag"],
        }
        for part in upload["parts"]
    ]
    for wrong in (parts[:1], [parts[0], parts[1] | {"etag": parts[0]["etag"][::-1]}], parts[1:]):
        assert ask(door, path=upload["complete"], json={"parts": wrong}).status_code == 400
    assert ask(door, path=upload["complete"], json={"parts": parts}).json()["key"] == "datasets/in-parts.zip"
    assert door.s3.head_object(Bucket=door.bucket, Key="datasets/in-parts.zip")["ContentLength"] == size
    assert door.wait_for_status("in-parts", "rejected", within=60)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "nothing", 404), ("GET", "runs/x/y/z", 404), ("PUT", "runs", 405), ("GET", PREDICT, 405)],
)
def test_the_gateways_refusals_have_our_form(door: LocalCloud, method: str, path: str, status: int) -> None:
    """A wrong path and a wrong method are told apart."""
    answer = ask(door, method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}


def test_head_and_a_trailing_slash_work(door: LocalCloud) -> None:
    """As clients and monitors expect."""
    assert ask(door, "HEAD", "health").status_code == 200
    assert ask(door, "GET", "runs/").json().keys() == {"runs", "next", "billed"}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A client generated from the document, without a warning."""
    folder = tmp_path_factory.mktemp("generated")
    program = Path(sys.executable).with_name("openapi-python-client")
    command = [program, "generate", "--path", DOCUMENT, "--output-path", folder / "whippet_client", "--meta", "none"]
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout
    sys.path.insert(0, str(folder))
    yield importlib.import_module("whippet_client")
    sys.path.remove(str(folder))


def test_a_generated_client_uploads_and_predicts(door: LocalCloud, generated: ModuleType) -> None:
    """With nothing but what the document says."""
    predict = importlib.import_module("whippet_client.api.models.predict")
    begin_upload = importlib.import_module("whippet_client.api.uploads.begin_upload")
    models, types = (importlib.import_module(f"whippet_client.{name}") for name in ("models", "types"))
    client = generated.AuthenticatedClient(base_url=door.variables["API_URL"], token=door.variables["API_TOKEN"])
    picture = draw_test_picture("red")
    raw = predict.sync("colours", client=client, body=types.File(io.BytesIO(picture)), top=2)
    kind = models.UploadRequestKind.IMAGE
    upload = begin_upload.sync(client=client, body=models.UploadRequest(kind=kind, size=len(picture)))
    httpx.put(upload.url, content=picture).raise_for_status()
    told = predict.sync("colours", client=client, body=models.PredictionRequest(upload=upload.id))
    assert raw.results[0].predictions[0].class_ == told.results[0].predictions[0].class_
    assert len(raw.results[0].predictions) == 2
