"""Build good zips of many layouts, each with what its reader must find: the root, and images by split and class."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from PIL import Image

Counts = dict[str, dict[str, int]]
SPLITS = {"train": 12, "valid": 2, "test": 3}
MANY = 500  # files, from which on zipfile is slow
UTF8 = 0x800  # the flag of a name in UTF-8


@cache
def picture(form: str = "PNG", seed: int = 0) -> bytes:
    """Draw a small, valid image; each seed gives another one."""
    image = Image.new("RGB", (8, 6), (seed * 37 % 256, seed * 91 % 256, (128 + seed // 256 * 17) % 256))
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "JPEG", "jpeg": "JPEG"}.get(form, form.upper()))
    return buffer.getvalue()


def pack(files: Mapping[str, bytes] | Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """Pack these files into a zip, in this order; a name that ends in a slash is a folder."""
    pairs = list(files.items() if isinstance(files, Mapping) else files)
    if method == zipfile.ZIP_STORED and len({name for name, _ in pairs}) > MANY:
        return pack_many(pairs)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, body in pairs:
            archive.writestr(name, body)
    return buffer.getvalue()


def pack_many(pairs: list[tuple[str, bytes]]) -> bytes:
    """Pack thousands of files without compression, several times faster than zipfile does: APPNOTE.TXT 4.3."""
    local, central, offset = [], [], 0
    for name, body in pairs:
        entry, listed, name_bytes = describe_entry(name, body)
        local += [entry, body]
        central += [listed, struct.pack("<L", offset), name_bytes]
        offset += len(entry) + len(body)
    directory = b"".join(central)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(pairs), len(pairs), len(directory), offset, 0)
    return b"".join(local) + directory + end


@cache
def describe_entry(name: str, body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a file's local header with its name, its entry in the directory as far as the offset, and its name."""
    name_bytes = name.encode()
    sizes = (zlib.crc32(body), len(body), len(body), len(name_bytes), 0)
    entry = struct.pack("<4s5H3L2H", b"PK\3\4", 20, UTF8, 0, 0, 33, *sizes) + name_bytes
    listed = struct.pack("<4s6H3L5HL", b"PK\1\2", 20, 20, UTF8, 0, 0, 33, *sizes, 0, 0, 0, 0)
    return entry, listed, name_bytes


def list_pictures(
    splits: Mapping[str, int] = SPLITS, classes: Iterable[str] = ("cat", "dog"), root: str = "", suffix: str = ".png"
) -> dict[str, bytes]:
    """Return `root/split/class/000.png` and so on, `splits[split]` images of each class."""
    form = suffix.strip(".").lower()
    return {
        f"{root}{split}/{label}/{index:03d}{suffix}": picture(form, index + 50 * place + 512 * turn)
        for turn, (split, count) in enumerate(splits.items())
        for place, label in enumerate(classes)
        for index in range(count)
    }


def list_flat_pictures(classes: Iterable[str] = ("cat", "dog"), root: str = "", count: int = 12) -> dict[str, bytes]:
    return {
        f"{root}{label}/{index:03d}.png": picture("png", index + 50 * place)
        for place, label in enumerate(classes)
        for index in range(count)
    }


def count_all(classes: Iterable[str] = ("cat", "dog"), splits: Mapping[str, int] = SPLITS) -> Counts:
    return {split: dict.fromkeys(sorted(classes), count) for split, count in splits.items()}


@dataclass(frozen=True)
class Layout:
    """A good zip: how to build it, and what must be found in it."""

    build: Callable[[], bytes]
    root: str
    counts: Counts


def build_directories_first() -> bytes:
    """Pack as `zip -r` does: every folder has its own entry."""
    folders = {"dogImages/": b"", **{f"dogImages/{split}/": b"" for split in SPLITS}}
    folders |= {f"dogImages/{split}/{label}/": b"" for split in SPLITS for label in ("cat", "dog")}
    return pack({**folders, **list_pictures(root="dogImages/")})


