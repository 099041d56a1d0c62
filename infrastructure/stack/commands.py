"""What `make deploy` and `make destroy` have in common: which stage, what is printed, and how an error ends them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from infrastructure.errors import OperatorError

WHERE = (
    ("stage", "dev", "the stage's name"),
    ("app", "whippet", "the application's name"),
    ("profile", "", "a profile of the AWS CLI's; empty: the environment's"),
    ("region", "", "an AWS region; empty: the profile's"),
)


def make_parser(command: str, description: str) -> argparse.ArgumentParser:
    """A parser of the words that say which stage is meant."""
    parser = argparse.ArgumentParser(prog=f"make {command}", description=description)
    for name, default, meaning in WHERE:
        parser.add_argument(f"--{name}", default=default, help=meaning)
    return parser


def tell(line: str) -> None:
    """Say something to the operator, at once: the next step may take minutes."""
    print(line, flush=True)


def run_command(command: str, act: Callable[[], None], *, interrupted: str) -> int:
    """Run a command; returns the process's exit code. Errors are told without a traceback."""
    try:
        act()
    except OperatorError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{command}: {interrupted}", file=sys.stderr)
        return 1
    return 0
