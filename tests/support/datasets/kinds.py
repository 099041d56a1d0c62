"""Datasets as people really pack them, each with what a reader must see: splits, problems and warnings."""

from __future__ import annotations

import json
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.layouts import Counts, pack, picture

Files = dict[str, bytes]


@dataclass(frozen=True)
class Kind:
    """A dataset, what the recipe says about reading it, and what is to be seen in it."""

    build: Callable[[], bytes]
    counts: Counts
    problems: set[str] = field(default_factory=set)
    warnings: set[str] = field(default_factory=set)
    wishes: Mapping[str, Any] = field(default_factory=dict)
    says: tuple[str, ...] = ()


def fill(counts: Mapping[str, int], suffix: str = ".png", form: str = "png") -> Files:
    """Return `FOLDER/000.png` and so on, another picture each."""
    return {
        f"{folder}/{index:03d}{suffix}": picture(form, index + zlib.crc32(folder.encode()) % 60_000)
        for folder, count in counts.items()
        for index in range(count)
    }


def even(folders: Iterable[str], count: int = 10) -> Files:
    return fill(dict.fromkeys(folders, count))


def pack_raw(entries: Iterable[tuple[bytes, int, bytes, bytes]], system: int = 0) -> bytes:
    """Return a stored zip with exactly these names, flags, bodies and extra fields. system: 0 is FAT, 3 is Unix."""
    out, directory, count = b"", b"", 0
    for name, flags, body, extra in entries:
        fixed = (20, flags, 0, 0, 0x5821, zlib.crc32(body), len(body), len(body), len(name), len(extra))
        directory += struct.pack("<4sH5HL2L2H", b"PK\1\2", system << 8 | 20, *fixed)
        directory += struct.pack("<3H2L", 0, 0, 0, 0, len(out)) + name + extra
        out += struct.pack("<4s5HL2L2H", b"PK\3\4", *fixed) + name + extra + body
        count += 1
    return out + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(out), 0)


def pack_named(files: Files, encoding: str, *, system: int = 0, flags: int = 0, form: str = "NFC") -> bytes:
    """Return a zip whose names are in some encoding that it does not state."""
    return pack_raw(
        ((unicodedata.normalize(form, n).encode(encoding), flags, b, b"") for n, b in files.items()), system
    )


def pack_with_true_names(names: Mapping[str, bytes], *, break_checksum: bool = False) -> bytes:
    """Return a zip with a class for each name; the name in the entry is another, and the true one in field 0x7075."""
    entries = []
    for turn, (label, other) in enumerate(names.items()):
        for index in range(10):
            raw, true = b"train/%s/%03d.png" % (other, index), f"train/{label}/{index:03d}.png".encode()
            checksum = zlib.crc32(raw) ^ break_checksum
            extra = struct.pack("<2HBL", 0x7075, 5 + len(true), 1, checksum) + true
            entries.append((raw, 0, picture("png", index + 64 * turn), extra))
    return pack_raw(entries)


def use_backslashes(files: Files) -> bytes:
    return pack_raw(((name.replace("/", "\\").encode(), 0, body, b"") for name, body in files.items()), 0)


def table(rows: Iterable[str], header: str = "file_name,label") -> bytes:
    return "\n".join([header, *rows]).encode()


def flat(count: int = 24, folder: str = "images") -> Files:
    return fill({folder: count})


def label_flat(files: Files, *, path: bool = False) -> list[str]:
    """Return rows of a table that names every second image a cat, the others dogs."""
    return [
        f"{name if path else name.rpartition('/')[2]},{'dog' if index % 2 else 'cat'}"
        for index, name in enumerate(files)
    ]


def count(**splits: Mapping[str, int]) -> Counts:
    return {split: dict(classes) for split, classes in splits.items()}


def both(number: int) -> dict[str, int]:
    return {"cat": number, "dog": number}


CAT_DOG = ("cat", "dog")
SPLITS_3 = {"train/cat": 10, "train/dog": 10, "valid/cat": 3, "valid/dog": 3, "test/cat": 3, "test/dog": 3}
ALL_3 = count(train=both(10), valid=both(3), test=both(3))
TWO = count(train=both(10), test=both(3))
ALONE = count(train=both(10))


def renamed(names: Mapping[str, str]) -> bytes:
    """Return the dataset of three splits, each split's folder under another name; a split without one is left out."""
    pairs = (folder.split("/") for folder in SPLITS_3)
    return pack(fill({f"{names[s]}/{c}": SPLITS_3[f"{s}/{c}"] for s, c in pairs if s in names}))


