"""Find what is wrong with the classes and files of a dataset, which rejects it. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from chalicelib.datasets.contents import Contents, DatasetLimits
from chalicelib.datasets.findings import Finding, find_among, quote, shorten
from chalicelib.datasets.reading.folders import Folder, Reading
from chalicelib.datasets.reading.labels import LABEL_FILES, LabelTable, Wishes

PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
OTHER_PICTURES = (".heic", ".heif", ".jp2", ".jxl", ".svg", ".ppm", ".pgm", ".psd", ".dng", ".cr2", ".nef", ".arw")
FORM = "Pack it as train/CLASS/picture.jpg (valid/ and test/ likewise, if you have them)."
CONVERT = (
    "Convert them to JPEG or PNG (on a Mac: `sips -s format jpeg *.HEIC --out .`; elsewhere: `heif-convert` or "
    "ImageMagick's `mogrify -format jpg`), or take them out."
)


def find_foreign_files(contents: Contents) -> Iterator[Finding]:
    """Yield images in formats that cannot be decoded, and archives anywhere."""
    names = [entry.filename for entry in (*contents.strangers, *contents.others)]
    packed = [name for name in names if name.lower().endswith(PACKED)]
    yield from find_among(
        "nested_archive", packed, "archive within the zip|archives within the zip", "Unpack them into their folders."
    )
    pictures = [entry.filename for entry in contents.strangers if entry.filename.lower().endswith(OTHER_PICTURES)]
    yield from find_among(
        "unsupported_format", pictures, "picture in no format served|pictures in no format served", CONVERT
    )


def find_class_problems(contents: Contents) -> Iterator[Finding]:
    """Yield what keeps the classes from being learned: too few, absent from train, empty, indistinguishable names."""
    if contents.form == "folders" and contents.layout.problem:
        yield _describe_layout(contents)
        if contents.layout.problem == "splits_not_recognised":
            return
    train, everywhere = contents.classes("train"), contents.classes()
    if not everywhere and contents.unplaced:
        yield _describe_no_classes(contents)
    elif not everywhere:
        yield Finding("no_images", f"The zip holds no image in a class folder. {FORM}")
    elif len(everywhere) < 2:
        text = f"There is only one class, {quote(next(iter(everywhere)))}: a classifier needs two at least. {FORM}"
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
    yield from _find_twins(contents)


def _describe_layout(contents: Contents) -> Finding:
    layout = contents.layout
    if layout.problem == "splits_not_recognised":
        counts = [f"{quote(name)} ({_count_below(contents, (*layout.root, name)):,})" for name in layout.split_folders]
        text = (
            f"The folders {', '.join(counts)} look like splits, and no folder beside them is called `train`. Name the "
            "folder with the training images `train`, or, if these are classes, give them other names."
        )
        return Finding("splits_not_recognised", text, layout.prefix or None, len(layout.split_folders))
    upper, lower = layout.readings
    text = (
        "The class folders hold folders, and either could be the classes. "
        f"Upper level: {describe_reading(upper)}. Lower level: {describe_reading(lower)}. "
        'Choose one in the recipe, with {"class_level": 1} for the upper or {"class_level": 2} for the lower level, '
        "or pack only the folders that are meant."
    )
    return Finding("ambiguous_class_level", text, layout.prefix or None)


def _count_below(contents: Contents, folder: Folder) -> int:
    return sum(len(images) for each, images in contents.unplaced.items() if each[: len(folder)] == folder)


def describe_reading(reading: Reading) -> str:
    counts = [f"{quote(name)} {count:,}" for name, count in reading.classes.items()]
    shown = ", ".join(counts[:5]) + (f" and {len(counts) - 5:,} more" if len(counts) > 5 else "")
    return f"{len(counts):,} classes with {sum(reading.classes.values()):,} images ({shown})"


def _describe_no_classes(contents: Contents) -> Finding:
    if contents.form == "pattern":
        name = next(iter(contents.unplaced.values()))[0].filename
        text = f"The recipe's `labels` pattern matches no file name, not even {quote(name)}. Correct the pattern."
        return Finding("no_class_folders", text, shorten(name))
    if contents.layout.level > 1:
        text = f"There are no class folders at the recipe's `class_level` {contents.layout.level}. Choose a lower one."
        return Finding("no_class_folders", text)
    text = f"The images lie in no class folders. {FORM} Labels may also stand in a file `labels.csv` beside the images."
    return Finding("no_class_folders", text, contents.layout.prefix or None)


def find_label_problems(contents: Contents, tables: Mapping[str, LabelTable], wishes: Wishes) -> list[Finding]:
    """List what is wrong with the files of labels, if they are what labels are read from."""
    if wishes.labels == "file" and not contents.label_files:
        text = f"The recipe takes labels from a file, and the zip holds none. Add one of {', '.join(LABEL_FILES)}."
        return [Finding("no_label_file", text)]
    problems = []
    advice = {
        "multi_label": "Images with several labels are not supported: keep one label for each image.",
        "labels_not_recognised": "Give it the columns file_name and label, and split if you like.",
    }
    for name, table in tables.items():
        if table.problem:
            text = f"Labels cannot be read from {quote(name)}: {shorten(table.remark)}. {advice[table.problem]}"
            problems.append(Finding(table.problem, text, shorten(name)))
    return problems


def _hint(missing: Iterable[str], train: Iterable[str]) -> str:
    """Name the likeliest cause: the same class with another spelling."""
    known = {_fold(name): name for name in train}
    pairs = [f"{quote(name)} for {quote(known[_fold(name)])}" for name in missing if _fold(name) in known]
    return f"Is it {pairs[0]}? " if pairs else ""


def _find_confusable(classes: Iterable[str]) -> list[Finding]:
    """Find classes whose names look the same: composed and decomposed letters, spaces at the ends."""
    groups = group(classes, spaced)
    advice = "They look the same and differ in spaces or in how letters are composed: merge or rename them."
    return find_among("confusable_classes", groups, "pair of classes|pairs of classes", advice)


def _find_twins(contents: Contents) -> list[Finding]:
    """Find classes whose names are composed in two ways, if files of both have one name."""
    odd = {place: images for place, images in contents.images.items() if not place[1].isascii()}
    counts = Counter(image.filename for images in odd.values() for image in images)
    groups = sorted({label for (_, label), images in odd.items() if any(counts[i.filename] > 1 for i in images)})
    advice = "Two folders have this name, with letters composed in two ways: merge them."
    return find_among("confusable_classes", groups, "class|classes", advice)


def group(names: Iterable[str], key: Callable[[str], str]) -> list[str]:
    together: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        together[key(name)].append(name)
    return [" / ".join(same) for same in together.values() if len(same) > 1]


def _fold(name: str) -> str:
    return spaced(name).casefold()


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
    if sizes and max(sizes) > limits.max_image_bytes:
        yield from _find_large(contents, limits)


def _find_large(contents: Contents, limits: DatasetLimits) -> list[Finding]:
    large = (image.filename for image in contents.all_images() if image.file_size > limits.max_image_bytes)
    what = (
        f"image has more than {limits.max_image_bytes:,} bytes|images have more than {limits.max_image_bytes:,} bytes"
    )
    return find_among("image_too_large", large, what, "Scale them down.")


def spaced(name: str) -> str:
    return unicodedata.normalize("NFC", " ".join(name.split()))
