"""Test the mapping from a request to what must be allowed for it, compared with AWS's own lists of actions."""

from __future__ import annotations

import importlib.resources
import json
import re
from functools import cache
from typing import Any

import pytest

from localcloud.iam.permissions import list_needs
from localcloud.protocol.calls import Call, find_key_id, read_call, read_s3_call

REGION = "us-east-1"
PLACE = f"{REGION}:123456789012"
B = "arn:aws:s3:::b"
SM = f"arn:aws:sagemaker:{PLACE}"
ROLE = "arn:aws:iam::123456789012:role/r"
ON_ANY_RESOURCE = ("cloudwatch:PutMetricData", "s3:GetBucketCors")  # of no use to us by resource


S3_CALLS: list[tuple[str, str, str, dict[str, str], str, list[tuple[str, str]]]] = [
    ("GET", "/b/k%20x", "", {}, "GetObject", [("s3:GetObject", f"{B}/k x")]),
    ("GET", "/b/k", "versionId=3", {}, "GetObject", [("s3:GetObjectVersion", f"{B}/k")]),
    ("HEAD", "/b/k", "", {}, "HeadObject", [("s3:GetObject", f"{B}/k")]),
    ("PUT", "/b/a/k", "", {}, "PutObject", [("s3:PutObject", f"{B}/a/k")]),
    ("DELETE", "/b/k", "versionId=3", {}, "DeleteObject", [("s3:DeleteObjectVersion", f"{B}/k")]),
    ("POST", "/b/k", "uploads", {}, "CreateMultipartUpload", [("s3:PutObject", f"{B}/k")]),
    ("PUT", "/b/k", "partNumber=1&uploadId=u", {}, "UploadPart", [("s3:PutObject", f"{B}/k")]),
    ("POST", "/b/k", "uploadId=u", {}, "CompleteMultipartUpload", [("s3:PutObject", f"{B}/k")]),
    ("DELETE", "/b/k", "uploadId=u", {}, "AbortMultipartUpload", [("s3:AbortMultipartUpload", f"{B}/k")]),
    ("GET", "/b", "list-type=2&prefix=runs%2F", {}, "ListObjectsV2", [("s3:ListBucket", B)]),
    ("GET", "/b", "versions&prefix=x", {}, "ListObjectVersions", [("s3:ListBucketVersions", B)]),
    ("HEAD", "/b", "", {}, "HeadBucket", [("s3:ListBucket", B)]),
    ("GET", "/b/k", "tagging", {}, "GetObjectTagging", [("s3:GetObjectTagging", f"{B}/k")]),
    ("GET", "/b", "cors", {}, "GetBucketCors", [("s3:GetBucketCors", "*")]),
    (
        *("PUT", "/b/new", "", {"x-amz-copy-source": "b/old%2B?versionId=3"}, "CopyObject"),
        [("s3:GetObjectVersion", f"{B}/old+"), ("s3:PutObject", f"{B}/new")],
    ),
    (
        *("PUT", "/b/new", "partNumber=1&uploadId=u", {"x-amz-copy-source": "b/old"}, "UploadPartCopy"),
        [("s3:GetObject", f"{B}/old"), ("s3:PutObject", f"{B}/new")],
    ),
    (
        *("PUT", "/b/k", "", {"x-amz-tagging": "a=b"}, "PutObject"),
        [("s3:PutObject", f"{B}/k"), ("s3:PutObjectTagging", f"{B}/k")],
    ),
]


@pytest.mark.parametrize(("method", "path", "query", "headers", "operation", "needs"), S3_CALLS)
def test_what_s3_calls_need(
    method: str, path: str, query: str, headers: dict[str, str], operation: str, needs: list[tuple[str, str]]
) -> None:
    """S3 derives the action from method, path, query and headers, and its actions have names of their own."""
    call = read_s3_call(method, path, query, headers)
    assert call.operation == operation
    assert [(need.action, need.resource) for need in list_needs(call, REGION)] == needs