LEVELS: dict[str, Kind] = {
    "splits doubled, with _set": Kind(
        lambda: renamed({"train": "training_set/training_set", "test": "test_set/test_set"}), TWO
    ),
    "splits doubled by their own name": Kind(lambda: renamed({"train": "train/train", "test": "test/test"}), TWO),
    "splits doubled by another word": Kind(lambda: renamed({"train": "train/training", "test": "testing/test"}), TWO),
    "splits with a common folder within": Kind(lambda: renamed({"train": "train/images", "test": "test/images"}), TWO),
    "seg_train": Kind(
        lambda: pack(
            fill({"seg_train/seg_train/cat": 10, "seg_train/seg_train/dog": 10})
            | fill({"seg_test/seg_test/cat": 3, "seg_test/seg_test/dog": 3, "seg_pred/seg_pred": 9})
        ),
        TWO,
        warnings={"ignored_images"},
    ),
    "train_images, val_images": Kind(
        lambda: renamed({"train": "train_images", "valid": "val_images", "test": "test_images"}), ALL_3
    ),
    "TrainSet, DevSet": Kind(
        lambda: renamed({"train": "TrainSet", "valid": "DevSet"}), count(train=both(10), valid=both(3))
    ),
    "train, dev, test": Kind(lambda: renamed({"train": "train", "valid": "dev", "test": "test"}), ALL_3),
    "training, validation, evaluation": Kind(
        lambda: renamed({"train": "training", "valid": "validation", "test": "evaluation"}), ALL_3
    ),
    "trainset, testset": Kind(lambda: renamed({"train": "trainset", "test": "testset"}), TWO),
    "pets_train, pets_test": Kind(lambda: renamed({"train": "pets_train", "test": "pets_test"}), TWO),
    "train and test1": Kind(lambda: renamed({"train": "train", "test": "test1"}), TWO),
    "numbered splits": Kind(lambda: renamed({"train": "1_train", "test": "2_test"}), TWO),
    "train alone": Kind(lambda: renamed({"train": "train"}), ALONE),
    "Training alone, wrapped": Kind(lambda: renamed({"train": "data/Training"}), ALONE),
    "training_set alone is a wrapper": Kind(lambda: renamed({"train": "training_set"}), ALONE),
    "one folder in every class": Kind(lambda: pack(even(["train/cat/images", "train/dog/images"])), ALONE),
    "classes doubled within themselves": Kind(lambda: pack(even(["cat/cat", "dog/dog"])), ALONE),
    "three folders around everything": Kind(lambda: pack(even(["a/b/c/cat", "a/b/c/dog"])), ALONE),
    "a class called train": Kind(
        lambda: pack(even(["vehicles/bus", "vehicles/car", "vehicles/train"])),
        count(train={"bus": 10, "car": 10, "train": 10}),
    ),
    "a class called test, with wrappers": Kind(
        lambda: pack(even(["bus/images", "test/images", "train/images"])),
        count(train={"bus": 10, "test": 10, "train": 10}),
    ),
    "classes called dev and eval": Kind(
        lambda: pack(even(["ops", "dev", "eval"])), count(train={"dev": 10, "eval": 10, "ops": 10})
    ),
    "classes with words of splits": Kind(
        lambda: pack(even(["test_tube", "training_shoe", "cup"])),
        count(train={"cup": 10, "test_tube": 10, "training_shoe": 10}),
    ),
    "two levels": Kind(
        lambda: pack(even(["train/cat/tabby", "train/cat/siamese", "train/dog/poodle", "train/dog/beagle"], 6)),
        count(train=both(12)),
        warnings={"class_level_taken"},
    ),
    "two levels, the lower wished": Kind(
        lambda: pack(even(["cat/tabby", "cat/siamese", "dog/poodle"], 10)),
        count(train={"poodle": 10, "siamese": 10, "tabby": 10}),
        wishes={"class_level": 2},
    ),
    "flowers in flowers": Kind(
        lambda: pack(even(["f/rose", "f/tulip", "f/f2/rose", "f/f2/tulip"])),
        count(train={"f2": 20, "rose": 10, "tulip": 10}),
        {"ambiguous_class_level"},
        says=("3 classes with 40 images", "2 classes with 20 images", "class_level"),
    ),
    "flowers in flowers, the upper wished": Kind(
        lambda: pack(even(["f/rose", "f/tulip", "f/f2/rose", "f/f2/tulip"])),
        count(train={"f2": 20, "rose": 10, "tulip": 10}),
        wishes={"class_level": 1},
    ),
    "flowers in flowers, the lower wished": Kind(
        lambda: pack(even(["f/rose", "f/tulip", "f/f2/rose", "f/f2/tulip"])),
        count(train={"rose": 10, "tulip": 10}),
        warnings={"ignored_images"},
        wishes={"class_level": 2},
    ),
    "splits within classes": Kind(
        lambda: pack(even(["cat/train", "cat/test", "dog/train", "dog/test"])),
        count(train=both(20)),
        {"ambiguous_class_level"},
    ),
    "health within plants": Kind(
        lambda: pack(even([f"{plant}/{state}" for plant in ("apple", "grape") for state in ("healthy", "ill")])),
        count(train={"apple": 20, "grape": 20}),
        {"ambiguous_class_level"},
    ),
    "health within plants, in splits": Kind(
        lambda: pack(even([f"train/{plant}/{state}" for plant in ("apple", "grape") for state in ("good", "bad")])),
        count(train={"bad": 20, "good": 20}),
        wishes={"class_level": 2},
    ),
    "valid and test alone": Kind(
        lambda: renamed({"valid": "valid", "test": "test"}),
        {},
        {"splits_not_recognised"},
        says=("'test' (6)", "'valid' (6)", "train"),
    ),
    "val and test beside learn": Kind(
        lambda: renamed({"train": "learn", "valid": "val", "test": "test"}), {}, {"splits_not_recognised"}
    ),
    "unlabelled images in test": Kind(
        lambda: pack(fill({"train/cat": 10, "train/dog": 10, "test": 5})), ALONE, warnings={"unlabelled_images"}
    ),
    "val/images without labels": Kind(
        lambda: pack(fill({"train/cat/images": 10, "train/dog/images": 10, "val/images": 5, "test/images": 5})),
        ALONE,
        warnings={"unlabelled_images"},
    ),
    "unlabelled beside classes": Kind(
        lambda: pack(fill({"train/cat": 10, "train/dog": 10, "train/unsup": 30, "test/cat": 3, "test/dog": 3})),
        TWO,
        warnings={"unlabelled_images"},
    ),
    "unlabeled beside splits": Kind(
        lambda: pack(fill({"train/cat": 10, "train/dog": 10, "unlabeled": 30, "test/cat": 3, "test/dog": 3})),
        TWO,
        warnings={"ignored_images"},
    ),
    "a backup deeper down": Kind(
        lambda: pack(fill(SPLITS_3) | fill({"old/train/cat": 4, "old/train/dog": 4})),
        ALL_3,
        warnings={"ignored_images"},
    ),
}