def build_by_macos() -> bytes:
    """Pack as macOS does: a double of each file below __MACOSX, and .DS_Store files."""
    files = list_pictures(root="pets/")
    doubles = {f"__MACOSX/{name.rpartition('/')[0]}/._{name.rpartition('/')[2]}": b"\0\5\x16\7" for name in files}
    return pack({**files, **doubles, "pets/.DS_Store": b"\0", "pets/train/cat/.DS_Store": b"\0"})


def build_by_windows() -> bytes:
    litter = {"train/cat/Thumbs.db": b"\0", "train/dog/desktop.ini": b"[x]", "train/dog/THUMBS.DB": b"\0"}
    return pack({**list_pictures(), **litter})


def build_mixed_formats() -> bytes:
    photos, drawings = list_pictures({"train": 12}, suffix=".JPG"), list_pictures({"valid": 2}, suffix=".jpeg")
    return pack({**photos, **drawings, **list_pictures({"test": 3}, suffix=".WebP")})


LAYOUTS: dict[str, Layout] = {
    "three splits": Layout(lambda: pack(list_pictures()), "", count_all()),
    "a wrapping folder": Layout(lambda: pack(list_pictures(root="dogImages/")), "dogImages/", count_all()),
    "two wrapping folders": Layout(lambda: pack(list_pictures(root="data/pets/")), "data/pets/", count_all()),
    "folders have entries": Layout(build_directories_first, "dogImages/", count_all()),
    "packed by macOS": Layout(build_by_macos, "pets/", count_all()),
    "packed by Windows": Layout(build_by_windows, "", count_all()),
    "deflated": Layout(lambda: pack(list_pictures(), zipfile.ZIP_DEFLATED), "", count_all()),
    "jpg, jpeg and webp in capitals": Layout(build_mixed_formats, "", count_all()),
    "splits under other names": Layout(
        lambda: pack(list_pictures({"Training": 12, "VAL": 2, "testing": 3})), "", count_all()
    ),
    "two names of one split": Layout(
        lambda: pack({**list_pictures({"train": 10}), **list_pictures({"training": 5})}),
        "",
        count_all(splits={"train": 15}),
    ),
    "no test split": Layout(
        lambda: pack(list_pictures({"train": 12, "valid": 2})), "", count_all(splits={"train": 12, "valid": 2})
    ),
    "train alone": Layout(lambda: pack(list_pictures({"train": 12})), "", count_all(splits={"train": 12})),
    "classes alone": Layout(lambda: pack(list_flat_pictures()), "", count_all(splits={"train": 12})),
    "classes in wrapping folders": Layout(
        lambda: pack(list_flat_pictures(root="my data/pets/")), "my data/pets/", count_all(splits={"train": 12})
    ),
    "folders within classes": Layout(
        lambda: pack(
            {
                **list_flat_pictures(root="train/cat/", classes=("indoor", "outdoor")),
                **list_flat_pictures(root="train/", classes=("dog",)),
            }
        ),
        "",
        {"train": {"cat": 24, "dog": 12}},
    ),
    "a train folder deeper down": Layout(
        lambda: pack({**list_pictures(), **list_pictures(root="old/backup/")}), "", count_all()
    ),
    "a class called test": Layout(
        lambda: pack(list_pictures(classes=("test", "train"))), "", count_all(classes=("test", "train"))
    ),
    "files beside the splits": Layout(
        lambda: pack({**list_pictures(), "README.md": b"# Pets", "labels.csv": b"a,b", "cover.jpg": picture("jpg")}),
        "",
        count_all(),
    ),
    "names with spaces, accents and signs": Layout(
        lambda: pack(list_pictures(classes=("golden retriever", "Señor Ñandú", "犬", "+%20&#"), root="my pets (1)/")),
        "my pets (1)/",
        count_all(classes=("golden retriever", "Señor Ñandú", "犬", "+%20&#")),
    ),
    "numbered classes": Layout(
        lambda: pack(list_pictures(classes=("001.Affenpinscher", "002.Afghan_hound"))),
        "",
        count_all(classes=("001.Affenpinscher", "002.Afghan_hound")),
    ),
    "doubled slashes and dots": Layout(
        lambda: pack({f"./{name.replace('/', '//', 1)}": body for name, body in list_pictures().items()}),
        "",
        count_all(),
    ),
}
