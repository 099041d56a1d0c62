"""Write a report's evaluation: by class, confusion matrix, most confused pairs, mistakes, labels that look wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from judging.intervals import find_interval
from judging.suspects import find_mistakes, find_suspects, list_judged

from report.charts.choices import (
    count_tied,
    find_pairs,
    find_weak,
)
from report.charts.curves import TYPICAL_CLASSES, draw_calibration, draw_classes
from report.charts.data import Findings
from report.charts.matrix import NUMBERED, cut_matrix, draw_matrix, pick_confused
from report.charts.threshold import TOLD, draw_threshold, trace
from report.page import figure, fold, note, paragraph, percent, table, title
from report.pictures import MapSource, PictureSource, show_doubts, show_pairs, show_shots

PAIRS, EXAMPLES, MISTAKES, SUSPECTS = 9, 2, 24, 24
MAPPED = 12  # of the worst mistakes, those shown with a map
MEASURES = {
    "accuracy": "accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
}
BASELINE = "Baseline: the same network trained with default hyperparameters for the same epochs"
SAME = "This training has the default hyperparameters, so it is its own baseline."
WAYS = {"max_logit": "the largest logit", "neighbours": "the distance to the nearest training images"}
NAMED = 5  # classes in a sentence


def tell_evaluation(found: Findings, pictures: PictureSource | None, maps: MapSource | None = None) -> str:
    """Return everything about the test split."""
    test, predictions = found.job.evaluation.get("test") or {}, found.file("predictions")
    if not test:
        return note("There is no evaluation.json: the training ended before it could be judged.")
    parts = [tell_measures(found, test), tell_classes(test), tell_confusion(test)]
    judged = list_judged(predictions)
    parts.append(tell_pairs(test, judged, pictures))
    if not judged:
        return "".join(
            [*parts, note("There is no predictions.json, so single images cannot be shown."), tell_calibration(test)]
        )
    parts += [tell_mistakes(judged, predictions["classes"], pictures, maps)]
    parts += [tell_suspects(found, list_judged(predictions, ("test", "valid")), pictures)]
    return "".join([*parts, tell_calibration(test), tell_threshold(judged), tell_unknown(found.file("unknown"))])


def tell_measures(found: Findings, test: Mapping[str, Any]) -> str:
    """Return the test split's measures, beside those of the baseline."""
    baseline = found.file("baseline")
    before = baseline.get("test") or {}
    low, high = find_interval(test.get("accuracy", 0.0), test.get("images") or 0)
    told = f"{test.get('images', 0):,} test images took no part in training or selection. "
    told += f"Of as many others, between {low:.1%} and {high:.1%} would be right (95% confidence)."
    heads = ["measure", *(["baseline"] if before else []), "this model", *(["gain"] if before else [])]
    rows = []
    for name, shown in MEASURES.items():
        if name in test:
            gain = f"{100 * (test[name] - before[name]):+.1f} points" if name in before else ""
            rows.append(
                [
                    shown,
                    *([percent(before.get(name))] if before else []),
                    percent(test[name]),
                    *([gain] if before else []),
                ]
            )
    return paragraph(told) + table(heads, rows) + tell_baseline(baseline)


def tell_baseline(baseline: Mapping[str, Any]) -> str:
    """Return what the baseline is, or that there is none."""
    if not baseline.get("test"):
        return paragraph("No baseline was trained: its time had run out, or it failed. The training's log says why.")
    if baseline.get("same"):
        return paragraph(SAME)
    return paragraph(f"{BASELINE} ({baseline.get('epochs')}), fine_tune {baseline.get('fine_tune')}.")


def tell_classes(test: Mapping[str, Any]) -> str:
    """Return measures by class: the lowest drawn, all of them in a table."""
    rows = sorted(test.get("classes") or [], key=lambda row: (not row["support"], row["f1"] or 0.0, row["class"]))
    if not rows:
        return ""
    known = [row for row in rows if row["support"]]
    drawn = known[:TYPICAL_CLASSES]
    caption = "The lowest F1 on top. "
    caption += "Precision: the share of right ones among those called so. Recall: of those that are so."
    heads = ["class", "precision", "recall", "recall, 95% confidence", "F1", "images"]
    body = [list_measures(row) for row in rows]
    name = f"The {len(drawn)} lowest of {len(rows)} classes" if len(rows) > len(drawn) else "By class"
    told = paragraph(tell_weak(known, len(rows), test.get("accuracy", 0.0)))
    return (
        title(name) + told + figure(draw_classes(drawn), caption) + fold(f"All {len(rows)} classes", table(heads, body))
    )


