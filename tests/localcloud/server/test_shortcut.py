"""Test that an upload of the cloud's own client is the same request with a socket between and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from localcloud.common.transfers import TRANSFER
from localcloud.server.shortcut import PIECE, deliver
from tests.localcloud.hosting import client, make_origin, serve

NOWHERE = "http://127.0.0.1:1"
CONTENT = bytes(range(256)) * (PIECE // 256) + b"and a piece that is not full"


def shorten(app: Any, url: str = NOWHERE) -> Any:
    """Return a client of S3 that no server listens to, whose uploads go to the application."""
    s3 = client("s3", url)
    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_named: deliver(app, request))
    return s3


def test_an_object_is_the_same_with_and_without_a_socket(tmp_path: Path) -> None:
    """Etag, size, checksum, type and metadata are those of an upload over the network, and no byte is missing."""
    path = tmp_path / "model.tar.gz"
    path.write_bytes(CONTENT)
    more = {"ContentType": "application/gzip", "Metadata": {"run": "zwölf"[:2]}}
    with make_origin(tmp_path / "s3", []) as origin, serve(origin) as url:
        far, near = client("s3", url), shorten(origin)
        far.create_bucket(Bucket="models")
        for s3, key in ((far, "far"), (near, "near / ü?")):
            s3.upload_file(str(path), "models", key, ExtraArgs=more, Config=TRANSFER)
        told = [far.head_object(Bucket="models", Key=key, ChecksumMode="ENABLED") for key in ("far", "near / ü?")]
        kept = ("ETag", "ContentLength", "ContentType", "Metadata", "ChecksumCRC32")
        assert [told[0][each] for each in kept] == [told[1][each] for each in kept]
        near.put_object(Bucket="models", Key="empty", Body=b"")
        near.put_object(Bucket="models", Key="small", Body=b"small")
        assert [far.get_object(Bucket="models", Key=key)["Body"].read() for key in ("empty", "small")] == [
            b"",
            b"small",
        ]
        assert far.get_object(Bucket="models", Key="near / ü?")["Body"].read() == CONTENT


def test_only_uploads_take_the_shortcut(tmp_path: Path) -> None:
    """All other calls go through the network as before."""
    with make_origin(tmp_path, []) as origin, pytest.raises(EndpointConnectionError):
        shorten(origin).get_object(Bucket="models", Key="a")


def test_a_refusal_is_the_client_s_error(tmp_path: Path) -> None:
    """The signature is checked, and a bucket that is missing is named, as over the network."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with make_origin(tmp_path / "s3", []) as origin, path.open("rb") as file:
        near = shorten(origin)
        with pytest.raises(ClientError, match="NoSuchBucket"):
            near.put_object(Bucket="models", Key="a", Body=file)
        near._request_signer._credentials.secret_key = "another"
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            near.put_object(Bucket="models", Key="a", Body=file)


def test_a_body_that_ends_early_is_no_object(tmp_path: Path) -> None:
    """A file may become shorter while it is sent: half a checkpoint must not look whole."""
    with make_origin(tmp_path / "s3", []) as origin, serve(origin) as url:
        client("s3", url).create_bucket(Bucket="models")
        with pytest.raises(ClientError, match="500"):
            shorten(origin).put_object(Bucket="models", Key="a", Body=b"half", ContentLength=8)
        assert client("s3", url).list_objects_v2(Bucket="models")["KeyCount"] == 0


def test_a_server_that_breaks_is_asked_again_with_the_whole_body(tmp_path: Path) -> None:
    """An exception is a 500, as a server makes of it; the SDK tries again from the body's beginning."""
    path, heard = tmp_path / "file", []
    path.write_bytes(CONTENT)

    async def break_once(_scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        heard.append(body)
        if len(heard) == 1:
            raise RuntimeError("broken")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"etag", b'"x"')]})
        await send({"type": "http.response.body", "body": b""})

    with path.open("rb") as file:
        near = shorten(break_once)
        with pytest.raises(ClientError, match="500"):
            near.put_object(Bucket="models", Key="a", Body=file)
        file.seek(0)
        assert near.put_object(Bucket="models", Key="a", Body=file)["ETag"] == '"x"'
    assert heard == [CONTENT, CONTENT]
