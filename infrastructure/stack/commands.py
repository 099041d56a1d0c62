"""Share what `make deploy` and `make destroy` have in common: which stage, what is printed, how errors end them."""

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
    """Create a parser for the options that name a stage."""
    parser = argparse.ArgumentParser(prog=f"make {command}", description=description)
    for name, default, meaning in WHERE:
        parser.add_argument(f"--{name}", default=default, help=meaning)
    return parser


def tell(line: str) -> None:
    """Print a line for the operator at once: the next step may take minutes."""
    print(line, flush=True)


def run_command(command: str, act: Callable[[], None], *, interrupted: str) -> int:
    """Run a command and return the process's exit code. Errors are printed without a traceback."""
    try:
        act()
    except OperatorError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{command}: {interrupted}", file=sys.stderr)
        return 1
    return 0
