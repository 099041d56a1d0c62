"""Find images that nearly equal one that a model has seen: in another size or quality, cropped, turned or mirrored.

What an image looks like is a few hundred bits, which a manifest holds: in which direction the brightness changes
between neighbouring cells of a small grey copy. Copies differ in few bits, other images in more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from images.decoding.keys import LOOK_COLUMNS, LOOK_ROWS, LOOK_TEXT

NEAR = 0.175  # of the bits: of drawn scenes, 1,000 others differed in 0.21 at least, four of five crops in less
MARGIN, UNUSUAL = 0.8, 0.01  # of what all but one in a hundred images differ from any image of another class
SAMPLED, STEP = 400, 500
ACROSS = LOOK_ROWS * (LOOK_COLUMNS - 1)
COUNT = ACROSS + (LOOK_ROWS - 1) * LOOK_COLUMNS


def find_near(judged: Sequence[str], known: Sequence[str], near: float = NEAR) -> list[bool]:
    """Return for each judged look whether a known one nearly equals it, as it is or mirrored. An empty one has none."""
    found, others = [False] * len(judged), read_signs([look for look in known if is_look(look)])
    places = [number for number, look in enumerate(judged) if is_look(look)]
    if not places or not len(others):
        return found
    signs = read_signs([judged[number] for number in places])
    for part, numbers in zip(signs.split(STEP), torch.tensor(places).split(STEP), strict=True):
        nearest = torch.minimum(find_nearest(part, others), find_nearest(mirror(part), others))
        for number, distance in zip(numbers.tolist(), nearest.tolist(), strict=True):
            found[number] = distance <= near
    return found


def choose_distance(looks: Sequence[str], labels: Sequence[str]) -> float:
    """Return the distance up to which images count as near: below what images of different classes have by chance."""
    places = [number for number, look in enumerate(looks) if is_look(look)]
    names = np.unique([labels[number] for number in places], return_inverse=True)[1]
    if len(set(names.tolist())) < 2:
        return NEAR
    signs, chosen = read_signs([looks[number] for number in places]), slice(None, None, 1 + len(places) // SAMPLED)
    own = torch.from_numpy(names[chosen, None] == names[None])
    likeness = (signs[chosen] @ signs.T).masked_fill(own, -COUNT).amax(1)
    return min(NEAR, MARGIN * float(((1 - likeness / COUNT) / 2).quantile(UNUSUAL)))


def find_nearest(signs: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return for each look the share of bits in which the nearest other one differs."""
    return (1 - (signs @ others.T).amax(1) / COUNT) / 2


def mirror(signs: torch.Tensor) -> torch.Tensor:
    """Return the looks of the mirror images: columns change places, and steps across them their direction."""
    across = -signs[:, :ACROSS].view(-1, LOOK_ROWS, LOOK_COLUMNS - 1).flip(2)
    down = signs[:, ACROSS:].view(-1, LOOK_ROWS - 1, LOOK_COLUMNS).flip(2)
    return torch.cat([across.flatten(1), down.flatten(1)], 1)


def is_look(text: str) -> bool:
    """Return whether a text is a look: it comes from another job's manifest, which is not trusted."""
    return len(text) == LOOK_TEXT and all(letter in "0123456789abcdef" for letter in text)


def read_signs(looks: Sequence[str]) -> torch.Tensor:
    """Return looks as rows of 1 and -1, whose products count equal bits less different ones."""
    packed = np.frombuffer(bytes.fromhex("".join(looks)), dtype=np.uint8).reshape(len(looks), LOOK_TEXT // 2)
    return torch.from_numpy(np.unpackbits(packed, axis=1, count=COUNT).astype(np.float32) * 2 - 1)
