"""Measure how long a developer waits for the control plane's unit tests, and for all of `make check`.

Both are measured on a machine that has everything installed, and the tests once without being timed, so that neither
pays for compiling bytecode.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.results import claim, write_result

ROOT = Path(__file__).parents[2]
UNIT_TESTS = (sys.executable, "-m", "pytest", "-q", "tests/chalicelib", "--numprocesses", "0")
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # as the Makefile sets it
ROUNDS = 3


def time_command(*command: str) -> float:
    """Return the seconds that a command takes in the root. Ends the program with its output if it fails."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} fails:\n{(done.stdout + done.stderr)[-20_000:]}")
    return time.perf_counter() - start


def main() -> None:
    """Write both figures: the fastest of a few rounds of the unit tests, and one `make check`."""
    time_command(*UNIT_TESTS)
    rounds = [time_command(*UNIT_TESTS) for _ in range(ROUNDS)]
    whole = time_command("make", "check")
    write_result(
        "suite",
        [
            claim("the control plane's unit tests, in one process", min(rounds), "s", at_most=12, rounds=rounds),
            claim("make check, once installed", whole / 60, "minutes", at_most=20),
        ],
        packages=["pytest", "mypy", "ruff"],
    )


if __name__ == "__main__":
    main()
