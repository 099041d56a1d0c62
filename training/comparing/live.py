"""Compare the model that ships with the live one: on the images of its own test, and on those of the live model's.

Counted are images that neither model was trained, tuned or calibrated on, of classes that both know. Nothing that is
missing or broken fails the training: `problem` tells it, and what was compared until then stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from images.early import find_archive
from job.metrics import log
from learning.engine import Stopped
from learning.preparation import Setup

from comparing.answers import StopAsked, answer_files, answer_split, open_source
from comparing.archives import Artifact, Unusable, read_artifact
from comparing.candidates import Candidate
from comparing.history import (
    USED,
    Image,
    Seen,
    find_lookalikes,
    find_wishes,
    list_images,
    read_images,
    read_listed,
    read_trained,
)
from comparing.looks import choose_distance
from comparing.tables import compare_classes, count_changed, sort_out, tabulate

MOST_COMPARED = 10_000  # images; more would tell differences below a point, and take long
UNFINISHED = "the training ended before the comparison with the live model did"
PARTLY_KNOWN = "its manifest lists only its training images, so images that it was validated on may be among the others"


@dataclass
class Account:
    """What is known so far of the comparison with the live model. before: its accuracy on its own test, as it was told.

    It says whether labels may have changed, where the images of that test are gone.
    """

    run: str
    before: dict[str, float] | None = None
    problems: list[str] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=lambda: {"shared": [], "lost": [], "new": []})
    labels_changed: dict[str, int] = field(default_factory=lambda: {"changed": 0, "compared": 0})
    tests: list[dict[str, Any]] = field(default_factory=list)

    def describe(self, *pending: str) -> dict[str, Any]:
        """Build the member `live` of comparison.json. pending: what is a problem unless the comparison goes on."""
        problems = "; ".join([*self.problems, *pending])
        return {
            "run": self.run,
            "before": self.before,
            "problem": f"Not all could be compared with the live model: {problems}." if problems else None,
            "classes": self.classes,
            "labels_changed": self.labels_changed,
            "tests": self.tests,
        }


def open_account(setup: Setup) -> Account | None:
    """Return an account in which nothing was compared yet; None if no model is live."""
    if not setup.chosen.live_run and not setup.job.places.live_model:
        return None
    return Account(setup.chosen.live_run)


def compare_live(account: Account, winner: Candidate, stop_asked: StopAsked) -> None:
    """Fill in the account. Never raises an Exception. winner: the model that ships, with its weights in its network."""
    try:
        fill(account, winner, stop_asked)
    except Stopped:
        account.problems.append(UNFINISHED)
    except Unusable as error:
        account.problems.append(str(error))
    except Exception as error:  # noqa: BLE001  the new model is worth more than a comparison
        account.problems.append(f"the comparison failed ({type(error).__name__}: {error})")
    for problem in account.problems:
        log(f"WARNING: comparison with the live model of {account.run or 'an unknown run'}: {problem}")


def fill(account: Account, winner: Candidate, stop_asked: StopAsked) -> None:
    """Compare as far as what the live model left allows."""
    setup = winner.setup
    places, scratch = setup.job.places, setup.job.places.output / "scratch"
    if stop_asked():
        raise Stopped
    live = read_artifact(places.live_model, scratch / "live")
    account.run = account.run or str(live.manifest.get("run_id") or "")
    account.before = read_accuracy(live.manifest)
    account.classes = compare_classes(setup.dataset.classes, live.classes)
    own, listed = list(list_images(setup.dataset, setup.keys)), read_listed(live.manifest)
    old: list[Image] = []
    try:
        old = read_images(places.live_dataset, live.manifest, listed, scratch, stop_asked)
    except Unusable as error:
        account.problems.append(str(error))
    account.labels_changed = count_changed(own, old)
    account.problems += [PARTLY_KNOWN] if listed is None and not old else []
    live.network.to(setup.device, memory_format=torch.channels_last)
    match = Match(winner, live, find_seen(own, old, live, listed), set(account.classes["shared"]), stop_asked)
    account.tests.append(match.answer_own([image for image in own if image.split == "test"]))
    if old and places.live_dataset:
        account.tests.append(match.answer_old([image for image in old if image.split == "test"], places.live_dataset))


def read_accuracy(manifest: Mapping[str, Any]) -> dict[str, float] | None:
    """Read how accurate a model was on its own test images; None if its manifest does not say so."""
    metrics = manifest.get("metrics")
    test = metrics.get("test") if isinstance(metrics, dict) else None
    images, accuracy = (test.get(name) if isinstance(test, dict) else None for name in ("images", "accuracy"))
    told = type(images) is int and images > 0 and type(accuracy) in (int, float) and 0 <= accuracy <= 1
    return {"images": images, "accuracy": accuracy} if told else None


def find_seen(
    own: Sequence[Image], old: Sequence[Image], live: Artifact, listed: Mapping[str, list[tuple[str, str]]] | None
) -> Seen:
    """Return what either model was trained, tuned or calibrated on. Keys that several classes share tell nothing."""
    seen = Seen()
    seen.add((image.hash, image.text) for image in (*own, *old) if image.split in USED)
    seen.add(read_trained(live.manifest))
    for name in USED if listed else ():
        seen.add((listed or {})[name])
    seen.keys -= find_lookalikes(own)
    seen.near = choose_distance([image.look for image in own], [image.label for image in own])
    return seen


@dataclass(frozen=True)
class Match:
    """Two models that answer the same images."""

    winner: Candidate
    live: Artifact
    seen: Seen
    shared: set[str]
    stop_asked: StopAsked

    def answer_own(self, images: Sequence[Image]) -> dict[str, Any]:
        """Compare on the test split of this training, which its own model has answered already."""
        setup = self.winner.setup
        kept, left_out = sort_out(images, self.seen, self.shared, MOST_COMPARED)
        chosen = torch.tensor(kept, dtype=torch.long)
        logits = self.winner.judged.test[chosen]
        if not kept:
            return self.count("new", [], logits, logits, left_out)
        theirs = answer_split(setup, self.live.network, self.live.inputs, setup.dataset.test, chosen, self.stop_asked)
        return self.count("new", [images[number] for number in kept], logits, theirs, left_out)

    def answer_old(self, images: Sequence[Image], folder: Path) -> dict[str, Any]:
        """Compare on the live model's own test images, with the labels that they had then."""
        setup, live = self.winner.setup, self.live
        kept, left_out = sort_out(images, self.seen, self.shared, MOST_COMPARED)
        common = [images[number] for number in kept]
        none = torch.zeros(0, 1)
        if not common:
            return self.count("live", [], none, none, left_out)
        names, broken = [image.name for image in common], set[str]()
        with open_source(find_archive(folder), find_wishes(live.manifest).name_encoding) as source:
            models = ((setup.network, setup.inputs), (live.network, live.inputs))
            logits = [answer_files(setup, *model, source, names, self.stop_asked, broken) for model in models]
        sound = [number for number, name in enumerate(names) if name not in broken]
        left_out |= {"unreadable": len(broken)} if broken else {}
        return self.count("live", [common[number] for number in sound], *(each[sound] for each in logits), left_out)

    def count(
        self, name: str, images: Sequence[Image], new: torch.Tensor, live: torch.Tensor, left_out: dict[str, int]
    ) -> dict[str, Any]:
        """Build a member of `tests`. Either model may answer with any of its own classes."""
        answers = [
            [classes[number] for number in logits.argmax(1).tolist()]
            for classes, logits in ((self.winner.setup.dataset.classes, new), (self.live.classes, live))
        ]
        table = tabulate([image.label for image in images], *answers)
        return {"name": name, "images": len(images), **table, "left_out": left_out}
