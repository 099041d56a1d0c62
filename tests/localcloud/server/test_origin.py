"""Test that a request finds its service behind one origin by its signature, its target or its path."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import httpx
import pytest
from botocore.exceptions import ClientError
from moto.logs.models import LogEvent

from localcloud.server.origin import find_service
from tests.localcloud.hosting import aws, client, send_signed

SIGNED = "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=x"


@pytest.mark.parametrize(
    ("path", "query", "headers", "service"),
    [
        ("/", "", {"authorization": SIGNED.format("sqs")}, "sqs"),
        ("/", "", {"authorization": SIGNED.format("sagemaker"), "x-amz-target": "SageMaker.X"}, "sagemaker"),
        ("/", "", {"x-amz-target": "SageMaker.ListModels"}, "sagemaker"),
        ("/endpoints/dogs/invocations", "", {}, "sagemaker"),
        ("/endpoints/dogs/invocations", "", {"authorization": SIGNED.format("s3")}, "s3"),
        ("/bucket/key", "X-Amz-Credential=AKIA%2F20260101%2Fus-east-1%2Fs3%2Faws4_request", {}, "s3"),
        ("/bucket/key", "", {}, "s3"),
        ("/bucket/key", "", {"authorization": "Bearer x"}, "s3"),
    ],
)
def test_the_service_of_a_request(path: str, query: str, headers: dict[str, str], service: str) -> None:
    """The signature decides first, then a presigned credential, then the target, then the path."""
    assert find_service(path, query, headers) == service


def test_every_service_answers_behind_one_url(tmp_path: Path) -> None:
    """boto3's clients differ only in their service."""
    with aws(tmp_path, []) as url:
        assert client("sts", url).get_caller_identity()["Account"] == "123456789012"
        assert client("sqs", url).create_queue(QueueName="q")["QueueUrl"]
        assert client("sns", url).create_topic(Name="t")["TopicArn"]
        client("events", url).put_rule(Name="r", EventPattern='{"source":["aws.s3"]}')
        client("logs", url).create_log_group(logGroupName="/g")
        client("cloudwatch", url).put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.0}])
        client("secretsmanager", url).create_secret(Name="s", SecretString="{}")
        with pytest.raises(ClientError, match="418"):
            client("sagemaker", url).list_models()


@pytest.mark.parametrize(
    ("service", "target"),
    [
        ("secretsmanager", "secretsmanager.GetSecretValue"),
        ("tagging", "ResourceGroupsTaggingAPI_20170126.GetResources"),
        ("events", "AWSEvents.PutEvents"),
    ],
)
@pytest.mark.parametrize("body", [b'{"SecretId":' * 100_000, b'{"SecretId":', b"\xff"])
def test_what_is_no_json_is_the_callers_fault(tmp_path: Path, service: str, target: str, body: bytes) -> None:
    """A body that is cut or nested too deeply is answered 400, by moto's services as by ours."""
    kind = "application/x-amz-json-1.1"
    with aws(tmp_path, []) as url:
        answer = send_signed("POST", url, service, body, X_Amz_Target=target, Content_Type=kind)
        assert (answer.status_code, answer.json()["__type"]) == (400, "SerializationException")


def test_motos_own_api_is_closed(tmp_path: Path) -> None:
    """Its reset would empty the memory and leave the disk unchanged."""
    with aws(tmp_path, []) as url:
        assert httpx.post(f"{url}/moto-api/reset").status_code == 404


def test_what_moto_has_not_is_an_error_that_says_so(tmp_path: Path) -> None:
    """The answer is 501, which no client retries, and not a server's failure."""
    with aws(tmp_path, []) as url, pytest.raises(ClientError, match="Not Implemented") as refused:
        client("iam", url).simulate_principal_policy(
            PolicySourceArn="arn:aws:iam::123456789012:role/some-role", ActionNames=["s3:PutObject"]
        )
    assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == 0


def test_what_was_deleted_takes_no_memory(tmp_path: Path) -> None:
    """The log lines of a stream: moto itself would keep every object that it ever made."""
    with aws(tmp_path, []) as url:
        logs = client("logs", url)
        logs.create_log_group(logGroupName="/forgotten")
        logs.create_log_stream(logGroupName="/forgotten", logStreamName="s")
        events = [{"timestamp": int(time.time() * 1000), "message": f"forgotten {number}"} for number in range(100)]
        logs.put_log_events(logGroupName="/forgotten", logStreamName="s", logEvents=events)
        assert count_lines() == 100
        logs.delete_log_stream(logGroupName="/forgotten", logStreamName="s")
        assert count_lines() == 0


def count_lines() -> int:
    gc.collect()
    return sum(isinstance(each, LogEvent) and each.message.startswith("forgotten") for each in gc.get_objects())
