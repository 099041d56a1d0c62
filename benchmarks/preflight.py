"""What pre-flight costs for a dataset of 100,000 images: time, and memory over the interpreter's own.

The peer is Python's zipfile, which reads the same directory and judges nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from benchmarks.results import claim, write_result
from tests.layouts import picture

IMAGES, CLASSES = 100_000, 133
PROGRAMS = {
    "zipfile": "import zipfile; look = zipfile.ZipFile",
    "preflight": "from chalicelib.datasets import inspect_dataset as look",
}
MEASURE = """
import json, sys, time
{setup}
def peak():  # of this program alone: getrusage's figure is inherited from the parent
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) / 1024
with open(sys.argv[1], "rb") as archive:
    before, started = peak(), time.perf_counter()
    found = look(archive)
    print(json.dumps({{"seconds": time.perf_counter() - started, "megabytes": peak() - before}}))
"""


def write_dataset(path: Path) -> None:
    """A zip of many small pictures, in as many classes as the dogs have."""
    bodies = [picture("jpg", seed) for seed in range(20)]
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(IMAGES):
            split = "test" if number % 10 == 0 else "train"
            name = f"dogImages/{split}/{number * CLASSES // IMAGES:03d}.Some_breed/Some_breed_{number:06d}.jpg"
            archive.writestr(name, bodies[number % len(bodies)])


def measure(program: str, path: Path) -> dict[str, float]:
    """Seconds and megabytes of one look, in a fresh interpreter."""
    script = MEASURE.format(setup=PROGRAMS[program])
    result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dogs.zip"
        write_dataset(path)
        best = {
            program: min((measure(program, path) for _ in range(3)), key=lambda run: run["seconds"])
            for program in PROGRAMS
        }
    ours, peer = best["preflight"], best["zipfile"]
    write_result(
        "preflight",
        [
            claim("pre-flight of 100,000 images", ours["seconds"], "s", at_most=3, zipfile_alone=peer["seconds"]),
            claim(
                "memory over the interpreter's", ours["megabytes"], "MB", at_most=75, zipfile_alone=peer["megabytes"]
            ),
        ],
    )


if __name__ == "__main__":
    main()
