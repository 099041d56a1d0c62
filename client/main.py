"""The `whippet` command: what a person types, each command one call and one rendering.

Answers go to stdout, as tables or with --json as the API's own JSON; progress and errors go to stderr. Exit codes: 0
done, 1 refused or failed, 2 wrong usage, 3 not logged in or token refused, 4 no answer from the API, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from client import local, predicting, rendering, uploads, watching
from client.api import Api, ApiError
from client.config import DEFAULT_URL, Login, NotLoggedIn, clean_token, read_login, write_login
from client.resuming import find_memory

app = typer.Typer(no_args_is_help=True, help="Drop a zip of labelled images; get back a classifier behind a URL.")
recipes = typer.Typer(no_args_is_help=True, help="Recipes: what a dataset's runs are to be like.")
datasets = typer.Typer(no_args_is_help=True, help="Datasets, before they are uploaded.")
app.add_typer(recipes, name="recipe")
app.add_typer(datasets, name="datasets")

AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]
Follow = Annotated[bool, typer.Option("--watch", help="Follow the run until it ends.")]
Logs = Annotated[bool, typer.Option("--logs", help="Print the end of the log: of the job that failed or runs.")]
Curves = Annotated[bool, typer.Option("--curves", help="Print what each job has measured, epoch by epoch.")]
Job = Annotated[str | None, typer.Option(help="The job whose log to print.")]
Lines = Annotated[int, typer.Option(min=1, max=10_000, help="How many of the log's last lines to print.")]
Token = Annotated[
    str,
    typer.Option(
        help="The token; it is asked for if left out. The local cloud's is API_TOKEN in .localcloud/env, and in the "
        "address that 'make up' prints, which --url takes too.",
    ),
]
Recipe = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="The recipe to train by.")]
Url = Annotated[str, typer.Option(help="The API's address, as 'make deploy' prints it.")]
Name = Annotated[str, typer.Option(help="The dataset's name, and its model's; by default the file's or folder's.")]
Top = Annotated[int, typer.Option(min=1, help="How many classes to show.")]
Threshold = Annotated[float | None, typer.Option(min=0, max=1, help="Say whether the best class reaches this.")]
Limit = Annotated[int, typer.Option(min=1, max=200, help="How many runs to list.")]
Run = Annotated[str, typer.Argument(help="The run's id, as 'whippet runs' lists it.")]
NO_MAP = "no map. The model is older than maps, or its images are too small for one."
FEW_IMAGES = 500  # photographs that are seldom enough to begin from scratch
FAILED = ("failed", "rejected", "declined", "undecided", "stopped", "superseded")
PIPED = 200  # columns of what no terminal shows: a program that reads it wants no broken lines
# Without markup and emoji, as brackets and colons may be parts of the names of files and classes.
out = Console(width=None if sys.stdout.isatty() else PIPED, markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)


class Interrupted(Exception):
    """Ctrl-C was pressed. The message says how to go on."""


def connect() -> Api:
    return Api(read_login(os.environ))


def show(document: Any, as_json: bool, parts: Iterable[Any]) -> None:
    """Print an answer: as JSON, or rendered."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        return
    for part in parts:
        out.print(part)


@app.command()
def login(url: Url = DEFAULT_URL, token: Token = "", as_json: AsJson = False) -> None:
    """Keep an API's address and a token. Example: whippet login --url https://ID.execute-api.REGION.amazonaws.com/api"""
    given = token or (url if "#token=" in url else "") or typer.prompt("Token", hide_input=True)
    kept = Login(url.partition("#")[0].rstrip("/"), clean_token(given))
    Api(kept).list_models()
    path = write_login(kept, os.environ)
    show({"url": kept.url, "file": str(path)}, as_json, [f"Logged in to {kept.url}. Kept in {path}."])


