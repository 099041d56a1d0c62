"""Test bad input at the real API: each gets the right answer, nothing is launched, and the cloud stays up."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from typing import Any

import httpx
import pytest

from chalicelib.datasets.contents import DatasetLimits
from chalicelib.runs.identity import make_endpoint_name
from tests.end_to_end.conftest import ENDED, Secret
from tests.fakes.world import SETTINGS
from tests.support.hostile.images import CASES, Prediction
from tests.support.hostile.zips import ZIPS
from tests.support.local_cloud import LocalCloud, wait_until

SERVABLE_ZIPS = {name: case for name, case in ZIPS.items() if case.limits == DatasetLimits()}
NEVER_LOADS = "import time\n\ntime.sleep(600)\n"
FAILS_TO_LOAD = "raise ValueError('the weights are of another network')\n"
ROLE = "arn:aws:iam::123456789012:role/tests"


@pytest.fixture(scope="module")
def rejected(cloud: LocalCloud) -> dict[str, dict[str, Any]]:
    """Upload all hostile zips at once. Returns their runs by name."""
    datasets = {f"hostile-{number}": name for number, name in enumerate(SERVABLE_ZIPS)}
    for dataset, name in datasets.items():
        cloud.upload(f"{dataset}.zip", SERVABLE_ZIPS[name].build())

    def look() -> dict[str, dict[str, Any]] | None:
        runs = {run["dataset"]: run for run in cloud.api.get("/runs?limit=200").json()["runs"]}
        ended = {datasets[key]: run for key, run in runs.items() if key in datasets and run["status"] in ENDED}
        return ended if len(ended) == len(datasets) else None

    return wait_until(look, within=180, what="every hostile zip has been judged", every=0.5)


@pytest.mark.parametrize("name", SERVABLE_ZIPS)
def test_a_hostile_zip_is_rejected_and_launches_nothing(
    cloud: LocalCloud, rejected: dict[str, dict[str, Any]], name: str
) -> None:
    """Its run is `rejected` with a reason that states its problem, and no job has its name."""
    run = rejected[name]
    assert run["status"] == "rejected", run
    report = cloud.api.get(f"/runs/{run['run_id']}").json()["dataset_report"]
    assert SERVABLE_ZIPS[name].code in {problem["code"] for problem in report["problems"]}
    assert len(run["reason"].split()) > 3
    jobs = cloud.sagemaker.list_hyper_parameter_tuning_jobs(NameContains=run["run_id"])
    assert jobs["HyperParameterTuningJobSummaries"] == []


def deploy_program(cloud: LocalCloud, model: str, program: str) -> None:
    """Create an endpoint under a dataset's name that runs our own program instead of a model."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("code/inference.py")
        member.size = len(program)
        archive.addfile(member, io.BytesIO(program.encode()))
    key = f"tests/{model}/model.tar.gz"
    cloud.s3.put_object(Bucket=cloud.bucket, Key=key, Body=buffer.getvalue())
    settings = replace(SETTINGS, bucket=cloud.bucket, stage="local")
    endpoint, image = make_endpoint_name(settings, model), SETTINGS.inference_image_cpu
    container = {"Image": image, "ModelDataUrl": f"s3://{cloud.bucket}/{key}"}
    cloud.sagemaker.create_model(ModelName=endpoint, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "main", "ModelName": endpoint, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=endpoint, ProductionVariants=[variant])
    cloud.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)


@pytest.fixture(scope="module")
def models(cloud: LocalCloud, deployed_run: dict[str, Any]) -> dict[str, str]:
    """Return a model in each state, by the state's name."""
    deploy_program(cloud, "broken-model", FAILS_TO_LOAD)
    deploy_program(cloud, "slow-model", NEVER_LOADS)

    def look() -> bool | None:
        return True if cloud.api.get("/models/broken-model").json().get("status") == "failed" else None

    wait_until(look, within=60, what="the broken model's endpoint has failed")
    return {"served": deployed_run["dataset"], "unknown": "no-such", "creating": "slow-model", "failed": "broken-model"}


@pytest.fixture(scope="module", autouse=True)
def withdrawn(cloud: LocalCloud, secret: Secret) -> None:
    """Withdraw Carl's token, which has worked, before everything else: the app notices within a minute."""

    def look() -> bool | None:
        return True if list_models(cloud, "Bearer carl-token") == 200 else None

    wait_until(look, within=75, what="carl's token works", every=1)
    secret.put()


def list_models(cloud: LocalCloud, authorization: str) -> int:
    """Return the status that a caller gets who asks for the models."""
    return httpx.get(f"{cloud.variables['API_URL']}/models", headers={"Authorization": authorization}).status_code


@pytest.fixture(scope="module")
def tokens(cloud: LocalCloud) -> dict[str, str | None]:
    """Return the Authorization header of each kind of caller."""
    return {
        "good": f"Bearer {cloud.variables['API_TOKEN']}",
        "none": None,
        "wrong": "Bearer wrong",
        "malformed": "Basic YW5uOnRva2Vu",
    }


def ask(cloud: LocalCloud, case: Prediction, model: str, authorization: str | None) -> httpx.Response:
    headers = {"Content-Type": case.content_type} | ({"Authorization": authorization} if authorization else {})
    url = f"{cloud.variables['API_URL']}/models/{model}/predict" + (f"?{case.query}" if case.query else "")
    return httpx.post(url, content=case.build(), headers=headers, timeout=30)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.token != "withdrawn"])
def test_a_request_gets_the_answer_it_must(
    cloud: LocalCloud, models: dict[str, str], tokens: dict[str, str | None], name: str
) -> None:
    """Status, code and Retry-After match the case, through the gateway, the function and the endpoint."""
    case = CASES[name]
    response = ask(cloud, case, models[case.model], tokens[case.token])
    assert response.status_code == case.status, response.text
    assert "Traceback" not in response.text
    assert ("Retry-After" in response.headers) == case.retry_after
    if case.status == 200:
        assert response.json()["results"][0]["predictions"]
    elif case.code is not None:
        error = response.json()["error"]
        assert error["code"] == case.code
        assert "{" not in error["message"]


def test_a_withdrawn_token_is_refused_within_a_minute(
    cloud: LocalCloud, models: dict[str, str], tokens: dict[str, str | None]
) -> None:
    """A token that worked gets 401 once it is removed from the secret; the others still work."""

    def look() -> bool | None:
        return True if ask(cloud, Prediction(200), models["served"], "Bearer carl-token").status_code == 401 else None

    wait_until(look, within=75, what="carl's token gets 401", every=1)
    assert ask(cloud, Prediction(200), models["served"], tokens["good"]).status_code == 200


def test_the_cloud_stays_up_through_all_of_it(cloud: LocalCloud, models: dict[str, str]) -> None:
    """Afterwards the same process answers, and no event was dropped."""
    assert cloud.process is not None
    assert cloud.process.poll() is None
    assert cloud.api.get("/health").status_code == 200
    assert not (cloud.home / "dead-letters.jsonl").exists()
