"""Test `make weights`: which file, how it is checked, where it goes, and what is said without internet."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torchvision

from infrastructure.errors import CannotFetch, OperatorError, Unusable
from infrastructure.weights.files import Published, check, fetch, find_published
from infrastructure.weights.put import parse, run
from localcloud.server.hosting import find_weights
from tests.localcloud.hosting import KEYS, aws, client

TRAINING = Path(__file__).resolve().parents[3] / "training"
CONTENT = b"weights" * 1000
NAME = f"tiny-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
ARCHITECTURES = torchvision.models.list_models(module=torchvision.models)


def publish(architecture: str, server: str = "http://127.0.0.1:9") -> Published:
    """A file at an address that nobody answers, unless a server is named."""
    return Published(architecture, f"{server}/{NAME}")


def write(folder: Path, content: bytes = CONTENT) -> Path:
    (folder / NAME).write_bytes(content)
    return folder / NAME


def test_the_file_is_the_one_that_a_training_looks_for() -> None:
    """For every network: a job finds in its channel what was put into the bucket."""
    sys.path.append(str(TRAINING))
    from learning.weights import find_address

    assert {find_published(name).address for name in ARCHITECTURES} == {find_address(name) for name in ARCHITECTURES}


def test_an_unknown_network_is_named_with_its_neighbours() -> None:
    """A slip of the finger is refused before anything is fetched."""
    with pytest.raises(Unusable, match=r"'resnet81'.*Try .*resnet18"):
        find_published("resnet81")


@pytest.mark.parametrize("content", [CONTENT[:-1], b"", CONTENT.replace(b"w", b"x", 1)])
def test_a_file_that_was_cut_or_changed_is_refused(tmp_path: Path, content: bytes) -> None:
    """The message names the file, both hashes, and what to do."""
    with pytest.raises(CannotFetch, match=r"tiny-.*SHA-256 begins with .* instead of .*make weights ARCH=tiny FILE="):
        check(write(tmp_path, content), publish("tiny"))


def test_without_internet_it_is_said_what_to_do(tmp_path: Path) -> None:
    """The address to fetch elsewhere and the command for afterwards; a file that is not there is told alike."""
    with pytest.raises(CannotFetch, match=rf"cannot be fetched from here.*machine with internet.*FILE={NAME}"):
        fetch(publish("tiny"), tmp_path, print)
    with pytest.raises(CannotFetch, match=rf"no file .*{NAME}.*machine with internet"):
        check(tmp_path / NAME, publish("tiny"))


def test_weights_reach_the_bucket_and_the_next_local_cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checked file lies below weights/, where the local cloud finds it at its next start; a damaged one does not."""
    path = write(tmp_path)
    with aws(tmp_path / "cloud", []) as url:
        s3 = client("s3", url)
        s3.create_bucket(Bucket="photos")
        assert find_weights(s3) == {}
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key)
        told = parse(["--architecture", "tiny", "--file", str(path), "--region", "us-east-1"])
        run(told, {"BUCKET": "photos"}, publish)
        assert s3.get_object(Bucket="photos", Key=f"weights/{NAME}")["Body"].read() == CONTENT
        assert find_weights(s3) == {"WeightsUri": "s3://photos/weights/"}
        path.write_bytes(b"cut")
        with pytest.raises(OperatorError):
            run(told, {"BUCKET": "photos"}, publish)
        assert s3.get_object(Bucket="photos", Key=f"weights/{NAME}")["Body"].read() == CONTENT
    assert f"Put s3://photos/weights/{NAME}" in capsys.readouterr().out
