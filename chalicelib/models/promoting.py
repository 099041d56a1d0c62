"""Decide whether a new model goes live: the floor for every one, and the comparison with the live model. Pure.

comparison.json (the final training's), the recipe, the live run ──▶ judge_promotion ──▶ deploy, decline, or ask
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chalicelib.models.intervals import (
    find_interval,
    find_paired_interval,
    find_paired_lower,
    find_smallest_difference,
)
from chalicelib.recipes.values import Promotion

DEPLOY, ASK, DECLINE = "deploy", "ask", "decline"
LEAST_IMAGES = 50  # common images below which a comparison decides nothing
DEPLOY_LEVEL = 0.8  # of the one-sided lower bound from which a model goes live
MOST_CHANGED = 0.02  # of the labels, between two versions of a dataset
MOST_FALLEN = 0.1  # of the live model's accuracy from its own test to the new one, where the own one is gone
MOST_NAMED = 5  # classes in a sentence
FLOOR = ("images", "correct", "accuracy", "lower", "chance", "most_frequent")
COUNTS = ("images", "both", "only_new", "only_live", "neither")
HOW_TO_APPROVE = "Approving this one deploys it all the same."

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What is known when a model may go live. None of a document means that it is not there.

    `live` is the run that the endpoint serves or soon will, or None. `comparison` is the final training's file, where
    its model is the one that ships; `evaluation` and `baseline` are what the jobs measured.
    """

    live: str | None = None
    comparison: Document | None = None
    evaluation: Document | None = None
    baseline: Document | None = None


@dataclass
class Findings:
    """What speaks against a deployment: reasons to decline, and reasons to ask. `notes` are told, and decide nothing.

    `about` says what was compared, and `numbers` hold it for programs.
    """

    declines: list[str] = field(default_factory=list)
    asks: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


def judge_promotion(plan: Promotion, facts: Facts) -> dict[str, Any]:
    """Return decision.json's `promotion`: the action, a sentence that explains it, and the numbers behind it.

    Every reason to decline comes before every reason to ask. Where the recipe says `always`, both are only told.
    """
    found = Findings()
    floor = judge_floor(facts, found)
    if facts.live:
        judge_against_live(plan, facts, facts.live, found)
    elif other := ((facts.comparison or {}).get("live") or {}).get("run"):
        found.notes.append(f"The model of {other}, which was live when the final training began, is not live any more.")
    if note := tell_baseline(facts):
        found.notes.append(note)
    action = choose_action(plan, found)
    return {
        "action": action,
        "when": plan.when,
        "sentence": " ".join(tell_action(plan, facts, action, found)),
        "because": " ".join([*found.declines, *found.asks, *found.about, *found.notes]),
        "floor": floor,
        "compared_with": facts.live,
        **found.numbers,
    }


def choose_action(plan: Promotion, found: Findings) -> str:
    if plan.when == "always":
        return DEPLOY
    if found.declines:
        return DECLINE
    return ASK if found.asks or plan.when == "ask" else DEPLOY


def tell_action(plan: Promotion, facts: Facts, action: str, found: Findings) -> list[str]:
    """List the sentences of a decision, the outcome first: a list of runs shows only the beginning."""
    reasons = [*found.declines, *found.asks]
    stays = "The live model stays" if facts.live else "Nothing goes live"
    if action == DEPLOY and reasons:
        return ["This model goes live because promotion.when is 'always'.", *reasons, *found.about, *found.notes]
    if action == DEPLOY:
        replaced = f"replaces that of {facts.live}" if facts.live else "goes live: no other of this dataset does"
        return [f"This model {replaced}.", *found.about, *found.notes]
    if action == DECLINE:
        return [f"{stays}, as this one is declined.", *reasons, *found.about, *found.notes, HOW_TO_APPROVE]
    asked = reasons or [f"promotion.when is {plan.when!r}."]
    return [f"{stays} until a person decides.", *asked, *found.about, *found.notes, HOW_TO_APPROVE]


def is_sound(comparison: Any) -> bool:
    """Return whether a comparison holds what is read of it. Another version of the program may have written it."""
    try:
        live, candidates = comparison["live"] or {"run": "", "tests": []}, comparison["candidates"]
        classes, labels, tests = live.get("classes") or {}, live.get("labels_changed") or {}, live["tests"]
        numbers = [comparison["floor"][name] for name in FLOOR]
        numbers += [each["valid"]["objective"] for each in candidates]
        counts = [test[name] for test in tests for name in COUNTS]
        counts += [labels.get(name) or 0 for name in ("changed", "compared")]
        before = live.get("before") or {"images": 0, "accuracy": 0.0}
        counts, numbers = [*counts, before["images"]], [*numbers, before["accuracy"]]
        texts = [comparison["ships"], live["run"], live.get("problem") or "", *(comparison.get("problems") or ())]
        texts += [*(each["candidate"] for each in candidates), *(test["name"] for test in tests)]
        texts += [name for kind in ("shared", "lost", "new") for name in classes.get(kind) or ()]
    except (KeyError, TypeError, AttributeError):
        return False
    are_counts = all(type(count) is int and count >= 0 for count in counts)
    return (
        are_counts
        and all(isinstance(each, int | float) for each in numbers)
        and all(type(each) is str for each in texts)
    )