TRUE_NAMES = {"柴犬": b"__", "größe": b"gr__e", "plain": b"plain"}
NAMES: dict[str, Kind] = {
    "UTF-8 without its flag, decomposed": Kind(
        lambda: pack_named(even(["train/Zoë", "train/größe"]), "utf-8", system=3, form="NFD"),
        count(train={"Zoë": 10, "größe": 10}),
    ),
    "UTF-8 with its flag, decomposed": Kind(
        lambda: pack_named(even(["train/Zoë", "train/größe"]), "utf-8", flags=0x800, form="NFD"),
        count(train={"Zoë": 10, "größe": 10}),
    ),
    "a class composed here and decomposed there": Kind(
        lambda: pack({**fill({"train/Zoë": 10, "train/b": 10}), **fill({"test/Zoe\u0308": 3, "test/b": 3})}),
        count(train={"Zoë": 10, "b": 10}, test={"Zoë": 3, "b": 3}),
    ),
    "the true name in its own field": Kind(
        lambda: pack_with_true_names(TRUE_NAMES), count(train=dict.fromkeys(sorted(TRUE_NAMES), 10))
    ),
    "a field of another name": Kind(
        lambda: pack_with_true_names({"柴犬": b"__", "plain": b"plain"}, break_checksum=True),
        count(train={"__": 10, "plain": 10}),
    ),
    "code page 437": Kind(
        lambda: pack_named(even(["train/Zoë", "train/b"]), "cp437"),
        count(train={"Zoë": 10, "b": 10}),
        warnings={"unknown_encoding"},
    ),
    "Shift JIS": Kind(
        lambda: pack_named(even(["train/表犬", "train/b"]), "cp932"),
        count(train={"b": 10, "表犬": 10}),
        wishes={"name_encoding": "cp932"},
    ),
    "Cyrillic": Kind(
        lambda: pack_named(even(["train/кот", "train/пёс"]), "cp866"),
        count(train={"кот": 10, "пёс": 10}),
        wishes={"name_encoding": "cp866"},
    ),
    "backslashes by PowerShell": Kind(lambda: use_backslashes(fill(SPLITS_3)), ALL_3),
}

