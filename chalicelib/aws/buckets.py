"""Wrap S3: one bucket, its objects and versions, conditional writes, ranged reads and signed URLs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from chalicelib import errors
from chalicelib.aws.clients import translated
from chalicelib.aws.errors import ERRORS
from chalicelib.aws.files import ObjectFile

COPY_LIMIT = 5 * 1024**3  # CopyObject takes objects up to 5 GiB; larger ones are copied in parts
CONFLICT_TRIES = 5
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
DELETE_LIMIT = 1000  # versions in one call


@dataclass(frozen=True)
class Stored:
    """An object's body, and the etag under which it may be replaced."""

    body: bytes
    etag: str

    def as_json(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.body))


@dataclass(frozen=True)
class Entry:
    """An object's description. `version` is None in a bucket without versions, and in a listing."""

    key: str
    etag: str
    size: int
    modified: datetime
    version: str | None = None


class Bucket:
    """One S3 bucket."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def read(self, key: str, *, most: int | None = None) -> Stored | None:
        """Return an object's body, of which `most` bytes are read, and its etag. None if there is no such object."""
        try:
            with translated(f"Reading s3://{self.name}/{key}"):
                answer = self._client.get_object(Bucket=self.name, Key=key)
                return Stored(answer["Body"].read(most), answer["ETag"])
        except errors.ServiceNotFound:
            return None

    def describe(self, key: str, *, version: str | None = None) -> Entry | None:
        """Describe an object's current version, or the given one, or return None if there is no such object."""
        of_version = {"VersionId": version} if version else {}
        try:
            with translated(f"Looking at s3://{self.name}/{key}"):
                answer = self._client.head_object(Bucket=self.name, Key=key, **of_version)
        except errors.ServiceNotFound:
            return None
        version = {"null": None}.get(answer.get("VersionId"), answer.get("VersionId"))  # "null": before versioning
        return Entry(key, answer["ETag"], answer["ContentLength"], answer["LastModified"], version)

    def create(self, key: str, body: bytes, content_type: str = "application/json") -> str | None:
        """Write an object that must not exist yet. Returns its etag, or None if the object already exists."""
        return self._put_if(key, body, IfNoneMatch="*", ContentType=content_type)

    def replace(self, key: str, body: bytes, etag: str) -> str | None:
        """Overwrite the object that has this etag. Returns the new etag, or None if it has changed or is gone."""
        try:
            return self._put_if(key, body, IfMatch=etag)
        except errors.ServiceNotFound:
            return None

    def _put_if(self, key: str, body: bytes, **condition: str) -> str | None:
        for attempt in range(CONFLICT_TRIES):
            try:
                with translated(f"Writing s3://{self.name}/{key}"):
                    return str(self._client.put_object(Bucket=self.name, Key=key, Body=body, **condition)["ETag"])
            except errors.PreconditionFailed:
                return None
            except errors.Busy:  # S3's 409: another conditional put is in flight, and neither has won yet
                if attempt == CONFLICT_TRIES - 1:
                    raise
        return None

    def write(self, key: str, body: bytes = b"") -> None:
        """Write an object unconditionally."""
        with translated(f"Writing s3://{self.name}/{key}"):
            self._client.put_object(Bucket=self.name, Key=key, Body=body)

    def delete(self, key: str) -> None:
        with translated(f"Deleting s3://{self.name}/{key}"):
            self._client.delete_object(Bucket=self.name, Key=key)

    def list_versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield the key and version of everything still kept below a prefix, including delete markers."""
        marker: dict[str, str] = {}
        while True:
            with translated(f"Listing the versions of s3://{self.name}/{prefix}"):
                page = self._client.list_object_versions(Bucket=self.name, Prefix=prefix, **marker)
            for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                yield each["Key"], each["VersionId"]
            if not page.get("IsTruncated"):
                return
            marker = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}

    def delete_versions(self, versions: Sequence[tuple[str, str]]) -> None:
        """Delete up to DELETE_LIMIT versions for good. Raises ServiceError for the first that S3 refuses.

        The request is XML, which cannot hold control characters: a key that has some is deleted by a call of its own.
        """
        for key, version in versions:
            if CONTROL.search(key):
                with translated(f"Deleting s3://{self.name}/{key!r}"):
                    self._client.delete_object(Bucket=self.name, Key=key, VersionId=version)
        objects = [{"Key": key, "VersionId": version} for key, version in versions if not CONTROL.search(key)]
        if not objects:
            return
        with translated(f"Deleting {len(objects)} versions of s3://{self.name}"):
            answer = self._client.delete_objects(Bucket=self.name, Delete={"Objects": objects, "Quiet": True})
        if failed := answer.get("Errors"):
            kind = ERRORS.get(failed[0].get("Code", ""), errors.ServiceError)
            what = f"Deleting s3://{self.name}/{failed[0].get('Key')}"
            raise kind(f"{what}: {failed[0].get('Code')}: {failed[0].get('Message')}")

    def list_entries(self, prefix: str, *, after: str = "", page: int = 1000) -> Iterator[Entry]:
        """Yield the objects below a prefix at any depth, in key order; `page` objects are requested at a time."""
        for found in self._pages(prefix, StartAfter=after, MaxKeys=page):
            for each in found.get("Contents", []):
                yield Entry(each["Key"], each["ETag"], each["Size"], each["LastModified"])

    def list_names(self, prefix: str) -> list[str]:
        """List what lies directly below a prefix that ends in `/`: file names, and folder names with a trailing `/`."""
        names: list[str] = []
        for page in self._pages(prefix, Delimiter="/"):
            names += [each["Key"].removeprefix(prefix) for each in page.get("Contents", [])]
            names += [each["Prefix"].removeprefix(prefix) for each in page.get("CommonPrefixes", [])]
        return names

    def _pages(self, prefix: str, **options: str | int) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            with translated(f"Listing s3://{self.name}/{prefix}"):
                page = self._client.list_objects_v2(Bucket=self.name, Prefix=prefix, **options, **token)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def copy(self, source: str, target: str, *, etag: str, size: int, version: str | None = None) -> None:
        """Copy one version of an object on the server side.

        Raises PreconditionFailed if the source has changed, and ServiceNotFound if it is gone. An object above 5 GiB is
        copied in parts, which can take longer than a function may run: that bounds the size of a dataset.
        """
        origin = {"Bucket": self.name, "Key": source} | ({"VersionId": version} if version else {})
        # copying the upload's tags as well would need permissions for tags
        options = {"CopySourceIfMatch": etag, "TaggingDirective": "REPLACE"}
        with translated(f"Copying s3://{self.name}/{source} to {target}"):
            if size > COPY_LIMIT:
                self._client.copy(origin, self.name, target, ExtraArgs=options)
            else:
                self._client.copy_object(Bucket=self.name, Key=target, CopySource=origin, **options)

    def open(self, key: str) -> BinaryIO:
        """Open an object as a seekable file, read by ranged GETs. Raises our errors on opening and while reading."""
        described = self.describe(key)
        if described is None:
            raise errors.ServiceNotFound(f"Reading s3://{self.name}/{key}: there is no such object")
        return cast(BinaryIO, ObjectFile(described.size, partial(self._read_span, key)))

    def _read_span(self, key: str, start: int, end: int) -> bytes:
        """Return an object's bytes from `start` up to `end`, or fewer if the object ends earlier."""
        with translated(f"Reading s3://{self.name}/{key}"):
            answer = self._client.get_object(Bucket=self.name, Key=key, Range=f"bytes={start}-{end - 1}")
            return cast(bytes, answer["Body"].read())

    def sign_upload(self, key: str, seconds: int, size: int | None = None) -> str:
        """Return a URL that lets its holder PUT this one object, of this many bytes if given, for this many seconds."""
        return self._sign("put_object", key, seconds, **({} if size is None else {"ContentLength": size}))

    def sign_download(self, key: str, seconds: int) -> str:
        """Return a URL that lets its holder GET this one object for this many seconds."""
        return self._sign("get_object", key, seconds)

    def begin_parts(self, key: str) -> str:
        """Begin an upload in parts. Returns its id."""
        with translated(f"Beginning s3://{self.name}/{key} in parts"):
            return str(self._client.create_multipart_upload(Bucket=self.name, Key=key)["UploadId"])

    def sign_part(self, key: str, upload: str, number: int, size: int, seconds: int) -> str:
        """Return a URL that lets its holder PUT one part, of this many bytes, for this many seconds."""
        return self._sign("upload_part", key, seconds, UploadId=upload, PartNumber=number, ContentLength=size)

    def list_parts(self, key: str, upload: str) -> dict[int, tuple[int, str]]:
        """Return the parts that have arrived, up to 1,000: sizes and ETags by number. Raises ServiceNotFound."""
        with translated(f"Listing the parts of s3://{self.name}/{key}"):
            answer = self._client.list_parts(Bucket=self.name, Key=key, UploadId=upload)
        return {int(each["PartNumber"]): (int(each["Size"]), str(each["ETag"])) for each in answer.get("Parts", ())}

    def complete_parts(self, key: str, upload: str, etags: Sequence[str]) -> None:
        """Put an upload's parts together, in the order of their numbers. Raises InvalidRequest for parts not sent."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with translated(f"Completing s3://{self.name}/{key}"):
            self._client.complete_multipart_upload(
                Bucket=self.name, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            )

    def find_origin(self) -> str:
        """Return the origin of the signed URLs, as a browser names it: https://BUCKET.s3.REGION.amazonaws.com."""
        with translated(f"Finding the address of {self.name}"):
            url = self._client.generate_presigned_url("head_bucket", Params={"Bucket": self.name}, ExpiresIn=1)
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}"

    def _sign(self, operation: str, key: str, seconds: int, **more: Any) -> str:
        with translated(f"Signing {operation} of s3://{self.name}/{key}"):
            parameters = {"Bucket": self.name, "Key": key, **more}
            return str(self._client.generate_presigned_url(operation, Params=parameters, ExpiresIn=seconds))


def to_json(document: object) -> bytes:
    """Encode a document for people to read: indented, UTF-8, times in ISO 8601."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=_as_text).encode()


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
