"""Render a run in progress: a live view for a terminal, plain lines for any other output.

Everything is rendered from a `Snapshot` of what the app's routes say; no request is made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

STAGES = ("checking", "tuning", "training", "deploying", "deployed")
ENDED = ("deployed", "declined", "rejected", "failed", "stopped", "superseded", "undecided")
MARKS = {"InProgress": "…", "Completed": "✓", "Stopped": "■", "Stopping": "■", "Failed": "✗"}


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment: GET /runs/ID's answer, each job's epochs so far by job name, and the elapsed seconds."""

    run: Mapping[str, Any]
    epochs: Mapping[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    elapsed: float = 0.0

    @property
    def status(self) -> str:
        return str(self.run["status"])

    @property
    def trials(self) -> list[Mapping[str, Any]]:
        return list(self.run.get("trials") or [])

    @property
    def training(self) -> Mapping[str, Any] | None:
        return self.run.get("training")

    @property
    def planned_epochs(self) -> int:
        return int(self.run.get("recipe", {}).get("epochs") or 1)

    @property
    def planned_trials(self) -> int:
        return int(self.run.get("recipe", {}).get("trials") or 1)


def measure_progress(snapshot: Snapshot) -> float:
    """Return the fraction of all epochs that is done, from 0 to 1: the trials', the training's, the baseline's."""
    if snapshot.status == "deployed":
        return 1.0
    planned = snapshot.planned_epochs * (snapshot.planned_trials + 2)
    done = sum(count_epochs(snapshot, trial) for trial in snapshot.trials)
    if snapshot.training:
        done = snapshot.planned_epochs * snapshot.planned_trials + count_epochs(snapshot, snapshot.training)
    return min(done / planned, 0.99)


def count_epochs(snapshot: Snapshot, job: Mapping[str, Any]) -> int:
    """Return a job's epochs so far; a job that has ended counts in full, however early it stopped."""
    if job["status"] in ("Completed", "Stopped", "Failed"):
        return snapshot.planned_epochs
    return min(len(snapshot.epochs.get(job["name"], [])), snapshot.planned_epochs)


def estimate_left(snapshot: Snapshot) -> float | None:
    """Return the seconds left at the present rate, or None before the first epoch has shown a rate."""
    progress = measure_progress(snapshot)
    return snapshot.elapsed * (1 - progress) / progress if 0 < progress < 1 else None


def render(snapshot: Snapshot) -> RenderableType:
    """Render the live view."""
    run = snapshot.run
    parts: list[RenderableType] = [render_stages(snapshot), Text()]
    parts += [Text(f"{note}\n", "yellow") for note in run.get("notes") or []]
    if snapshot.trials:
        parts += [render_trials(snapshot), Text()]
    if snapshot.training:
        parts += [render_training(snapshot), Text()]
    parts.append(render_progress(snapshot))
    return Panel(Group(*parts), title=f"[bold]{escape(run['dataset'])}[/] · {run['run_id']}", padding=(1, 2))


def render_stages(snapshot: Snapshot) -> Text:
    line, reached = Text(), STAGES.index(snapshot.status) if snapshot.status in STAGES else -1
    for number, stage in enumerate(STAGES):
        style = "bold cyan" if number == reached else "green" if number < reached else "dim"
        line.append(stage, style).append("  ›  " if stage != STAGES[-1] else "", "dim")
    if reached < 0:
        line.append(f"   {snapshot.status}", "bold red")
    return line


def render_trials(snapshot: Snapshot) -> Table:
    names = list_hyperparameters(snapshot)
    best = (snapshot.run.get("best") or {}).get("name")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("trial", *names, "epoch", "score"):
        table.add_column(title, justify="left" if title == "trial" else "right")
    for number, trial in enumerate(snapshot.trials, 1):
        values = [format_value(trial["hyperparameters"].get(name, "")) for name in names]
        objective = f"{trial['objective']:.1%}" if trial["objective"] is not None else ""
        row = [f"{MARKS.get(trial['status'], '·')} {number}", *values, describe_epoch(snapshot, trial), objective]
        table.add_row(*row, style="bold green" if trial["name"] == best else "")
    return table


def render_training(snapshot: Snapshot) -> Text:
    assert snapshot.training is not None
    records = snapshot.epochs.get(snapshot.training["name"], [])
    line = Text(f"final training · epoch {describe_epoch(snapshot, snapshot.training)}")
    if records:
        line.append(f" · {describe_metrics(records[-1])}", "dim")
    if snapshot.training["status"] == "InProgress" and len(records) >= snapshot.planned_epochs:
        line.append(" · comparing it with a baseline", "dim")
    return line


def render_progress(snapshot: Snapshot) -> Table:
    left = estimate_left(snapshot)
    told = f"{format_time(snapshot.elapsed)} gone" + (f", about {format_time(left)} left" if left else "")
    grid = Table.grid(padding=(0, 2))
    grid.add_row(ProgressBar(total=1.0, completed=measure_progress(snapshot), width=40), Text(told, "dim"))
    return grid


def list_changes(before: Snapshot | None, now: Snapshot) -> Iterator[str]:
    """Yield a line for each thing that has happened since the last snapshot, for output that is not a terminal."""
    if before is None or before.status != now.status:
        yield f"[{format_time(now.elapsed)}] {now.status}"
    yield from (
        f"    {note}" for note in now.run.get("notes") or [] if not before or note not in before.run.get("notes", [])
    )
    old = {trial["name"]: trial for trial in before.trials} if before else {}
    for number, trial in enumerate(now.trials, 1):
        if trial["name"] not in old:
            told = " ".join(f"{name}={format_value(value)}" for name, value in sorted(trial["hyperparameters"].items()))
            yield f"    trial {number} starts: {told}"
        yield from list_new_epochs(before, now, trial["name"], f"trial {number}")
        if (
            trial["status"] != "InProgress"
            and (old.get(trial["name"]) or {"status": "InProgress"})["status"] == "InProgress"
        ):
            objective = f", score {trial['objective']:.1%}" if trial["objective"] is not None else ""
            yield f"    trial {number} {trial['status']}{objective}"
    if now.training:
        yield from list_new_epochs(before, now, now.training["name"], "training")


def list_new_epochs(before: Snapshot | None, now: Snapshot, job: str, title: str) -> Iterator[str]:
    seen = len(before.epochs.get(job, [])) if before else 0
    for record in now.epochs.get(job, [])[seen:]:
        yield f"    {title} epoch {record['epoch']}/{now.planned_epochs}: {describe_metrics(record)}"


def list_hyperparameters(snapshot: Snapshot) -> list[str]:
    """List the names of the tuned hyperparameters."""
    return sorted({name for trial in snapshot.trials for name in trial["hyperparameters"]})


def describe_epoch(snapshot: Snapshot, job: Mapping[str, Any]) -> str:
    done = len(snapshot.epochs.get(job["name"], []))
    return f"{done}/{snapshot.planned_epochs}" if done or job["status"] == "InProgress" else ""


def describe_metrics(record: Mapping[str, Any]) -> str:
    valid = record.get("valid", {})
    return f"validation accuracy {valid.get('accuracy', 0):.1%}"


def format_value(value: Any) -> str:
    """Format a hyperparameter or a measure in at most four significant digits."""
    try:
        return f"{float(value):.4g}"
    except (TypeError, ValueError):
        return str(value)


def format_time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
