"""Models, configurations and endpoints through boto3 and its waiters, with real servers behind them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import botocore.exceptions
import pytest

from tests.localcloud.sagemaker_support import LocalSageMaker, wait_until
from tests.localcloud.serving.endpoint_support import (
    BROKEN_MODEL,
    INSTANCE,
    SERVERLESS,
    Hosting,
    name_thing,
    serve_endpoints,
)
from tests.support.image_kinds import draw, encode
from tests.support.model_archives import pack_model, write_model

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
ClientError = botocore.exceptions.ClientError


@pytest.fixture(scope="module")
def hosting(local: LocalSageMaker) -> Iterator[Hosting]:
    with serve_endpoints(local) as running:
        yield running


@pytest.fixture(scope="module")
def endpoint(hosting: Hosting) -> str:
    """An endpoint that serves."""
    return hosting.create_endpoint(hosting.create_config(hosting.create_model(Environment={"GREETING": "good day"})))


def read(answer: dict) -> dict:
    body: dict = json.loads(answer["Body"].read())
    return body


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_an_endpoint_goes_from_creating_to_in_service(hosting: Hosting) -> None:
    """It is Creating at once, InService when its model answers, and each change sends an event in AWS's spelling."""
    model = hosting.create_model()
    config = hosting.create_config(model)
    name = hosting.create_endpoint(config, wait=False)
    assert hosting.describe(name)["EndpointStatus"] == "Creating"
    described = hosting.wait(name)
    assert described["EndpointArn"] == f"{ARN}:endpoint/{name.lower()}"
    assert described["EndpointConfigName"] == config
    variant = described["ProductionVariants"][0]
    assert (variant["VariantName"], variant["CurrentWeight"], variant["DesiredInstanceCount"]) == ("main", 1.0, 1)
    assert hosting.events(name) == ["CREATING", "IN_SERVICE"]


def test_invoking_sends_bytes_and_brings_the_answer(hosting: Hosting, endpoint: str) -> None:
    """The body reaches the model's code with its environment, and the answer names its type and variant."""
    answer = hosting.invoke(endpoint, bytes(range(256)), ContentType="image/jpeg", Accept="application/json")
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/json", "main")
    body = read(answer)
    assert (body["bytes"], body["greeting"]) == (256, "good day")


def test_an_error_of_the_model_is_a_model_error(hosting: Hosting, endpoint: str) -> None:
    """It is 424 ModelError, with the model's own status and message. The message's first line is its JSON."""
    with pytest.raises(ClientError, match=r"Received client error \(422\) from primary") as caught:
        hosting.invoke(endpoint, b"refuse")
    assert code_of(caught) == ("ModelError", 424)
    response = caught.value.response
    assert response["OriginalStatusCode"] == 422
    assert json.loads(response["OriginalMessage"].splitlines()[0]) == {"error": {"code": "Refused"}}


def test_an_unknown_endpoint_cannot_be_invoked(hosting: Hosting) -> None:
    """It is 400 ValidationError, with the runtime's own text."""
    with pytest.raises(ClientError, match="Endpoint nobody of account 123456789012 not found") as caught:
        hosting.invoke("nobody")
    assert code_of(caught) == ("ValidationError", 400)


def test_a_name_that_cannot_be_is_the_runtimes_validation_error(hosting: Hosting) -> None:
    """What breaks the service model gets the runtime's code, not SageMaker's."""
    with pytest.raises(ClientError, match="regular expression pattern") as caught:
        hosting.invoke("-nobody")
    assert code_of(caught) == ("ValidationError", 400)


def test_bodies_up_to_25_megabytes_are_taken(hosting: Hosting, endpoint: str) -> None:
    """AWS raised the limit from 6 to 25 MB. One byte more is refused with its text."""
    assert read(hosting.invoke(endpoint, bytes(7_000_000)))["bytes"] == 7_000_000
    with pytest.raises(ClientError, match="has oversize body") as caught:
        hosting.invoke(endpoint, bytes(25 * 1024 * 1024 + 1))
    assert code_of(caught) == ("ValidationError", 400)


def test_eight_clients_at_once_are_served(hosting: Hosting, endpoint: str) -> None:
    """None of eight connections is dropped, and none waits for another's slow answer."""
    with ThreadPoolExecutor(8) as pool:
        bodies = [b"slow" if number % 8 == 0 else b"hello" for number in range(64)]
        answers = list(pool.map(lambda body: read(hosting.invoke(endpoint, body)), bodies))
    assert [answer["bytes"] for answer in answers] == [len(body) for body in bodies]


