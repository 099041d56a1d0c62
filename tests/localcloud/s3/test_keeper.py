"""Test the local S3: AWS's behaviour through boto3, kept on disk, with one EventBridge event for each change."""

from __future__ import annotations

import base64
import io
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.s3 import models

from localcloud.s3.events import next_sequencer
from localcloud.s3.keeper import S3Keeper
from localcloud.server.origin import make_moto
from tests.localcloud.hosting import Event, aws, client

BUCKET = "bucket"
PART = 5 << 20


def make_bucket(s3: Any) -> None:
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}})


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def url(tmp_path: Path, events: list[Event]) -> Iterator[str]:
    with aws(tmp_path / "s3", events) as url:
        make_bucket(client("s3", url))
        yield url


@pytest.fixture
def s3(url: str) -> Any:
    return client("s3", url)


def told(events: list[Event]) -> list[tuple[str, str, str]]:
    return [(event[1], event[2]["object"]["key"], event[2]["reason"]) for event in events]


def test_an_upload_is_told_in_the_shape_of_aws(s3: Any, events: list[Event]) -> None:
    """The key is not URL-encoded, the etag is lower case without quotes, the version is the one in the put's answer."""
    answer = s3.put_object(Bucket=BUCKET, Key="datasets/a b+c/ü.zip", Body=b"12345")
    source, detail_type, detail, resources = events[-1]
    assert (source, detail_type, resources) == ("aws.s3", "Object Created", [f"arn:aws:s3:::{BUCKET}"])
    thing = detail["object"]
    assert thing.pop("sequencer")
    etag = answer["ETag"].strip('"')
    assert thing == {"key": "datasets/a b+c/ü.zip", "size": 5, "etag": etag, "version-id": answer["VersionId"]}
    assert detail["bucket"] == {"name": BUCKET}
    assert detail["reason"] == "PutObject"


def test_each_change_is_told_once(s3: Any, events: list[Event]) -> None:
    """A multipart upload, a copy, any delete, and a delete of many keys send one event for each key."""
    s3.put_object(Bucket=BUCKET, Key="one", Body=b"1")
    s3.copy_object(Bucket=BUCKET, Key="two", CopySource={"Bucket": BUCKET, "Key": "one"})
    upload_in_parts(s3, "three", [b"x" * PART, b"y"])
    marker = s3.delete_object(Bucket=BUCKET, Key="one")
    s3.delete_object(Bucket=BUCKET, Key="one", VersionId=marker["VersionId"])
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "two"}, {"Key": "three"}]})
    assert told(events) == [
        ("Object Created", "one", "PutObject"),
        ("Object Created", "two", "CopyObject"),
        ("Object Created", "three", "CompleteMultipartUpload"),
        ("Object Deleted", "one", "DeleteObject"),
        ("Object Deleted", "one", "DeleteObject"),
        ("Object Deleted", "three", "DeleteObject"),
        ("Object Deleted", "two", "DeleteObject"),
    ]
    kinds = [event[2].get("deletion-type") for event in events[3:]]
    assert kinds == ["Delete Marker Created", "Permanently Deleted", "Delete Marker Created", "Delete Marker Created"]


def test_tags_and_refused_puts_are_not_told(s3: Any, events: list[Event]) -> None:
    """Only a new or removed version is a change of the object."""
    s3.put_object(Bucket=BUCKET, Key="one", Body=b"1")
    s3.put_object_tagging(Bucket=BUCKET, Key="one", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=BUCKET, Key="one", Body=b"2", IfNoneMatch="*")
    assert told(events) == [("Object Created", "one", "PutObject")]


def test_a_bucket_without_eventbridge_stays_silent(s3: Any, events: list[Event]) -> None:
    """Events are sent only where the bucket's notification configuration asks for them."""
    s3.create_bucket(Bucket="silent")
    s3.put_object(Bucket="silent", Key="one", Body=b"1")
    assert events == []


def test_sequencers_grow() -> None:
    """Two events of one key can be ordered by their sequencers."""
    sequencers = [next_sequencer() for _ in range(100)]
    assert sequencers == sorted(sequencers)


def test_of_many_conditional_puts_one_wins(s3: Any) -> None:
    """If-None-Match holds against twenty simultaneous writers."""

    def put(number: int) -> int:
        try:
            s3.put_object(Bucket=BUCKET, Key="lease", Body=str(number), IfNoneMatch="*")
        except ClientError as error:
            return 0 if error.response["Error"]["Code"] == "PreconditionFailed" else 1000
        return 1

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(put, range(20))) == 1


def test_a_copy_of_what_came_in_parts_is_whole(s3: Any) -> None:
    """A dataset over 8 MB arrives in parts and is copied to its run: the copy has a checksum that boto3 accepts."""
    body = os.urandom(2 * PART)
    s3.upload_fileobj(io.BytesIO(body), BUCKET, "parts", Config=TransferConfig(multipart_threshold=PART))
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "parts"})
    told = s3.get_object(Bucket=BUCKET, Key="copy", ChecksumMode="ENABLED")
    assert told["Body"].read() == body
    assert told["ChecksumCRC32"] == base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert told["ChecksumType"] == "FULL_OBJECT"


def test_a_copy_of_another_etag_is_refused(s3: Any, events: list[Event]) -> None:
    """CopySourceIfMatch pins what is copied, also with a version."""
    first = s3.put_object(Bucket=BUCKET, Key="a+b", Body=b"1")
    second = s3.put_object(Bucket=BUCKET, Key="a+b", Body=b"2")
    source = {"Bucket": BUCKET, "Key": "a+b", "VersionId": first["VersionId"]}
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source, CopySourceIfMatch=first["ETag"])
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source, CopySourceIfMatch=second["ETag"])
    assert s3.get_object(Bucket=BUCKET, Key="copy")["Body"].read() == b"1"
    assert len(events) == 3