def test_each_deletion_of_many_needs_its_own_permission() -> None:
    """A key alone and a version differ."""
    body = (
        b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>a</Key></Object>'
        b"<Object><Key>c/d</Key><VersionId>7</VersionId></Object><Quiet>true</Quiet></Delete>"
    )
    call = read_call("s3", "POST", "/b", "delete", {}, body)
    found = [(need.action, need.resource) for need in list_needs(call, REGION)]
    assert found == [("s3:DeleteObject", f"{B}/a"), ("s3:DeleteObjectVersion", f"{B}/c/d")]


NEEDS: list[tuple[str, str, dict[str, Any], list[tuple[str, str]]]] = [
    (
        *("sagemaker", "CreateTrainingJob", {"TrainingJobName": "t", "RoleArn": ROLE, "Tags": [{"Key": "a"}]}),
        [
            ("sagemaker:CreateTrainingJob", f"{SM}:training-job/t"),
            ("sagemaker:AddTags", f"{SM}:training-job/t"),
            ("iam:PassRole", ROLE),
        ],
    ),
    (
        "sagemaker",
        "CreateHyperParameterTuningJob",
        {"HyperParameterTuningJobName": "h", "TrainingJobDefinition": {"RoleArn": ROLE}},
        [
            ("sagemaker:CreateHyperParameterTuningJob", f"{SM}:hyper-parameter-tuning-job/h"),
            ("iam:PassRole", ROLE),
        ],
    ),
    (
        *("sagemaker", "CreateModel", {"ModelName": "m", "ExecutionRoleArn": ROLE}),
        [("sagemaker:CreateModel", f"{SM}:model/m"), ("iam:PassRole", ROLE)],
    ),
    (
        *("sagemaker", "CreateEndpointConfig", {"EndpointConfigName": "c"}),
        [("sagemaker:CreateEndpointConfig", f"{SM}:endpoint-config/c")],
    ),
    (
        *("sagemaker", "CreateEndpoint", {"EndpointName": "e", "EndpointConfigName": "c"}),
        [
            ("sagemaker:CreateEndpoint", f"{SM}:endpoint/e"),
            ("sagemaker:CreateEndpoint", f"{SM}:endpoint-config/c"),
        ],
    ),
    (
        *("sagemaker", "UpdateEndpoint", {"EndpointName": "e", "EndpointConfigName": "c"}),
        [
            ("sagemaker:UpdateEndpoint", f"{SM}:endpoint/e"),
            ("sagemaker:UpdateEndpoint", f"{SM}:endpoint-config/c"),
        ],
    ),
    (
        *("sagemaker", "DeleteEndpointConfig", {"EndpointConfigName": "c"}),
        [("sagemaker:DeleteEndpointConfig", f"{SM}:endpoint-config/c")],
    ),
    ("sagemaker", "InvokeEndpoint", {"EndpointName": "e"}, [("sagemaker:InvokeEndpoint", f"{SM}:endpoint/e")]),
    ("sagemaker", "ListEndpoints", {"NameContains": "x"}, [("sagemaker:ListEndpoints", "*")]),
    ("sagemaker", "ListTags", {"ResourceArn": f"{SM}:model/m"}, [("sagemaker:ListTags", f"{SM}:model/m")]),
    (
        *("sagemaker", "ListTrainingJobsForHyperParameterTuningJob", {"HyperParameterTuningJobName": "h"}),
        [("sagemaker:ListTrainingJobsForHyperParameterTuningJob", f"{SM}:hyper-parameter-tuning-job/h")],
    ),
    ("events", "PutEvents", {"Entries": [{}, {}]}, [("events:PutEvents", f"arn:aws:events:{PLACE}:event-bus/default")]),
    ("sns", "Publish", {"TopicArn": f"arn:aws:sns:{PLACE}:t"}, [("sns:Publish", f"arn:aws:sns:{PLACE}:t")]),
    (
        *("secretsmanager", "GetSecretValue", {"SecretId": "s"}),
        [("secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:{PLACE}:secret:s-??????")],
    ),
    (
        *("logs", "PutLogEvents", {"logGroupName": "/g", "logStreamName": "s"}),
        [("logs:PutLogEvents", f"arn:aws:logs:{PLACE}:log-group:/g:log-stream:s")],
    ),
    ("logs", "CreateLogGroup", {"logGroupName": "/g"}, [("logs:CreateLogGroup", f"arn:aws:logs:{PLACE}:log-group:/g")]),
    ("monitoring", "PutMetricData", {}, [("cloudwatch:PutMetricData", "*")]),
    (
        *("application-autoscaling", "RegisterScalableTarget", {"ServiceNamespace": "sagemaker"}),
        [
            (
                "application-autoscaling:RegisterScalableTarget",
                f"arn:aws:application-autoscaling:{PLACE}:scalable-target/0000",
            )
        ],
    ),
]