def test_a_full_queue_is_throttling(hosting: Hosting) -> None:
    """Beyond the workers and the queue a request is refused with SageMaker's 429 at once. Those inside are answered."""
    name = hosting.create_endpoint(hosting.create_config(hosting.create_model(Environment={"TS_JOB_QUEUE_SIZE": "1"})))

    def ask(_: int) -> str:
        try:
            return str(read(hosting.invoke(name, b"slow"))["bytes"])
        except ClientError as error:
            return str((error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert sorted(answers) == ["('ThrottlingException', 429)"] * 5 + ["4"] * 3


def test_a_server_that_dies_is_started_again(hosting: Hosting) -> None:
    """The request that killed it and those in the meantime get 503. Then the endpoint serves as before."""
    name = hosting.create_endpoint(hosting.create_config(hosting.create_model()))
    with pytest.raises(ClientError) as caught:
        hosting.invoke(name, b"die")
    assert code_of(caught) == ("ServiceUnavailable", 503)

    def ask() -> str:
        try:
            return str(read(hosting.invoke(name))["bytes"])
        except ClientError as error:
            return str(error.response["Error"]["Code"])

    seen: list[str] = []
    wait_until(lambda: seen.append(ask()) or seen[-1] == "5")
    assert set(seen) <= {"ServiceUnavailable", "5"}
    assert hosting.describe(name)["EndpointStatus"] == "InService"


def test_an_update_shifts_the_traffic_without_a_gap(hosting: Hosting) -> None:
    """While an endpoint is updated every request is answered, by the old model first and by the new one at last."""
    old, new = hosting.create_model(), hosting.create_model()
    name = hosting.create_endpoint(hosting.create_config(old))
    seen: list[str] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            seen.append(read(hosting.invoke(name))["model"])

    asking = threading.Thread(target=keep_asking)
    asking.start()
    wait_until(lambda: seen)
    config = hosting.create_config(new)
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    updating = hosting.describe(name)
    described = hosting.wait(name)
    wait_until(lambda: seen[-1] == new)
    done.set()
    asking.join()
    assert updating["EndpointStatus"] == "Updating"
    assert updating["PendingDeploymentSummary"]["EndpointConfigName"] == config
    assert described["EndpointConfigName"] == config
    assert seen == sorted(seen, key=[old, new].index)
    assert hosting.events(name) == ["CREATING", "IN_SERVICE", "UPDATING", "IN_SERVICE"]


def test_an_update_that_fails_leaves_the_old_configuration(hosting: Hosting) -> None:
    """It is InService again, on the OLD configuration, with the reason. The old model continues to answer."""
    model = hosting.create_model()
    config = hosting.create_config(model)
    name = hosting.create_endpoint(config)
    broken = hosting.create_config(hosting.create_model(BROKEN_MODEL))
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=broken)
    described = hosting.wait(name)
    assert described["EndpointConfigName"] == config
    assert "did not pass the ping health check" in described["FailureReason"]
    assert read(hosting.invoke(name))["model"] == model
    assert hosting.events(name) == ["CREATING", "IN_SERVICE", "UPDATING", "ROLLING_BACK", "IN_SERVICE"]


def test_a_model_that_cannot_be_loaded_fails_its_endpoint(hosting: Hosting) -> None:
    """It is Failed, with a reason that ends with the log's last line. Then only DeleteEndpoint is allowed."""
    name = hosting.create_endpoint(hosting.create_config(hosting.create_model(BROKEN_MODEL)), wait=False)
    with pytest.raises(botocore.exceptions.WaiterError):
        hosting.wait(name)
    described = hosting.describe(name)
    assert described["EndpointStatus"] == "Failed"
    assert "ValueError: no weights here" in described["FailureReason"]
    assert hosting.events(name) == ["CREATING", "FAILED"]
    with pytest.raises(ClientError, match="Cannot update failed endpoint"):
        hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=described["EndpointConfigName"])
    with pytest.raises(ClientError, match="not found"):
        hosting.invoke(name)
    hosting.sagemaker.delete_endpoint(EndpointName=name)
    hosting.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 0.05})


@pytest.mark.parametrize("body", [b"no archive at all", b"\x1f\x8b\x08 broken"])
def test_an_archive_that_cannot_be_unpacked_fails_its_endpoint(hosting: Hosting, body: bytes) -> None:
    """The reason names the archive."""
    name = hosting.create_endpoint(hosting.create_config(hosting.create_model(archive=body)), wait=False)
    reason = wait_until(lambda: hosting.describe(name).get("FailureReason"))
    assert "Failed to download model data" in reason
    assert "s3://training/models/" in reason


