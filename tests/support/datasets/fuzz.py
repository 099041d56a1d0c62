"""Mutate zips and images, and read them as pre-flight, the training program and the endpoint do.

`python -m tests.support.datasets.fuzz 2000 1000` reads so many zips and images; `make fuzz` does that. Each is read or
refused in words: any other exception, or more than SECONDS for one, ends it.
"""

from __future__ import annotations

import io
import random
import resource
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path += [str(ROOT / "training"), str(ROOT / "inference")]

import images.pixels as training  # noqa: E402
import preprocessing as inference  # noqa: E402
from images.layout import list_entries, read_layout  # noqa: E402
from images.reading.labels import Wishes  # noqa: E402
from refusals import Refusal  # noqa: E402

from chalicelib.datasets.preflight import inspect_dataset  # noqa: E402
from tests.support.datasets.kinds import KINDS  # noqa: E402
from tests.support.image_kinds import draw, draw_flaws, encode  # noqa: E402

SECONDS, MEGABYTES = 5.0, 300
# What means something in a zip, a name or an image.
SIGNS = (
    *(b"PK\1\2", b"PK\3\4", b"PK\5\6", b"\x75\x70", b"\\", b"../"),
    *(b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xd9", b"IEND"),
)


def mutate(body: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, cut, double or move a piece, or put in a sign that means something."""
    changed = bytearray(body)
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(len(changed) + 1), rng.randint(1, 40)
        match rng.randrange(5):
            case 0:
                changed[at : at + 1] = rng.randbytes(1)
            case 1:
                changed[at : at + length] = b""
            case 2:
                changed[at:at] = changed[max(0, at - length) : at]
            case 3:
                sign = rng.choice(SIGNS)
                changed[at : at + len(sign)] = sign
            case 4:
                changed[at : at + length] = rng.randbytes(length)
    return bytes(changed) or b"x"


def list_zips() -> list[bytes]:
    return [kind.build() for kind in KINDS.values()]


def list_images() -> list[bytes]:
    image = draw(64, 48)
    plain = [encode(image, form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    modes = [encode(draw(64, 48, mode)) for mode in ("I;16", "P", "LA", "1")]
    return [*plain, *modes, encode(image, "JPEG", progressive=True), *(flawed for flawed, _ in draw_flaws().values())]


def read_zip(body: bytes) -> None:
    """Read a zip as both units do. Both take any bytes: zipfile's refusals are the training program's."""
    inspect_dataset(io.BytesIO(body))
    try:
        opened = zipfile.ZipFile(io.BytesIO(body))
        entries = list_entries(opened)
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, ValueError, OSError):
        return
    read_layout(entries, Wishes(), lambda name, most: read_head(opened, entries[name], most))


def read_head(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    try:
        with opened.open(entry) as file:
            return file.read(most)
    except Exception:  # noqa: BLE001 - as the training program does: zipfile raises many kinds
        return b""


def read_image(body: bytes) -> None:
    """Decode an image as both units do: both read it with the same pixels, or neither does."""
    try:
        seen: bytes | None = training.open_rgb(body).tobytes()
    except training.UnreadableImage:
        seen = None
    try:
        served: bytes | None = inference.decode_image(body).tobytes()
    except Refusal:
        served = None
    assert seen == served


def run(count: int, bodies: Sequence[bytes], read: Callable[[bytes], None], seed: int) -> Iterator[float]:
    """Yield the seconds that each of the mutated files took."""
    rng = random.Random(seed)
    for _ in range(count):
        body = mutate(rng.choice(bodies), rng)
        begun = time.process_time()
        read(body)
        yield time.process_time() - begun


def measure_peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(zips: int, images: int) -> None:
    begun = measure_peak()
    slowest = [max(run(zips, list_zips(), read_zip, 1)), max(run(images, list_images(), read_image, 2))]
    megabytes = measure_peak() - begun
    sys.stdout.write(f"{zips} zips, slowest {slowest[0]:.2f} s; {images} images, slowest {slowest[1]:.2f} s; ")
    sys.stdout.write(f"{megabytes:.0f} MB more than before\n")
    assert max(slowest) < SECONDS
    assert megabytes < MEGABYTES


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
