"""Check a few images of each class by their first 64 KB and their headers, without decoding.

The Lambda functions have no imaging library, and need none to see that a file is not an image, is truncated, or has
absurd dimensions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from chalicelib.datasets.archives import Archive, Prefetching
from chalicelib.datasets.contents import Contents, DatasetLimits
from chalicelib.datasets.directory import Entry, read_head
from chalicelib.datasets.entries import is_readable
from chalicelib.datasets.findings import Finding, count_of, list_some, quote, shorten
from chalicelib.datasets.headers import guess_format, is_cut_short, read_header
from chalicelib.datasets.reading.folders import Folder
from chalicelib.datasets.reading.labels import MAX_LABEL_BYTES, LabelTable, read_label_file
from chalicelib.datasets.reading.names import begins_image
from chalicelib.errors import BrokenZip

HEAD_BYTES = 65_536
MAGIC_BYTES = 32
MORE = 9  # images looked at in addition, in a class of which one was broken
BROKEN_LIMIT = 0.1  # of all images, as in the training program
UNKNOWN_PER_FOLDER = 3
CONVERT = "Convert them to JPEG, PNG or WebP, or take them out."

Sample = tuple[str, Entry]


class Bad(NamedTuple):
    """A broken image: its class, its entry, a code and a remark."""

    label: str
    entry: Entry
    code: str
    remark: str


def find_bad_pictures(
    archive: Archive, contents: Contents, limits: DatasetLimits
) -> tuple[list[Finding], list[Finding]]:
    """Return the problems and warnings of a sample: files that are no images, truncated, or of absurd dimensions.

    They are a problem if they are likely more than a tenth of all images, as in the training program, or more than half
    of nine further images of one class. Fewer are a warning: the training program skips those and says so.
    """
    by_class = _list_by_class(contents, archive.directory_start)
    first = choose_samples(by_class, limits)
    bad = _judge_all(archive, first, limits)
    looked = {id(entry) for _, entry in first}
    suspects = sorted({each.label for each in bad})
    more = [sample for label in suspects for sample in _choose_more(label, by_class, looked)]
    worse = _judge_all(archive, more, limits)
    broken = [label for label in suspects if _is_broken(label, first, more, bad, worse)]
    rest: list[Sample] = []
    if len(bad) > BROKEN_LIMIT * len(first):
        looked |= {id(entry) for _, entry in more}
        rest = _choose_rest(by_class, looked, limits.max_samples - len(first))
    last = _judge_all(archive, rest, limits)
    share = _estimate_share(by_class, (first, bad), (more, worse), (rest, last))
    total = contents.count
    empty = [image.filename for image in contents.all_images() if not image.file_size]
    is_problem = bool(broken) or len(empty) + share * (total - len(empty)) > BROKEN_LIMIT * total
    findings = _describe_all([*bad, *worse, *last], len(first) + len(more) + len(rest), limits, broken)
    findings += _describe_empty(empty, total)
    return (findings, []) if is_problem else ([], findings)


def _estimate_share(by_class: Mapping[str, Collection[Entry]], *looks: tuple[list[Sample], list[Bad]]) -> float:
    """Return the likely share of broken images. The second look is at suspect classes, and counts if all was seen."""
    first, _, rest = looks
    is_all = sum(len(samples) for samples, _ in looks) == sum(map(len, by_class.values()))
    counted = looks if is_all else (first, rest)
    return sum(len(bad) for _, bad in counted) / max(sum(len(samples) for samples, _ in counted), 1)


def _is_broken(
    label: str, first: Iterable[Sample], more: Iterable[Sample], bad: Iterable[Bad], worse: Iterable[Bad]
) -> bool:
    """Return whether more than half of a class's further images are broken, or of all that were looked at."""
    others = sum(own == label for own, _ in more)
    failed = sum(each.label == label for each in worse)
    if others < MORE:
        others += sum(own == label for own, _ in first)
        failed += sum(each.label == label for each in bad)
    return 2 * failed > others


def _describe_all(bad: Iterable[Bad], looked: int, limits: DatasetLimits, broken: Collection[str]) -> list[Finding]:
    wrong: dict[str, list[str]] = defaultdict(list)
    for each in bad:
        wrong[each.code].append(f"{shorten(each.entry.filename)} ({each.remark})")
    return [_describe(code, names, looked, limits, sorted(broken)) for code, names in wrong.items()]


def _describe(code: str, names: list[str], looked: int, limits: DatasetLimits, broken: Collection[str]) -> Finding:
    advice = {
        "not_an_image_inside": CONVERT,
        "damaged_image": "Replace them, or take them out.",
        "absurd_dimensions": (
            f"Scale them to at most {limits.max_pixels:,} pixels ({limits.max_webp_pixels:,} unless JPEG or PNG), "
            "or take them out."
        ),
    }
    found = f"{len(names):,} of {count_of(looked, 'image|images')} looked into cannot be used: {list_some(names)}"
    within = f" Most of the class {quote(next(iter(broken)))} is broken." if broken else ""
    return Finding(code, f"{found}.{within} {advice[code]}", names[0].rpartition(" (")[0], len(names))


def _describe_empty(empty: list[str], total: int) -> list[Finding]:
    if not empty:
        return []
    count = count_of(len(empty), "image has no bytes|images have no bytes")
    text = f"{count}, of {total:,}: {list_some(empty)}. They are skipped; take them out."
    return [Finding("empty_image", text, shorten(empty[0]), len(empty))]