def test_all_comes_back_after_a_restart(tmp_path: Path) -> None:
    """Versions return with identifiers, etags, times, metadata and tags; so do delete markers and bucket settings."""
    with aws(tmp_path, []) as url:
        s3 = client("s3", url)
        make_bucket(s3)
        for body in (b"1", b"22"):
            s3.put_object(Bucket=BUCKET, Key="k", Body=body, Metadata={"Run": "r"}, Tagging="a=b")
        s3.delete_object(Bucket=BUCKET, Key="gone")
        s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")
        s3.put_object(Bucket=BUCKET, Key="deleted", Body=b"x")
        s3.delete_object(Bucket=BUCKET, Key="deleted")
        upload_in_parts(s3, "parts", [os.urandom(PART), b"end"])
        before = look(s3)
    events: list[Event] = []
    with aws(tmp_path, events) as url:
        s3 = client("s3", url)
        assert look(s3) == before
        assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
        assert s3.get_object_tagging(Bucket=BUCKET, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
        assert events == []
        s3.put_object(Bucket=BUCKET, Key="new", Body=b"1")
        assert told(events) == [("Object Created", "new", "PutObject")]


def test_a_deleted_version_leaves_no_file(s3: Any, tmp_path: Path) -> None:
    """Disk space is released, and a copy's body stays when its source is deleted."""
    first = s3.put_object(Bucket=BUCKET, Key="one", Body=b"x" * 1000)
    s3.copy_object(Bucket=BUCKET, Key="two", CopySource={"Bucket": BUCKET, "Key": "one"})
    s3.delete_object(Bucket=BUCKET, Key="one", VersionId=first["VersionId"])
    upload_in_parts(s3, "three", [b"x" * PART, b"y"])
    assert len([path for path in tmp_path.glob("s3/bodies/*/*") if path.is_file()]) == 2
    assert s3.get_object(Bucket=BUCKET, Key="two")["Body"].read() == b"x" * 1000


def test_a_body_whose_row_was_never_written_is_swept(tmp_path: Path) -> None:
    """A kill between body and row leaves a file; the next start removes it."""
    with aws(tmp_path, []):
        orphan = tmp_path / "bodies" / "ab" / "abcd"
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"x")
    with aws(tmp_path, []):
        assert not orphan.exists()


def test_ranges_are_read_from_the_file(s3: Any) -> None:
    """First, last and middle bytes are served, and a range beyond the end is refused as S3 does."""
    s3.put_object(Bucket=BUCKET, Key="k", Body=bytes(range(256)))
    read = lambda wanted: s3.get_object(Bucket=BUCKET, Key="k", Range=f"bytes={wanted}")["Body"].read()  # noqa: E731
    assert read("0-3") == bytes(range(4))
    assert read("-2") == bytes([254, 255])
    assert read("250-999") == bytes(range(250, 256))
    with pytest.raises(ClientError, match="InvalidRange"):
        read("300-400")


def test_a_presigned_put_needs_no_other_credentials(s3: Any, events: list[Event]) -> None:
    """The URL from `POST /datasets/NAME` works with any HTTP client."""
    url = s3.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "datasets/a.zip"})
    assert httpx.put(url, content=b"zip").status_code == 200
    assert told(events) == [("Object Created", "datasets/a.zip", "PutObject")]


def test_a_missing_key_is_403_without_list_bucket(s3: Any) -> None:
    """S3 hides whether a key exists from a caller that may not list the bucket, as a bucket policy may decide."""
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=BUCKET, Key="missing")
    denial = (
        '{"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::bucket"}]}'
    )
    s3.put_bucket_policy(Bucket=BUCKET, Policy=denial)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.get_object(Bucket=BUCKET, Key="missing")
    with pytest.raises(ClientError, match="403"):
        s3.head_object(Bucket=BUCKET, Key="missing")


def test_moto_is_as_it_was_when_the_keeper_is_closed(tmp_path: Path) -> None:
    """Later users of moto in the process get moto's own S3; a keeper opened since is not disturbed."""
    theirs = list_classes()
    first = S3Keeper(make_moto(), tmp_path / "first", lambda *event: None)
    second = S3Keeper(make_moto(), tmp_path / "second", lambda *event: None)
    first.close()
    assert not theirs & list_classes()
    second.close()
    assert list_classes() == theirs
    with mock_aws():
        s3 = boto3.client("s3", "us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
        make_bucket(s3)
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
        assert s3.get_object(Bucket=BUCKET, Key="a")["Body"].read() == b"1"


def list_classes() -> set[type]:
    return {models.FakeKey, models.FakeMultipart, models._VersionedKeyStore}


def upload_in_parts(s3: Any, key: str, bodies: list[bytes]) -> None:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in enumerate(bodies, 1)
    ]
    s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def look(s3: Any) -> Any:
    """Return everything that a client can see of the bucket."""
    listed = s3.list_object_versions(Bucket=BUCKET)
    versions = listed["Versions"]
    heads = [s3.head_object(Bucket=BUCKET, Key=one["Key"], VersionId=one["VersionId"]) for one in versions]
    kept = [(head["ETag"], head["LastModified"], head["Metadata"], head["ContentLength"]) for head in heads]
    bodies = [s3.get_object(Bucket=BUCKET, Key=o["Key"], VersionId=o["VersionId"])["Body"].read() for o in versions]
    return versions, listed["DeleteMarkers"], kept, bodies
