"""`make weights`: put a network's ImageNet weights into a stage's bucket, for jobs that cannot download them.

    python -m infrastructure.weights.put --architecture resnet18 [--file PATH] [--stage STAGE] [--app APP]
        [--profile NAME] [--region NAME]

The bucket is the stage's, or the one that the variable BUCKET names, as `.localcloud/env` does.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from infrastructure.account.context import Stage, connect, explained, identify
from infrastructure.stack.commands import make_parser, run_command, tell
from infrastructure.weights.files import Published, check, fetch, find_published

FOLDER = "weights/"
LOCAL = "The local cloud's jobs use them from its next start on: end 'make up' and start it again."
Find = Callable[[str], Published]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = make_parser("weights", "Put a network's ImageNet weights into a stage's bucket.")
    parser.add_argument("--architecture", default="resnet18", help="the network's name, as a recipe says it")
    parser.add_argument("--file", type=Path, help="torchvision's file, if it was fetched elsewhere")
    return parser.parse_args(arguments)


def run(told: argparse.Namespace, environ: Mapping[str, str], find: Find = find_published) -> None:
    """Find the file, check it, upload it, and say what uses it. Raises OperatorError."""
    published = find(told.architecture)
    bucket, s3 = find_bucket(told, environ)  # before anything is fetched for nothing
    with tempfile.TemporaryDirectory() as folder:
        path = check(told.file, published) if told.file else fetch(published, Path(folder), tell)
        tell(f"{path.name} is whole: its hash is that of its name. Uploading {path.stat().st_size / 1e6:,.0f} MB ...")
        with explained(f"Uploading to s3://{bucket}/{FOLDER}"):
            s3.upload_file(str(path), bucket, FOLDER + published.name)
    tell(f"Put s3://{bucket}/{FOLDER}{published.name}.\n{tell_next(told, bucket, environ)}")


def find_bucket(told: argparse.Namespace, environ: Mapping[str, str]) -> tuple[str, Any]:
    """Return the bucket's name and a client of S3. Raises OperatorError if no account answers."""
    clients, region = connect(told.profile, told.region)
    if bucket := environ.get("BUCKET"):
        return bucket, clients("s3")
    return Stage(told.app, told.stage, identify(clients, region)).bucket, clients("s3")


def tell_next(told: argparse.Namespace, bucket: str, environ: Mapping[str, str]) -> str:
    """Return what is left to do until jobs begin with the weights."""
    if environ.get("BUCKET"):
        return LOCAL
    return f'Jobs use them after: make deploy STAGE={told.stage} PARAMETERS="WeightsUri=s3://{bucket}/{FOLDER}"'


def main(arguments: list[str] | None = None) -> int:
    return run_command(
        "weights",
        lambda: run(parse(arguments), os.environ),
        interrupted="nothing was uploaded; the same command begins again.",
    )


if __name__ == "__main__":
    sys.exit(main())
