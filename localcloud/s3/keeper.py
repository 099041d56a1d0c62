"""Keep moto's S3 on disk: bodies are files from the first byte (`storage.py`), and every change is written to the
tables (`files.py`) before it is answered.

`S3Keeper` wraps moto's WSGI application. After a request that may change something it compares what moto holds for the
touched keys with the table, writes the difference, and reports it as AWS's events. Bucket settings (versioning,
notifications, CORS, policy …) are kept as the requests that made them and are sent again at the next start, so nothing
here depends on how moto stores them. Requests that change the same key run one after another: moto checks If-Match and
If-None-Match well before it writes, so two threads could both pass.

A restart loses access control lists other than private, and unfinished multipart uploads.
"""

from __future__ import annotations

import datetime
import io
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, unquote

from moto.iam.access_control import PermissionResult

from localcloud.common.durable import make_private_folder
from localcloud.protocol.wsgi import Environ, Headers, WsgiApp, call, make_environ
from localcloud.s3.events import Change, describe_change, reason_of
from localcloud.s3.files import Bodies, Record, open_tables
from localcloud.s3.storage import StoredKey, install, models, touched, uninstall

log = logging.getLogger(__name__)
ACCOUNT = "123456789012"
STRIPES = 64
KEEPING_FAULTS = (OSError, sqlite3.Error)
NOT_KEPT = "The local cloud could not write this to its disk, and has changed nothing. Make room there and try again."
PRECONDITION = "At least one of the pre-conditions you specified did not hold"
KEPT_ATTRIBUTES = (
    *("encryption", "kms_key_id", "bucket_key_enabled", "lock_mode", "lock_legal_status", "lock_until"),
    *("checksum_algorithm", "checksum_value", "checksum_type", "checksum_parts", "website_redirect_location"),
)
Answer = tuple[str, Headers, Iterable[bytes]]
Emit = Callable[[str, str, dict[str, Any], list[str]], None]


