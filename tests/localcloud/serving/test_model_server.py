"""The endpoint's process: a real one, called over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from localcloud.serving.model_server import describe_error, load_program
from tests.support.image_kinds import announce_png, draw, encode
from tests.support.model_archives import write_model
from tests.support.model_servers import end_server, post, start_server

JPEG = encode(draw(120, 90), "JPEG")
SLOW_MODEL = """
import time
def model_fn(model_dir): return None
def input_fn(body, content_type): return body
def predict_fn(data, model): time.sleep(0.5); return data
def output_fn(prediction, accept): return prediction
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with a model of three classes."""
    folder = tmp_path_factory.mktemp("server")
    process, url = start_server(write_model(folder / "model"), folder, engines=folder / "engines")
    assert "engine: onnxruntime" in (folder / "log").read_text()
    yield url
    end_server(process)


def test_ping_says_that_the_model_is_loaded(server: str) -> None:
    """SageMaker's health check gets its 200."""
    assert httpx.get(f"{server}/ping").status_code == 200


def test_a_picture_gets_an_answer_in_json(server: str) -> None:
    """The bytes of a picture come back as classes and probabilities."""
    answer = post(server, JPEG, content_type="image/jpeg", accept="application/json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.json()["results"][0]["predictions"]) == 3


def test_an_answer_can_be_explained_whatever_computes_it(server: str) -> None:
    """An explanation looks into the network's layers, which torch still has where onnxruntime answers."""
    answer = post(server, JPEG, content_type="image/jpeg; explain=true").json()["results"][0]
    assert answer["explanation"]["image"].startswith("data:image/png;base64,")
    plain = post(server, JPEG, content_type="image/jpeg").json()["results"][0]
    for one, other in zip(answer["predictions"], plain["predictions"], strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "code"),
    [
        (b"", "image/png", "*/*", 400, "BadRequest"),
        (JPEG, "image/jpeg", "text/csv", 406, "NotAcceptable"),
        (JPEG, "text/csv", "*/*", 500, None),
        (b"a,b", "text/csv", "*/*", 415, "UnsupportedMediaType"),
        (JPEG, "image/tiff", "*/*", 415, "UnsupportedMediaType"),
        (JPEG[:500], "image/jpeg", "*/*", 422, "UnreadableImage"),
        (announce_png(30_000, 30_000), "image/png", "*/*", 422, "UnreadableImage"),
    ],
)
def test_an_error_has_its_own_status(
    server: str, body: bytes, content_type: str, accept: str, status: int, code: str | None
) -> None:
    """A refusal carries its status and one line of JSON, then the traceback, as AWS's handler writes it.

    A JPEG sent as CSV is a 500 there too: the handler decodes text before the model's code sees it.
    """
    answer = post(server, body, content_type=content_type, accept=accept)
    assert answer.status_code == status
    first, _, trace = answer.text.partition("\n")
    assert trace.startswith("Traceback")
    if code:
        assert json.loads(first)["error"]["code"] == code


def test_hostile_pictures_leave_the_server_up(server: str) -> None:
    """After a burst of bad requests the next good one is answered."""
    with ThreadPoolExecutor(8) as pool:
        bad = [announce_png(30_000, 30_000), JPEG[:900], b"\xff\xd8\xff", bytes(5_000_000)] * 8
        answers = list(pool.map(lambda body: post(server, body, content_type="image/jpeg").status_code, bad))
    assert set(answers) == {422}
    assert post(server, JPEG, content_type="image/jpeg").status_code == 200


def test_eight_connections_are_served(server: str) -> None:
    """Eight clients at once get the same answer as one alone, and none is dropped."""
    alone = post(server, JPEG, content_type="image/jpeg").json()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(server, JPEG, content_type="image/jpeg").json(), range(80)))
    assert all(answer == alone for answer in answers)


def test_sigterm_answers_what_is_under_way(tmp_path: Path) -> None:
    """A request that has begun is answered before the process ends."""
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(SLOW_MODEL)
    process, url = start_server(tmp_path / "model", tmp_path)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, url, b"hello", content_type="application/octet-stream")
        time.sleep(0.2)
        end_server(process)
        assert answer.result().content == b"hello"


def test_a_flood_is_turned_away_at_the_door(tmp_path: Path) -> None:
    """With one worker and a hundred waiting, further requests get 429 at once. Those inside are answered."""
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(SLOW_MODEL.replace("0.5", "0.02"))
    process, url = start_server(tmp_path / "model", tmp_path, threads=1)

    async def flood() -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            posts = [client.post(f"{url}/invocations", content=b"hello") for _ in range(160)]
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    statuses = asyncio.run(flood())
    end_server(process)
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 101


def test_a_model_that_cannot_be_loaded_ends_the_process(tmp_path: Path) -> None:
    """No port is opened for a broken archive, and the log says what is wrong with it."""
    (tmp_path / "code").mkdir()
    command = [sys.executable, "-m", "localcloud.serving.model_server", "--model-dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert ended.returncode == 1
    assert "holds no code/inference.py" in ended.stderr


def test_missing_functions_are_named(tmp_path: Path) -> None:
    """The local cloud has no default handlers, so code without one of the four functions is refused by its name."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "half_a_program.py").write_text("def model_fn(model_dir): ...\ndef input_fn(body, kind): ...")
    os.environ["SAGEMAKER_PROGRAM"] = "half_a_program.py"
    try:
        with pytest.raises(ImportError, match="lacks predict_fn, output_fn"):
            load_program(tmp_path)
    finally:
        del os.environ["SAGEMAKER_PROGRAM"]
        sys.path.remove(str(tmp_path / "code"))


def test_an_error_without_a_status_is_a_500() -> None:
    """Any other error of the model's code is a 500, with the error's text first."""
    answer = describe_error(KeyError("no such class"))
    assert (answer.status_code, bytes(answer.body).split(b"\n")[0]) == (500, b"'no such class'")