def test_a_deleted_endpoint_is_gone_and_its_server_too(hosting: Hosting) -> None:
    """It is Deleting, then unknown. Its name can be used again, and its folder is gone."""
    config = hosting.create_config(hosting.create_model())
    name = hosting.create_endpoint(config)
    hosting.sagemaker.delete_endpoint(EndpointName=name)
    hosting.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 0.05})
    with pytest.raises(ClientError, match="not found"):
        hosting.invoke(name)
    assert hosting.events(name)[-1] == "DELETING"
    folder = hosting.local.home / "endpoints" / name
    wait_until(lambda: not list(folder.glob("*/*")))
    hosting.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    hosting.wait(name)


def test_an_endpoint_outlives_its_configuration_and_model(hosting: Hosting) -> None:
    """Deleting what it was made from does not affect what serves."""
    model = hosting.create_model()
    config = hosting.create_config(model)
    name = hosting.create_endpoint(config)
    hosting.sagemaker.delete_endpoint_config(EndpointConfigName=config)
    hosting.sagemaker.delete_model(ModelName=model)
    assert read(hosting.invoke(name))["model"] == model


def test_variants_share_the_traffic_and_can_be_chosen(hosting: Hosting) -> None:
    """Two variants of equal weight both answer. TargetVariant picks one, and an unknown one is refused."""
    first, second = hosting.create_model(), hosting.create_model()
    name = hosting.create_endpoint(hosting.create_config(first, second))
    assert {read(hosting.invoke(name))["model"] for _ in range(40)} == {first, second}
    assert read(hosting.invoke(name, TargetVariant="v1"))["model"] == second
    with pytest.raises(ClientError, match="Could not find variant v9"):
        hosting.invoke(name, TargetVariant="v9")


def test_a_serverless_endpoint_serves_up_to_4_megabytes(hosting: Hosting) -> None:
    """Its configuration is shown as SageMaker shows it, and its smaller limit holds."""
    name = hosting.create_endpoint(hosting.create_config(hosting.create_model(), **SERVERLESS))
    variant = hosting.describe(name)["ProductionVariants"][0]
    assert variant["CurrentServerlessConfig"] == SERVERLESS["ServerlessConfig"]
    assert read(hosting.invoke(name, bytes(4_000_000)))["bytes"] == 4_000_000
    with pytest.raises(ClientError, match="has oversize body"):
        hosting.invoke(name, bytes(5_000_000))


def test_instances_cannot_be_updated_to_serverless(hosting: Hosting, endpoint: str) -> None:
    """As on AWS, the endpoint must be deleted and created again."""
    config = hosting.create_config(hosting.create_model(), **SERVERLESS)
    with pytest.raises(ClientError, match="instance-based endpoint to a serverless endpoint is not supported"):
        hosting.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)


def test_the_servers_output_is_in_cloudwatch_logs(hosting: Hosting, endpoint: str) -> None:
    """It is in the group and stream where AWS puts it."""
    logs, group = hosting.local.client("logs"), f"/aws/sagemaker/Endpoints/{endpoint}"

    def find_lines() -> list[str]:
        groups = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        events = logs.filter_log_events(logGroupName=group, logStreamNamePrefix="main/")["events"] if groups else []
        return [event["message"] for event in events]

    assert any(line.startswith("serving ") for line in wait_until(find_lines))


def test_our_own_archive_answers_pictures(hosting: Hosting, tmp_path: Path) -> None:
    """What training ships works, from the archive in S3 to the answer of InvokeEndpoint."""
    archive = pack_model(write_model(tmp_path / "model"), tmp_path / "model.tar.gz").read_bytes()
    name = hosting.create_endpoint(hosting.create_config(hosting.create_model(archive=archive)))
    answer = read(hosting.invoke(name, encode(draw(90, 60), "JPEG"), ContentType="image/jpeg"))
    assert [len(result["predictions"]) for result in answer["results"]] == [3]
    with pytest.raises(ClientError) as caught:
        hosting.invoke(name, b"no picture", ContentType="image/png")
    assert caught.value.response["OriginalStatusCode"] == 422