# The floor: every model that goes live beats chance and the most frequent class.


def judge_floor(facts: Facts, found: Findings) -> dict[str, Any]:
    """Judge whether the lower bound of the test accuracy is above chance and above the most frequent class's share.

    Where so few images could not show it even if all were right, the accuracy itself is compared, and that is told.
    """
    floor = read_floor(facts)
    if floor is None:
        found.notes.append("Whether it beats chance is not known, as its job left no counts of the test images.")
        return {"beaten": None, "sentence": None}
    bar = max(floor["chance"], floor["most_frequent"])
    named = "the most frequent class" if floor["most_frequent"] >= floor["chance"] else "chance"
    right = f"{floor['correct']} of {floor['images']:,} test images"
    if floor["lower"] > bar:
        note = f"It is right on {right}: the lower bound, {floor['lower']:.1%}, is above {named}, {bar:.1%}."
        found.about.append(note)
        return {"beaten": True, "sentence": None, **floor}
    if find_interval(1.0, floor["images"])[0] <= bar and (floor["accuracy"] > bar or not floor["images"]):
        sentence = f"{floor['images']} test images are too few to show that the model beats {named} ({bar:.1%})."
        found.notes.append(sentence)
        return {"beaten": None, "sentence": sentence, **floor}
    sentence = (
        f"The model is not shown to be better than {named}: it is right on {right}, its lower bound is "
        f"{floor['lower']:.1%}, and {named} reaches {bar:.1%}."
    )
    found.declines.append(sentence)
    return {"beaten": False, "sentence": sentence, **floor}


def read_floor(facts: Facts) -> dict[str, Any] | None:
    """Return the counts that the floor is judged by: the comparison's, else the evaluation's. None without either."""
    told = (facts.comparison or {}).get("floor")
    if told:
        return {name: told[name] for name in FLOOR}
    test = (facts.evaluation or {}).get("test") or {}
    counts = test.get("confusion")
    if not counts:
        return None
    images, correct = sum(map(sum, counts)), sum(row[place] for place, row in enumerate(counts))
    accuracy = correct / images if images else 0.0
    return {
        "images": images,
        "correct": correct,
        "accuracy": accuracy,
        "lower": find_interval(accuracy, images)[0],
        "chance": 1 / len(counts),
        "most_frequent": max(map(sum, counts)) / images if images else 0.0,
    }


def tell_baseline(facts: Facts) -> str | None:
    """Return a sentence where the model is not better than the baseline: it is told, and declines nothing."""
    of_baseline = ((facts.baseline or {}).get("test") or {}).get("accuracy")
    floor = read_floor(facts)
    if of_baseline is None or not floor or not floor["images"] or floor["accuracy"] > of_baseline:
        return None
    return f"It is not better than the baseline: {floor['accuracy']:.1%} of the test images against {of_baseline:.1%}."


# The comparison with the live model.


def judge_against_live(plan: Promotion, facts: Facts, live: str, found: Findings) -> None:
    """Judge the comparison with the live model, and whether it was made with the one that is live now."""
    if facts.comparison is None:
        found.asks.append(f"The final training left no comparison with the live model of {live}.")
        return
    told = facts.comparison.get("live")
    if told is None or told["run"] != live:
        what = f"compared with that of {told['run']}" if told else "compared with none"
        found.asks.append(f"The live model changed meanwhile: this one was {what}, and that of {live} is live now.")
        return
    judge_tests(plan, told, found)
    judge_fall(told, found)
    judge_classes(told.get("classes") or {}, found)
    judge_labels(told.get("labels_changed") or {}, found)
    if told.get("problem"):
        found.notes.append(told["problem"])