def list_measures(row: Mapping[str, Any]) -> list[Any]:
    """Return a class's row of the table; a class without images has no measures."""
    if not row["support"]:
        return [row["class"], None, None, None, None, 0]
    low, high = find_interval(row["recall"], row["support"])
    interval = f"{low:.0%} to {high:.0%}"
    return [
        row["class"],
        percent(row["precision"]),
        percent(row["recall"]),
        interval,
        percent(row["f1"]),
        row["support"],
    ]


def tell_weak(known: Sequence[Mapping[str, Any]], classes: int, accuracy: float) -> str:
    """Return which classes are surely weaker than the whole, and how many have no images to tell."""
    weak = find_weak(known, accuracy)
    shown = [f"{row['class']} ({round(row['recall'] * row['support'])} of {row['support']})" for row in weak[:NAMED]]
    more = f" and {len(weak) - NAMED} more" if len(weak) > NAMED else ""
    told = f"Recognised less often than images on the whole, beyond chance: {', '.join(shown)}{more}."
    if not weak:
        told = "No class is weaker than the whole beyond chance: with so few images of each, the order may be luck."
    missing = classes - len(known)
    if missing:
        has = "1 class has" if missing == 1 else f"{missing} classes have"
        told += f" {has} no test image, so nothing is known of it and no mean counts it."
    return told


def tell_confusion(test: Mapping[str, Any]) -> str:
    """Return the confusion matrix; with many classes also an excerpt of the most confused ones."""
    confusion, classes = test.get("confusion") or [], [row["class"] for row in test.get("classes") or []]
    if not confusion or len(classes) != len(confusion):
        return ""
    caption = "Rows are labels, columns the model's answers; the deeper the colour, the larger the share of the row."
    parts = [title("Confusion matrix")]
    if len(classes) > NUMBERED and (chosen := pick_confused(confusion)):
        names = [classes[number] for number in chosen]
        cut = cut_matrix(confusion, chosen)
        parts.append(
            figure(draw_matrix(names, cut), f"The {len(chosen)} most confused of {len(classes)} classes. {caption}")
        )
        caption = f"All {len(classes)} classes; rest the pointer on a cell for its count."
    return "".join([*parts, figure(draw_matrix(classes, confusion), caption)])


def tell_pairs(test: Mapping[str, Any], judged: Sequence[Any], pictures: PictureSource | None) -> str:
    classes = [row["class"] for row in test.get("classes") or []]
    pairs = find_pairs(test.get("confusion") or [], judged, EXAMPLES)
    if not pairs:
        return title("Most confused pairs") + paragraph("No image was assigned to another class.")
    tied = count_tied(pairs, PAIRS)
    told = "Classes with no right answer first, then by the share of the class's images."
    told += f" {tied} more rank as high as the last one shown." if tied else ""
    return title("Most confused pairs") + paragraph(told) + show_pairs(pairs[:PAIRS], classes, pictures)


def tell_mistakes(
    judged: Sequence[Any], classes: Sequence[str], pictures: PictureSource | None, maps: MapSource | None = None
) -> str:
    found = find_mistakes(judged, MISTAKES)
    wrong = sum(image.predicted != image.label for image in judged)
    if not found:
        return title("Worst mistakes") + paragraph("There are none.")
    told = f"The {len(found)} of {wrong} wrong answers that were given with most confidence."
    shown = show_shots(found[:MAPPED], classes, pictures, maps) + show_shots(found[MAPPED:], classes, pictures)
    if maps:
        told += " Bright in the second image is what spoke for the answer."
    return title("Worst mistakes") + paragraph(told) + shown