def test_names_are_taken_once(hosting: Hosting, endpoint: str) -> None:
    """It is ValidationException (ResourceInUse is for jobs) with the ARN, for all three kinds, whatever the case."""
    model = hosting.create_model()
    config = hosting.create_config(model)
    url = hosting.sagemaker.describe_model(ModelName=model)["PrimaryContainer"]["ModelDataUrl"]
    for create, kind, name in (
        (
            lambda: hosting.sagemaker.create_model(
                ModelName=model.upper(), PrimaryContainer={"Image": "i", "ModelDataUrl": url}
            ),
            "model",
            model,
        ),
        (
            lambda: hosting.sagemaker.create_endpoint_config(
                EndpointConfigName=config, ProductionVariants=[{"VariantName": "main", "ModelName": model} | INSTANCE]
            ),
            "endpoint configuration",
            config,
        ),
        (
            lambda: hosting.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config),
            "endpoint",
            endpoint,
        ),
    ):
        with pytest.raises(ClientError, match=f"Cannot create already existing {kind} ") as caught:
            create()
        assert code_of(caught) == ("ValidationException", 400)
        assert f'/{name.lower()}".' in str(caught.value)


@pytest.mark.parametrize("operation", ["describe", "delete"])
@pytest.mark.parametrize(
    ("kind", "member", "words"),
    [
        ("model", "ModelName", f'Could not find model "{ARN}:model/nobody".'),
        (
            "endpoint_config",
            "EndpointConfigName",
            f'Could not find endpoint configuration "{ARN}:endpoint-config/nobody".',
        ),
        ("endpoint", "EndpointName", f'Could not find endpoint "{ARN}:endpoint/nobody".'),
    ],
)
def test_what_is_not_there_cannot_be_found(
    hosting: Hosting, operation: str, kind: str, member: str, words: str
) -> None:
    """It is ValidationException with AWS's text and the ARN."""
    with pytest.raises(ClientError) as caught:
        getattr(hosting.sagemaker, f"{operation}_{kind}")(**{member: "nobody"})
    assert words in str(caught.value)
    assert code_of(caught) == ("ValidationException", 400)


def test_models_need_their_archive_and_configurations_their_models(hosting: Hosting) -> None:
    """Each is refused if what it is built on is missing."""
    container = {"Image": "i", "ModelDataUrl": "s3://training/not/there.tar.gz"}
    with pytest.raises(ClientError, match=r"Could not find model data at s3://training/not/there.tar.gz"):
        hosting.sagemaker.create_model(ModelName=name_thing("model"), PrimaryContainer=container)
    with pytest.raises(ClientError, match=r'Could not find model ".*model/nobody"'):
        hosting.create_config("nobody")
    with pytest.raises(ClientError, match=r'Could not find endpoint configuration ".*endpoint-config/nobody"'):
        hosting.create_endpoint("nobody", wait=False)


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ({"InitialInstanceCount": 1}, "either InstanceType and InitialInstanceCount, or ServerlessConfig"),
        (INSTANCE | SERVERLESS, "either InstanceType and InitialInstanceCount, or ServerlessConfig"),
        ({"ServerlessConfig": {"MemorySizeInMB": 1500, "MaxConcurrency": 1}}, "MemorySizeInMB is 1500"),
        (INSTANCE | {"AcceleratorType": "ml.eia1.medium"}, "does not support ProductionVariants"),
        ({"InstanceType": "ml.huge", "InitialInstanceCount": 1}, "enum value set"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(hosting: Hosting, variant: dict, words: str) -> None:
    """It is refused by AWS's rules, and by name where the local cloud cannot do it."""
    with pytest.raises(ClientError, match=words):
        hosting.create_config(hosting.create_model(), **variant)


def test_lists_are_newest_first_and_paged(hosting: Hosting) -> None:
    """ListModels, ListEndpointConfigs and ListEndpoints page through everything, each name once."""
    made = [hosting.create_model() for _ in range(3)]
    pages = hosting.sagemaker.get_paginator("list_models").paginate(PaginationConfig={"PageSize": 2})
    names = [model["ModelName"] for page in pages for model in page["Models"]]
    assert names[:3] == made[::-1]
    assert len(set(names)) == len(names)
    configs = hosting.sagemaker.list_endpoint_configs(NameContains="nothing-like-it")["EndpointConfigs"]
    endpoints = hosting.sagemaker.list_endpoints(StatusEquals="InService", MaxResults=100)["Endpoints"]
    assert configs == []
    assert {one["EndpointStatus"] for one in endpoints} == {"InService"}


def test_tags_come_and_go_with_the_thing(hosting: Hosting) -> None:
    """Tags given at creation are listed by ARN and are in the endpoint's events."""
    name = name_thing("endpoint")
    config = hosting.create_config(hosting.create_model())
    tags = [{"Key": "whippet:run", "Value": "r1"}]
    arn = hosting.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config, Tags=tags)["EndpointArn"]
    hosting.wait(name)
    assert hosting.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags
    told = [event["detail"] for event in hosting.local.events if event["resources"] == [arn]]
    assert [detail["Tags"] for detail in told] == [{"whippet:run": "r1"}] * 2
