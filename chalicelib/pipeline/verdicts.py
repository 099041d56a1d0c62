"""Write the verdict on a run: how good, how sure, its cost, what was deployed, what to do next. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from statistics import NormalDist
from typing import Any
from urllib.parse import quote

from chalicelib.models.choosing import CANDIDATES
from chalicelib.models.intervals import find_interval
from chalicelib.recipes.imbalance import RATIO
from chalicelib.runs.changes import Version, list_changes

BEGIN, END = b"<!-- verdict -->", b"<!-- /verdict -->"
HEAD, CHANGES = b"<!-- run -->", b"<!-- changes -->"  # where the page leaves room for what only the whole run knows
WIDE = 0.06  # an interval wider than this says little about a change of the model
EDGE = 0.05  # this part of a range, on the range's own scale, is its edge
GOOD = 0.99
MINUTE = 60
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>body{{font:1rem/1.6 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}</style></head>
<body><h1>{title}</h1><p><!-- verdict --><!-- /verdict --></p></body></html>
"""


@dataclass(frozen=True)
class Story:
    """What a run's folder says about the run; None means that a file is missing. `trials` have the form of the routes.

    `best` holds the winning hyperparameters, `evaluation` is the shipped model's, `cost` the run's. Times are seconds.
    `versions` are those of the model that was live and of this run's.
    """

    result: Mapping[str, Any]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    trials: Sequence[Mapping[str, Any]] = ()
    best: Mapping[str, Any] = field(default_factory=dict)
    decision: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    training_seconds: int | None = None
    cost: Mapping[str, Any] | None = None
    approval: Mapping[str, Any] | None = None
    page_url: str = ""
    versions: tuple[Version, Version] | None = None


def count_trial_seconds(trials: Sequence[Mapping[str, Any]]) -> int:
    """Sum the seconds that SageMaker bills for trials, by each trial's own times, rounded up to whole seconds."""
    spans = [(trial.get("started_at"), trial.get("ended_at")) for trial in trials]
    return sum(max(1, math.ceil(_seconds(start, end))) for start, end in spans if start and end)


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def tell_verdict(story: Story) -> str:
    """Return the paragraph as plain text."""
    quality = [*_tell_floor(story), *_tell_quality(story), *_tell_objective(story), *_tell_selection(story)]
    return " ".join([*quality, *_tell_cost(story), _tell_end(story), *_tell_next(story)])


def fill_report(page: bytes | None, story: Story) -> bytes:
    """Put the paragraph into the page that the job drew, or build a page of the paragraph alone if no job drew one."""
    title = escape(f"{story.result['dataset']}: {story.result['status']}")
    page = page if page and BEGIN in page and END in page else PAGE.format(title=title).encode()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    filled = b"".join([head, BEGIN, escape(tell_verdict(story)).encode(), END, tail])
    return filled.replace(HEAD, tell_run(story).encode(), 1).replace(CHANGES, tell_changes(story).encode(), 1)


def tell_changes(story: Story) -> str:
    """Return what changed since the version that was live, as HTML; nothing for a dataset's first version."""
    if story.versions is None:
        return ""
    before, after = story.versions
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in list_changes(before, after)
    )
    told = f"<p>Compared with {escape(before.run_id)}, whose model was live when this one was trained.</p>"
    heads = "<tr><th>what</th><th>before</th><th>now</th></tr>"
    table = f'<div class="scroll"><table class=words><thead>{heads}</thead><tbody>{rows}</tbody></table></div>'
    return f"<h3>What changed since the last version</h3>{told}{table if rows else '<p>Nothing.</p>'}"


def tell_run(story: Story) -> str:
    """Return the run's dataset, dates and duration, and a link to its place on the page, as HTML."""
    result = story.result
    facts = [f"Dataset {result['dataset']}"]
    if ended := result.get("ended_at"):
        facts.append(f"{datetime.fromisoformat(ended):%-d %B %Y, %H:%M} UTC")
    if seconds := result.get("seconds"):
        facts.append(f"took {_tell_duration(float(seconds))}")
    told = escape(" · ".join(facts))
    if not story.page_url:
        return told
    address = f"{story.page_url.rstrip('/')}/#/runs/{quote(str(result.get('run_id', '')))}"
    return f'{told} · <a href="{escape(address)}">this run on the page</a>'


