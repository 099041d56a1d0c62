"""Keep S3 in memory: one bucket with versions and conditional puts."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chalicelib.aws.buckets import DELETE_LIMIT
from tests.fakes.clients import Client, fail

if TYPE_CHECKING:
    from tests.fakes.world import World


@dataclass
class FakeObject:
    body: bytes
    etag: str
    modified: datetime
    version: str


class FakeS3(Client):
    """One bucket with versions and conditional puts. `conflicts` many of the next ones are answered with 409.

    What is in `kept_back` nobody may delete for good.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.versions: dict[str, list[FakeObject]] = {}
        self.hidden: dict[str, list[str]] = {}  # versions below a delete marker, and the marker's own, by key
        self.counts: dict[str, int] = {}  # of versions ever made, by key
        self.parts: dict[str, dict[int, int]] = {}  # sizes of the parts that have arrived, by number, by upload
        self.conflicts = 0
        self.kept_back: set[str] = set()

    def find(self, key: str, operation: str, version: str | None = None) -> FakeObject:
        found = [each for each in self.versions.get(key, []) if version in (None, each.version)]
        if not found:
            code = "NoSuchKey" if operation == "GetObject" else "404"
            raise fail(code, "The specified key does not exist.", operation)
        return found[-1]

    def do_put_object(
        self, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str = "", IfMatch: str = "", ContentType: str = ""
    ) -> Any:
        if (IfNoneMatch or IfMatch) and self.conflicts:
            self.conflicts -= 1
            raise fail("ConditionalRequestConflict", "The conditional request cannot succeed.", "PutObject")
        if IfNoneMatch and Key in self.versions:
            raise fail("PreconditionFailed", "At least one of the pre-conditions did not hold", "PutObject")
        if IfMatch and self.find(Key, "GetObject").etag != IfMatch:
            raise fail("PreconditionFailed", "At least one of the pre-conditions did not hold", "PutObject")
        return self.store(Key, Body)

    def do_create_multipart_upload(self, Bucket: str, Key: str) -> Any:
        self.parts[f"parts-of-{Key}"] = {}
        return {"UploadId": f"parts-of-{Key}"}

    def do_list_parts(self, Bucket: str, Key: str, UploadId: str) -> Any:
        if UploadId not in self.parts:
            raise fail("NoSuchUpload", "The specified multipart upload does not exist.", "ListParts")
        arrived = self.parts[UploadId].items()
        return {"Parts": [{"PartNumber": each, "Size": size, "ETag": f'"{each}"'} for each, size in arrived]}

    def do_complete_multipart_upload(self, Bucket: str, Key: str, UploadId: str, MultipartUpload: Any) -> Any:
        self.parts.pop(UploadId, None)
        return self.store(Key, b"".join(each["ETag"].encode() for each in MultipartUpload["Parts"]))

    def store(self, key: str, body: bytes) -> dict[str, str]:
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        with self.world.lock:
            made = FakeObject(body, etag, self.world.clock.now(), self._make_version(key))
            self.versions.setdefault(key, []).append(made)
        return {"ETag": etag, "VersionId": made.version}

    def _make_version(self, key: str) -> str:
        """Return `v1` for a key's first version. S3 never uses a version twice, not even after a deletion."""
        self.counts[key] = self.counts.get(key, 0) + 1
        return f"v{self.counts[key]}"

    def do_get_object(self, Bucket: str, Key: str, Range: str = "", VersionId: str | None = None) -> Any:
        found = self.find(Key, "GetObject", VersionId)
        metadata = {"RetryAttempts": 0, "HTTPStatusCode": 206 if Range else 200}
        body, answer = found.body, {"ETag": found.etag, "ResponseMetadata": metadata}
        if Range:
            body, answer["ContentRange"] = cut_range(body, Range)
        return answer | {"Body": io.BytesIO(body), "ContentLength": len(body)}

    def do_head_object(self, Bucket: str, Key: str, VersionId: str | None = None) -> Any:
        found = self.find(Key, "HeadObject", VersionId)
        described = {"ETag": found.etag, "ContentLength": len(found.body), "LastModified": found.modified}
        return described | {"VersionId": found.version}

    def do_delete_object(self, Bucket: str, Key: str, VersionId: str = "") -> Any:
        if VersionId:
            self._forget(Key, VersionId)
            return {}
        gone = [each.version for each in self.versions.pop(Key, [])]
        self.hidden[Key] = [*self.hidden.get(Key, []), *gone, self._make_version(f"marker of {Key}")]
        return {"DeleteMarker": True}

    def do_list_object_versions(
        self, Bucket: str, Prefix: str, KeyMarker: str = "", VersionIdMarker: str = ""
    ) -> dict[str, Any]:
        found = [
            (key, version)
            for key in sorted({*self.versions, *self.hidden})
            if key.startswith(Prefix)
            for version in [each.version for each in self.versions.get(key, [])] + self.hidden.get(key, [])
        ]
        place = (KeyMarker, VersionIdMarker)  # it need not be there any more
        found = found[found.index(place) + 1 :] if place in found else [each for each in found if each[0] >= KeyMarker]
        page = found[: self.world.page]
        answer: dict[str, Any] = {"Versions": [{"Key": key, "VersionId": version} for key, version in page]}
        if len(page) < len(found):
            answer |= {"IsTruncated": True, "NextKeyMarker": page[-1][0], "NextVersionIdMarker": page[-1][1]}
        return answer

    def do_delete_objects(self, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        is_xml = not any(sign < " " for each in Delete["Objects"] for sign in each["Key"])
        if len(Delete["Objects"]) > DELETE_LIMIT or not is_xml:
            raise fail("MalformedXML", "The XML you provided was not well-formed", "DeleteObjects")
        refused = [each for each in Delete["Objects"] if each["Key"] in self.kept_back]
        for each in Delete["Objects"]:
            if each not in refused:
                self._forget(each["Key"], each["VersionId"])
        return {"Errors": [{**each, "Code": "AccessDenied", "Message": "Access Denied"} for each in refused]}

    def _forget(self, key: str, version: str) -> None:
        rest = [each for each in self.versions.get(key, []) if each.version != version]
        hidden = [each for each in self.hidden.get(key, []) if each != version]
        for kept, left in ((self.versions, rest), (self.hidden, hidden)):
            kept.pop(key, None)
            if left:
                kept[key] = left  # type: ignore[index]

    def do_copy_object(
        self, Bucket: str, Key: str, CopySource: dict[str, str], CopySourceIfMatch: str, TaggingDirective: str
    ) -> Any:
        found = self.find(CopySource["Key"], "CopyObject", CopySource.get("VersionId"))
        if found.etag != CopySourceIfMatch:
            raise fail("PreconditionFailed", "At least one of the pre-conditions did not hold", "CopyObject")
        return self.store(Key, found.body)

    def do_list_objects_v2(
        self,
        Bucket: str,
        Prefix: str,
        Delimiter: str = "",
        StartAfter: str = "",
        ContinuationToken: str = "",
        MaxKeys: int = 1000,
    ) -> Any:
        after = ContinuationToken or StartAfter
        keys = sorted([key for key in self.versions if key.startswith(Prefix) and key > after])
        in_folders = {key: folder for key in keys if (folder := cut_folder(key, Prefix))} if Delimiter else {}
        files = [key for key in keys if key not in in_folders]
        page = files[: min(self.world.page, MaxKeys)]
        more = {"IsTruncated": True, "NextContinuationToken": page[-1]} if len(files) > len(page) else {}
        contents = [self.describe(key) for key in page]
        prefixes = [{"Prefix": folder} for folder in sorted(set(in_folders.values()))]
        return {"Contents": contents, "CommonPrefixes": prefixes if not ContinuationToken else [], **more}

    def describe(self, key: str) -> dict[str, Any]:
        found = self.versions[key][-1]
        return {"Key": key, "ETag": found.etag, "Size": len(found.body), "LastModified": found.modified}

    def generate_presigned_url(self, operation: str, Params: dict[str, str], ExpiresIn: int) -> str:
        self.world.hear(self, operation, Params)  # whoever uses it has the permissions of who signed it
        return f"https://{Params['Bucket']}.s3.example/{Params.get('Key', '')}?for={ExpiresIn}"


def cut_range(body: bytes, header: str) -> tuple[bytes, str]:
    """Return the bytes of `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT`, and the response header."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, len(body) - int(last))
    end = min(int(last) + 1, len(body)) if first and last else len(body)
    if start >= len(body):
        message = "The requested range is not satisfiable"
        raise fail("InvalidRange", message, "GetObject", ActualObjectSize=str(len(body)))
    return body[start:end], f"bytes {start}-{end - 1}/{len(body)}"


def cut_folder(key: str, prefix: str) -> str:
    folder, slash, _ = key.removeprefix(prefix).partition("/")
    return f"{prefix}{folder}/" if slash else ""
