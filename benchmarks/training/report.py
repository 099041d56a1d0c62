"""Measure what writing a report costs in time and size, for the classes and images of the dogs' test split and more.

It runs in a fresh interpreter, so the drawing library's import counts, with images of the size in a job's cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.results import claim, write_result
from tests.support.report_runs import write_run

ROOT = Path(__file__).parents[2]
CASES = ((133, 836, 20), (250, 8000, 20), (2, 40, 4))
PROGRAM = """
import json, sys, time
started = time.perf_counter()
from pathlib import Path
from report.writing import write_report
from tests.support.report_runs import draw_picture
path = write_report(Path(sys.argv[1]), Path(sys.argv[1]).parent, pictures=draw_picture)
print(json.dumps({"seconds": time.perf_counter() - started, "megabytes": path.stat().st_size / 1e6}))
"""


def measure(classes: int, images: int, trials: int) -> dict[str, float]:
    """Return the seconds and megabytes of one report."""
    with tempfile.TemporaryDirectory() as folder:
        job = write_run(Path(folder) / "jobs", classes=classes, images=images, trials=trials)
        environment = {"PYTHONPATH": f"{ROOT / 'training'}:{ROOT}"}
        command = [sys.executable, "-c", PROGRAM, str(job)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def main() -> None:
    claims = []
    for classes, images, trials in CASES:
        best = min((measure(classes, images, trials) for _ in range(3)), key=lambda each: each["seconds"])
        what = f"report of {classes} classes and {images} test images"
        bound = 10 if classes == 133 else None
        claims.append(claim(what, best["seconds"], "s", at_most=bound, trials=trials))
        claims.append(claim(f"{what}, its size", best["megabytes"], "MB", at_most=5))
    write_result("report", claims, packages=["matplotlib", "pillow", "numpy"])


if __name__ == "__main__":
    main()
