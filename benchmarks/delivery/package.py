"""Measure how long `make package` takes, and the size of what Lambda fetches at each cold start.

The first round may download wheels, where no cache has them; each round is told.
"""

from __future__ import annotations

import tempfile
import time
import zipfile
from pathlib import Path

from benchmarks.results import claim, spread, write_result
from infrastructure.packaging.build import PROJECT, Package, build_package

ROUNDS = 3


def time_package(folder: Path) -> tuple[float, Package]:
    """Return the seconds that one whole package takes, and the package."""
    started = time.perf_counter()
    package = build_package(PROJECT, "dev", folder)
    return time.perf_counter() - started, package


def measure_unzipped(archive: Path) -> int:
    """Return the bytes that Lambda holds once the archive is unpacked."""
    with zipfile.ZipFile(archive) as opened:
        return sum(member.file_size for member in opened.infolist())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rounds = [time_package(Path(folder)) for _ in range(ROUNDS)]
        seconds, code = [each for each, _ in rounds], rounds[-1][1].code
        megabytes = code.stat().st_size / 1e6
        write_result(
            "package",
            [
                claim("make package, the slowest round", max(seconds), "s", at_most=60, rounds=spread(seconds)),
                claim("the Lambda's zip", megabytes, "MB", at_most=4.2),
                claim("the Lambda's files, unzipped", measure_unzipped(code) / 1e6, "MB", at_most=250),
                claim("names of the archive in all rounds", len({p.code.name for _, p in rounds}), "names", at_most=1),
            ],
            packages=["chalice", "boto3", "aws-lambda-powertools", "uv"],
        )


if __name__ == "__main__":
    main()
