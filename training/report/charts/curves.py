"""Draw the charts of a report: plain numbers in, an inline SVG out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from report.charts.choices import Importance
from report.charts.data import JobRecord
from report.charts.drawing import GOOD, INK, LINE, MUTED, SERIES, WIDE, drawing, shorten, to_svg

TYPICAL_CLASSES = 30


def draw_splits(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> str:
    """Draw images by class, stacked by split; with many classes, sorted columns without names."""
    order = sorted(range(len(classes)), key=lambda number: -sum(each[number] for each in counts.values()))
    named = len(classes) <= TYPICAL_CLASSES
    with drawing(WIDE, 260 if not named or max(map(len, classes)) < 4 else 320) as (figure, [axes]):
        bottom = [0] * len(classes)
        for colour, (split, each) in zip(SERIES, counts.items(), strict=False):
            heights = [each[number] for number in order]
            axes.bar(range(len(order)), heights, bottom=bottom, color=colour, width=0.82, label=split)
            bottom = [one + other for one, other in zip(bottom, heights, strict=True)]
        axes.grid(False, axis="x")
        axes.set_ylabel("images")
        axes.set_xlim(-0.6, len(order) - 0.4)
        labels = [shorten(classes[number], 18) for number in order] if named else []
        turned = 40 if any(len(label) > 60 // max(1, len(labels)) for label in labels) else 0
        axes.set_xticks(range(len(labels)), labels, rotation=turned, ha="right" if turned else "center")
        if not named:
            axes.set_xlabel(f"{len(classes)} classes, the largest first")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(counts), borderaxespad=0)
        return to_svg(figure, "Number of images by class and split")


def draw_trials(trials: Sequence[JobRecord], best: str | None, objective: str) -> str:
    """Draw each trial's objective with its standard error, and the best so far as a line."""
    measured = [(number, trial) for number, trial in enumerate(trials, 1) if trial.objective is not None]
    with drawing(WIDE, 280) as (figure, [axes]):
        reached, line = -math.inf, []
        for _, trial in measured:
            reached = max(reached, trial.objective or 0.0)
            line.append(reached)
        numbers = [number for number, _ in measured]
        axes.step(numbers, line, where="post", color=LINE, linewidth=3, label="best so far")
        for number, trial in measured:
            colour = SERIES[1] if trial.name == best else SERIES[0]
            error = (trial.evaluation.get("objective") or {}).get("standard_error") or 0
            axes.errorbar(number, trial.objective, yerr=error, fmt="o", color=colour, markersize=8, elinewidth=1.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(0.5, len(trials) + 0.5)
        axes.set_xlabel("trial")
        axes.set_ylabel(objective)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        return to_svg(figure, f"{objective} of each trial, with its standard error")


def draw_importance(found: Sequence[Importance]) -> str:
    """Draw what share of the variance each hyperparameter explains, beside what chance alone reaches."""
    with drawing(WIDE, 70 + 40 * len(found)) as (figure, [axes]):
        places = range(len(found))[::-1]
        clear = [each.share > each.chance for each in found]
        colours = [SERIES[0] if one else MUTED for one in clear]
        axes.barh(places, [each.share for each in found], color=colours, height=0.5)
        for place, each in zip(places, found, strict=True):
            axes.plot([each.chance] * 2, [place - 0.38, place + 0.38], color=SERIES[1], linewidth=3)
        axes.set_yticks(places, [each.name for each in found])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(False, axis="y")
        axes.set_xlabel("share of the objective's variance explained by this hyperparameter alone")
        return to_svg(figure, "Importance of each hyperparameter")


def draw_by_value(found: Sequence[Importance], best: Mapping[str, Any], objective: str) -> str:
    """Draw the objective against each hyperparameter's value."""
    columns = min(4, len(found))
    rows = math.ceil(len(found) / columns)
    with drawing(WIDE, 230 * rows, columns, rows) as (figure, panels):
        for axes, each in zip(panels, found, strict=False):
            draw_values(axes, each, best.get(each.name))
        for axes in panels[len(found) :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel(objective)
        return to_svg(figure, f"{objective} by the value of each hyperparameter")


def draw_values(axes: Axes, each: Importance, best: Any) -> None:
    """Draw the objective against one hyperparameter: on a logarithmic scale, or by its few whole or named values."""
    values = [value for value, _ in each.points]
    goals = [goal for _, goal in each.points]
    distinct = sorted({str(value) for value in values}, key=lambda text: (len(text), text))
    is_searched = len(distinct) > 3 or any(isinstance(value, float) for value in values)
    numbers = all(isinstance(value, int | float) and value > 0 for value in values) and is_searched
    places = values if numbers else [distinct.index(str(value)) for value in values]
    colours = [SERIES[1] if value == best else SERIES[0] for value in values]
    axes.scatter(places, goals, c=colours, s=44, alpha=0.85, linewidths=0)
    axes.set_title(each.name)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    if numbers:
        axes.set_xscale("log")
        is_narrow = max(values) < 100 * min(values)  # where powers of ten alone would be one label or none
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_narrow else (1,), numticks=4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xticks(range(len(distinct)), distinct)
        axes.set_xlim(-0.6, len(distinct) - 0.4)


def draw_curves(job: JobRecord, trials: Sequence[JobRecord]) -> str:
    """Draw loss and accuracy by epoch for train and valid, with the trials' validation in the background."""
    with drawing(WIDE, 320, columns=2) as (figure, panels):
        for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
            for trial in trials:
                draw_curve(axes, trial, "valid", name, color=LINE, linewidth=1.5)
            draw_curve(axes, job, "train", name, color=SERIES[0], marker="o", markersize=4, label="train")
            draw_curve(axes, job, "valid", name, color=SERIES[1], marker="o", markersize=4, label="valid")
            if job.best_epoch:
                axes.axvline(job.best_epoch, color=GOOD, linewidth=1.5, linestyle=(0, (4, 3)), label="kept epoch")
            axes.set_title(name)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(False, axis="x")
        panels[1].yaxis.set_major_formatter(PercentFormatter(1))
        panels[1].legend(loc="lower center", ncols=3)
        return to_svg(figure, "Loss and accuracy by epoch")


def draw_curve(axes: Axes, job: JobRecord, split: str, name: str, **style: Any) -> None:
    points = [(record["epoch"], record[split][name]) for record in job.epochs if name in (record.get(split) or {})]
    axes.plot([epoch for epoch, _ in points], [value for _, value in points], **style)


def draw_classes(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw precision, recall and F1 of classes, one line each, the weakest on top."""
    with drawing(WIDE, 70 + 22 * len(rows)) as (figure, [axes]):
        places = list(range(len(rows)))[::-1]
        for place, row in zip(places, rows, strict=True):
            axes.plot(
                [row["precision"], row["recall"]], [place, place], color=LINE, linewidth=5, solid_capstyle="round"
            )
        for name, colour, marker in zip(("precision", "recall", "f1"), SERIES, (">", "<", "D"), strict=False):
            title = "F1" if name == "f1" else name
            axes.scatter([row[name] for row in rows], places, color=colour, marker=marker, s=34, label=title, zorder=3)
        axes.set_yticks(places, [shorten(row["class"], 34) for row in rows])
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        lowest = min((min(row[name] for name in ("precision", "recall", "f1")) for row in rows), default=0)
        axes.set_xlim(max(0, math.floor(lowest * 10 - 0.5) / 10), 1.01)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))  # whole per cents
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(False, axis="y")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)
        return to_svg(figure, "Precision, recall and F1 by class")


def draw_calibration(bins: Sequence[Mapping[str, float]]) -> str:
    """Draw the share of right answers against confidence; the area of a point is its number of images."""
    most = max(each["images"] for each in bins)
    with drawing(480, 320) as (figure, [axes]):
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=2)
        sizes = [20 + 260 * each["images"] / most for each in bins]
        ends = ([each["confidence"] for each in bins], [each["accuracy"] for each in bins])
        axes.scatter(*ends, s=sizes, color=SERIES[0], alpha=0.8, linewidths=0)
        for scale in (axes.xaxis, axes.yaxis):
            scale.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("confidence")
        axes.set_ylabel("right answers")
        return to_svg(figure, "How often the model is right, by how confident it is")


def draw_phases(sides: Mapping[str, Mapping[str, float]]) -> str:
    """Draw the mean step of each side (before, after) as a stack of phases. Milliseconds by phase."""
    phases = list(dict.fromkeys(phase for each in sides.values() for phase in each))
    with drawing(WIDE, 90 + 46 * len(sides)) as (figure, [axes]):
        places = list(range(len(sides)))[::-1]
        for colour, phase in zip((*SERIES, MUTED), phases, strict=False):
            widths = [each.get(phase, 0.0) for each in sides.values()]
            left = [
                sum(list(each.values())[: list(each).index(phase)]) if phase in each else 0 for each in sides.values()
            ]
            axes.barh(places, widths, left=left, color=colour, height=0.62, label=phase)
        axes.set_yticks(places, list(sides))
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_xlabel("milliseconds a step")
        axes.grid(False, axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(phases), borderaxespad=0, handlelength=1)
        return to_svg(figure, "Time of a mean step by phase")


def draw_timeline(steps: Sequence[Mapping[str, float]]) -> str:
    """Draw sampled steps, each a stack of phases. Milliseconds by phase; `step` is its number."""
    phases = list(dict.fromkeys(name for each in steps for name in each if name != "step"))
    numbers = [each.get("step", place) for place, each in enumerate(steps)]
    with drawing(WIDE, 260) as (figure, [axes]):
        layers = [[each.get(phase, 0.0) for each in steps] for phase in phases]
        axes.stackplot(numbers, layers, colors=(*SERIES, MUTED)[: len(phases)], labels=phases, step="mid", linewidth=0)
        axes.set_xlabel("step")
        axes.set_ylabel("milliseconds")
        axes.margins(x=0)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(phases), borderaxespad=0, handlelength=1)
        return to_svg(figure, "Phases of the steps over the training")


def draw_utilisation(series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw the utilisation of each device over time. (seconds, per cent)."""
    with drawing(WIDE, 240) as (figure, [axes]):
        for colour, (title, points) in zip(SERIES, series.items(), strict=False):
            axes.plot([time for time, _ in points], [value for _, value in points], color=colour, label=title)
        axes.set_ylim(0, 103)
        axes.set_xlabel("seconds")
        axes.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        axes.margins(x=0)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series), borderaxespad=0, handlelength=1)
        return to_svg(figure, "Utilisation over time")


def draw_throughput(rates: Mapping[str, float], name: str, current: str) -> str:
    """Draw images a second at several values of a hyperparameter; the current one is highlighted."""
    with drawing(480, 70 + 34 * len(rates)) as (figure, [axes]):
        places = list(range(len(rates)))[::-1]
        colours = [SERIES[1] if value == current else SERIES[0] for value in rates]
        axes.barh(places, list(rates.values()), color=colours, height=0.55)
        axes.set_yticks(places, [f"{name} {value}" for value in rates])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(False, axis="y")
        axes.set_xlabel("images a second")
        return to_svg(figure, f"Images a second by {name}")