THUMBS = {
    f"{label}/@eaDir/{index:03d}.png/SYNOPHOTO_THUMB_M.jpg": picture("jpg", index)
    for label in CAT_DOG
    for index in range(4)
}
LITTER: dict[str, Kind] = {
    "@eaDir": Kind(lambda: pack(even(CAT_DOG) | THUMBS), ALONE, warnings={"hidden_images"}),
    "a hidden class": Kind(
        lambda: pack(even(["train/.net", "train/cat", "train/dog"])),
        ALONE,
        warnings={"hidden_images"},
        says=("train/.net (10)",),
    ),
    "checkpoints of a notebook": Kind(
        lambda: pack(even(CAT_DOG) | {".ipynb_checkpoints/a-checkpoint.ipynb": b"{}", "cat/.ipynb_checkpoints/": b""}),
        ALONE,
    ),
    "Icon, Thumbs.db, desktop.ini": Kind(
        lambda: pack(
            even(CAT_DOG) | {"cat/Icon\r": b"", "dog/Thumbs.db": b"x", "dog/desktop.ini": b"x", "Icon\r": b""}
        ),
        ALONE,
    ),
    "tmp with images": Kind(
        lambda: pack(even([*CAT_DOG, "tmp"])), ALONE, warnings={"ignored_images"}, says=("tmp (10)",)
    ),
    "tmp within a class": Kind(lambda: pack(even(CAT_DOG) | even(["cat/tmp"], 2)), ALONE, warnings={"ignored_images"}),
    "tmp around everything": Kind(lambda: pack(even(["tmp/cat", "tmp/dog"])), ALONE),
    "an empty tmp": Kind(
        lambda: pack(even(["train/cat", "train/dog"]) | {"train/tmp/": b"", "train/tmp/a.log": b"x"}), ALONE
    ),
    "a text, a script, a table": Kind(
        lambda: pack(even(CAT_DOG) | {"cat/readme.txt": b"x", "cat/RENAME2": b"#!/bin/sh\n", "dog/list.csv": b"a,b"}),
        ALONE,
        warnings={"not_an_image"},
    ),
    "ignored by the recipe": Kind(
        lambda: pack(even(CAT_DOG) | even(["masks", "cat/masks"], 5) | {"dog/000_mask.png": picture("png", 200)}),
        ALONE,
        warnings={"left_out"},
        wishes={"ignore": ["masks", "*_mask.png"]},
        says=("11 files",),
    ),
    "a path ignored by the recipe": Kind(
        lambda: pack(even(["d/train/cat", "d/train/dog", "d/train/owl"])),
        ALONE,
        warnings={"left_out"},
        wishes={"ignore": ["train/owl/"]},
    ),
    "an ignored pattern that fits nothing": Kind(
        lambda: pack(even(CAT_DOG)), ALONE, warnings={"left_out"}, wishes={"ignore": ["maskz"]}
    ),
}

FORMS: dict[str, Kind] = {
    "jfif, jpe and capitals": Kind(
        lambda: pack(
            fill({"cat": 5, "dog": 10}, ".jfif", "jpg") | {f"cat/x{i}.JPE": picture("jpg", 90 + i) for i in range(5)}
        ),
        ALONE,
    ),
    "GIF, BMP and TIFF": Kind(
        lambda: pack(
            fill({"cat": 10}, ".gif", "gif")
            | {f"dog/{i}.bmp": picture("bmp", 90 + i) for i in range(5)}
            | {f"dog/{i}.tif": picture("tiff", 99 + i) for i in range(5)}
        ),
        ALONE,
    ),
    "no suffixes": Kind(lambda: pack(fill({"cat": 10, "dog": 10}, "")), ALONE),
    "numbers for suffixes": Kind(
        lambda: pack(
            {f"{c}/img.{i:04d}": picture("jpg", i + 64 * t) for t, c in enumerate(CAT_DOG) for i in range(10)}
        ),
        ALONE,
    ),
    "a licence without suffix beside the classes": Kind(
        lambda: pack(even(CAT_DOG) | {"docs/LICENSE": b"All rights", "Makefile": b"all:"}),
        ALONE,
        warnings={"ignored_files"},
    ),
}


def build_imagefolder() -> bytes:
    """As Hugging Face's imagefolder lies: a table in each split."""
    train, test = flat(20, "train"), flat(6, "test")
    return pack(
        {**train, **test, "train/metadata.csv": table(label_flat(train)), "test/metadata.csv": table(label_flat(test))}
    )


