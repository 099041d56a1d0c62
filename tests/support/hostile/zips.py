"""Build broken and hostile zips, each with the code of the problem that must be reported.

Where zipfile refuses to write what an attacker would, the bytes are changed after it.
"""

from __future__ import annotations

import io
import random
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chalicelib.datasets.contents import DatasetLimits
from tests.support.layouts import list_flat_pictures, list_pictures, pack, picture


@dataclass(frozen=True)
class HostileZip:
    """Bytes that must be refused with `code`; `says` are words that the message must contain."""

    build: Callable[[], bytes]
    code: str
    says: tuple[str, ...] = ()
    limits: DatasetLimits = field(default_factory=DatasetLimits)


def pack_with(extra: Mapping[str, bytes]) -> bytes:
    """Pack a good dataset and these files."""
    return pack({**list_pictures(), **extra})


def pack_entry(change: Callable[[zipfile.ZipInfo], None], name: str = "train/cat/odd.png", body: bytes = b"") -> bytes:
    """Pack a good dataset and one entry that is changed before it is written."""
    buffer = io.BytesIO(pack(list_pictures()))
    with zipfile.ZipFile(buffer, "a") as archive:
        entry = zipfile.ZipInfo(name)
        change(entry)
        archive.writestr(entry, body or picture("png", 200))
    return buffer.getvalue()


def change_directory(body: bytes, name: str, place: int, form: str, value: int) -> bytes:
    """Overwrite one number in the directory record of an entry, at byte `place` of the record."""
    changed = bytearray(body)
    directory = changed.rindex(b"PK\x01\x02", 0, changed.rindex(name.encode()))
    struct.pack_into(f"<{form}", changed, directory + place, value)
    return bytes(changed)


def change_end(body: bytes, place: int, form: str, value: int) -> bytes:
    """Overwrite one number in the zip's end record."""
    changed = bytearray(body)
    struct.pack_into(f"<{form}", changed, changed.rindex(b"PK\x05\x06") + place, value)
    return bytes(changed)


def rename(body: bytes, old: bytes, new: bytes) -> bytes:
    """Replace a name everywhere by one of the same length, as only a tampered file has it."""
    assert len(old) == len(new)
    assert old in body
    return body.replace(old, new)


def build_link() -> bytes:
    def make_link(entry: zipfile.ZipInfo) -> None:
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16

    return pack_entry(make_link, body=b"/etc/passwd")


def build_device() -> bytes:
    def make_device(entry: zipfile.ZipInfo) -> None:
        entry.create_system, entry.external_attr = 3, (stat.S_IFCHR | 0o666) << 16

    return pack_entry(make_device)


def build_encrypted() -> bytes:
    return change_directory(pack(list_pictures()), "test/dog/002.png", 8, "H", 0x1)


def build_duplicates() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pack([*list_pictures().items(), ("train/cat/000.png", picture("png", 99))])


def build_packed_by(method: int) -> bytes:
    return pack_entry(lambda entry: setattr(entry, "compress_type", method))


def build_bomb() -> bytes:
    return pack({**list_pictures(), "train/cat/big.png": picture() + bytes(5_000_000)}, zipfile.ZIP_DEFLATED)


def build_overlap() -> bytes:
    """Pack two entries that share one body, of which a non-recursive zip bomb has thousands."""
    body = pack(list_pictures())
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        first = archive.getinfo("train/cat/000.png").header_offset
    return change_directory(body, "train/cat/001.png", 42, "L", first)


def build_huge_header() -> bytes:
    """Return a PNG whose header announces 30,000 x 30,000 pixels."""
    header = struct.pack(">2L5B", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">L", 13) + chunk + struct.pack(">L", zlib.crc32(chunk)) + bytes(50)
    return pack({**list_pictures(), **{f"train/cat/{index:03d}.png": png for index in range(12)}})


def build_second_directory() -> bytes:
    """Put the end of another zip into the comment: some programs read that one."""
    body, other = pack(list_pictures()), pack({"train/cat/evil.png": picture()})
    body = change_end(body, 20, "H", len(other))
    return body + other


def build_bad_name_bytes() -> bytes:
    """Pack a name that is flagged as UTF-8 and is not."""
    return rename(pack(list_pictures(classes=("caté", "dog"))), "caté".encode(), b"cat\xff\xff")


def build_lying_size() -> bytes:
    return change_directory(pack(list_pictures()), "train/dog/005.png", 24, "L", 7_777)


def build_flipped_bits() -> bytes:
    body = bytearray(
        pack({**list_pictures(classes=("dog",)), **{f"train/cat/{i:03d}.png": picture() for i in range(2)}})
    )
    for index in range(2):
        name = f"train/cat/{index:03d}.png".encode()
        body[body.index(name) + len(name) + 45] ^= 0xFF
    return bytes(body)


