"""Tests of the training program itself on two instances, whose processes are forked from one that has torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.localcloud.jobs.test_hosts import TORCHRUN, TWO, read_log
from tests.localcloud.sagemaker_support import LocalSageMaker, local_sagemaker, pack
from tests.training.tiny import QUICK, shapes_zip

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSageMaker]:
    with local_sagemaker(tmp_path_factory.mktemp("cloud"), preload=("torch", "torchvision")) as running:
        yield running


def request_training(local: LocalSageMaker) -> dict[str, Any]:
    """Return a request for the training program itself, on two instances."""
    files = {path.relative_to(ROOT / "training").as_posix(): path for path in (ROOT / "training").rglob("*.py")}
    files |= {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "inference").glob("*.py")}
    code = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    request = local.request("", **TWO)
    local.put(f"code/{request['TrainingJobName']}.tar.gz", pack(code))
    data = local.put(f"data/{request['TrainingJobName']}/dataset.zip", shapes_zip({"train": 16, "valid": 6, "test": 6}))
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data.rpartition("/")[0] + "/"}}
    request["InputDataConfig"] = [{"ChannelName": "dataset", "DataSource": source}]
    request["CheckpointConfig"] = {"S3Uri": f"s3://{local.bucket}/kept/", "LocalPath": "/opt/ml/checkpoints"}
    request["HyperParameters"] |= {**QUICK, "epochs": "2", **TORCHRUN}
    return request


def test_two_instances_train_one_model(local: LocalSageMaker) -> None:
    """A process on each: they meet, train together, and the first ships what both have learnt."""
    request = request_training(local)
    local.sagemaker.create_training_job(**request)
    name = request["TrainingJobName"]
    job = local.finish(name, 120)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"] + read_log(local, name, "algo-2")
    shipped = local.unpack(job["ModelArtifacts"]["S3ModelArtifacts"])
    assert {"model.pth", "manifest.json"} <= shipped.keys()
    records = local.read(f"s3://{local.bucket}/kept/{name}/metrics.jsonl").decode().splitlines()
    start, *epochs = map(json.loads, records)
    assert start["start"]["processes"] == 2
    assert [record["images"] for record in epochs if "epoch" in record] == [48, 48]
    assert "process 1 of 2" in read_log(local, name, "algo-2")
    assert "valid:score" not in read_log(local, name, "algo-2")
