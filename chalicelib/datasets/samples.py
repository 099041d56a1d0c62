"""Check a few images of each class by their first 64 KB and their headers, without decoding.

The Lambda functions have no imaging library, and need none to see that a file is no image, is truncated, or has absurd
dimensions.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from chalicelib.datasets.archives import Archive, Prefetching
from chalicelib.datasets.contents import Contents, DatasetLimits
from chalicelib.datasets.directory import Entry, read_head
from chalicelib.datasets.entries import is_readable
from chalicelib.datasets.findings import Finding, count_of, list_some, shorten
from chalicelib.datasets.headers import guess_format, is_cut_short, read_header
from chalicelib.errors import BrokenZip

HEAD_BYTES = 65_536
CONVERT = "Convert them to JPEG, PNG or WebP, or take them out."


def find_bad_pictures(
    archive: Archive, contents: Contents, limits: DatasetLimits
) -> tuple[list[Finding], list[Finding]]:
    """Return the problems and warnings of a sample: files that are no images, truncated, or of absurd dimensions.

    They are a problem if they are half of a class's sample or more than a tenth of all, and a warning if they are
    fewer: the training program skips those and says so.
    """
    samples = choose_samples(contents, limits, archive.directory_start)
    if isinstance(archive.file, Prefetching):
        archive.file.prefetch(entry.find_span(HEAD_BYTES) for _, entry in samples)
    bad = [(label, entry, verdict) for label, entry in samples if (verdict := _judge_picture(archive, entry, limits))]
    looked, failed = Counter(label for label, _ in samples), Counter(label for label, _, _ in bad)
    is_problem = 10 * len(bad) > len(samples) or any(2 * failed[label] >= looked[label] for label in failed)
    wrong: dict[str, list[str]] = defaultdict(list)
    for _, entry, (code, remark) in bad:
        wrong[code].append(f"{shorten(entry.filename)} ({remark})")
    findings = [_describe(code, names, len(samples), limits) for code, names in wrong.items()]
    return (findings, []) if is_problem else ([], findings)


def _describe(code: str, names: list[str], looked: int, limits: DatasetLimits) -> Finding:
    advice = {
        "not_an_image_inside": CONVERT,
        "damaged_image": "Replace them, or take them out.",
        "absurd_dimensions": (
            f"Scale them to at most {limits.max_pixels:,} pixels ({limits.max_webp_pixels:,} of a WebP), "
            "or take them out."
        ),
    }
    found = f"{len(names):,} of {count_of(looked, 'image|images')} looked into cannot be used: {list_some(names)}"
    return Finding(code, f"{found}. {advice[code]}", names[0].rpartition(" (")[0], len(names))


def choose_samples(contents: Contents, limits: DatasetLimits, end: int) -> list[tuple[str, Entry]]:
    """Choose (class, image) pairs spread over each class, one of each class before two of any, in the archive's order.

    Each costs a ranged read: `max_samples` bounds them, but every class is sampled. An entry that does not lie before
    byte `end`, where the directory begins, is a problem already and cannot be read.
    """
    by_class: dict[str, list[Entry]] = defaultdict(list)
    for (_, label), images in contents.images.items():
        by_class[label] += [
            image for image in images if is_readable(image) and image.file_size and 0 <= image.header_offset < end
        ]
    chosen = [
        (label, images[turn * len(images) // min(limits.samples_per_class, len(images))])
        for turn in range(limits.samples_per_class)
        for label, images in by_class.items()
        if len(images) > turn
    ]
    return sorted(chosen[: max(limits.max_samples, len(by_class))], key=lambda sample: sample[1].header_offset)


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
    most = limits.max_webp_pixels if header.format == "WebP" else limits.max_pixels
    if width is not None and height is not None and not 0 < width * height <= most:
        return "absurd_dimensions", f"{width:,} x {height:,} pixels"
    if entry.file_size <= len(head) and is_cut_short(head, header):
        return "damaged_image", f"the {header.format} ends too early"
    return None
