"""Measure how long it takes to create, change and remove a stage in the local cloud, by an operator's commands.

Packing is not included: it has its own benchmark. Each round is another stage, from nothing to nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.results import claim, spread, write_result
from infrastructure.deploying import deploy
from infrastructure.packaging.build import PROJECT, Package, build_package
from infrastructure.removing import destroy
from tests.support.local_cloud import run_local_cloud
from tests.support.operator import describe_terminal

ROUNDS = 3


def time_command(main: Callable[[Sequence[str]], int], *words: str) -> float:
    """Return the seconds that a command takes. Raises RuntimeError with the command's output if it fails."""
    said = io.StringIO()
    started = time.perf_counter()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(list(words))
    if code:
        raise RuntimeError(said.getvalue())
    return time.perf_counter() - started


def time_round(stage: str, package: Package) -> tuple[float, float, float]:
    """Return the seconds that creation, an update of most functions, and deletion take."""

    def order(words: Sequence[str]) -> int:
        return deploy.main(list(words), lambda _stage: package)

    def remove(words: Sequence[str]) -> int:
        return destroy.main(list(words))

    made = time_command(order, "--stage", stage)
    changed = time_command(order, "--stage", stage, "--parameters", "MonthlyCapUsd=50 AlarmEmail=a@example.org")
    return made, changed, time_command(remove, "--stage", stage, "--data", "delete")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, run_local_cloud(Path(folder) / "state") as cloud:
        package = build_package(PROJECT, "dev", Path(folder) / "dist")
        before = dict(os.environ)
        os.environ |= describe_terminal(cloud)
        try:
            rounds = [time_round(f"bench{number}", package) for number in range(ROUNDS)]
        finally:
            os.environ.clear()
            os.environ |= before
        totals = [sum(each) for each in rounds]
        made, changed, gone = zip(*rounds, strict=True)
        write_result(
            "stack",
            [
                claim(
                    "a stage made, changed and removed, the slowest round",
                    max(totals),
                    "s",
                    at_most=60,
                    rounds=spread(totals),
                ),
                claim("creation", max(made), "s", rounds=spread(made)),
                claim("update", max(changed), "s", rounds=spread(changed)),
                claim("deletion, with the data", max(gone), "s", rounds=spread(gone)),
            ],
            packages=["boto3", "moto", "aws-sam-translator"],
        )


if __name__ == "__main__":
    main()
