"""Test that requests are let in by their signatures alone, as boto3, the SDKs and presigned URLs make them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import boto3
import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.exceptions import ClientError

from localcloud.common.keys import Credentials, generate_credentials
from tests.localcloud.hosting import KEYS, REGION, aws, client

STRANGER = generate_credentials()
WRONG_SECRET = Credentials(KEYS.access_key_id, STRANGER.secret_access_key)
WRONG_TOKEN = Credentials(KEYS.access_key_id, KEYS.secret_access_key, "token")
ODD = "a b/ü+~*'()%2F&=,;:@$!.txt"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with aws(tmp_path_factory.mktemp("signed"), []) as url:
        client("s3", url).create_bucket(Bucket="box")
        yield url


def connect(service: str, url: str, keys: Credentials = KEYS, **options: Any) -> Any:
    """Return a client with these keys, which tries once."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
        aws_session_token=keys.session_token or None,
        config=Config(retries={"max_attempts": 0}, **options),
    )


@pytest.mark.parametrize("options", [{}, {"signature_version": "s3v4"}, {"s3": {"payload_signing_enabled": True}}])
def test_any_key_and_any_query_is_signed_alike(url: str, options: dict[str, Any]) -> None:
    """Characters that are encoded in paths and queries, metadata with spaces, and an empty body."""
    s3 = connect("s3", url, **options)
    s3.put_object(Bucket="box", Key=ODD, Body=b"x", Metadata={"note": "two  spaces  "}, Tagging="a=b%20c")
    s3.put_object(Bucket="box", Key="empty", Body=b"")
    assert s3.get_object(Bucket="box", Key=ODD)["Body"].read() == b"x"
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="box", Prefix=ODD)["Contents"]] == [ODD]
    assert s3.get_object_tagging(Bucket="box", Key=ODD)["TagSet"] == [{"Key": "a", "Value": "b c"}]
    s3.delete_objects(Bucket="box", Delete={"Objects": [{"Key": ODD}, {"Key": "empty"}]})


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_signed_urls_are_let_in_until_they_expire(url: str, version: str) -> None:
    """Both versions: boto3 makes the second for S3 unless it is asked for the fourth."""
    s3 = connect("s3", url, signature_version=version)
    place = {"Bucket": "box", "Key": ODD}
    assert httpx.put(s3.generate_presigned_url("put_object", Params=place), content=b"abc").status_code == 200
    assert httpx.get(s3.generate_presigned_url("get_object", Params=place)).content == b"abc"
    expired = httpx.get(s3.generate_presigned_url("get_object", Params=place, ExpiresIn=0))
    assert (expired.status_code, "has expired" in expired.text) == (403, True)
    other = s3.generate_presigned_url("get_object", Params=place).replace("/box/", "/box/other")
    assert httpx.get(other).status_code == 403
    assert httpx.delete(s3.generate_presigned_url("get_object", Params=place)).status_code == 403


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_signed_url_of_a_stranger_is_refused(url: str, version: str) -> None:
    """Neither another key nor a secret that is not the key's opens anything."""
    for keys, code in ((STRANGER, "InvalidAccessKeyId"), (WRONG_SECRET, "SignatureDoesNotMatch")):
        s3 = connect("s3", url, keys, signature_version=version)
        refused = httpx.get(s3.generate_presigned_url("get_object", Params={"Bucket": "box", "Key": "k"}))
        assert (refused.status_code, f"<Code>{code}</Code>" in refused.text) == (403, True)


def test_a_url_cannot_be_made_to_last(url: str) -> None:
    """Its expiry is signed, and so is every other parameter."""
    signed = connect("s3", url, signature_version="s3v4").generate_presigned_url(
        "get_object", Params={"Bucket": "box", "Key": "k"}, ExpiresIn=0
    )
    parts = urlsplit(signed)
    told = {name: values[0] for name, values in parse_qs(parts.query).items()}
    longer = urlunsplit(parts._replace(query=urlencode(told | {"X-Amz-Expires": "604800"})))
    assert "SignatureDoesNotMatch" in httpx.get(longer).text


