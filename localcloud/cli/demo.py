"""Run the whole pipeline once on real images, as a user would, and show it: `make demo`.

The demo uses only S3's API and the app's routes: it puts a recipe and a zip into the bucket, watches the run, and asks
the model about three images of the test split. It uses the cloud that is up on this folder; otherwise it starts one
and stops it at the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from client.api import Api, ApiError
from client.config import Login
from client.live import format_time, format_value
from client.rendering import tell_cost, tell_interval, tell_verdict
from client.watching import find_run, follow
from localcloud.cli import digits
from localcloud.cli.next_steps import Left, keep_image, list_next
from localcloud.cli.outcome import build_table, fetch_report, list_gains, make_reader, read_document
from localcloud.cli.questions import Picture, choose_pictures
from localcloud.cli.up import PROJECT, is_up
from localcloud.common.addresses import CannotStart, Place, choose_free, read_env
from localcloud.common.durable import make_private_folder

START_SECONDS = 60
RUN_APPEARS_SECONDS = 60
POLL_SECONDS = 1.0
STALLED_SECONDS = 3600


class StepFailed(Exception):
    """A step of the demo failed; the message says which one and why."""


@dataclass(frozen=True)
class User:
    """What a user of the cloud has: clients of S3 and of the app's routes, and the bucket's name."""

    s3: Any
    api: Api
    bucket: str


def run_demo(place: Place, dataset: Path | None) -> int:
    """Run the demo and return 0, or 1 after naming the failed step. Raises CannotStart where no cloud can start."""
    console = Console(highlight=False, emoji=False)
    if dataset is not None and not dataset.is_file():
        raise CannotStart(f"There is no file {dataset}. DATASET is the path of a zip of images.")
    began = time.monotonic()
    stays_up = is_up(place)
    place = place if stays_up else choose_free(place, os.environ)
    try:
        with borrow_cloud(place, console) as variables:
            zipped = dataset or digits.write_digits_zip(place.home / "demo")
            run, image = show_demo(connect(variables), zipped, place.home, console)
            told = read_told(place, variables)
        tell_next(Left(told, zipped, zipped.stem, run["links"]["folder"], image, stays_up), console)
    except StepFailed as failure:
        console.print(f"\n[bold red]The demo failed[/] {escape(str(failure))}")
        return 1
    except KeyboardInterrupt:
        console.print("\nThe demo was interrupted.")
        return 1
    console.print(f"[dim]All done in {format_time(time.monotonic() - began)}.[/]")
    return 0


@contextmanager
def borrow_cloud(place: Place, console: Console) -> Iterator[dict[str, str]]:
    """Yield the variables of the cloud that is up on this folder, or of one that lives as long as the demo."""
    if is_up(place):
        console.print(f"Using the local cloud that is up on {place.home}.", markup=False)
        yield wait_for_cloud(place, lambda: True)
        return
    console.print("Starting the local cloud …")
    make_private_folder(place.home)
    with (place.home / "up.log").open("w+") as log:
        cloud = subprocess.Popen(
            [sys.executable, "-m", "localcloud", "up", "--until-eof"],
            cwd=PROJECT,
            env={**os.environ, "AWS_PORT": str(place.aws_port), "PORT": str(place.port)},
            stdin=subprocess.PIPE,  # closes with this process, however it ends
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield wait_for_cloud(place, lambda: cloud.poll() is None)
        finally:
            cloud.send_signal(signal.SIGINT)
            cloud.wait(60)


def wait_for_cloud(place: Place, alive: Callable[[], bool]) -> dict[str, str]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if place.env_file.exists():
            return read_env(place)
        if not alive():
            lines = (place.home / "up.log").read_text().strip().splitlines()
            raise StepFailed(f"at the start: {lines[-1] if lines else 'the local cloud ended'}")
        time.sleep(0.05)
    raise StepFailed(f"at the start: the local cloud was not ready within {START_SECONDS} s; see {place.home}")


def connect(variables: Mapping[str, str]) -> User:
    s3 = boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    return User(s3, Api(Login(variables["API_URL"], variables["API_TOKEN"])), variables["BUCKET"])


def read_told(place: Place, variables: Mapping[str, str]) -> Place:
    """Return the place with the ports that its cloud really has: one that was up already may have others."""
    aws_port, port = (urlsplit(variables[name]).port for name in ("AWS_ENDPOINT_URL", "API_URL"))
    return replace(place, aws_port=aws_port or place.aws_port, port=port or place.port)


def show_demo(user: User, dataset: Path, home: Path, console: Console) -> tuple[dict[str, Any], Path]:
    """Upload the zip (with the recipe beside it, if any), watch the run, query the model, print the results.

    Return the run, and an image of the test split that was kept as a file.
    """
    name, recipe = dataset.stem, dataset.with_suffix(".json")
    with step("while uploading the dataset"):
        known = {run["run_id"] for run in user.api.list_runs(50)}
        if recipe.is_file():
            user.s3.upload_file(str(recipe), user.bucket, f"datasets/{name}.json")
        user.s3.upload_file(str(dataset), user.bucket, f"datasets/{name}.zip")
    megabytes = dataset.stat().st_size / 1e6
    console.print(f"Uploaded s3://{user.bucket}/datasets/{name}.zip ({megabytes:.1f} MB).\n", soft_wrap=True)
    with step("while the run went on"):
        run_id = find_run(user.api, name, known, time.sleep, within=RUN_APPEARS_SECONDS, every=0.2)
        run = follow(user.api, run_id, console, seconds=POLL_SECONDS, patience=STALLED_SECONDS)
    if run["status"] != "deployed":
        raise StepFailed(f"in the run: it ended {run['status']}. {run.get('reason') or ''}")
    tell_result(run, console)
    with step("while reading what the training left"):
        tell_report(user, run, home / "reports" / f"{run_id}.html", console)
    with step("while asking the model"):
        pictures = choose_pictures(dataset)
        tell_answers(user, name, pictures, console)
    return run, keep_image(pictures[0], home / "demo")


@contextmanager
def step(where: str) -> Iterator[None]:
    """Turn an exception of a client into a failed step."""
    try:
        yield
    except (ClientError, BotoCoreError, ApiError) as error:
        raise StepFailed(f"{where}: {type(error).__name__}: {error}") from error


def tell_result(run: Mapping[str, Any], console: Console) -> None:
    """Print what the page shows first: how good and how sure, what is deployed and why, and what it cost."""
    best, test = run["best"] or {}, (run.get("metrics") or {}).get("test") or {}
    told = ", ".join(f"{name} {format_value(value)}" for name, value in sorted(best.get("hyperparameters", {}).items()))
    table = Table.grid(padding=(0, 2))
    table.add_row("[dim]best hyperparameters[/]", told)
    if images := test.get("images"):
        sure = f"{images:,} images{tell_interval(test)}"
        table.add_row("[dim]test accuracy[/]", f"[bold]{test['accuracy']:.1%}[/] of {sure}")
    console.print()
    console.print(table)
    sentences = " ".join(filter(None, (run.get("shipped"), tell_verdict(run), tell_cost(run))))
    console.print(f"\n{sentences}", markup=False)


def tell_report(user: User, run: Mapping[str, Any], target: Path, console: Console) -> None:
    """Print what the training measured before and after, and the report's path."""
    read, job = make_reader(user.s3, user.bucket, run["run_id"]), (run["training"] or {}).get("name")
    baseline, plan = (read_document(read, f"jobs/{job}/{name}.json") for name in ("baseline", "execution_plan"))
    rows = list_gains(baseline, (run.get("metrics") or {}).get("test") or {}, plan)
    if rows:
        console.print("\nBefore (baseline; first probe) and after (tuned; as trained):")
        console.print(build_table(rows))
    if plan.get("verdict"):
        console.print(plan["verdict"], style="dim", markup=False, soft_wrap=True)
    path = fetch_report(read, target)
    console.print(f"\nThe report: [bold]{escape(str(path or 'was not written'))}[/]", soft_wrap=True)


def tell_answers(user: User, name: str, pictures: list[Picture], console: Console) -> None:
    """Ask the route about each image and print its answers. Raises ApiError where the route does not answer."""
    console.print(f"\nPOST /models/{name}/predict answers:")
    for picture in pictures:
        headers = {"Content-Type": picture.content_type}
        answer = user.api.ask(
            "POST", f"models/{name}/predict", params={"top": 3}, content=picture.body, headers=headers
        )
        answers = answer["results"][0]["predictions"]
        shown = ", ".join(f"{one['class']} {one['probability']:.1%}" for one in answers)
        right = answers[0]["class"] == picture.true_class
        mark = "[green]✓[/]" if right else "[red]✗[/]"
        told = f"{picture.name}: {shown}" + ("" if right else f"  (it is {picture.true_class})")
        console.print(f"  {mark} {escape(told)}")


def tell_next(left: Left, console: Console) -> None:
    console.print(f"\nThe run's folder: [bold]{escape(left.folder)}[/]\n\nWhat next:", soft_wrap=True)
    for line in list_next(left):
        console.print(f"  {line}", markup=False, soft_wrap=True)
