"""Judge linear heads by cross-validation, so that few validation images decide less by chance.

Every image of train and validation is judged once, by a head that was not fitted to it or to anything like it.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from judging.deciding.heads import PENALTY, fit_head

FEWEST = 1000  # with so many validation images the split judges by itself
FOLDS = 5
REFINED = 25  # rounds of a fit that begins at another one
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
MOST_FITTED = 2000  # images that choose the penalty: more would take minutes and change little


def make_folds(groups: Sequence[bytes], labels: Sequence[int], folds: int = FOLDS) -> torch.Tensor:
    """Return each image's fold: a group stays together, and every class is spread over the folds.

    Groups go to the fold with the fewest images of their class, large groups first, else in the order of their hashes.
    """
    members: dict[bytes, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    order = sorted(members, key=lambda group: (-len(members[group]), hashlib.blake2b(group).digest()))
    held: list[Counter[int]] = [Counter() for _ in range(folds)]
    places = torch.zeros(len(groups), dtype=torch.long)
    for group in order:
        own = Counter(labels[index] for index in members[group])
        label = own.most_common(1)[0][0]
        place = min(range(folds), key=lambda fold: (held[fold][label], held[fold].total(), fold))
        held[place] += own
        places[members[group]] = place
    return places


@dataclass(frozen=True)
class Penalty:
    """The strength of L2 that was chosen, and the mean loss of each one out of fold."""

    taken: float
    losses: dict[float, float]
    images: int


def choose_penalty(
    features: torch.Tensor, labels: torch.Tensor, places: torch.Tensor, criterion: nn.CrossEntropyLoss, *, seed: int
) -> Penalty:
    """Choose the penalty with the lowest loss out of fold, near ties going to the usual one.

    Of many images a part is fitted, and the penalty then scaled, since it stands beside a mean over the images.
    """
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:MOST_FITTED].sort().values
    part, told, own = features[rows], labels[rows], places[rows]
    each = {penalty: judge(logits, told, criterion) for penalty, logits in predict_all(part, told, own, criterion)}
    best = min(PENALTIES, key=lambda penalty: float(each[penalty].mean()))
    gain = each[PENALTY] - each[best]
    clear = float(gain.mean()) > float(gain.std()) / math.sqrt(max(1, len(gain)))
    taken = best if clear else PENALTY
    means = {penalty: round(float(losses.mean()), 5) for penalty, losses in each.items()}
    return Penalty(taken * (len(rows) / len(labels) if clear else 1.0), means, len(rows))


def predict_all(
    features: torch.Tensor, labels: torch.Tensor, places: torch.Tensor, criterion: nn.CrossEntropyLoss
) -> Iterator[tuple[float, torch.Tensor]]:
    """Yield each penalty with the images' logits by heads that were fitted to the other folds, the strongest first.

    Each head is refined from that of the stronger penalty, which takes a quarter of the time of a fit.
    """
    classes, folds = int(labels.max()) + 1, int(places.max()) + 1
    heads = [make_zero_head(features.shape[1], classes) for _ in range(folds)]
    for penalty in sorted(PENALTIES, reverse=True):
        for fold, head in enumerate(heads):
            rest = places != fold
            fit_head(head, features[rest], labels[rest], penalty=penalty, criterion=criterion, rounds=REFINED)
        yield penalty, collect(places, classes, heads.__getitem__, features)


def make_zero_head(features: int, classes: int) -> nn.Linear:
    head = nn.Linear(features, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def predict(
    features: torch.Tensor, labels: torch.Tensor, places: torch.Tensor, penalty: float, criterion: nn.CrossEntropyLoss
) -> torch.Tensor:
    """Return each image's logits by a head that was fitted to the other folds."""
    return collect(
        places,
        int(labels.max()) + 1,
        lambda fold: fit_without(features, labels, places, fold, penalty, criterion),
        features,
    )


def fit_without(
    features: torch.Tensor,
    labels: torch.Tensor,
    places: torch.Tensor,
    fold: int,
    penalty: float,
    criterion: nn.CrossEntropyLoss,
) -> nn.Linear:
    """Fit a head to all folds but one."""
    head = nn.Linear(features.shape[1], int(labels.max()) + 1)
    fit_head(head, features[places != fold], labels[places != fold], penalty=penalty, criterion=criterion)
    return head


def collect(
    places: torch.Tensor, classes: int, head_of: Callable[[int], nn.Module], features: torch.Tensor
) -> torch.Tensor:
    """Gather the logits that each fold's head gives to the images of its fold."""
    logits = torch.zeros(len(places), classes)
    for fold in places.unique().tolist():
        head, own = head_of(fold), places == fold
        with torch.no_grad():
            logits[own] = head(features[own].to(next(head.parameters()).device)).float().cpu()
    return logits


def judge(logits: torch.Tensor, labels: torch.Tensor, criterion: nn.CrossEntropyLoss) -> torch.Tensor:
    """Return each image's loss by the criterion that the heads were fitted by."""
    each = copy.copy(criterion)
    each.reduction = "none"
    losses: torch.Tensor = each(logits, labels)
    return losses
