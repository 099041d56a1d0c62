"""Write the verdict on a run: how good, how sure, its cost, what was deployed, what to do next. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from statistics import NormalDist
from typing import Any
from urllib.parse import quote

from chalicelib.costs.prices import tell_spent
from chalicelib.models.choosing import CANDIDATES
from chalicelib.models.intervals import find_interval
from chalicelib.recipes.imbalance import RATIO
from chalicelib.runs.changes import Version, tell_changes

BEGIN, END = b"<!-- verdict -->", b"<!-- /verdict -->"
NEXT, END_NEXT = b"<!-- next -->", b"<!-- /next -->"  # around what the training alone would advise
HEAD, CHANGES = b"<!-- run -->", b"<!-- changes -->"  # where the page leaves room for what only the whole run knows
WIDE = 0.06  # an interval wider than this says little about a change of the model
EDGE = 0.05  # this part of a range, on the range's own scale, is its edge
GOOD, MINUTE = 0.99, 60
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>{style}</style></head>
<body><h1>{title}</h1><p><!-- run --></p>
<p class="lead"><!-- verdict --><!-- /verdict --></p>
{parts}</body></html>
"""
STYLE = """
:root{--ink:#16211f;--soft:#55645f;--page:#f4f6f5;--card:#fff;--rule:#dbe2df}
@media (prefers-color-scheme:dark){:root{--ink:#e6eeeb;--soft:#a3b3ad;--page:#0e1513;--card:#17201d;--rule:#2b3733}}
body{font:1rem/1.6 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:var(--ink);
background:var(--page)}
h1{font-size:1.6rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.lead,dl,pre{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:1rem;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.5rem;margin:0}dt{color:var(--soft)}dd{margin:0}
pre{font-size:.82rem;line-height:1.45;white-space:pre-wrap}
"""
BROKEN = ("failed", "rejected", "stopped")  # ends of which the reason comes first
JOB_PREFIX = re.compile(r"^(?:AlgorithmError|ClientError|InternalServerError): ")
JOB_SUFFIX = re.compile(r", exit code: \d+$")


@dataclass(frozen=True)
class Story:
    """What a run's folder says about the run; None means that a file is missing. `trials` have the form of the routes.

    `best` holds the winning hyperparameters, `evaluation` is the shipped model's, `cost` the run's. `seconds` are all
    that SageMaker bills. `log` holds the last lines of a failed job. `versions` are those of the model that was live
    and of this run's.
    """

    result: Mapping[str, Any]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    trials: Sequence[Mapping[str, Any]] = ()
    best: Mapping[str, Any] = field(default_factory=dict)
    decision: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    trainings: int = 0
    seconds: int = 0
    cost: Mapping[str, Any] | None = None
    approval: Mapping[str, Any] | None = None
    page_url: str = ""
    versions: tuple[Version, Version] | None = None
    log: Sequence[str] = ()


def tell_verdict(story: Story) -> str:
    """Return the paragraph as plain text. What it begins with is not said again at its end."""
    floor = " ".join(_tell_floor(story))
    end = " ".join(_tell_end(story).replace(floor or "\n", "").split())
    quality = [*_tell_floor(story), *_tell_quality(story), *_tell_objective(story), *_tell_selection(story)]
    first, last = [*quality, *_tell_cost(story)], [end, *_tell_next(story)]
    return " ".join([*last, *first] if story.result["status"] in BROKEN else [*first, *last])


def fill_report(page: bytes | None, story: Story) -> bytes:
    """Put the paragraph into the page that the job drew, or build a short page if no job drew one."""
    page = page if page and BEGIN in page and END in page else build_page(story).encode()
    filled = _fill(page, BEGIN, END, tell_verdict(story))
    if NEXT in filled and (advice := _advise(story)):
        filled = _fill(filled, NEXT, END_NEXT, f"{advice[0].upper()}{advice[1:]}.")
    return filled.replace(HEAD, tell_run(story).encode(), 1).replace(CHANGES, tell_changes(story.versions).encode(), 1)


def _fill(page: bytes, begin: bytes, end: bytes, text: str) -> bytes:
    head, _, rest = page.partition(begin)
    return b"".join([head, begin, escape(text).encode(), end, rest.partition(end)[2]])


