"""How long the tests of the control plane take, and all of `make check` on a machine that has everything installed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.results import claim, write_result

ROOT = Path(__file__).parents[2]


def time_command(*command: str) -> float:
    """Seconds that a command takes in the repository's root. Raises CalledProcessError where it fails."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return time.perf_counter() - start


def main() -> None:
    unit = time_command(sys.executable, "-m", "pytest", "-q", "tests/chalicelib", "--numprocesses", "2")
    whole = time_command("make", "check")
    write_result(
        "suite",
        [
            claim("the control plane's unit tests", unit, "s", at_most=20),
            claim("make check, once installed", whole / 60, "minutes", at_most=10),
        ],
        packages=["pytest", "mypy", "ruff"],
    )


if __name__ == "__main__":
    main()
