"""Zip archives whose bytes depend on their members' names and contents alone, named by what they hold."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can tell
READABLE, EXECUTABLE = 0o100644 << 16, 0o100755 << 16  # Lambda runs as another user than the one who packs
LEVEL = 9


def pack_zip(members: Mapping[str, bytes]) -> bytes:
    """One archive of members by name: sorted, without times, owners or the packer's file modes."""
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
    """`STEM-` + 16 hex digits of the content's SHA-256 + the suffix."""
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