def tell_run(story: Story) -> str:
    """Return the run's dataset, dates and duration, and a link to its place on the page, as HTML."""
    result = story.result
    facts = [f"Dataset {result['dataset']}"]
    if ended := result.get("ended_at"):
        facts.append(_tell_time(ended))
    if seconds := result.get("seconds"):
        facts.append(f"took {_tell_duration(float(seconds))}")
    told = escape(" · ".join(facts))
    if not story.page_url:
        return told
    address = f"{story.page_url.rstrip('/')}/#/runs/{quote(str(result.get('run_id', '')))}"
    return f'{told} · <a href="{escape(address)}">this run on the page</a>'


def _tell_time(time: str | None) -> str:
    return f"{datetime.fromisoformat(time):%-d %B %Y, %H:%M} UTC" if time else ""


def _tell_duration(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 60 * MINUTE else f"{seconds / 3600:.1f} h"


def _tell_floor(story: Story) -> list[str]:
    """Begin with the sentence that the model does not beat chance or the most frequent class, where that is so."""
    floor = ((story.decision or {}).get("promotion") or {}).get("floor") or {}
    return [floor["sentence"]] if floor.get("sentence") else []


def build_page(story: Story) -> str:
    """Return the report of a run whose training drew none: what is known of the run, and the end of its log."""
    result = story.result
    facts = {
        "Run": result.get("run_id"),
        "Began": _tell_time(result.get("started_at")),
        "Ended": _tell_time(result.get("ended_at")),
        "Trials": len(story.trials) or None,
        "Architecture": story.recipe.get("architecture"),
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items() if value)
    parts = [f"<h2>The run</h2>\n<dl>{rows}</dl>\n"]
    if story.log:
        lines = escape("\n".join(story.log))
        whole = f"All of it: on the run's page, or whippet run {escape(str(result.get('run_id')))} --logs --lines 10000"
        parts.append(f"<h2>The last {len(story.log)} lines of its log</h2>\n<pre>{lines}</pre>\n<p>{whole}</p>\n")
    title = escape(f"{result['dataset']}: {result['status']}")
    return PAGE.format(title=title, style=STYLE, parts="".join(parts))


def explain_failures(reasons: Sequence[str | None], what: str = "trials") -> str | None:
    """Return the most common reason for which jobs failed, without the service's wrapping; None if none is known."""
    told = list_typical(reasons)
    return f"{len(told)} of {len(reasons)} {what}: {strip_reason(reasons[told[0]] or '')}" if told else None


def list_typical(reasons: Sequence[str | None]) -> list[int]:
    """List the places of the most common reason: the jobs that failed as most of them did."""
    plain = [strip_reason(reason) if reason else None for reason in reasons]
    known = Counter(filter(None, plain))
    leading = known.most_common(1)[0][0] if known else None
    return [place for place, reason in enumerate(plain) if reason and reason == leading]


def strip_reason(reason: str) -> str:
    """Return a job's failure reason without what SageMaker puts around the program's own words."""
    return JOB_SUFFIX.sub("", JOB_PREFIX.sub("", reason.strip())).strip()


def _tell_quality(story: Story) -> list[str]:
    test = (story.result.get("metrics") or {}).get("test") or {}
    if "accuracy" not in test:
        return []
    text = f"{test['accuracy']:.1%} of the test images are classified correctly"
    if images := test.get("images"):
        low, high = find_interval(test["accuracy"], images)
        text += (
            f", {round(test['accuracy'] * images):,} of {images:,}. With so many images the true accuracy is between "
            f"{low:.1%} and {high:.1%} (95% confidence)"
        )
    means = [
        f"macro {name} is {test[f'macro_{name}']:.1%}" for name in ("precision", "recall") if f"macro_{name}" in test
    ]
    return [f"{text}.", *([f"{' and '.join(means).capitalize()}."] if means else [])]


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
        f"there, {objective['value']:.1%}, overstates by up to {100 * most:.1f} points."
    ]


def find_overstatement(error: float, trials: int) -> float:
    """Return by how much the best of equally good trials exceeds their true value on average, if chance orders them.

    This is Blom's approximation of the expected maximum of normal values. Trials judged by the same images resemble one
    another, so that it is the most to expect.
    """
    return error * NormalDist().inv_cdf((trials - 0.375) / (trials + 0.25))


def _tell_cost(story: Story) -> list[str]:
    if not story.seconds:
        return []
    jobs = f"{len(story.trials)} trial{'s' if len(story.trials) != 1 else ''}"
    jobs += " and the final training" if story.trainings else ""
    return [f"{jobs} took {story.seconds:,} billable seconds{tell_spent(story.cost or {})}."]


