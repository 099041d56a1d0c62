"""Render the API's answers as tables and sentences for a terminal. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from client.live import ENDED, format_value

COLOURS = {
    "deployed": "green",
    "failed": "red",
    "rejected": "red",
    "declined": "yellow",
    "undecided": "yellow",
    "stopped": "yellow",
}
FREE = "free here;\non AWS"  # heads the prices where nobody is billed
# Columns of the list of runs that a narrow terminal does without.
LEAST = ("dataset", "began", "images", "took", "cost", FREE, "accuracy")


def make_table(*columns: str) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))


def show_status(status: str) -> Text:
    return Text(status, COLOURS.get(status, "cyan"))


def show_time(text: str | None) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M") if text else ""


def show_share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def show_seconds(value: float | None) -> str:
    """Return seconds as people say them: 42 s, 4 min, 2.5 h."""
    if value is None:
        return ""
    if value < 60:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def show_dollars(value: float | None) -> str:
    return "" if value is None else "under $0.01" if 0 < value < 0.01 else f"${value:.2f}"


def tell_cost(run: Mapping[str, Any]) -> str:
    """Return what a run has cost so far, as a sentence; nothing where that is unknown."""
    cost = run.get("cost") or {}
    spent, expected = cost.get("spent_usd"), cost.get("expected_usd")
    if spent is None:
        return ""
    about = "" if cost.get("billed", True) else f"free here; on AWS {'' if spent < 0.01 else 'about '}"
    told = "" if expected is None else f", expected {show_dollars(expected)}"
    return f"{'Cost' if run['status'] in ENDED else 'Cost so far'}: {about}{show_dollars(spent)}{told}."


def list_runs(runs: Sequence[Mapping[str, Any]], *, is_billed: bool, width: int) -> Table | Text:
    """Render the runs, one a line. A narrow terminal does without some columns; `whippet run` tells the rest."""
    if not runs:
        return Text("No runs yet. One begins with an upload: whippet upload FOLDER")
    columns: dict[str, list[Any]] = {
        "run": [run["run_id"] for run in runs],
        "dataset": [run["dataset"] for run in runs],
        "status": [show_status(run["status"]) for run in runs],
        "accuracy": [show_share(run.get("accuracy")) for run in runs],
        "images": ["" if run.get("images") is None else f"{run['images']:,}" for run in runs],
        "took": [show_seconds(run.get("seconds")) for run in runs],
        "cost" if is_billed else FREE: [show_dollars(run.get("spent_usd")).replace("under ", "<") for run in runs],
        "began": [show_time(run["created_at"]) for run in runs],
    }
    for name in LEAST:
        if measure_width(columns) > width:
            columns.pop(name, None)
    table = make_table(*columns)
    for column in table.columns:
        column.no_wrap = True
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"  # what every other command asks for
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def measure_width(columns: Mapping[str, Sequence[Any]]) -> int:
    """Return how many characters a line of these columns takes, the space after each included."""
    return sum(max(map(len, [*name.split("\n"), *cells])) + 2 for name, cells in columns.items())


def list_models(models: Sequence[Mapping[str, Any]]) -> Table | Text:
    if not models:
        return Text("No models yet. A run deploys one: whippet runs")
    table = make_table("model", "status", "since")
    for model in models:
        table.add_row(model["name"], model["status"], show_time(model.get("created_at")))
    return table


def show_run(run: Mapping[str, Any]) -> Iterable[Any]:
    """Yield a run's headline, its trials, and what to look at next."""
    yield Text.assemble((run["run_id"], "bold"), "  ", show_status(run["status"]))
    for note in run.get("notes") or []:
        yield Text(note, "yellow")
    yield from show_quality((run.get("metrics") or {}).get("test") or {})
    yield from (Text(told) for told in (run.get("shipped"), tell_verdict(run)) if told)
    if run["trials"]:
        yield list_trials(run["trials"])
    if cost := tell_cost(run):
        yield Text(cost)
    if run.get("advice"):
        yield Text(f"Next: {'; '.join(run['advice'])}.")
    if run["status"] == "deployed":
        yield Text(f"Try it: whippet predict {shlex.quote(run['dataset'])} IMAGE …")
    if run.get("links", {}).get("report"):
        yield Text(f"Report: whippet report {run['run_id']} --open")


def tell_approval(told: Mapping[str, Any]) -> str:
    """Return what an approval leads to; asking again changes nothing."""
    if told["status"] in ENDED:
        return f"{told['run_id']} is {told['status']} already."
    return f"Approved. It begins within two minutes. Follow it: whippet run {told['run_id']} --watch"