def judge_tests(plan: Promotion, told: Document, found: Findings) -> None:
    """Judge each set of common images. Failing one of them is enough."""
    tests = [measure_test(test) for test in told.get("tests") or ()]
    if not tests:
        found.asks.append(f"This model could not be compared with the live one of {told['run']}.")
        return
    for test in leave_out_repeated(tests):
        found.about.append(tell_test(test, told["run"]))
        if test["images"] < LEAST_IMAGES:
            found.asks.append(
                f"Only {test['images']} common images are left of {tell_name(test)}, and fewer than {LEAST_IMAGES} "
                "decide nothing."
            )
        elif test["interval"][1] < -plan.margin:
            found.declines.append(
                f"It is worse by more than {tell_points(plan.margin)} on {tell_name(test)}, with 95% confidence."
            )
        elif test["lower"] <= -plan.margin:
            found.asks.append(f"On {tell_name(test)} it may be worse by more than {tell_points(plan.margin)}.")
    worst = min(tests, key=lambda test: test["lower"])
    shown = ("difference", "interval", "images", "smallest_difference")
    found.numbers |= {name: worst[name] for name in shown} | {"tests": tests}


def leave_out_repeated(tests: Sequence[Document]) -> list[Document]:
    """Return the sets of images without those that came out as one before: a run of the same upload has one test."""
    return list({tuple(test[name] for name in COUNTS): test for test in reversed(tests)}.values())[::-1]


def judge_fall(told: Document, found: Findings) -> None:
    """Ask where the live model is far worse on the new test than on its own, and its own images cannot be compared.

    Labels that were exchanged in the new version make a model of them look better than the live one.
    """
    tests, before = {test["name"]: test for test in told.get("tests") or ()}, told.get("before")
    new, own = tests.get("new"), tests.get("live")
    if not before or not new or not new["images"] or (own and own["images"] >= LEAST_IMAGES):
        return
    reached = (new["both"] + new["only_live"]) / new["images"]
    highest = find_interval(reached, new["images"])[1]
    if highest < find_interval(before["accuracy"], before["images"])[0] - MOST_FALLEN:
        found.asks.append(
            f"The live model is right on {reached:.1%} of the new test images, and was on {before['accuracy']:.1%} of "
            "its own, which cannot be compared: labels or images may have changed."
        )


def measure_test(test: Document) -> dict[str, Any]:
    """Return the difference of two accuracies on the same images, its bounds, and the smallest one to be shown."""
    images, only_new, only_live = test["images"], test["only_new"], test["only_live"]
    low, high = find_paired_interval(only_new, only_live, images)
    return {
        **test,
        "difference": round((only_new - only_live) / images, 6) if images else 0.0,
        "interval": [round(low, 6), round(high, 6)],
        "lower": round(find_paired_lower(only_new, only_live, images, DEPLOY_LEVEL), 6),
        "smallest_difference": round(find_smallest_difference(only_new + only_live, images), 6),
    }


def tell_test(test: Document, run: str) -> str:
    """Say what was compared, on how many images, the difference with its interval, and what the images can show."""
    images, both = test["images"], test["both"]
    if not images:
        return f"No image of {tell_name(test)} is left that neither model has learnt from."
    shares = [(both + test[name]) / images for name in ("only_new", "only_live")]
    low, high = test["interval"]
    return (
        f"On {images:,} common images of {tell_name(test)} it is right on {shares[0]:.1%}, the live model of {run} on "
        f"{shares[1]:.1%}: a difference of {100 * test['difference']:+.1f} points (95% interval {100 * low:+.1f} to "
        f"{100 * high:+.1f}); on so many images only a difference of {tell_points(test['smallest_difference'])} or "
        "more shows."
    )


def tell_name(test: Document) -> str:
    return "the live model's own test images" if test["name"] == "live" else "the new test images"


def tell_points(share: float) -> str:
    points = f"{100 * share:.1f}".removesuffix(".0")
    return f"{points} point" if points == "1" else f"{points} points"


def judge_classes(classes: Document, found: Findings) -> None:
    """A class that the live model knows and the new one does not is for a person to give up."""
    if lost := classes.get("lost"):
        found.asks.append(f"It does not know {name_some(lost)}, which the live model knows.")
    if lost or classes.get("new"):
        found.notes.append(f"Only images of the {len(classes.get('shared') or ())} shared classes were compared.")


def name_some(names: Sequence[str]) -> str:
    """List a few names, and count the others."""
    some = ", ".join(names[:MOST_NAMED])
    return some if len(names) <= MOST_NAMED else f"{some} and {len(names) - MOST_NAMED} more classes"


def judge_labels(labels: Document, found: Findings) -> None:
    """Where many labels changed between the versions, old and new answers are right by different standards."""
    changed, compared = labels.get("changed") or 0, labels.get("compared") or 0
    if not changed or not compared:
        return
    told = f"{changed:,} of {compared:,} labels changed between the two versions ({changed / compared:.1%})"
    if changed > MOST_CHANGED * compared:
        found.asks.append(f"{told}, more than {MOST_CHANGED:.0%}.")
    else:
        found.notes.append(f"{told}.")