def build_with_splits() -> bytes:
    files = flat(20)
    rows = [f"{row},{'test' if at >= 14 else 'train'}" for at, row in enumerate(label_flat(files, path=True))]
    return pack({**files, "labels.csv": table(rows, "file_name,label,split")})


def build_indicators(double: bool) -> bytes:
    files = flat(20, "train")
    rows = [f"{row.split(',')[0]},{'1,0' if row.endswith('cat') else '0,1'}" for row in label_flat(files)]
    rows[0] = f"{rows[0].split(',')[0]},1,{int(double)}"
    return pack({**files, "train/_classes.csv": table(rows, "filename,cat,dog")})


def build_json_lines() -> bytes:
    files = flat(20, "pool")
    rows = (row.split(",") for row in label_flat(files))
    return pack(
        {**files, "metadata.jsonl": "\n".join(json.dumps({"file_name": f, "label": c}) for f, c in rows).encode()}
    )


def build_table(rows: Callable[[list[str]], Iterable[str]], header: str = "file_name,label") -> bytes:
    files = flat(20)
    return pack({**files, "labels.csv": table(rows(label_flat(files)), header)})


def name_by(pattern: str) -> Files:
    return {
        pattern.format(label, index): picture("png", index + 64 * turn)
        for turn, label in enumerate(CAT_DOG)
        for index in range(10)
    }


LABELS: dict[str, Kind] = {
    "imagefolder": Kind(build_imagefolder, count(train=both(10), test=both(3))),
    "labels.csv with splits": Kind(build_with_splits, count(train=both(7), test=both(3))),
    "labels.csv by names": Kind(lambda: build_table(list), ALONE),
    "labels.csv without suffixes": Kind(
        lambda: build_table(lambda rows: [row.replace(".png", "") for row in rows], "id,breed"), ALONE
    ),
    "labels.csv with semicolons": Kind(
        lambda: build_table(lambda rows: [row.replace(",", ";") for row in rows], "image;class"), ALONE
    ),
    "metadata.jsonl": Kind(build_json_lines, ALONE),
    "one column a class": Kind(lambda: build_indicators(double=False), ALONE),
    "one column a class, two labels": Kind(
        lambda: build_indicators(double=True),
        {},
        {"multi_label"},
        says=("_classes.csv", "'cat' and 'dog'"),
    ),
    "two labels in a cell": Kind(lambda: build_table(lambda rows: ["000.png,cat|dog", *rows[1:]]), {}, {"multi_label"}),
    "two labels on two lines": Kind(lambda: build_table(lambda rows: ["000.png,dog", *rows]), {}, {"multi_label"}),
    "labels after a space": Kind(lambda: build_table(lambda rows: ["000.png,cat dog", *rows[1:]]), {}, {"multi_label"}),
    "captions in place of labels": Kind(
        lambda: build_table(lambda rows: [f"{r.split(',')[0]},a,b,c" for r in rows], "file_name,text,by,at"),
        {},
        {"labels_not_recognised"},
    ),
    "images that the table lacks": Kind(
        lambda: build_table(lambda rows: ["gone.png,cat", *rows[:16]]),
        count(train=both(8)),
        warnings={"labelled_file_missing", "ignored_images"},
    ),
    "a table beside class folders": Kind(
        lambda: pack(even(CAT_DOG) | {"labels.csv": table(["cat/000.png,dog"])}), ALONE, warnings={"ignored_files"}
    ),
    "a table beside class folders, wished": Kind(
        lambda: pack(
            even(["a", "b"])
            | {"labels.csv": table([f"{f}/{i:03d}.png,{'cat' if i < 5 else 'dog'}" for f in "ab" for i in range(10)])}
        ),
        ALONE,
        wishes={"labels": "file"},
    ),
    "labels in names": Kind(lambda: pack(name_by("train/{0}.{1}.png")), ALONE, wishes={"labels": "{label}.#.png"}),
    "labels in names, with underscores": Kind(
        lambda: pack({name.replace("cat", "big_cat"): body for name, body in name_by("{0}_{1}.png").items()}),
        count(train={"big_cat": 10, "dog": 10}),
        wishes={"labels": "{label}_#.*"},
    ),
    "a pattern that fits nothing": Kind(
        lambda: pack(name_by("train/{0}.{1}.png")), {}, {"no_class_folders"}, wishes={"labels": "{label}-#.png"}
    ),
}
KINDS = {**LEVELS, **NAMES, **LITTER, **FORMS, **LABELS}