def build_other_name_in_header() -> bytes:
    """Pack an entry that the directory calls cat and the entry itself owl."""
    body = bytearray(pack(list_pictures(classes=("dog", "cat"), splits={"train": 1})))
    at = body.index(b"train/cat/000.png")
    body[at + 6 : at + 9] = b"owl"
    return bytes(body)


def build_broken_jpegs() -> bytes:
    cut = picture("jpg")[:-200]
    return pack({**list_pictures(), **{f"train/cat/{index:03d}.jpg": cut for index in range(40)}})


def build_text_as_images(body: bytes) -> bytes:
    return pack({**list_pictures(), **{f"train/cat/{index:03d}.png": body for index in range(12)}})


GOOD = list_pictures
MANY = [f"class {index:03d}" for index in range(30)]

ZIPS: dict[str, HostileZip] = {
    # no archive at all
    "empty file": HostileZip(lambda: b"", "empty_file", ("0 bytes",)),
    "text": HostileZip(lambda: b"hello " * 100, "not_a_zip", ("begins with 'hello he'.",)),
    "noise": HostileZip(lambda: random.Random(1).randbytes(4_000), "not_a_zip", ("begins with the bytes f5 b1 65",)),
    "gzip": HostileZip(lambda: b"\x1f\x8b\x08" + bytes(200), "not_a_zip", ("gzip",)),
    "tar": HostileZip(lambda: b"train/".ljust(257, b"\0") + b"ustar" + bytes(300), "not_a_zip", ("tar",)),
    "7z": HostileZip(lambda: b"7z\xbc\xaf\x27\x1c" + bytes(60), "not_a_zip", ("7z",)),
    "web page": HostileZip(lambda: b"<!DOCTYPE html><title>Sign in</title>", "not_a_zip", ("web page",)),
    "cut in the middle": HostileZip(lambda: pack(GOOD())[:3_000], "truncated", ("upload it again",)),
    "cut within its end": HostileZip(lambda: pack(GOOD())[:-5], "truncated"),
    "front missing": HostileZip(lambda: pack(GOOD())[2_000:], "overlapping_entries"),
    "directory missing": HostileZip(lambda: change_end(pack(GOOD()), 12, "L", 2**31), "broken_directory"),
    "directory of noise": HostileZip(
        lambda: pack(GOOD()).replace(b"PK\x01\x02", b"XXXX"), "broken_directory", ("unzip -t",)
    ),
    "entries not as stated": HostileZip(
        lambda: change_end(pack(GOOD()), 10, "H", 3), "broken_directory", ("3 entries",)
    ),
    "part of several": HostileZip(lambda: change_end(pack(GOOD()), 4, "H", 2), "multi_part", ("part 3",)),
    "two directories": HostileZip(build_second_directory, "ambiguous_directory"),
    "name in no encoding": HostileZip(build_bad_name_bytes, "broken_directory"),
    # entries
    "encrypted": HostileZip(build_encrypted, "encrypted", ("1 entry", "password")),
    "climbs out": HostileZip(lambda: pack_with({"train/../../etc/passwd": b"x"}), "name_escapes", ("etc/passwd",)),
    "absolute": HostileZip(lambda: pack_with({"/etc/cron.d/evil.png": picture()}), "name_escapes"),
    "drive letter": HostileZip(lambda: pack_with({"C:/train/cat/x.png": picture()}), "name_escapes"),
    "backslash climbs out": HostileZip(lambda: pack_with({"..\\..\\evil.png": picture()}), "name_escapes"),
    "backslashes": HostileZip(
        lambda: pack({name.replace("/", "\\"): body for name, body in GOOD().items()}), "name_has_backslash"
    ),
    "null in a name": HostileZip(
        lambda: rename(pack_with({"train/cat/a_b.png": picture()}), b"a_b.png", b"a\0b.png"),
        "name_has_control_characters",
        ("\\x00",),
    ),
    "line break in a name": HostileZip(
        lambda: pack_with({"train/cat/a\nb.png": picture()}), "name_has_control_characters", ("\\n",)
    ),
    "symbolic link": HostileZip(build_link, "links", ("odd.png",)),
    "device": HostileZip(build_device, "links"),
    "twice the same name": HostileZip(build_duplicates, "duplicate_names", ("train/cat/000.png",)),
    "bzip2": HostileZip(lambda: build_packed_by(zipfile.ZIP_BZIP2), "unsupported_compression", ("bzip2",)),
    "LZMA": HostileZip(lambda: build_packed_by(zipfile.ZIP_LZMA), "unsupported_compression", ("LZMA",)),
    "unknown packing": HostileZip(
        lambda: change_directory(pack(GOOD()), "test/dog/002.png", 10, "H", 77), "unsupported_compression", ("77",)
    ),
    "bomb": HostileZip(build_bomb, "zip_bomb", ("100 times",)),
    "overlapping entries": HostileZip(build_overlap, "overlapping_entries"),
    "two sizes of one entry": HostileZip(build_lying_size, "sizes_disagree"),
    "archive within": HostileZip(lambda: pack({"train.zip": pack(GOOD())}), "nested_archive", ("train.zip",)),
    # classes
    "nothing inside": HostileZip(lambda: pack({}), "no_images"),
    "folders alone": HostileZip(lambda: pack({"train/": b"", "train/cat/": b"", "train/dog/": b""}), "no_images"),
    "images in no folder": HostileZip(
        lambda: pack({f"{index}.png": picture() for index in range(9)}), "no_class_folders", ("train/CLASS/",)
    ),
    "images right in the split": HostileZip(
        lambda: pack({f"train/{index}.png": picture() for index in range(9)}), "no_class_folders"
    ),
    "one class": HostileZip(lambda: pack(list_pictures(classes=("cat",))), "too_few_classes", ("'cat'",)),
    "class that train lacks": HostileZip(
        lambda: pack_with({"valid/owl/1.png": picture(), "test/owl/1.png": picture()}),
        "class_missing_from_train",
        ("1 class", "'owl'"),
    ),
    "class spelt in two ways": HostileZip(
        lambda: pack({**list_pictures({"train": 12}), **list_pictures({"test": 3}, ("Cat", "dog"))}),
        "class_missing_from_train",
        ("'Cat' for 'cat'",),
    ),
    "empty class": HostileZip(lambda: pack_with({"train/owl/": b""}), "empty_class", ("'owl'",)),
    "class of texts": HostileZip(lambda: pack_with({"train/owl/notes.txt": b"hoo"}), "empty_class"),
    "composed and decomposed": HostileZip(
        lambda: pack(list_pictures(classes=("Zo\u00eb", "Zoe\u0308"))), "confusable_classes"
    ),
    "space at the end": HostileZip(lambda: pack(list_pictures(classes=("cat", "cat "))), "confusable_classes"),
    "HEIC": HostileZip(
        lambda: pack_with({"train/cat/a.heic": b"x", "train/cat/b.HEIC": b"x"}),
        "unsupported_format",
        ("2 pictures", "sips -s format jpeg"),
    ),
    # pictures
    "web pages for images": HostileZip(
        lambda: build_text_as_images(b"<html>404</html>"), "not_an_image_inside", ("a web page", "looked into")
    ),
    "pointers of git": HostileZip(
        lambda: build_text_as_images(b"version https://git-lfs.github.com/spec/v1\n"), "not_an_image_inside", ("LFS",)
    ),
    "JPEG XL by another name": HostileZip(
        lambda: build_text_as_images(b"\xff\x0a" + bytes(90)), "not_an_image_inside", ("a JPEG XL",)
    ),
    "zeros": HostileZip(lambda: build_text_as_images(bytes(900)), "not_an_image_inside", ("zeros",)),
    "files of no bytes": HostileZip(lambda: build_text_as_images(b""), "empty_image", ("12 images",)),
    "pictures cut short": HostileZip(build_broken_jpegs, "damaged_image", ("ends too early",)),
    "flipped bits": HostileZip(build_flipped_bits, "damaged_image", ("cannot be unpacked",)),
    "another name in the header": HostileZip(build_other_name_in_header, "damaged_image"),
    "30,000 pixels square": HostileZip(build_huge_header, "absurd_dimensions", ("30,000 x 30,000",)),
    # limits
    "more images than served": HostileZip(
        lambda: pack(GOOD()), "too_many_images", ("34 images", "20 are the most"), DatasetLimits(max_images=20)
    ),
    "more classes than served": HostileZip(
        lambda: pack(list_flat_pictures(MANY, count=1)),
        "too_many_classes",
        ("30 classes",),
        DatasetLimits(max_classes=29),
    ),
    "more bytes than served": HostileZip(lambda: pack(GOOD()), "too_many_bytes", (), DatasetLimits(max_bytes=100)),
    "an image too large": HostileZip(lambda: pack(GOOD()), "image_too_large", (), DatasetLimits(max_image_bytes=50)),
    "more entries than served": HostileZip(
        lambda: change_end(pack(GOOD()), 10, "H", 60_000), "too_many_entries", (), DatasetLimits(max_images=1_000)
    ),
}
