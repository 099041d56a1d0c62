"""A model that PyTorch 2.11 trained, served by stock TorchServe under PyTorch 2.6: what is deployed by default.

What the local cloud's server answers to pictures, good and bad, TorchServe answers too: the endpoint that is developed
against here is the one that runs there.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.recipes.resolving import resolve_recipe
from chalicelib.recipes.serving_memory import estimate_memory
from chalicelib.requests.serving import build_model_request
from tests.chalicelib.requests.test_jobs import make_run
from tests.contracts.toolkits.environments import build_environment
from tests.contracts.toolkits.test_inference_toolkit import JSON, REQUESTS
from tests.contracts.toolkits.test_training_toolkit import JOB, make_request, pack_source
from tests.contracts.toolkits.torchserve import TorchServe
from tests.fakes.world import SETTINGS
from tests.localcloud.sagemaker_support import local_sagemaker
from tests.support.image_kinds import COSTLY
from tests.support.model_servers import end_server, post, start_server
from tests.training.tiny import shapes_zip

TOLERANCE = 1e-4  # of a probability, between two versions of PyTorch
EXPLAINED = "image/jpeg; explain=true"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training in the local cloud made, unpacked as SageMaker unpacks it for a container."""
    with local_sagemaker(tmp_path_factory.mktemp("training")) as local:
        local.put("runs/r/input/dataset.zip", shapes_zip({"train": 12, "valid": 6, "test": 6}))
        code = local.put("code/sourcedir.tar.gz", pack_source())
        local.sagemaker.create_training_job(**make_request(code, "s3://training/runs/r/input/", "s3://training/jobs/"))
        described = local.finish(JOB, seconds=120)
        assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
        archive = local.read(described["ModelArtifacts"]["S3ModelArtifacts"])
    folder = tmp_path_factory.mktemp("model") / "model"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def programs() -> Path:
    """The programs of PyTorch 2.6's environment."""
    return build_environment("serving")


@pytest.fixture(scope="module")
def torchserve(programs: Path, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """TorchServe with the environment that our CreateModel request gives to a serverless endpoint's container."""
    archive, bucket = "s3://pictures/model.tar.gz", "https://b.s3.amazonaws.com"
    request = build_model_request(make_run(), resolve_recipe(None), SETTINGS, archive, bucket)
    environment = request["PrimaryContainer"]["Environment"]
    server = TorchServe(programs, model_dir, tmp_path_factory.mktemp("torchserve") / "ts", environment)
    try:
        server.wait()
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def there(torchserve: TorchServe) -> str:
    return torchserve.url


@pytest.fixture(scope="module")
def here(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The local cloud's server of the same model."""
    process, url = start_server(model_dir, tmp_path_factory.mktemp("server"))
    yield url
    end_server(process)


def read_probabilities(answer: dict[str, Any]) -> dict[str, float]:
    return {each["class"]: each["probability"] for each in answer["results"][0]["predictions"]}


@pytest.mark.parametrize("name", REQUESTS)
def test_torchserve_and_the_local_cloud_answer_alike(name: str, there: str, here: str) -> None:
    """The same status; for a picture the same classes and probabilities, for an error the same first line."""
    body, kind, accept, status = REQUESTS[name]
    ours, theirs = (post(url, body, content_type=kind, accept=accept) for url in (here, there))
    assert (theirs.status_code, ours.status_code) == (status, status), theirs.text
    if status == 200:
        assert theirs.headers["content-type"].split(";")[0] == JSON
        assert read_probabilities(theirs.json()) == pytest.approx(read_probabilities(ours.json()), abs=TOLERANCE)
        assert theirs.json()["run_id"] == ours.json()["run_id"]
    elif name != "too large":  # TorchServe itself refuses such a body, before our program sees it
        assert theirs.text.splitlines()[0] == ours.text.splitlines()[0]


def test_a_wish_for_an_explanation_reaches_the_model(there: str) -> None:
    """TorchServe and AWS's handler hand a content type on with its parameters."""
    asked = {kind: post(there, REQUESTS["jpeg"][0], content_type=kind) for kind in ("image/jpeg", EXPLAINED)}
    plain, explained = (each.json()["results"][0] for each in asked.values())
    assert explained.pop("explanation")["image"].startswith("data:image/png;base64,")
    assert read_probabilities({"results": [explained]}) == pytest.approx(read_probabilities({"results": [plain]}))


def test_a_picture_as_large_as_an_endpoint_takes_is_served(there: str, here: str) -> None:
    """TorchServe's own limit is 6.5 MB: the model's environment raises it to what InvokeEndpoint takes."""
    body = REQUESTS["jpeg"][0] + bytes(20_000_000)  # what follows a JPEG's end is not read
    ours, theirs = (post(url, body, content_type="image/jpeg", accept=JSON) for url in (here, there))
    assert (ours.status_code, theirs.status_code) == (200, 200), theirs.text
    assert read_probabilities(theirs.json()) == pytest.approx(read_probabilities(ours.json()), abs=TOLERANCE)


def test_the_costliest_pictures_stay_within_the_memory_that_is_asked_for(torchserve: TorchServe) -> None:
    """One worker beside Java, and every kind of picture that costs most, of as many pixels as are let in."""
    for kind in ("progressive cmyk jpeg", "alpha png", "alpha webp"):
        answer = post(torchserve.url, COSTLY[kind](), content_type="application/octet-stream", accept=JSON)
        assert answer.status_code == 200, answer.text
    assert torchserve.count_workers() == 1
    assert torchserve.measure_peak() <= estimate_memory("resnet18", 224)


FOUR_FUNCTIONS = """
import json, sys, torch
sys.path.insert(0, sys.argv[1] + "/code")
from inference import input_fn, model_fn, output_fn, predict_fn
weights = torch.load(sys.argv[1] + "/model.pth", weights_only=True)
body, kind = output_fn(predict_fn(input_fn(sys.stdin.buffer.read(), "image/png"), model_fn(sys.argv[1])), "*/*")
print(json.dumps({"torch": torch.__version__, "tensors": len(weights), "answer": json.loads(body)}))
"""


def test_the_artifact_loads_under_pytorch_2_6(programs: Path, model_dir: Path, here: str) -> None:
    """Weights alone are read, all four functions run, and they answer as PyTorch 2.11 does."""
    command = [programs / "python", "-c", FOUR_FUNCTIONS, model_dir]
    picture = REQUESTS["png"][0]
    ended = subprocess.run(command, input=picture, capture_output=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    told = json.loads(ended.stdout)
    assert told["torch"].startswith("2.6.0")
    assert told["tensors"] > 0
    ours = post(here, picture, content_type="image/png", accept=JSON).json()
    assert read_probabilities(told["answer"]) == pytest.approx(read_probabilities(ours), abs=TOLERANCE)