@pytest.mark.parametrize(
    ("service", "operation", "request_", "codes", "status"),
    [
        ("s3", "list_buckets", {}, ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"), 403),
        (
            "sagemaker-runtime",
            "invoke_endpoint",
            {"EndpointName": "e", "Body": b"x"},
            ("UnrecognizedClientException", "InvalidSignatureException", "UnrecognizedClientException"),
            403,
        ),
        (
            "secretsmanager",
            "list_secrets",
            {},
            ("UnrecognizedClientException", "InvalidSignatureException", "UnrecognizedClientException"),
            400,
        ),
        (
            "sts",
            "get_caller_identity",
            {},
            ("InvalidClientTokenId", "SignatureDoesNotMatch", "InvalidClientTokenId"),
            403,
        ),
    ],
)
def test_strangers_are_refused_as_aws_refuses_them(
    url: str, service: str, operation: str, request_: dict[str, Any], codes: tuple[str, ...], status: int
) -> None:
    """A key that nobody has, a wrong secret, a wrong token: with the codes of each protocol, and where the keys are."""
    for keys, code in zip((STRANGER, WRONG_SECRET, WRONG_TOKEN), codes, strict=True):
        with pytest.raises(ClientError) as refused:
            getattr(connect(service, url, keys), operation)(**request_)
        told = refused.value.response
        assert told["Error"]["Code"] == code
        assert told["ResponseMetadata"]["HTTPStatusCode"] == (400 if code == "InvalidToken" else status)
        assert ".localcloud/env" in told["Error"]["Message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Amz-Target": "secretsmanager.ListSecrets"},
        {"X-Amz-Target": "SageMaker.ListTrainingJobs"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/sagemaker/aws4_request"},
        {"Authorization": f"AWS {KEYS.access_key_id}:signature"},
        {"Authorization": f"Bearer {KEYS.access_key_id}"},
        {"Authorization": "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_the_unsigned_get_nothing(url: str, method: str, headers: dict[str, str]) -> None:
    """Whatever service they ask for, by whatever method, with whatever looks like a signature."""
    for path in ("/", "/box", "/box/k", "/endpoints/e/invocations"):
        refused = httpx.request(method, f"{url}{path}", headers=headers, content=b"Action=ListUsers")
        assert refused.status_code in (400, 403)


def test_what_was_signed_is_what_is_done(url: str) -> None:
    """A body, a header or a target that was changed on the way makes the signature a wrong one."""
    sns = connect("sns", url)
    kept: list[AWSRequest] = []
    sns.meta.events.register("before-send.sns.*", lambda request, **_: kept.append(request))
    sns.create_topic(Name="signed")
    (sent,) = kept
    headers = {name: value for name, value in sent.headers.items() if name.lower() != "content-length"}
    assert httpx.post(sent.url, headers=headers, content=sent.body).status_code == 200
    changed = httpx.post(sent.url, headers=headers, content=b"Action=ListTopics&Version=2010-03-31")
    assert (changed.status_code, "SignatureDoesNotMatch" in changed.text) == (403, True)
    late = {**headers, "X-Amz-Date": "20200101T000000Z"}
    assert httpx.post(sent.url, headers=late, content=sent.body).status_code == 403


def test_an_old_request_is_refused(url: str) -> None:
    """As AWS refuses one that is more than 15 minutes off: a request that was written down is not good for ever."""
    request = AWSRequest("GET", f"{url}/box", headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    signed = sign(request, "20200101T000000Z")
    refused = httpx.get(signed.url, headers=dict(signed.headers))
    assert (refused.status_code, "RequestTimeTooSkewed" in refused.text) == (403, True)


def sign(request: AWSRequest, moment: str) -> Any:
    """Sign a request of S3's as at another time."""
    signer = S3SigV4Auth(BotocoreCredentials(KEYS.access_key_id, KEYS.secret_access_key), "s3", REGION)
    request.context["timestamp"] = moment
    request.headers["X-Amz-Date"] = moment
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))
    return request


def test_a_users_key_works_until_it_is_withdrawn(url: str) -> None:
    """Keys of IAM users are made and switched off as on AWS."""
    iam = client("iam", url)
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName="ann")
    made = iam.create_access_key(UserName="ann")["AccessKey"]
    keys = Credentials(made["AccessKeyId"], made["SecretAccessKey"])
    assert connect("s3", url, keys).list_buckets()["Buckets"]
    iam.update_access_key(UserName="ann", AccessKeyId=keys.access_key_id, Status="Inactive")
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        connect("s3", url, keys).list_buckets()
    iam.delete_access_key(UserName="ann", AccessKeyId=keys.access_key_id)
    iam.delete_user(UserName="ann")


def test_an_assumed_role_needs_its_token(url: str) -> None:
    """A session's key without its token, or with another's, opens nothing."""
    iam, sts = client("iam", url), client("sts", url)
    iam.create_role(RoleName="signer", AssumeRolePolicyDocument='{"Statement": []}')
    made = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/signer", RoleSessionName="ann")["Credentials"]
    good = Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    told = connect("sts", url, good).get_caller_identity()
    assert told["Arn"] == "arn:aws:sts::123456789012:assumed-role/signer/ann"
    for token in ("", "another"):
        bad = Credentials(good.access_key_id, good.secret_access_key, token)
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            connect("sts", url, bad).get_caller_identity()
    iam.delete_role(RoleName="signer")


def test_keys_stay_out_of_the_folder(tmp_path: Path) -> None:
    """No secret is written where the guard records calls."""
    with aws(tmp_path, []) as url:
        client("s3", url).list_buckets()
    assert all(
        KEYS.secret_access_key.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )
