"""Test that the local S3 loses nothing that it acknowledged, and starts whatever it finds on its disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.localcloud.common.full_disk import fill_disk
from tests.localcloud.hosting import aws, client

PART = 5 << 20


def put_some(url: str) -> Any:
    """Make a bucket with two objects, one of two versions, and return its client."""
    s3 = client("s3", url)
    s3.create_bucket(Bucket="box")
    s3.put_bucket_versioning(Bucket="box", VersioningConfiguration={"Status": "Enabled"})
    for key, body in (("a", b"old"), ("a", b"kept"), ("c", b"other")):
        s3.put_object(Bucket="box", Key=key, Body=body, Tagging="t=1")
    return s3


def read_all(s3: Any) -> dict[str, Any]:
    """Return what a client sees."""
    listed = s3.list_object_versions(Bucket="box")
    bodies = {
        (each["Key"], each["VersionId"]): s3.get_object(Bucket="box", Key=each["Key"], VersionId=each["VersionId"])[
            "Body"
        ].read()
        for each in listed.get("Versions", [])
    }
    tags = {key: s3.get_object_tagging(Bucket="box", Key=key)["TagSet"] for key, _ in bodies}
    return {
        "bodies": bodies,
        "tags": tags,
        "markers": [each["VersionId"] for each in listed.get("DeleteMarkers", [])],
        "cors": sorted(key for key in s3.get_bucket_versioning(Bucket="box") if key == "Status"),
    }


def complete_parts(s3: Any, upload: str) -> Any:
    parts = s3.list_parts(Bucket="box", Key="large", UploadId=upload)["Parts"]
    told = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
    return s3.complete_multipart_upload(Bucket="box", Key="large", UploadId=upload, MultipartUpload={"Parts": told})


CHANGES: dict[str, Callable[[Any], Any]] = {
    "put": lambda s3: s3.put_object(Bucket="box", Key="a", Body=b"new"),
    "put another": lambda s3: s3.put_object(Bucket="box", Key="new", Body=b"new"),
    "put nothing": lambda s3: s3.put_object(Bucket="box", Key="a", Body=b""),
    "copy": lambda s3: s3.copy_object(Bucket="box", Key="a", CopySource={"Bucket": "box", "Key": "c"}),
    "delete": lambda s3: s3.delete_object(Bucket="box", Key="a"),
    "delete many": lambda s3: s3.delete_objects(Bucket="box", Delete={"Objects": [{"Key": "a"}, {"Key": "c"}]}),
    "tag": lambda s3: s3.put_object_tagging(Bucket="box", Key="a", Tagging={"TagSet": [{"Key": "t", "Value": "2"}]}),
    "part": lambda s3: s3.upload_part(Bucket="box", Key="large", UploadId=find_upload(s3), PartNumber=2, Body=b"x"),
    "complete": lambda s3: complete_parts(s3, find_upload(s3)),
    "make a bucket": lambda s3: s3.create_bucket(Bucket="other"),
}


def find_upload(s3: Any) -> str:
    return str(s3.list_multipart_uploads(Bucket="box")["Uploads"][0]["UploadId"])


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_full_disk_does_not_take_is_refused_and_changes_nothing(tmp_path: Path, name: str) -> None:
    """The client is told; what it sees then, and after a restart, is what was there before; and with room it works."""
    events: list[Any] = []
    with aws(tmp_path, events) as url:
        s3 = put_some(url)
        upload = s3.create_multipart_upload(Bucket="box", Key="large")["UploadId"]
        s3.upload_part(Bucket="box", Key="large", UploadId=upload, PartNumber=1, Body=b"x" * PART)
        before = read_all(s3)
        with fill_disk(), pytest.raises(ClientError, match=r"InternalError.*has changed nothing"):
            CHANGES[name](s3)
        if name != "make a bucket":  # the same request again makes it last
            assert read_all(s3) == before
        assert len(files_of(tmp_path)) == 4  # three versions and the part
    with aws(tmp_path, events) as url:
        assert read_all(client("s3", url)) == before


def test_with_room_again_the_same_request_is_kept(tmp_path: Path) -> None:
    """Nothing of the refused one stands in the way, of an object's as of a bucket's."""
    with aws(tmp_path, []) as url:
        s3 = put_some(url)
        for change in (CHANGES["put"], CHANGES["make a bucket"]):
            with fill_disk(), pytest.raises(ClientError):
                change(s3)
            change(s3)
    with aws(tmp_path, []) as url:
        s3 = client("s3", url)
        assert s3.get_object(Bucket="box", Key="a")["Body"].read() == b"new"
        assert {each["Name"] for each in s3.list_buckets()["Buckets"]} == {"box", "other"}


def files_of(home: Path) -> list[Path]:
    return [path for path in (home / "bodies").glob("??/*") if path.is_file()]


def spoil(home: Path, how: str) -> None:
    """Break the tables as a crash of the machine may."""
    path = home / "objects.sqlite"
    whole = path.read_bytes()
    (home / "objects.sqlite-wal").unlink(missing_ok=True)
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "garbage": b"\0" * len(whole)}[how])


@pytest.mark.parametrize("how", ["empty", "cut", "garbage"])
def test_broken_tables_are_set_aside(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The cloud starts without objects; tables and bodies are kept for whoever wants to repair them."""
    with aws(tmp_path, []) as url:
        s3 = put_some(url)
        for number in range(200):  # more than a page
            s3.put_object(Bucket="box", Key=f"many/{number}", Body=b"x")
    count = len(files_of(tmp_path))
    spoil(tmp_path, how)
    with aws(tmp_path, []) as url:
        s3 = client("s3", url)
        assert s3.list_buckets()["Buckets"] == []
        put_some(url)
    told = capsys.readouterr().err
    assert f"{tmp_path / 'objects.sqlite'} is " in told
    (bodies,) = tmp_path.glob("bodies.broken-*")
    assert len([path for path in bodies.glob("??/*") if path.is_file()]) == count
    assert len(list(tmp_path.glob("objects.sqlite.broken-*"))) == 1
    with aws(tmp_path, []) as url:
        assert client("s3", url).get_object(Bucket="box", Key="a")["Body"].read() == b"kept"


def test_a_cut_body_is_no_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its version is gone rather than wrong, and said to be; the file is kept; every other object is there."""
    with aws(tmp_path, []) as url:
        put_some(url)
    for path, content in itertools.product(files_of(tmp_path), [b"other"]):
        if path.read_bytes() == content:
            path.write_bytes(b"oth")
    for _ in range(2):
        with aws(tmp_path, []) as url:
            s3 = client("s3", url)
            assert s3.get_object(Bucket="box", Key="a")["Body"].read() == b"kept"
            with pytest.raises(s3.exceptions.NoSuchKey):
                s3.get_object(Bucket="box", Key="c")
        assert [path.read_bytes() for path in files_of(tmp_path) if ".broken-" in path.name] == [b"oth"]
    assert "has 3 of 5 bytes" in capsys.readouterr().err


def test_an_interrupted_first_start_is_no_fault(tmp_path: Path) -> None:
    """Empty tables without a body are those of a cloud that was killed before it wrote the first."""
    (tmp_path / "objects.sqlite").touch()
    with aws(tmp_path, []) as url:
        put_some(url)
    assert list(tmp_path.glob("*.broken-*")) == []