@pytest.mark.parametrize(("service", "operation", "told", "needs"), NEEDS, ids=[each[1] for each in NEEDS])
def test_what_other_calls_need(service: str, operation: str, told: dict[str, Any], needs: list[Any]) -> None:
    """This includes passed roles, tags, and the config beside the endpoint."""
    assert [(need.action, need.resource) for need in list_needs(Call(service, operation, told), REGION)] == needs


def test_a_role_is_passed_to_sagemaker() -> None:
    """The condition of iam:PassRole is in the context."""
    call = Call("sagemaker", "CreateModel", {"ModelName": "m", "ExecutionRoleArn": ROLE})
    *_, passed = list_needs(call, REGION)
    assert passed.context == {"iam:PassedToService": "sagemaker.amazonaws.com"}


@cache
def load_aws_actions() -> dict[str, Any]:
    """Return AWS's actions by service with their kinds of resources, as cfn-lint has them."""
    data = importlib.resources.files("cfnlint") / "data" / "AdditionalSpecs" / "Policies.json"
    loaded: dict[str, Any] = json.loads(data.read_text())
    return loaded


def make_pattern(form: str) -> str:
    """An ARN's form as cfn-lint writes it, its variables filled with anything."""
    return re.sub(r"\$\{\w+\}", "[^:]*", form)


@pytest.mark.parametrize("need", sorted({pair for each in (*S3_CALLS, *NEEDS) for pair in each[-1]}), ids=str)
def test_the_table_agrees_with_awss_reference(need: tuple[str, str]) -> None:
    """The action exists; it has a resource where AWS gives it kinds of resources, and one of such a kind."""
    action, resource = need
    prefix, _, name = action.partition(":")
    known = load_aws_actions()[prefix]
    kinds = known["Actions"][name.lower()].get("Resources", [])
    if action in ON_ANY_RESOURCE or not kinds:
        assert resource == "*"
        return
    forms = [form for kind in kinds for form in known["Resources"][kind.lower()]["ARNFormats"]]
    assert any(re.fullmatch(make_pattern(form), resource) for form in forms), forms


@pytest.mark.parametrize(
    ("query", "headers", "key"),
    [
        ("", {"authorization": "AWS4-HMAC-SHA256 Credential=ASIAX/20260101/us-east-1/s3/aws4_request, x"}, "ASIAX"),
        ("X-Amz-Credential=ASIAY%2F20260101%2Fus-east-1%2Fs3%2Faws4_request", {}, "ASIAY"),
        ("", {}, ""),
    ],
)
def test_who_signed(query: str, headers: dict[str, str], key: str) -> None:
    """In the header, or in a signed URL: that has the permissions of who signed it."""
    assert find_key_id(query, headers) == key


@pytest.mark.parametrize(
    ("service", "headers", "body", "call"),
    [
        ("sagemaker", {"x-amz-target": "SageMaker.StopTrainingJob"}, b'{"a": 1}', ("StopTrainingJob", {"a": 1})),
        ("sns", {}, b"Action=Publish&TopicArn=arn%3Ax", ("Publish", {"TopicArn": "arn:x"})),
        ("events", {"x-amz-target": "AWSEvents.PutEvents"}, b"broken", ("PutEvents", {})),
    ],
)
def test_calls_of_the_other_protocols(service: str, headers: dict[str, str], body: bytes, call: Any) -> None:
    """JSON with a target, or a form with an action."""
    found = read_call(service, "POST", "/", "", headers, body)
    assert (found.operation, dict(found.parameters)) == call


def test_an_invocation_stands_in_the_path() -> None:
    """Its body, which is a picture, is not read."""
    found = read_call("sagemaker", "POST", "/endpoints/dogs%2D1/invocations", "", {})
    assert (found.operation, found.parameters) == ("InvokeEndpoint", {"EndpointName": "dogs-1"})