def tell_suspects(found: Findings, judged: Sequence[Any], pictures: PictureSource | None) -> str:
    """Return the images of every split whose label looks wrong; of few training images only a ranking."""
    classes = found.file("predictions")["classes"]
    suspects = find_suspects(judged, SUSPECTS)
    told = "Images that look so much like another class, and so little like their label, that the label may be wrong. "
    told += "Look at them before anything else: a wrong label costs twice. dataset-fixes.csv lists all of them."
    parts = [title("Labels that look wrong"), paragraph(told), tell_doubts(found.file("labels"), classes, pictures)]
    parts.append(paragraph("Validation and test, by the model's answers (confident learning):"))
    shots = show_shots(suspects, classes, pictures) if suspects else paragraph("No label of theirs looks wrong.")
    return "".join([*parts, shots])


def tell_doubts(labels: Mapping[str, Any], classes: Sequence[str], pictures: PictureSource | None) -> str:
    """Return the training images among them."""
    if not labels:
        return paragraph("The training images were not judged: there is no labels.json.")
    doubts = labels.get("train") or []
    seen = f"{labels.get('images', 0):,} training images, by features of {labels.get('features')}, out of fold: "
    if not doubts:
        return paragraph(f"{seen}no label looks wrong.")
    told = f"{len(doubts)} of them." if labels.get("sure") else "too few, or features too weak, to say which are wrong."
    told += "" if labels.get("sure") else " These are the most doubtful ones, in order."
    return paragraph(seen + told) + show_doubts(doubts[:SUSPECTS], classes, pictures)


def tell_calibration(test: Mapping[str, Any]) -> str:
    """Return whether confidence can be trusted."""
    calibration = {"ece": 0.0, "temperature": 1.0, "ece_at_temperature": 0.0} | (test.get("calibration") or {})
    if not calibration.get("bins"):
        return ""
    distance, temperature = calibration["ece_at_temperature"], calibration["temperature"]
    caption = f"Points on the line: the model is as often right as it says. Mean distance {distance:.1%}."
    if temperature != 1.0:
        caption += (
            f" The endpoint divides logits by {temperature:.2f}; without that it would be {calibration['ece']:.1%}."
        )
    return title("Can its confidence be trusted?") + figure(draw_calibration(calibration["bins"]), caption)


def tell_threshold(judged: Sequence[Any]) -> str:
    """Return what is left, and how much of it is right, if only sure answers are taken."""
    caption = "The answers whose probability reaches the threshold: how many images get one, and how many are right."
    rows = [
        [f"{each.threshold:g}", percent(each.share), percent(each.accuracy), len(judged) - each.answers]
        for each in trace(judged, TOLD)
    ]
    heads = ["?threshold=", "images that get an answer", "of those, right", "left to a person"]
    return title("What a threshold buys") + figure(draw_threshold(trace(judged)), caption) + table(heads, rows)


def tell_unknown(unknown: Mapping[str, Any]) -> str:
    """Return how well images of no class are told, and how many images of known classes are lost to that."""
    if not unknown:
        return ""
    heading = title("Images of no class")
    if not unknown.get("on"):
        return heading + paragraph(f"The endpoint calls no image unknown: {unknown.get('reason')}.")
    cover, measured = unknown["coverage"], unknown.get("measured")
    told = f"The endpoint calls an image unknown by {WAYS[unknown['method']]}. Of {cover['images']:,} test images "
    told += f"{cover['share']:.1%} are called known (95% confidence: {cover['low']:.1%} to {cover['high']:.1%})."
    if not measured:
        return heading + paragraph(told + " With so few classes it cannot be measured how well foreign ones are told.")
    rows = [
        [WAYS[name], f"{each['auroc']:.3f}", percent(each["fpr_at_95"])] for name, each in measured["others"].items()
    ]
    heads = ["method", "AUROC", "foreign images called known, at 95% of the known ones"]
    more = f"Measured on {measured['held_out']} classes that a head had not learnt; the method was chosen on "
    more += f"{measured['chosen_on']} others."
    more += " The model itself had seen all of them, so this flatters." if unknown.get("seen") else ""
    return heading + paragraph(told) + table(heads, rows) + paragraph(more)