def _tell_end(story: Story) -> str:
    result = story.result
    if result["status"] == "deployed":
        told = f"{tell_shipped(story)} The endpoint is {result['endpoint']}."
        return f"{told} {_tell_promotion(story, story.decision or {})}".rstrip()
    reason = f": {result['reason'].rstrip('.')}." if result.get("reason") else "."
    return f"Nothing was deployed. The run ended {result['status']}{reason}"


def _tell_promotion(story: Story, decision: Mapping[str, Any]) -> str:
    """Say why the model went live: by the rules, or because a person approved it against them."""
    promotion = decision.get("promotion") or {}
    if not story.approval:
        return promotion.get("sentence") or ""
    told = f"After the run had ended {story.approval['after']}, {story.approval['by']} approved the model."
    return f"{told} {promotion.get('because') or decision.get('declined') or ''}".rstrip()


def tell_shipped(story: Story) -> str:
    """Say which model is deployed, what it scored, and what the other one scored."""
    decision = story.decision or {}
    ships = "trial" if decision.get("ships") == "trial" else "training"
    candidate = decision.get("candidate") or ("trial" if ships == "trial" else "final")
    names = [each.get("name") for each in story.trials]
    job = decision.get("training_job_name")
    name = f"trial {names.index(job) + 1}" if job in names else CANDIDATES.get(candidate, CANDIDATES["final"])
    goal = decision.get("objective") or {}
    own, others = goal.get(ships), goal.get("training" if ships == "trial" else "trial")
    if own is None:
        return f"Deployed: {name}."
    other = "the final training" if ships == "trial" else "the best trial"
    beside = f"; {other} {others:.1%}" if others is not None and (ships, candidate) != ("training", "trial") else ""
    return f"Deployed: {name}. It scored {own:.1%}{beside}."


def _tell_next(story: Story) -> list[str]:
    advice = _advise(story)
    return [f"What to do next: {advice}."] if advice else []


def _advise(story: Story) -> str:
    return "; ".join(list_advice(story))


def list_advice(story: Story) -> list[str]:
    """List at most two pieces of advice, the most promising first, with the command line's command where it has one."""
    status, run = story.result["status"], story.result.get("run_id")
    if status == "deployed":
        return [*_advise_on_weights(story), *_advise_on_ranges(story), *_advise_on_data(story)][:2]
    advices = {
        "rejected": "fix the dataset and upload it again",
        "failed": f"fix what the reason names, then try again (whippet retry {run})",
        "stopped": f"try again to start over (whippet retry {run})",
        "superseded": "see the newer run",
        "declined": f"look at the labels and the reason; approve it to deploy it all the same (whippet approve {run}), "
        "or run it again with another recipe",
        "undecided": f"compare the figures of both models, then approve this one (whippet approve {run}) or leave it",
    }
    return [*_advise_on_weights(story), advices[status]] if status in advices else []


def _advise_on_weights(story: Story) -> list[str]:
    wanted = story.recipe.get("pretrained") != "none"
    scratch = (story.evaluation or {}).get("pretrained") == "none"
    advice = "put pretrained weights into the bucket (make weights) and train again, since this began from scratch"
    return [advice] * (scratch and wanted)


def _advise_on_ranges(story: Story) -> list[str]:
    """Advise to widen a range whose best value lies at its edge: a better one may lie beyond."""
    best, ranges = story.best, story.recipe.get("ranges") or {}
    return [
        f"widen the range of {name}, whose best value {float(best[name]):.3g} is at its edge"
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
        advice.append(f"look at {pair}, and add images of both")
    low, high = find_interval(test.get("accuracy", 0.0), test.get("images") or 0)
    if test.get("images") and high - low > WIDE:
        advice.append(f"add test images, since {test['images']:,} leave the accuracy uncertain")
    return advice or ["nothing; to train again, upload a newer version under the same name"]


def _find_worst_pair(test: Mapping[str, Any]) -> str | None:
    """Describe the worst confusion: of a class with no right answer if there is one, else by its share of the class."""
    cells = [
        ((not row[true], count / sum(row), count), true, said)
        for true, row in enumerate(test.get("confusion") or [])
        for said, count in enumerate(row)
        if true != said and count
    ]
    if not cells:
        return None
    highest = max(rank for rank, _, _ in cells)
    (_, true, said), *tied = [each for each in cells if each[0] == highest]
    names = [each["class"] for each in test.get("classes") or []]
    counts = f"{highest[2]} of {sum(test['confusion'][true])} images"
    others = f"; {len(tied)} other pair{'s are' if len(tied) != 1 else ' is'} as bad" if tied else ""
    return f"images of {names[true]} classified as {names[said]} ({counts}{others}), the worst confusion"
