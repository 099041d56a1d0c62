"""Test that the guard refuses a role what its policy does not allow, in AWS's words, and logs what it called."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from localcloud.iam.call_log import CallLog, Recorded
from tests.infrastructure.permissions.conftest import Account

WORKER = "User: arn:aws:sts::123456789012:assumed-role/worker/at-work"
DENIED = "AccessDeniedException"
TOPIC = "arn:aws:sns:us-east-1:123456789012:t"
READ = {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::box/*"}
LIST = {"Action": "s3:ListBucket", "Resource": "arn:aws:s3:::box"}


def refuse(call: Any, **request: Any) -> dict[str, Any]:
    """Return a refused call's code, message and status."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    response = caught.value.response
    return {**response["Error"], "status": response["ResponseMetadata"]["HTTPStatusCode"]}


@pytest.mark.parametrize(
    ("service", "operation", "request_", "code", "status", "needed"),
    [
        ("s3", "put_object", {"Bucket": "box", "Key": "k", "Body": b"x"}, "AccessDenied", 403, "s3:PutObject"),
        ("s3", "list_objects_v2", {"Bucket": "box"}, "AccessDenied", 403, "s3:ListBucket"),
        ("sagemaker", "stop_training_job", {"TrainingJobName": "t"}, DENIED, 400, "sagemaker:StopTrainingJob"),
        ("sagemaker-runtime", "invoke_endpoint", {"EndpointName": "e", "Body": b""}, DENIED, 403, "InvokeEndpoint"),
        ("sns", "publish", {"TopicArn": TOPIC, "Message": "m"}, "AuthorizationError", 403, "sns:Publish"),
        ("events", "put_events", {"Entries": [{"Source": "s"}]}, DENIED, 400, "events:PutEvents"),
        ("secretsmanager", "get_secret_value", {"SecretId": "s"}, DENIED, 400, "secretsmanager:GetSecretValue"),
    ],
)
def test_a_refusal_names_who_what_and_why(
    account: Account, service: str, operation: str, request_: dict[str, Any], code: str, status: int, needed: str
) -> None:
    """It has the form of each protocol, so boto3 raises what it raises on AWS."""
    account.allow(READ)
    told = refuse(getattr(account.worker(service), operation), **request_)
    assert (told["Code"], told["status"]) == (code, status)
    assert told["Message"].startswith(f"{WORKER} is not authorized to perform: ")
    assert needed in told["Message"]
    assert "because no identity-based policy allows the " in told["Message"]


def test_what_is_allowed_is_served(account: Account) -> None:
    """This includes bodies: the guard passes on what it has read."""
    account.admin("sns").create_topic(Name="t")
    account.allow({"Action": "s3:*", "Resource": "arn:aws:s3:::box/*"}, {"Action": "sns:Publish", "Resource": TOPIC})
    s3 = account.worker("s3")
    s3.put_object(Bucket="box", Key="k", Body=b"x" * 100_000)
    assert len(s3.get_object(Bucket="box", Key="k")["Body"].read()) == 100_000
    assert account.worker("sns").publish(TopicArn=TOPIC, Message="m")["MessageId"]


def test_a_call_is_refused_for_want_of_one_of_its_needs(account: Account) -> None:
    """A copy is both a read and a write."""
    account.admin("s3").put_object(Bucket="box", Key="k", Body=b"x")
    account.allow({"Action": "s3:PutObject", "Resource": "arn:aws:s3:::box/*"})
    told = refuse(account.worker("s3").copy_object, Bucket="box", Key="n", CopySource={"Bucket": "box", "Key": "k"})
    assert "s3:GetObject on resource: arn:aws:s3:::box/k" in told["Message"]


def test_who_may_not_list_is_not_told_that_a_key_is_missing(account: Account) -> None:
    """Without s3:ListBucket a missing key gives 403 instead of 404."""
    account.allow(READ)
    assert refuse(account.worker("s3").get_object, Bucket="box", Key="missing")["Code"] == "AccessDenied"
    assert refuse(account.worker("s3").head_object, Bucket="box", Key="missing")["Code"] == "403"
    account.allow(READ, LIST)
    assert refuse(account.worker("s3").get_object, Bucket="box", Key="missing")["Code"] == "NoSuchKey"
    assert refuse(account.worker("s3").head_object, Bucket="box", Key="missing")["Code"] == "404"


def test_a_list_allowed_below_a_prefix_does_not_tell_of_missing_keys(account: Account) -> None:
    """GetObject has no prefix, so a condition on it never holds: the permission must be unconditional."""
    account.allow(READ, {**LIST, "Condition": {"StringLike": {"s3:prefix": "*"}}})
    assert account.worker("s3").list_objects_v2(Bucket="box", Prefix="x")["KeyCount"] == 0
    assert refuse(account.worker("s3").get_object, Bucket="box", Key="x")["Code"] == "AccessDenied"


def test_a_signed_url_may_do_what_its_signer_may(account: Account) -> None:
    """The signer's permissions are looked up when the URL is used, whoever uses it."""
    account.allow(READ)
    url = account.worker("s3").generate_presigned_url("put_object", Params={"Bucket": "box", "Key": "k"})
    refused = httpx.put(url, content=b"x")
    assert refused.status_code == 403
    assert "s3:PutObject" in refused.text
    account.allow({"Action": "s3:PutObject", "Resource": "arn:aws:s3:::box/k"})
    assert httpx.put(url, content=b"x").status_code == 200


def test_a_browser_may_ask_before_it_sends(account: Account) -> None:
    """A preflight is not a call of the signer's: the bucket's CORS rule answers it, or nothing does."""
    url = account.worker("s3").generate_presigned_url("put_object", Params={"Bucket": "box", "Key": "k"})
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
    assert "AccessDenied" not in httpx.options(url, headers=asked).text


def test_who_assumes_the_role_by_sts_is_the_role(account: Account) -> None:
    """A user can check with AssumeRole what a role may do."""
    account.allow(READ)
    role = "arn:aws:iam::123456789012:role/worker"
    made = account.admin("sts").assume_role(RoleArn=role, RoleSessionName="ann")["Credentials"]
    principal = account.identities.find(made["AccessKeyId"])
    assert principal is not None
    assert principal.arn == "arn:aws:sts::123456789012:assumed-role/worker/ann"


def test_every_kind_of_call_is_written_down_once(account: Account) -> None:
    """It is logged with its needs and whether it was allowed; the administrator's calls are not logged."""
    account.allow(READ, LIST)
    for _ in range(3):
        account.worker("s3").list_objects_v2(Bucket="box", Prefix="runs/")
        refuse(account.worker("s3").delete_object, Bucket="box", Key="k")
        account.admin("s3").list_objects_v2(Bucket="box")
    listed, deleted = account.calls()
    assert (listed.role, listed.operation, listed.allowed) == ("worker", "ListObjectsV2", True)
    assert [(need.action, dict(need.context)) for need in listed.needs] == [("s3:ListBucket", {"s3:prefix": "runs/"})]
    assert (deleted.operation, deleted.allowed, deleted.needs[0].resource) == (
        "DeleteObject",
        False,
        "arn:aws:s3:::box/k",
    )


def test_the_log_has_an_end(account: Account) -> None:
    """At its limit it is rotated, and one earlier file is kept."""
    log = CallLog(account.log, limit=1000)
    for number in range(50):
        log.add(Recorded("worker", "s3", f"Operation{number}", ()))
    files = sorted(path.name for path in account.log.parent.glob("calls*"))
    assert files == ["calls.1.jsonl", "calls.jsonl"]
    assert all(path.stat().st_size < 1200 for path in account.log.parent.glob("calls*"))