class Bar:
    """The progress of an upload on a terminal."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name
        self._task = progress.add_task(f"Looking at {name}", total=None)

    def begin(self, size: int, arrived: int) -> None:
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(f"Uploading {self._name}", total=size, completed=arrived)
        if arrived:
            self._progress.console.print(f"Going on with an earlier upload: {tell_arrived(arrived, size)}.")

    def add(self, count: int) -> None:
        self._progress.advance(self._task, count)


@app.command()
def upload(path: Path, name: Name = "", recipe: Recipe = None, follow: Follow = False, as_json: AsJson = False) -> None:
    """Upload a zip or a folder as a dataset; it goes on where it was interrupted. Example: whippet upload dogs.zip"""
    if not path.exists():
        raise typer.BadParameter(f"There is no file or folder {path}.")
    if path.is_file() and path.suffix.lower() != ".zip":
        raise typer.BadParameter(f"{path} is not a .zip. Give a zip, or a folder that holds a folder for each class.")
    api, dataset = connect(), name or path.resolve().name.removesuffix(".zip")
    known = {run["run_id"] for run in api.list_runs(50)} if follow else set()
    body = recipe.read_bytes() if recipe else b""
    if recipe:
        api.write_recipe(dataset, body)
    warn_of_scratch(api, path, json.loads(body or b"{}"))
    told = send(api, path, dataset)
    if not follow:
        show(told, as_json, [f"Uploaded as {told['key']}. 'whippet runs' shows its run."])
        return
    follow_run(api, watching.find_run(api, dataset, known, time.sleep), as_json)


def warn_of_scratch(api: Api, path: Path, recipe: dict[str, Any]) -> None:
    """Say before anything is sent that the run may begin from scratch, where there are too few images for that."""
    images = local.count_images(path)
    if recipe.get("pretrained") == "none" or not 0 < images < FEW_IMAGES:
        return
    told = api.tell_weights(recipe.get("architecture", ""))
    if told.get("message"):
        err.print(told["message"], style="yellow", highlight=False, markup=False)


def send(api: Api, path: Path, dataset: str) -> dict[str, Any]:
    """Send a dataset. Whatever ends it before its time says how to go on."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err) as progress:
        sending = uploads.Upload(api, dataset, find_memory(os.environ), Bar(progress, dataset), time.sleep)
        try:
            return sending.send(path)
        except KeyboardInterrupt:
            raise Interrupted(f"Interrupted. {tell_how_to_go_on(sending)}") from None
        except ApiError as error:
            error.message += f" {tell_how_to_go_on(sending)}" if sending.arrived else ""
            raise


def tell_how_to_go_on(sending: uploads.Upload) -> str:
    if not sending.is_kept:
        return "Nothing of it has arrived. The same command begins again."
    return (
        f"{tell_arrived(sending.arrived, sending.size)}, and are kept for a day. The same command goes on from there."
    )


def tell_arrived(arrived: int, size: int) -> str:
    return f"{arrived / 1e6:,.1f} of {size / 1e6:,.1f} MB have arrived"


def follow_run(api: Api, run: str, as_json: bool) -> None:
    """Show a run until it ends; exit with 1 where it ends without a model."""
    try:
        described = watching.follow(api, run, err)
    except KeyboardInterrupt:
        raise Interrupted(f"The run goes on. Follow it again: whippet run {run} --watch") from None
    show(described, as_json, rendering.show_run(described))
    if described["status"] in FAILED:
        raise typer.Exit(1)


