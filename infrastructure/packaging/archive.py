"""Write zip archives whose bytes depend only on their members' names and contents, and name them by their content."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
READABLE, EXECUTABLE = 0o100644 << 16, 0o100755 << 16  # Lambda runs as a different user than the packer
LEVEL = 9


def pack_zip(members: Mapping[str, bytes]) -> bytes:
    """Pack members by name into one archive: sorted, without times, owners or the packer's file modes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(name, EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = EXECUTABLE if name.endswith(".so") else READABLE
            archive.writestr(member, members[name], compresslevel=LEVEL)
    return packed.getvalue()


def name_by_content(stem: str, content: bytes, suffix: str) -> str:
    """Return `STEM-` + 16 hex digits of the content's SHA-256 + the suffix."""
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
