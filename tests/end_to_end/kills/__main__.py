"""Kill for as long as it takes: `python -m tests.end_to_end.kills --kills 100 --seed 1`, as `make chaos-kills` does."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.end_to_end.kills.ordeal import Ordeal


def main() -> int:
    """Kill, tell what was killed, and end with 1 where something is wrong; then the state folder stays."""
    parser = argparse.ArgumentParser(prog="tests.end_to_end.kills")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=2)
    arguments = parser.parse_args()
    folder, began = Path(tempfile.mkdtemp(prefix="whippet-kills-")), time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  kill -9 {what}", flush=True)

    ordeal = Ordeal(folder / "state", arguments.seed, say=say)
    try:
        ordeal.endure(arguments.kills, arguments.at_once)
    except AssertionError as error:
        print(f"seed {arguments.seed}, {dict(ordeal.killed)}: {error}\nThe state is kept in {folder}", file=sys.stderr)
        return 1
    for run in [run for run in ordeal.runs.values() if run["status"] != "deployed"]:
        print(f"  {run['dataset']}: {run['status']}, {run['reason']}")
    statuses = sorted(run["status"] for run in ordeal.runs.values())
    print(
        f"{dict(ordeal.killed)} kills, {len(statuses)} runs ({', '.join(statuses)}), {time.monotonic() - began:.0f} s"
    )
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