def _tell_duration(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 60 * MINUTE else f"{seconds / 3600:.1f} h"


def _tell_floor(story: Story) -> list[str]:
    """Begin with the sentence that the model does not beat chance or the most frequent class, where that is so."""
    floor = ((story.decision or {}).get("promotion") or {}).get("floor") or {}
    return [floor["sentence"]] if floor.get("sentence") else []


def _tell_quality(story: Story) -> list[str]:
    test = (story.result.get("metrics") or {}).get("test") or {}
    if "accuracy" not in test:
        return []
    text = f"The model classifies {test['accuracy']:.1%} of the test images correctly"
    if images := test.get("images"):
        low, high = find_interval(test["accuracy"], images)
        text = (
            f"The model classifies {round(test['accuracy'] * images)} of {images:,} test images correctly, "
            f"{test['accuracy']:.1%}; the true share lies between {low:.1%} and {high:.1%} (95 % confidence)"
        )
    means = [f"macro {name} {test[f'macro_{name}']:.3f}" for name in ("precision", "recall") if f"macro_{name}" in test]
    return [f"{text}{'; ' if means else ''}{', '.join(means)}."]


def _tell_objective(story: Story) -> list[str]:
    """Say that macro F1 selected the model if the classes' counts differ, so that nobody takes it for the accuracy."""
    evaluation = story.evaluation or {}
    ratio = ((evaluation.get("choices") or {}).get("imbalance") or {}).get("ratio") or 0.0
    if ratio < RATIO or (evaluation.get("objective") or {}).get("name") != "valid:macro_f1":
        return []
    told = f"the largest class has {ratio:.1f} times the training images of the smallest"
    return [f"The model was selected by macro F1, which counts every class alike, since {told}."]


def _tell_selection(story: Story) -> list[str]:
    """Say on what the model was selected, and by how much the best of so many trials may look better than it is."""
    objective = (story.evaluation or {}).get("objective") or {}
    count = sum(trial.get("objective") is not None for trial in story.trials)
    if count < 2 or not objective.get("standard_error"):
        return []
    selection = (story.evaluation or {}).get("selection")
    folds = f" by {selection['folds']}-fold cross-validation" if selection else ""
    most = find_overstatement(objective["standard_error"], count)
    return [
        f"It was selected among {count} trials on {objective['images']:,} images{folds}: its {objective['name']} "
        f"there, {objective['value']:.4f}, overstates by up to {most:.4f}."
    ]


def find_overstatement(error: float, trials: int) -> float:
    """Return by how much the best of equally good trials exceeds their true value on average, if chance orders them.

    This is Blom's approximation of the expected maximum of normal values. Trials judged by the same images resemble one
    another, so that it is the most to expect.
    """
    return error * NormalDist().inv_cdf((trials - 0.375) / (trials + 0.25))


def _tell_cost(story: Story) -> list[str]:
    seconds = count_trial_seconds(story.trials) + (story.training_seconds or 0)
    if not seconds:
        return []
    jobs = f"{len(story.trials)} trial{'s' if len(story.trials) != 1 else ''}"
    jobs += " and the final training" if story.training_seconds else ""
    return [f"It took {jobs}: {seconds:,} billable seconds{_tell_dollars(story.cost or {})}."]


def _tell_dollars(cost: Mapping[str, Any]) -> str:
    if cost.get("spent_usd") is None:
        return ""
    told = f", ${cost['spent_usd']:,.2f}"
    if cost.get("expected_usd") is None:
        return told
    return f"{told} (${cost['expected_usd']:,.2f} were expected, ${cost['worst_usd']:,.2f} the most it could cost)"


def _tell_end(story: Story) -> str:
    result, decision = story.result, story.decision or {}
    if result["status"] == "deployed":
        ships = CANDIDATES.get(decision.get("candidate") or decision.get("ships") or "final", CANDIDATES["final"])
        text = f"The model of {ships} is deployed on the endpoint {result['endpoint']}."
        return " ".join(filter(None, (text, _tell_why(decision), _tell_promotion(story, decision))))
    reason = f": {result['reason']}" if result.get("reason") else "."
    return f"Nothing was deployed, as the run ended {result['status']}{reason}"


def _tell_promotion(story: Story, decision: Mapping[str, Any]) -> str:
    """Say why the model went live: by the rules, or because a person approved it against them."""
    promotion = decision.get("promotion") or {}
    if not story.approval:
        return promotion.get("sentence") or ""
    told = f"After the run had ended {story.approval['after']}, {story.approval['by']} approved the model."
    return f"{told} {promotion.get('because') or decision.get('declined') or ''}".rstrip()


def _tell_why(decision: Mapping[str, Any]) -> str:
    """Explain why the trial's model ships. The report does not show this, because the training drew it."""
    if decision.get("ships") != "trial":
        return ""
    return f"{decision.get('reason') or ''} What is shown below is the training's model.".lstrip()


def _tell_next(story: Story) -> list[str]:
    """Give at most two pieces of advice, the most promising first."""
    status = story.result["status"]
    if status == "deployed":
        advice = [*_advise_on_weights(story), *_advise_on_ranges(story), *_advise_on_data(story)]
        return [f"What to do next: {'; '.join(advice[:2])}."] if advice else []
    advices = {
        "rejected": "fix the dataset and upload it again",
        "failed": "fix what the reason names, then POST /runs/RUN_ID/retry",
        "stopped": "POST /runs/RUN_ID/retry starts it again",
        "superseded": "see the newer run",
        "declined": "look at the labels and the reason; POST /runs/RUN_ID/approve deploys the model all the same, and "
        "another recipe beside the zip starts a new training",
        "undecided": "compare the two models on the reason's figures, then POST /runs/RUN_ID/approve, or leave it",
    }
    return [f"What to do next: {advices[status]}."] if status in advices else []


def _advise_on_weights(story: Story) -> list[str]:
    wanted = story.recipe.get("pretrained") != "none"
    scratch = (story.evaluation or {}).get("pretrained") == "none"
    return ["give the job pretrained weights (WEIGHTS_URI), since it was trained from scratch"] * (scratch and wanted)


def _advise_on_ranges(story: Story) -> list[str]:
    """Advise to widen a range whose best value lies at its edge: a better one may lie beyond."""
    best, ranges = story.best, story.recipe.get("ranges") or {}
    return [
        f"widen the range of {name}, whose best value {float(best[name]):.3g} lies at its edge"
        for name, each in ranges.items()
        if isinstance(each, Mapping)
        and "min" in each
        and name in best
        and _is_at_edge(float(best[name]), each["min"], each["max"])
    ]


def _is_at_edge(value: float, low: float, high: float) -> bool:
    if min(value, low, high) <= 0 or low >= high:
        return False
    place = math.log(value / low) / math.log(high / low)
    return not EDGE < place < 1 - EDGE


def _advise_on_data(story: Story) -> list[str]:
    test = (story.result.get("metrics") or {}).get("test") or {}
    advice = []
    if test.get("accuracy", 1.0) < GOOD and (pair := _find_worst_pair(test)):
        advice.append(f"look at {pair[0]} called {pair[1]}, the most frequent confusion, and add images of both")
    low, high = find_interval(test.get("accuracy", 0.0), test.get("images") or 0)
    if test.get("images") and high - low > WIDE:
        advice.append(f"test on more images, since {test['images']:,} leave the accuracy uncertain")
    return advice or ["nothing; to train again, upload a newer dataset under the same name"]


def _find_worst_pair(test: Mapping[str, Any]) -> tuple[str, str] | None:
    names = [each["class"] for each in test.get("classes") or []]
    cells = [
        (count, names[true], names[said])
        for true, row in enumerate(test.get("confusion") or [])
        for said, count in enumerate(row)
        if true != said and count
    ]
    return max(cells)[1:] if cells else None