@app.command()
def runs(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the runs, newest first."""
    page = connect().list_page(limit)
    table = rendering.list_runs(page["runs"], is_billed=page.get("billed", True), width=out.width)
    show(page["runs"], as_json, [table])


@app.command()
def run(
    run: Run,
    follow: Follow = False,
    logs: Logs = False,
    job: Job = None,
    lines: Lines = 50,
    curves: Curves = False,
    as_json: AsJson = False,
) -> None:
    """Show a run; follow it until it ends with --watch; print its log with --logs, or its epochs with --curves."""
    api = connect()
    if follow:
        follow_run(api, run, as_json)
        return
    if logs:
        told = api.read_log(run, job, lines)
        show(told, as_json, map(Text, told["lines"] or ["Nothing has been logged yet, or the log is no longer kept."]))
        return
    if curves:
        measured = api.list_curves(run)
        show(measured, as_json, rendering.list_epochs(measured["jobs"]))
        return
    described = api.describe_run(run)
    show(described, as_json, rendering.show_run(described))


@app.command()
def stop(run: Run, as_json: AsJson = False) -> None:
    """Stop a run: its jobs end, and nothing is deployed."""
    told = connect().act(run, "stop")
    show(told, as_json, [f"{told['run_id']} is stopping. Its jobs end within minutes; AWS bills them until then."])


@app.command()
def retry(run: Run, recipe: Recipe = None, as_json: AsJson = False) -> None:
    """Begin the next attempt on the same dataset, with the recipe as it is now, or with another one."""
    told = connect().act(run, "retry", recipe.read_bytes() if recipe else b"")
    show(told, as_json, [f"{told['run_id']} has begun. Follow it: whippet run {told['run_id']} --watch"])


@app.command()
def approve(run: Run, as_json: AsJson = False) -> None:
    """Deploy the model of a run that ended undecided or declined."""
    told = connect().act(run, "approve")
    show(told, as_json, [rendering.tell_approval(told)])


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models that answer."""
    found = connect().list_models()
    show(found, as_json, [rendering.list_models(found)])


@app.command()
def predict(
    model: str,
    files: list[Path],
    top: Top = 3,
    threshold: Threshold = None,
    explain: Annotated[Path | None, typer.Option(help="A folder for each image with a map of what decided.")] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images. Example: whippet predict dogs a.jpg b.jpg --threshold 0.8 --explain maps"""
    if missing := [str(path) for path in files if not path.is_file()]:
        raise typer.BadParameter(f"There is no file {', '.join(missing)}.")
    query = {"top": top, "threshold": threshold, "explain": "true" if explain else None}
    wanted = {name: value for name, value in query.items() if value is not None}
    results = predicting.classify(connect(), model, files, **wanted)
    if explain:
        keep_maps(explain, files, results)
    show(results, as_json, [rendering.list_results((path.name for path in files), results)])
    if any("error" in result for result in results):
        raise typer.Exit(1)


def keep_maps(folder: Path, files: list[Path], results: list[dict[str, Any]]) -> None:
    """Write each image with a map of what decided about its answer, or say that there is none."""
    for path, result, target in zip(files, results, predicting.write_maps(folder, files, results), strict=True):
        told = target or ("no answer, so no map." if "error" in result else NO_MAP)
        err.print(f"{path.name}: {told}", highlight=False, soft_wrap=True)


@app.command()
def report(
    run: Run,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the address of a run's report, which is valid for an hour."""
    address = connect().describe_run(run)["links"].get("report")
    if not address:
        raise ApiError(404, "NoReport", f"{run} has no report yet. It is written by the final training.")
    if as_json:
        show({"report": address}, as_json, [])
    else:
        sys.stdout.write(f"{address}\n")  # whole: a table would break it into lines
    if open_it:
        webbrowser.open(address)


@recipes.command("new")
def new_recipe(path: Path, as_json: AsJson = False) -> None:
    """Write a recipe to begin with. Example: whippet recipe new dogs.json"""
    try:
        local.write_recipe(path)
    except FileExistsError as error:
        raise typer.BadParameter(f"{path} exists already.") from error
    told = f"Wrote {path}. Change it, check it with 'whippet recipe check {path}', and upload with '--recipe {path}'."
    show({"path": str(path)}, as_json, [told])


@recipes.command("check")
def check_recipe(path: Path, as_json: AsJson = False) -> None:
    """Check a recipe without a server."""
    if not path.is_file():
        raise typer.BadParameter(f"There is no file {path}.")
    problems = local.check_recipe(path)
    sound = Text(f"{path} is sound.", "green")
    show({"ok": not problems, "problems": problems}, as_json, [Text(each, "red") for each in problems] or [sound])
    if problems:
        raise typer.Exit(1)


@datasets.command("check")
def check_dataset(path: Path, as_json: AsJson = False) -> None:
    """Check a zip or a folder as pre-flight does, without a server."""
    if not path.exists():
        raise typer.BadParameter(f"There is no file or folder {path}.")
    found = local.check_dataset(path)
    show(found, as_json, rendering.show_report(found))
    if not found["ok"]:
        raise typer.Exit(1)


def main() -> None:
    """Run the command. An error is a sentence on stderr and an exit code, never a traceback."""
    try:
        app()
    except NotLoggedIn as error:
        quit_with(str(error), 3)
    except Interrupted as error:
        quit_with(str(error), 130)
    except ApiError as error:
        quit_with(error.message, {401: 3, 0: 4}.get(error.status, 1))
    except (OSError, ValueError) as error:
        quit_with(str(error), 1)


def quit_with(message: str, code: int) -> None:
    err.print(message, style="red", highlight=False, markup=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