def _list_by_class(contents: Contents, end: int) -> dict[str, list[Entry]]:
    """Return the images that can be read by class.

    An entry that does not lie before byte `end`, where the directory begins, is a problem already.
    """
    by_class: dict[str, list[Entry]] = defaultdict(list)
    for (_, label), images in contents.images.items():
        by_class[label] += [
            image for image in images if is_readable(image) and image.file_size and 0 <= image.header_offset < end
        ]
    return by_class


def choose_samples(by_class: Mapping[str, list[Entry]], limits: DatasetLimits) -> list[Sample]:
    """Choose (class, image) pairs spread over each class, one of each class before two of any.

    Each costs a ranged read: `max_samples` bounds them, but every class is sampled.
    """
    chosen = [
        (label, images[turn * len(images) // min(limits.samples_per_class, len(images))])
        for turn in range(limits.samples_per_class)
        for label, images in by_class.items()
        if len(images) > turn
    ]
    return chosen[: max(limits.max_samples, len(by_class))]


def _choose_more(label: str, by_class: Mapping[str, list[Entry]], looked: Collection[int]) -> list[Sample]:
    """Choose further images of a class, spread over it."""
    rest = [entry for entry in by_class[label] if id(entry) not in looked]
    return (
        [(label, rest[turn * len(rest) // MORE]) for turn in range(MORE)]
        if len(rest) > MORE
        else [(label, entry) for entry in rest]
    )


def _choose_rest(by_class: Mapping[str, list[Entry]], looked: Collection[int], most: int) -> list[Sample]:
    """Choose further images of all classes, spread over all."""
    rest = [(label, entry) for label, images in by_class.items() for entry in images if id(entry) not in looked]
    count = min(max(most, 0), len(rest))
    return [rest[turn * len(rest) // count] for turn in range(count)]


def _judge_all(archive: Archive, samples: Iterable[Sample], limits: DatasetLimits) -> list[Bad]:
    """Return the bad ones among samples, which are read in the archive's order."""
    ordered = sorted(samples, key=lambda sample: sample[1].header_offset)
    _prefetch(archive, [entry for _, entry in ordered], HEAD_BYTES)
    verdicts = [(label, entry, _judge_picture(archive, entry, limits)) for label, entry in ordered]
    return [Bad(label, entry, *verdict) for label, entry, verdict in verdicts if verdict]


def _prefetch(archive: Archive, entries: Iterable[Entry], head: int) -> None:
    if isinstance(archive.file, Prefetching):
        archive.file.prefetch(entry.find_span(head) for entry in entries)


def _judge_picture(archive: Archive, entry: Entry, limits: DatasetLimits) -> tuple[str, str] | None:
    """Return a code and a remark if an image is bad. Read at most 64 KB of it."""
    try:
        head = read_head(archive.file, entry, HEAD_BYTES)
    except BrokenZip as error:
        return "damaged_image", f"cannot be unpacked: {shorten(str(error))}"
    header = read_header(head)
    if header is None:
        return "not_an_image_inside", f"it is {guess_format(head)}"
    width, height = header.width, header.height
    most = limits.max_pixels if header.format in ("JPEG", "PNG") else limits.max_webp_pixels
    if width is not None and height is not None and not 0 < width * height <= most:
        return "absurd_dimensions", f"{width:,} x {height:,} pixels"
    if entry.file_size <= len(head) and is_cut_short(head, header):
        return "damaged_image", f"the {header.format} ends too early"
    return None


def tell_images(
    archive: Archive, unknown: Mapping[Folder, list[Entry]], limits: DatasetLimits
) -> dict[Folder, list[Entry]]:
    """Return, by folder, the files without a suffix that are images by their first bytes.

    If they are more than `max_samples`, a few of each folder decide for all of it.
    """
    if sum(map(len, unknown.values())) <= limits.max_samples:
        looked = unknown
    else:
        looked = {
            folder: [each[turn * len(each) // UNKNOWN_PER_FOLDER] for turn in range(min(UNKNOWN_PER_FOLDER, len(each)))]
            for folder, each in unknown.items()
        }
    readable = [entry for each in looked.values() for entry in each if _can_be_read(archive, entry)]
    _prefetch(archive, readable, MAGIC_BYTES)
    images = {id(entry) for entry in readable if _begins_image(archive, entry)}
    if looked is unknown:
        return {folder: [entry for entry in each if id(entry) in images] for folder, each in unknown.items()}
    told = {folder: sum(id(entry) in images for entry in each) for folder, each in looked.items()}
    return {folder: each for folder, each in unknown.items() if 2 * told[folder] > len(looked[folder])}


def _can_be_read(archive: Archive, entry: Entry) -> bool:
    return is_readable(entry) and bool(entry.file_size) and 0 <= entry.header_offset < archive.directory_start


def _begins_image(archive: Archive, entry: Entry) -> bool:
    try:
        return begins_image(read_head(archive.file, entry, MAGIC_BYTES))
    except BrokenZip:
        return False


def read_tables(archive: Archive, contents: Contents) -> dict[str, LabelTable]:
    """Read the files of labels."""
    entries = [entry for entry in contents.label_files if _can_be_read(archive, entry)]
    _prefetch(archive, entries, MAX_LABEL_BYTES)
    return {entry.filename: _read_table(archive, entry) for entry in entries}


def _read_table(archive: Archive, entry: Entry) -> LabelTable:
    if entry.file_size > MAX_LABEL_BYTES:
        return LabelTable(problem="labels_not_recognised", remark=f"it has more than {MAX_LABEL_BYTES:,} bytes")
    try:
        return read_label_file(entry.filename, read_head(archive.file, entry, MAX_LABEL_BYTES))
    except BrokenZip as error:
        return LabelTable(problem="labels_not_recognised", remark=f"it cannot be unpacked ({error})")
