"""Parse the command line of `python -m localcloud up` and `python -m localcloud demo`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from localcloud.common.addresses import CannotStart, read_place


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m localcloud", description="AWS on one machine, for this app.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the local cloud and the app, until Ctrl-C")
    up.add_argument("--until-eof", action="store_true", help="end, too, when standard input closes")
    demo = commands.add_parser("demo", help="run the whole pipeline once and show it")
    demo.add_argument("--dataset", type=Path, metavar="ZIP", help="a zip of images instead of the scanned digits")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    told = parse(arguments)
    try:
        place = read_place(os.environ)
        if told.command == "up":
            from localcloud.cli.up import run_up

            return run_up(place, until_eof=told.until_eof)
        from localcloud.cli.demo import run_demo

        return run_demo(place, told.dataset)
    except CannotStart as error:
        print(f"localcloud: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
