"""Live through many histories, or replay one: `make chaos`, `make chaos SEED=7`.

    python -m tests.histories.chaos [--histories 10000] [--first 0] [--processes 2] [--seed N]

Prints every seed whose history breaks a rule, and the trace of the first one. Exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from tests.histories.chaos.histories import History, Verdict, live

CHUNK = 20  # histories that a process takes at a time


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.histories.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, help="replay this one, with its trace")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return show(History(given.seed).live(traced=True))
    return live_all(range(given.first, given.first + given.histories), given.processes)


def show(verdict: Verdict) -> int:
    """Print a history, call by call. Returns the exit code."""
    print(*verdict.trace, "", f"seed {verdict.seed}: {verdict.length} lines", sep="\n")
    print(*(f"  broken: {each}" for each in verdict.broken or ("nothing",)), sep="\n")
    return int(bool(verdict.broken))


def live_all(seeds: range, processes: int) -> int:
    """Live through histories in several processes. Returns the exit code."""
    began, failed = time.monotonic(), list[Verdict]()
    with multiprocessing.Pool(processes) as pool:
        for verdict in follow(pool.imap_unordered(live, seeds, CHUNK), len(seeds)):
            if verdict.broken:
                failed.append(verdict)
                print(f"seed {verdict.seed}: {'; '.join(verdict.broken)}", flush=True)
    seconds = time.monotonic() - began
    if failed:
        show(failed[0])
        print("\nfailing seeds:", *sorted(each.seed for each in failed))
    print(
        f"{len(seeds)} histories in {seconds:.0f} s, {len(seeds) / seconds:.1f} a second: {len(failed)} break a rule."
    )
    return int(bool(failed))


def follow(verdicts: Iterator[Verdict], count: int) -> Iterator[Verdict]:
    """Pass verdicts on, and tell the terminal how many there were."""
    for number, verdict in enumerate(verdicts, 1):
        if sys.stderr.isatty() and number % CHUNK == 0:
            print(f"\r{number} of {count}", end="\r", file=sys.stderr)
        yield verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
