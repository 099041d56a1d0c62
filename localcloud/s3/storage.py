"""Replace moto's S3 classes by ones that hold bodies in files.

moto holds every body in memory, assembles multipart uploads in memory twice, copies bodies to list versions, and never
releases a key once it was created. These classes do none of that. `install` puts them in moto's place for the whole
process, and `uninstall` restores moto's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any, ClassVar

import moto.settings
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.s3 import models as moto_models
from moto.s3 import notifications as moto_notifications
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML
from moto.s3.utils import compute_checksum
from moto.utilities.utils import md5_hash

from localcloud.s3.files import Bodies, Body, MappedBody

# attributes of moto's modules are assigned below, which its types do not allow
models: Any = moto_models
notifications: Any = moto_notifications
touched = threading.local()
"""`touched.keys` collects the keys whose versions change in a thread that has set it to a set."""


class StoredKey(models.FakeKey):  # type: ignore[misc]
    """moto's object version with its body in a file."""

    bodies: ClassVar[Bodies]
    body: Body
    _etag: str | None

    def __new__(cls, *_arguments: Any, **_named: Any) -> StoredKey:
        # moto's base class appends every instance to a list that never shrinks
        return object.__new__(cls)

    @property
    def value(self) -> MappedBody | bytes:
        return self.body.open()

    @value.setter
    def value(self, new_value: Any) -> None:
        """Take bytes, a Body that is already on disk, or another key's value, which is linked, not copied."""
        source = getattr(new_value, "source", None)
        if isinstance(new_value, Body):
            self.body = new_value
        elif source is not None:
            self.body = self.bodies.link(source)
        else:
            self.body = self.bodies.write([new_value])
        self._value_buffer.close()
        self.contentsize = self.body.size
        self._etag = self._etag or self.body.md5

    def dispose(self, garbage: bool = False) -> None:
        """Remove a part's body. A whole object's body is removed after its row (see `S3Keeper`)."""
        if isinstance(self.name, int) and not garbage:
            self.body.path.unlink(missing_ok=True)
        self.disposed = True

    def __deepcopy__(self, _memo: dict[int, Any]) -> StoredKey:
        """Copy without the body: moto copies every version to list them."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied


class StoredMultipart(models.FakeMultipart):  # type: ignore[misc]
    """moto's multipart upload, assembled on disk instead of twice in memory."""

    def __new__(cls, *_arguments: Any, **_named: Any) -> StoredMultipart:
        return object.__new__(cls)

    def complete(self, body: Iterable[tuple[int, str]]) -> tuple[Body, str, tuple[str, str, int] | None]:
        parts = [self._part(number, etag) for number, etag in body]
        if not parts:
            raise MalformedXML
        if any(part.contentsize < models.S3_UPLOAD_PART_MIN_SIZE for part in parts[:-1]):
            raise EntityTooSmall
        digest = md5_hash(bytes.fromhex("".join(part.etag.strip('"') for part in parts))).hexdigest()
        whole = StoredKey.bodies.write(piece for part in parts for piece in part.value)
        return whole, f"{digest}-{len(parts)}", self._composite_checksum(parts)

    def _part(self, number: int, etag: str) -> StoredKey:
        part: StoredKey | None = self.parts.get(number)
        if part is None or part.etag.strip('"') != etag.strip('"'):
            raise InvalidPart
        return part

    def _composite_checksum(self, parts: list[StoredKey]) -> tuple[str, str, int] | None:
        """Return the checksum of the parts' checksums. One of the whole object (CRC64NVME) would need another read."""
        algorithm = self.metadata.get("x-amz-checksum-algorithm")
        kind = self.metadata.get("x-amz-checksum-type") or "COMPOSITE"
        if algorithm in (None, "CRC64NVME") or kind != "COMPOSITE":
            return None
        builder = models.MultipartChecksumBuilder(algorithm, kind)
        for part in parts:
            builder.addPart(part.value)
        checksum: tuple[str, str, int] | None = builder.build()
        return checksum


class WatchedKeys(models._VersionedKeyStore):  # type: ignore[misc]
    """moto's dictionary of a bucket's versions, which notes the keys that the current request changes."""

    def __setitem__(self, key: str, value: Any) -> None:
        _note(key)
        super().__setitem__(key, value)

    def setlist(self, key: str, versions: Any) -> None:
        _note(key)
        super().setlist(key, versions)

    def pop(self, key: str) -> None:
        _note(key)
        super().pop(key)


def _note(key: str) -> None:
    keys: set[str] | None = getattr(touched, "keys", None)
    if keys is not None:
        keys.add(key)


def get_permission(bucket: Any, action: str, resource: str) -> Any:
    """Judge by a bucket's policy without its conditional statements. moto ignores conditions, and would refuse every
    request where a policy refuses only plain HTTP."""
    if bucket.policy is None:
        return PermissionResult.NEUTRAL
    document = json.loads(bucket.policy)
    statements = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    document["Statement"] = [each for each in statements if "Condition" not in each]
    return IAMPolicy(json.dumps(document)).is_action_permitted(action, resource)


copy_as_moto = models.S3Backend.copy_object


def copy_object(
    backend: Any, src_key: Any, dest_bucket_name: str, dest_key_name: str, *more: Any, **named: Any
) -> None:
    """Copy an object and give the copy a checksum of the whole object, as S3 does. Of a source that was uploaded in
    parts, moto keeps the checksum of the parts' checksums, so a reader of the copy finds it damaged."""
    copy_as_moto(backend, src_key, dest_bucket_name, dest_key_name, *more, **named)
    if src_key.checksum_type == "COMPOSITE":
        copy = backend.get_bucket(dest_bucket_name).keys[dest_key_name]
        copy.checksum_value = compute_checksum(copy.value, copy.checksum_algorithm).decode()
        copy.checksum_type = "FULL_OBJECT"


OURS: tuple[tuple[Any, str, Any], ...] = (
    (models, "FakeKey", StoredKey),
    (models, "FakeMultipart", StoredMultipart),
    (models, "_VersionedKeyStore", WatchedKeys),
    (models.FakeBucket, "get_permission", get_permission),
    (models.S3Backend, "copy_object", copy_object),
    (notifications, "_send_event_bridge_message", lambda *_arguments, **_named: None),
    (moto.settings, "S3_IGNORE_SUBDOMAIN_BUCKETNAME", True),
)
THEIRS = [(place, name, getattr(place, name)) for place, name, _ in OURS]


def install(bodies: Bodies) -> None:
    """Put our classes in moto's place. moto looks the names up in its module at each use."""
    StoredKey.bodies = bodies
    for place, name, ours in OURS:
        setattr(place, name, ours)


def uninstall(bodies: Bodies) -> None:
    """Restore moto's own classes, unless another keeper has installed its own since: moto is shared in a process."""
    if getattr(StoredKey, "bodies", None) is bodies:
        del StoredKey.bodies
        for place, name, theirs in THEIRS:
            setattr(place, name, theirs)
