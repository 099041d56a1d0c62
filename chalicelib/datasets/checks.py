"""Find what is wrong or odd with the classes and files of a dataset. Pure."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from chalicelib.datasets.contents import Contents, DatasetLimits
from chalicelib.datasets.findings import Finding, find_among, quote, shorten
from chalicelib.datasets.layouts import is_image_name

PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
OTHER_PICTURES = (".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif", ".jfif", ".jp2", ".svg", ".ppm", ".pgm")
UTF8 = 0x800  # the flag that marks a name as UTF-8; a name without it is read as code page 437
CONVERT = "Convert them to JPEG, PNG or WebP, or take them out."


def find_foreign_files(contents: Contents) -> Iterator[Finding]:
    """Yield files in class folders whose names are not those of images, and archives anywhere."""
    everywhere = [entry.filename for entry in (*contents.strangers, *contents.ignored)]
    packed = [name for name in everywhere if name.lower().endswith(PACKED)]
    yield from find_among(
        "nested_archive", packed, "archive within the zip|archives within the zip", "Unpack them into their folders."
    )
    names = [entry.filename for entry in contents.strangers if not entry.filename.lower().endswith(PACKED)]
    pictures = [name for name in names if name.lower().endswith(OTHER_PICTURES)]
    yield from find_among(
        "unsupported_format", pictures, "picture in no format served|pictures in no format served", CONVERT
    )
    others = [name for name in names if not name.lower().endswith(OTHER_PICTURES)]
    advice = "Class folders may hold .jpg, .jpeg, .png and .webp alone: take them out."
    yield from find_among(
        "not_an_image", others, "file in a class folder is no image|files in class folders are no images", advice
    )


def find_class_problems(contents: Contents) -> Iterator[Finding]:
    """Yield what keeps the classes from being learned: too few, absent from train, empty, indistinguishable names."""
    train, everywhere = contents.classes("train"), contents.classes()
    form = "Pack it as train/CLASS/picture.jpg (valid/ and test/ likewise, if you have them)."
    if not everywhere and any(is_image_name(entry.filename) for entry in contents.ignored):
        yield Finding("no_class_folders", f"The images lie in no class folders. {form}", contents.layout.prefix or None)
    elif not everywhere:
        yield Finding("no_images", f"The zip holds no image in a class folder. {form}")
    elif len(everywhere) < 2:
        text = f"There is only one class, {quote(next(iter(everywhere)))}: a classifier needs two at least. {form}"
        yield Finding("too_few_classes", text, count=1)
    missing = sorted(everywhere - train)
    yield from find_among(
        "class_missing_from_train",
        missing,
        "class has images to be judged by, none to learn from|classes have images to be judged by, none to learn from",
        f"{_hint(missing, train)}Add images to train, or take the class out.",
    )
    empty = sorted({label for _, label in contents.folders} - everywhere)
    advice = "Add images, or take the folder out."
    yield from find_among("empty_class", empty, "class folder has no image|class folders have no image", advice)
    yield from _find_confusable(everywhere)


def _hint(missing: Iterable[str], train: Iterable[str]) -> str:
    """Name the likeliest cause: the same class with another spelling."""
    known = {_fold(name): name for name in train}
    pairs = [f"{quote(name)} for {quote(known[_fold(name)])}" for name in missing if _fold(name) in known]
    return f"Is it {pairs[0]}? " if pairs else ""


def _find_confusable(classes: Iterable[str]) -> list[Finding]:
    """Find classes whose names look the same: composed and decomposed letters, spaces at the ends."""
    groups = _group(classes, _spaced)
    advice = "They look the same and differ in spaces or in how letters are composed: merge or rename them."
    return find_among("confusable_classes", groups, "pair of classes|pairs of classes", advice)


def _group(names: Iterable[str], key: Callable[[str], str]) -> list[str]:
    together: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        together[key(name)].append(name)
    return [" / ".join(same) for same in together.values() if len(same) > 1]


def _fold(name: str) -> str:
    return _spaced(name).casefold()


def find_excess(contents: Contents, limits: DatasetLimits) -> Iterator[Finding]:
    """Yield what exceeds a limit."""
    sizes = [image.file_size for image in contents.all_images()]
    measured: Mapping[str, tuple[int, int, str]] = {
        "too_many_images": (len(sizes), limits.max_images, "images"),
        "too_many_classes": (len(contents.classes()), limits.max_classes, "classes"),
        "too_many_bytes": (sum(sizes), limits.max_bytes, "bytes of images, unpacked"),
    }
    for code, (found, most, what) in measured.items():
        if found > most:
            text = f"The dataset has {found:,} {what}; {most:,} are the most that are served. Make it smaller."
            yield Finding(code, text, count=found)
    if sizes and (min(sizes) < 1 or max(sizes) > limits.max_image_bytes):
        yield from _find_odd_sizes(contents, limits)


def _find_odd_sizes(contents: Contents, limits: DatasetLimits) -> Iterator[Finding]:
    large = (image.filename for image in contents.all_images() if image.file_size > limits.max_image_bytes)
    what = (
        f"image has more than {limits.max_image_bytes:,} bytes|images have more than {limits.max_image_bytes:,} bytes"
    )
    yield from find_among("image_too_large", large, what, "Scale them down.")
    empty = (image.filename for image in contents.all_images() if not image.file_size)
    yield from find_among("empty_image", empty, "image has no bytes|images have no bytes", "Take them out.")


def warn_of_counts(counts: Mapping[str, Mapping[str, int]], limits: DatasetLimits) -> Iterator[Finding]:
    """Yield warnings about the numbers of images by split and class; the run continues."""
    train = counts.get("train", {})
    if train:
        yield from _warn_of_imbalance(train, limits.max_imbalance)
        yield from _warn_of_small_classes(train, limits.small_class)
    for split in ("valid", "test") if train else ():
        if split not in counts:
            yield Finding("split_cut_from_train", f"There is no {split} split: 15 % of train serve as one.", split)
        lacking = sorted(train.keys() - counts.get(split, train).keys())
        what = f"class has no image in {split}|classes have no image in {split}"
        yield from find_among("class_missing_from_split", lacking, what, "It cannot be judged there.")


def _warn_of_imbalance(train: Mapping[str, int], most_times: int) -> Iterator[Finding]:
    least, most = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
    if train[most] > most_times * train[least]:
        text = f"{quote(most)} has {train[most]:,} images in train and {quote(least)} has {train[least]:,}, "
        text += f"more than {most_times} to 1: the small class will be learnt badly. Add images to it."
        yield Finding("imbalance", text, shorten(least))


def _warn_of_small_classes(train: Mapping[str, int], least: int) -> list[Finding]:
    small = sorted((label for label in train if train[label] < least), key=train.__getitem__)
    what = f"class has fewer than {least} images in train|classes have fewer than {least} images in train"
    return find_among("small_class", small, what, "Add some.")


def warn_of_names(contents: Contents) -> Iterator[Finding]:
    """Yield warnings about names that are probably mistakes; the run continues."""
    names = [entry.filename for entry in contents.ignored if not entry.filename.lower().endswith(PACKED)]
    yield from find_among(
        "ignored_files", names, "file lies in no class folder|files lie in no class folder", "Ignored."
    )
    alike = _group({_spaced(name) for name in contents.classes()}, str.casefold)
    what = "pair of classes differs by capitals alone|pairs of classes differ by capitals alone"
    yield from find_among("similar_classes", alike, what, "Is that meant?")
    garbled = {
        label
        for (_, label), images in contents.images.items()
        if not label.isascii() and not all(image.flag_bits & UTF8 for image in images)
    }
    what = "class name was packed without saying its encoding|class names were packed without saying their encoding"
    yield from find_among("unknown_encoding", sorted(garbled), what, "If they look garbled, pack the zip again.")


def _spaced(name: str) -> str:
    return unicodedata.normalize("NFC", " ".join(name.split()))