class S3Keeper:
    """moto's S3 as a WSGI application that survives restarts and sends AWS's events.

    `emit(source, detail_type, detail, resources)` receives the events of buckets that have EventBridge switched on.
    """

    def __init__(self, app: WsgiApp, home: Path, emit: Emit, region: str = "us-east-1") -> None:
        make_private_folder(home)
        self._app, self._emit, self._region = app, emit, region
        self._versions = open_tables(home)
        self._bodies = Bodies(home / "bodies")
        self._stripes = [threading.Lock() for _ in range(STRIPES)]
        install(self._bodies)
        self._backend = models.s3_backends[ACCOUNT]["aws"]
        self._load()

    def close(self) -> None:
        """Close the tables and restore moto for its next user in this process."""
        self._versions.close()
        uninstall(self._bodies)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        bucket, key = split_path(environ)
        if environ["REQUEST_METHOD"] in ("GET", "HEAD", "OPTIONS"):
            status, headers, body = self._hide_missing(environ, *call(self._app, environ))
        else:
            try:
                status, headers, body = self._change(bucket, key, environ)
            except KEEPING_FAULTS as error:
                log.exception("%s of %s/%s is not kept", environ["REQUEST_METHOD"], bucket, key)
                status, headers, body = refuse("500 Internal Server Error", "InternalError", f"{NOT_KEPT} ({error})")
        start_response(status, headers)
        return body

    def _change(self, bucket: str, key: str, environ: Environ) -> Answer:
        """Serve a request that changes something. Raises OSError or sqlite3's error where the disk does not take it."""
        if key and "partNumber=" in environ["QUERY_STRING"]:  # a part is no object yet, and parts come in parallel
            return call(self._app, environ)
        if key:
            with self._stripes[hash((bucket, key)) % STRIPES]:
                return self._change_objects(bucket, {key}, environ)
        return self._change_bucket(bucket, environ)

    def _change_objects(self, bucket: str, keys: set[str], environ: Environ) -> Answer:
        if self._source_differs(environ):
            return refuse("412 Precondition Failed", "PreconditionFailed", PRECONDITION)
        touched.keys = keys
        try:
            status, headers, body = call(self._app, environ)
        except KEEPING_FAULTS:
            self._roll_back(bucket, keys)
            raise
        finally:
            touched.keys = None
        if status[0] in "23" and bucket in self._backend.buckets:
            arguments = set(dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True)))
            copies = "HTTP_X_AMZ_COPY_SOURCE" in environ
            reason = reason_of(environ["REQUEST_METHOD"], arguments, copies=copies)
            try:
                for name in sorted(keys):
                    self._announce(bucket, self._write_through(bucket, name), reason)
            except KEEPING_FAULTS:
                self._roll_back(bucket, keys)
                raise
        return status, headers, body

    def _roll_back(self, bucket: str, keys: set[str]) -> None:
        """Give moto back what the tables hold of the keys, and remove the bodies that no row names."""
        held = self._backend.buckets.get(bucket)
        for key in keys if held is not None else ():
            kept = self._versions.of_key(bucket, key)
            named = {record.get("body") for record in kept}
            bodies = [version.body.path.name for version in held.keys.getlist(key, []) if hasattr(version, "body")]
            dict.pop(held.keys, key, None)
            for record in kept:
                self._restore(bucket, key, record)
            self._bodies.remove(set(bodies) - named)

    def _source_differs(self, environ: Environ) -> bool:
        """Return whether a copy requires another etag than its source has (CopySourceIfMatch); moto does not check."""
        wanted = environ.get("HTTP_X_AMZ_COPY_SOURCE_IF_MATCH")
        if wanted is None:
            return False
        path, _, query = environ["HTTP_X_AMZ_COPY_SOURCE"].partition("?")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        source = self._backend.get_object(bucket, key, dict(parse_qsl(query)).get("versionId"))
        return source is not None and source.etag.strip('"') != wanted.strip('"')

    def _change_bucket(self, bucket: str, environ: Environ) -> Answer:
        if environ["REQUEST_METHOD"] == "POST":  # a form upload, or ?delete with many keys
            return self._change_objects(bucket, set(), environ)
        sent = environ["wsgi.input"].read()
        environ["wsgi.input"] = io.BytesIO(sent)
        status, headers, body = call(self._app, environ)
        if status[0] == "2":
            query = environ["QUERY_STRING"]
            name = query.split("&")[0].split("=")[0]
            if environ["REQUEST_METHOD"] == "DELETE":
                self._versions.drop_setting(bucket, name)
            else:
                self._versions.keep_setting(bucket, name, self._request_record(bucket, query, sent))
        return status, headers, body

    def _request_record(self, bucket: str, query: str, sent: bytes) -> Record:
        created: datetime.datetime = self._backend.buckets[bucket].creation_date
        return {"query": query, "body": sent.decode(), "created": created.isoformat()}

    def _write_through(self, bucket: str, key: str) -> list[Change]:
        """Write what moto holds for a key to the table and return the changes."""
        old = self._versions.of_key(bucket, key)
        new = [self._record(version) for version in self._backend.buckets[bucket].keys.getlist(key, [])]
        if old == new:
            return []
        self._versions.replace(bucket, key, old, new)
        kept = {record.get("body") for record in new}
        self._bodies.remove(record["body"] for record in old if record.get("body") not in kept | {None})
        return compare_versions(key, old, new)

    def _announce(self, bucket: str, changes: list[Change], reason: str) -> None:
        configuration = self._backend.buckets[bucket].notification_configuration
        if configuration is None or configuration.event_bridge is None:
            return
        for change in changes:
            detail_type, detail = describe_change(change, bucket=bucket, account=ACCOUNT, reason=reason)
            self._emit("aws.s3", detail_type, detail, [f"arn:aws:s3:::{bucket}"])

    def _hide_missing(self, environ: Environ, status: str, headers: Headers, body: Iterable[bytes]) -> Answer:
        """Answer 403, not 404, for a missing key where the role or the bucket's policy forbids listing, as S3 does."""
        bucket, key = split_path(environ)
        held = self._backend.buckets.get(bucket)
        if not key or held is None or not status.startswith("404"):
            return status, headers, body
        denied = held.get_permission("s3:ListBucket", held.arn) == PermissionResult.DENIED
        if environ.get("localcloud.may_list", True) and not denied:
            return status, headers, body
        return refuse("403 Forbidden", "AccessDenied", "Access Denied")

    def _record(self, version: Any) -> Record:
        record: Record = {"version_id": version.version_id, "modified": version.last_modified.isoformat()}
        if isinstance(version, models.FakeDeleteMarker):
            return record | {"marker": True}
        kept = {name: getattr(version, name) for name in KEPT_ATTRIBUTES if getattr(version, name, None) is not None}
        return record | {
            "body": version.body.path.name,
            "size": version.body.size,
            "md5": version.body.md5,
            "etag": version.etag.strip('"'),
            "storage": version.storage_class,
            "versioned": version._is_versioned,
            "metadata": dict(version.metadata.items()),
            "tags": self._backend.tagger.get_tag_dict_for_resource(version.arn),
            "kept": kept,
        }

    def _load(self) -> None:
        for bucket, _name, request in self._versions.settings():
            body = request["body"].encode()
            credential = f"Credential=x/20200101/{self._region}/s3/aws4_request"
            headers = [("Host", "127.0.0.1"), ("Authorization", f"AWS4-HMAC-SHA256 {credential}, x")]
            environ = make_environ("PUT", f"/{bucket}", request["query"], headers, io.BytesIO(body), len(body))
            call(self._app, environ)
            self._backend.buckets[bucket].creation_date = datetime.datetime.fromisoformat(request["created"])
        known = set()
        for bucket, key, record in list(self._versions.all()):
            if "body" in record and not self._bodies.is_whole(record["body"], record["size"]):
                log.error("s3://%s/%s (%s) has lost its body, and is gone", bucket, key, record["version_id"])
                self._versions.replace(bucket, key, [record], [])
                continue
            known.add(record.get("body"))
            if bucket in self._backend.buckets:
                self._restore(bucket, key, record)
        self._bodies.sweep({name for name in known if name})

    def _restore(self, bucket: str, key: str, record: Record) -> None:
        keys = self._backend.buckets[bucket].keys
        if record.get("marker"):
            marker = models.FakeDeleteMarker(key=keys.get(key) or SimpleNamespace(name=key))
            marker._version_id = record["version_id"]
            marker.last_modified = datetime.datetime.fromisoformat(record["modified"])
            keys[key] = marker
            return
        body = self._bodies.find(record["body"], record["size"], record["md5"])
        version = StoredKey(
            name=key,
            bucket_name=bucket,
            value=body,
            account_id=ACCOUNT,
            region_name=self._region,
            storage=record["storage"],
            etag=record["etag"],
            is_versioned=record["versioned"],
            version_id=record["version_id"],
        )
        version.last_modified = datetime.datetime.fromisoformat(record["modified"])
        version.set_metadata(dict(record["metadata"]))
        for name, value in record["kept"].items():
            setattr(version, name, value)
        self._backend.tagger.tag_resource(
            version.arn, [{"Key": name, "Value": value} for name, value in record["tags"].items()]
        )
        keys[key] = version


def refuse(status: str, code: str, message: str) -> Answer:
    """Build an error answer in S3's form."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))]
    return status, headers, [text.encode()]


def split_path(environ: Environ) -> tuple[str, str]:
    """Return the bucket and the key of a path-style request; either may be empty."""
    path = environ["RAW_URI"].split("?", 1)[0]
    bucket, _, key = path.lstrip("/").partition("/")
    return unquote(bucket), unquote(key)


def compare_versions(key: str, old: list[Record], new: list[Record]) -> list[Change]:
    """List what happened to a key between two lists of its versions; changed tags or metadata do not count."""
    before = {(record["version_id"], record.get("body")): record for record in old}
    after = {(record["version_id"], record.get("body")): record for record in new}
    changes = []
    for (version_id, _), record in after.items():
        if (version_id, record.get("body")) in before:
            continue
        kind: Any = "marker" if record.get("marker") else "created"
        changes.append(Change(kind, key, version_id, record.get("size", 0), record.get("etag", "")))
    replaced = {version_id for version_id, _ in after}
    gone = [version_id for version_id, body in before if (version_id, body) not in after and version_id not in replaced]
    return changes + [Change("removed", key, version_id) for version_id in gone]
