"""Find what is odd about the classes and files of a dataset, of which its owner is warned. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from chalicelib.datasets.checks import OTHER_PICTURES, PACKED, describe_reading, group, spaced
from chalicelib.datasets.contents import Contents, DatasetLimits
from chalicelib.datasets.directory import Entry
from chalicelib.datasets.findings import Finding, find_among, list_some, quote, shorten
from chalicelib.datasets.reading.folders import Folder
from chalicelib.datasets.reading.labels import Wishes

NOT_TRAIN = {"valid", "validation", "val", "test", "testing"}
WORDS = {"valid": "validation", "test": "test"}


def warn_of_strays(contents: Contents) -> list[Finding]:
    """Warn of other files in class folders, which are ignored."""
    strays = [
        entry.filename
        for entry in contents.strangers
        if not entry.filename.lower().endswith((*PACKED, *OTHER_PICTURES))
    ]
    what = "file in a class folder is not an image|files in class folders are not images"
    return find_among("not_an_image", strays, what, "Ignored.")


def warn_of_counts(counts: Mapping[str, Mapping[str, int]], limits: DatasetLimits) -> Iterator[Finding]:
    """Yield warnings about the numbers of images by split and class; the run continues."""
    train = counts.get("train", {})
    if train:
        yield from _warn_of_imbalance(train, limits)
        yield from _warn_of_small_classes(train, limits.small_class)
    for split in ("valid", "test") if train else ():
        if split not in counts:
            told = f"There are no {WORDS[split]} images: 15% of the training images are set aside for that."
            yield Finding("split_cut_from_train", told, split)
        lacking = sorted(train.keys() - counts.get(split, train).keys())
        what = f"class has no image in {split}|classes have no image in {split}"
        yield from find_among("class_missing_from_split", lacking, what, "It cannot be judged there.")


def _warn_of_imbalance(train: Mapping[str, int], limits: DatasetLimits) -> Iterator[Finding]:
    least, most = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
    if train[most] < limits.tuned_imbalance * train[least]:
        return
    text = f"{quote(most)} has {train[most]:,} training images and {quote(least)} has {train[least]:,}"
    code, told = "uneven_classes", f"at least {limits.tuned_imbalance} to 1."
    if train[most] > limits.max_imbalance * train[least]:
        told = f"more than {limits.max_imbalance} to 1: the small class will be learnt badly. Add images to it."
        code = "imbalance"
    advice = "Unless the recipe says otherwise, macro F1 is the objective, and what to do about it is tuned."
    yield Finding(code, f"{text}, {told} {advice}", shorten(least))


def _warn_of_small_classes(train: Mapping[str, int], least: int) -> list[Finding]:
    small = sorted((label for label in train if train[label] < least), key=train.__getitem__)
    what = f"class has fewer than {least} images in train|classes have fewer than {least} images in train"
    return find_among("small_class", small, what, "Add some.")


def warn_of_names(contents: Contents) -> Iterator[Finding]:
    """Yield warnings about names that are probably mistakes; the run continues."""
    alike = group({spaced(name) for name in contents.classes()}, str.casefold)
    what = "pair of classes differs by capitals alone|pairs of classes differ by capitals alone"
    yield from find_among("similar_classes", alike, what, "Is that meant?")
    guessed = {label for (_, label), images in contents.images.items() if any(image.is_guessed for image in images)}
    what = "class name was packed without saying its encoding|class names were packed without saying their encoding"
    advice = "If they look garbled, name the code page in the recipe (`name_encoding`), or pack the zip again."
    yield from find_among("unknown_encoding", sorted(guessed), what, advice)


def warn_of_ignored(contents: Contents, wishes: Wishes) -> Iterator[Finding]:
    """Warn of everything that is not used: images by folder with their counts, and other files."""
    layout = contents.layout
    placed = set(_folders_of(contents)) if contents.unplaced or any(contents.hidden.values()) else set()
    inside = {folder: images for folder, images in contents.unplaced.items() if layout.is_unlabelled(folder)}
    outside = {folder: images for folder, images in contents.unplaced.items() if folder not in inside}
    hidden = "hidden folder or a program's folder"
    kinds = {
        "unlabelled_images": (inside, "image in a split has no class|images in splits have no class"),
        "ignored_images": (outside, "image lies in no class folder|images lie in no class folder"),
        "hidden_images": (contents.hidden, f"image lies in a {hidden}|images lie in a {hidden}"),
    }
    for code, (found, what) in kinds.items() if contents.classes() else ():
        yield from _name_folders(code, found, what, placed)
    names = [entry.filename for entry in contents.others if not entry.filename.lower().endswith(PACKED)]
    yield from find_among(
        "ignored_files", names, "file lies in no class folder|files lie in no class folder", "Ignored."
    )
    left_out = [entry.filename for entry in contents.left_out]
    yield from find_among("left_out", left_out, "file is ignored by the recipe|files are ignored by the recipe", "")
    if wishes.ignore and not left_out:
        yield Finding("left_out", "The recipe's `ignore` matches no file. Is it spelt as in the zip?", count=0)
    what = "file that the labels name is not in the zip|files that the labels name are not in the zip"
    yield from find_among("labelled_file_missing", contents.missing_files, what, "Ignored.")


def _folders_of(contents: Contents) -> Iterator[Folder]:
    """Yield the folders that hold images with a class, and the folders around them."""
    for name in {entry.filename.rpartition("/")[0] for entry in contents.all_images()}:
        parts = tuple(part for part in name.split("/") if part and part != ".")
        yield from (parts[:depth] for depth in range(len(parts) + 1))


def _name_folders(code: str, found: Mapping[Folder, list[Entry]], what: str, placed: set[Folder]) -> list[Finding]:
    """Return one warning that names the topmost unused folders with their counts."""
    counts: dict[str, int] = defaultdict(int)
    for folder, images in found.items():
        depth = next((at for at in range(len(folder) + 1) if folder[:at] not in placed), len(folder))
        counts["/".join(folder[:depth]) or "the zip's top"] += len(images)
    total = sum(counts.values())
    if not total:
        return []
    names = [f"{shorten(name)} ({count:,})" for name, count in sorted(counts.items()) if count]
    singular, _, plural = what.partition("|")
    text = f"{total:,} {singular if total == 1 else plural}: {list_some(names)}. Ignored."
    return [Finding(code, text, names[0].rpartition(" (")[0], total)]


def warn_of_level(contents: Contents) -> Iterator[Finding]:
    """Say which level of folders was taken as classes, and that folders around everything are named like a split."""
    layout = contents.layout
    if contents.form != "folders":
        return
    if layout.readings and not layout.problem:
        upper, lower = layout.readings
        text = (
            f"The class folders hold folders. The upper level was taken: {describe_reading(upper)}. The lower would "
            f'be: {describe_reading(lower)}. The recipe\'s {{"class_level": 2}} takes that one.'
        )
        yield Finding("class_level_taken", text, layout.prefix or None)
    if not layout.has_splits and any(part.lower() in NOT_TRAIN for part in layout.root):
        text = f"The only folder is {quote(layout.prefix)}, and its images are used for training. Is `train` missing?"
        yield Finding("only_other_split", text, layout.prefix)


def warn_of_copies(contents: Contents) -> Iterator[Finding]:
    """Warn of equal images, by checksum and size, in two splits or under two labels."""
    sums = [image.CRC for image in contents.all_images()]
    if len(set(sums)) == len(sums):
        return
    twice = {checksum for checksum, count in Counter(sums).items() if count > 1}
    places: dict[tuple[int, int], dict[tuple[str, str], Entry]] = defaultdict(dict)
    for place, images in contents.images.items():
        for image in images:
            if image.CRC in twice and image.file_size:
                places[image.CRC, image.file_size].setdefault(place, image)
    yield from _warn_of_leaks(contents, places)
    yield from _warn_of_contradictions(places)


def _warn_of_leaks(
    contents: Contents, places: Mapping[tuple[int, int], Mapping[tuple[str, str], Entry]]
) -> Iterator[Finding]:
    for judged, other in (("valid", "train"), ("test", "train"), ("test", "valid")):
        keys = {key for key, found in places.items() if {judged, other} <= {split for split, _ in found}}
        leaked = [
            image.filename
            for (split, _), images in contents.images.items()
            for image in images
            if split == judged and (image.CRC, image.file_size) in keys
        ]
        if leaked:
            total = sum(len(images) for (split, _), images in contents.images.items() if split == judged)
            text = (
                f"{len(leaked):,} of {total:,} {WORDS[judged]} images are in {other} too: {list_some(leaked)}. "
                f"They flatter the model's score. Take them out of one of the two."
            )
            yield Finding("leak_between_splits", text, shorten(leaked[0]), len(leaked))


def _warn_of_contradictions(places: Mapping[tuple[int, int], Mapping[tuple[str, str], Entry]]) -> list[Finding]:
    twice = [found for found in places.values() if len({label for _, label in found}) > 1]
    names = [" = ".join(image.filename for image in found.values()) for found in twice]
    what = "image has two labels|images have two labels"
    advice = "Keep each image in the one class that is right."
    return find_among("contradicting_labels", names, what, advice)