def tell_verdict(run: Mapping[str, Any]) -> str:
    """Return why a run is where it is: what was compared before its model went live, or its own reason."""
    promotion = (run.get("decision") or {}).get("promotion") or {}
    return str(run["reason"] or promotion.get("sentence") or "")


def show_quality(test: Mapping[str, Any]) -> Iterable[Text]:
    """Yield the accuracy on the test images and the class that is recognised least; nothing where none was measured."""
    if "accuracy" not in test:
        return
    told = f" of {test['images']:,} test images{tell_interval(test)}" if test.get("images") else ""
    yield Text(f"Accuracy {show_share(test['accuracy'])}{told}", "bold")
    judged = [each for each in test.get("classes") or [] if each["support"]]
    if missed := [each["class"] for each in judged if not each["recall"]]:
        them = "it" if len(missed) == 1 else "them"
        yield Text(f"Cannot do {', '.join(missed)}: no test image of {them} was recognised")
    elif judged:
        weakest = min(judged, key=lambda each: (each["recall"], -each["support"]))
        of_it = f"{weakest['class']}: {show_share(weakest['recall'])} of its {weakest['support']:,} test images right"
        yield Text(f"Weakest class {of_it}" if weakest["recall"] < 1 else "Every test image of every class is right")


def tell_interval(test: Mapping[str, Any]) -> str:
    """Return the interval of a test accuracy, behind a comma; nothing where an older API tells none."""
    low, high = test.get("interval") or (None, None)
    return "" if low is None else f", 95% sure: {show_share(low)} to {show_share(high)}"


def list_epochs(jobs: Iterable[Mapping[str, Any]]) -> Iterable[Any]:
    """Yield a line for each epoch of each job: its name and what it measured."""
    for job in jobs:
        for epoch in job["epochs"]:
            measured = (
                f"{split} {name} {show_measure(name, value)}"
                for split in ("train", "valid")
                for name, value in epoch.get(split, {}).items()
                if isinstance(value, float)
            )
            yield Text(f"{job['name']}  epoch {epoch['epoch']}  {'  '.join(measured)}")
        if job.get("best"):
            yield Text(f"{job['name']}  best epoch {job['best']['epoch']}", "bold")


def show_measure(name: str, value: float) -> str:
    """Return a measure in the one form that it has everywhere: an accuracy as a percentage."""
    return show_share(value) if name == "accuracy" else f"{value:.4f}"


def list_trials(trials: Iterable[Mapping[str, Any]]) -> Table:
    table = make_table("trial", "status", "score", "hyperparameters")
    for number, trial in enumerate(trials, 1):
        chosen = ", ".join(f"{name}={format_value(value)}" for name, value in sorted(trial["hyperparameters"].items()))
        table.add_row(str(number), trial["status"], show_share(trial["objective"]), chosen)
    return table


def list_results(names: Iterable[str], results: Iterable[Mapping[str, Any]]) -> Table:
    """Render predictions: an image a row, its classes best first, or its error."""
    table = make_table("image", "class", "probability", "")
    for name, result in zip(names, results, strict=True):
        if "error" in result:
            table.add_row(name, Text("–", "red"), "", result["error"]["message"])
            continue
        best, *others = result["predictions"]
        rest = ", ".join(f"{each['class']} {show_share(each['probability'])}" for each in others)
        sure = Text("" if result.get("sure", True) else "not sure ", "yellow")
        known = Text("" if result.get("known", True) else "fits no class ", "yellow")
        table.add_row(name, best["class"], show_share(best["probability"]), Text.assemble(known, sure, rest))
    return table


def show_report(report: Mapping[str, Any]) -> Iterable[Any]:
    """Yield what pre-flight found: problems, warnings, and images by class and split."""
    for kind, colour in (("problems", "red"), ("warnings", "yellow")):
        for finding in report[kind]:
            yield Text.assemble((f"{finding['code']}  ", colour), finding["message"])
    splits = list(report["splits"])
    table = make_table("class", *splits)
    for label in report["classes"][:40]:
        table.add_row(label, *(str(report["splits"][split].get(label, 0)) for split in splits))
    if report["classes"]:
        yield table
    verdict = ("accepted", "green") if report["ok"] else ("not accepted: fix this, then check again", "red")
    yield Text.assemble(f"{report['images']:,} images of {len(report['classes'])} classes: ", verdict)
