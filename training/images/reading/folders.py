"""Find out which folders are splits and which are classes, from how many images each folder holds. Pure.

The rule is explained with examples in docs/datasets.md.
`chalicelib/datasets/reading/` and `training/images/reading/` hold the same text, which a test compares: pre-flight and
the training program are shipped apart, and must read every dataset alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Folder = tuple[str, ...]
SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
    "testing": "test",
}
# Words that mean a split only beside another one: "dev" and "eval" are names of classes elsewhere.
LOOSE_SPLITS = {**SPLITS, "dev": "valid", "eval": "test", "evaluation": "test"}
# Words that may stand beside a split's word in its folder's name.
AFFIXES = {"set", "sets", "data", "dataset", "image", "images", "img", "imgs", "pic", "pics", "photos", "pictures"}
AFFIXES |= {"folder", "dir", "split", "files", "samples", "jpg", "jpeg", "png", "seg", "new", "final", "raw", "all"}
UNLABELLED = {"unlabelled", "unlabeled", "unsup", "unsupervised"}
# Words of a folder that alone is in valid or test and is no class, beside those that say nothing about its content.
NO_CLASS = {*AFFIXES, *LOOSE_SPLITS, *UNLABELLED, "unknown", "none", "class", "classes", "jpegimages"}
SCRATCH = {"tmp", "temp"}


@dataclass(frozen=True)
class Reading:
    """One way of reading the class folders: its level below the splits, and the images of each class."""

    level: int
    classes: Mapping[str, int]


@dataclass(frozen=True)
class Layout:
    """Where the classes are. `bases` are the folders that directly hold class folders, each with its split.

    `unlabelled` lists folders within a split that hold images without a class. `readings` are there if class folders
    hold folders. `problem` is `splits_not_recognised` or `ambiguous_class_level`.
    """

    root: Folder = ()
    bases: Mapping[Folder, str] = field(default_factory=dict)
    has_splits: bool = False
    level: int = 1
    unlabelled: frozenset[Folder] = frozenset()
    readings: tuple[Reading, ...] = ()
    problem: str | None = None
    split_folders: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        return "".join(f"{part}/" for part in self.root)

    def place(self, folder: Folder) -> tuple[str, str] | None:
        """Return the split and the class of a folder's files, or None outside the class folders."""
        for depth in range(len(folder)):
            split = self.bases.get(folder[:depth])
            if split is not None:
                below = folder[depth:]
                if folder[: depth + 1] in self.unlabelled or is_scratch(below):
                    return None
                return split, below[0]
        return None

    def is_unlabelled(self, folder: Folder) -> bool:
        """Return whether a folder lies in a split and outside its class folders."""
        return self.has_splits and any(folder[:depth] in self.bases for depth in range(len(folder) + 1))


class Tree:
    """The folders that hold images, as a tree; scratch folders are left out unless nothing else is there."""

    def __init__(self, images: Mapping[Folder, int]) -> None:
        self.direct = {folder: count for folder, count in images.items() if count}
        self.totals: Counter[Folder] = Counter()
        names: dict[Folder, set[str]] = defaultdict(set)
        for folder, count in self.direct.items():
            for depth in range(len(folder) + 1):
                self.totals[folder[:depth]] += count
                if depth:
                    names[folder[: depth - 1]].add(folder[depth - 1])
        self.names = {folder: sorted(_drop_scratch(found)) for folder, found in names.items()}

    def children(self, folder: Folder) -> list[str]:
        return self.names.get(folder, [])

    def is_flat(self, folder: Folder) -> bool:
        """Return whether a folder holds images directly, or through one folder within it, and no class folders."""
        while len(self.children(folder)) == 1 and not self.direct.get(folder):
            folder = (*folder, self.children(folder)[0])
        return not self.children(folder) and folder in self.direct

    def descend(self) -> Folder:
        """Pass through the folders around everything, as long as class folders are left below."""
        node: Folder = ()
        while len(self.children(node)) == 1 and self.children((*node, self.children(node)[0])):
            node = (*node, self.children(node)[0])
        return node


def _drop_scratch(names: Collection[str]) -> Collection[str]:
    return [name for name in names if name.lower() not in SCRATCH] or names


def is_scratch(folder: Folder) -> bool:
    return any(part.lower() in SCRATCH for part in folder)


def fold(name: str) -> str:
    """Return what is the same of two spellings of a name: no spaces at the ends, composed letters, no capitals."""
    return unicodedata.normalize("NFC", " ".join(name.split())).casefold()


def find_layout(images: Mapping[Folder, int], class_level: int | None = None) -> Layout:
    """Return the layout of a dataset from the number of images directly in each folder.

    class_level: 1 for the folders right below a split, 2 for the folders in those, and so on; None chooses 1, unless
    that is ambiguous.
    """
    tree = Tree(images)
    root = _find_split_root(tree)
    if root is not None:
        return _choose_level(tree, _read_splits(tree, root), class_level)
    root = tree.descend()
    names = tree.children(root)
    splits = name_splits(names)
    if _is_unlabelled_root(names, splits):
        return Layout(root, {(*root, name): split for name, split in splits.items()}, has_splits=True)
    if len(splits) > 1 and not _are_classes(tree, root, splits):
        return Layout(root, problem="splits_not_recognised", split_folders=tuple(sorted(splits)))
    return _choose_level(tree, Layout(root, {root: "train"}), class_level)


def name_splits(names: Iterable[str]) -> dict[str, str]:
    """Return the splits that sibling folders name: plain words always, others if two siblings name splits."""
    plain = {name: SPLITS[name.lower()] for name in names if name.lower() in SPLITS}
    read = {name: found for name in names if (found := _read_split_name(name))}
    rests = Counter(rest for _, rest in read.values() if rest)
    loose = {name: split for name, (split, rest) in read.items() if set(rest) <= AFFIXES or rests[rest] > 1}
    return loose if len(loose) > 1 else plain


def _read_split_name(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the one split that a folder's name holds as a word, and the name's other words."""
    words = _split_words(name)
    found = [word for word in words if word in LOOSE_SPLITS]
    return (LOOSE_SPLITS[found[0]], tuple(word for word in words if word != found[0])) if len(found) == 1 else None


def _split_words(name: str) -> list[str]:
    """Return the words of a folder's name in small letters, without digits and signs."""
    words = re.split(r"[\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name))
    return [part for word in words if word for part in _unglue(word.casefold())]


def _unglue(word: str) -> tuple[str, ...]:
    """Split "trainset" into "train" and "set"."""
    pairs = ((word[:end], word[end:]) for end in range(3, len(word)))
    return next(((head, tail) for head, tail in pairs if head in SPLITS and tail in AFFIXES), (word,))


def _find_split_root(tree: Tree) -> Folder | None:
    """Return the shallowest folder with a train folder that holds class folders, and with at least half of all images.

    Of several, take the first by name.
    """
    for node in sorted(tree.names, key=lambda folder: (len(folder), folder)):
        if 2 * tree.totals[node] < tree.totals[()]:
            continue
        splits = name_splits(tree.children(node))
        trains = [(*node, name) for name, split in splits.items() if split == "train"]
        if any(tree.children(train) for train in trains) and not _are_classes(tree, node, splits):
            return node
    return None


def _are_classes(tree: Tree, node: Folder, splits: Mapping[str, str]) -> bool:
    """Return whether folders with the names of splits are classes: they and a sibling that names none hold images."""
    others = [name for name in tree.children(node) if name not in splits]
    return all(tree.is_flat((*node, name)) for name in splits) and any(
        tree.direct.get((*node, name)) or tree.is_flat((*node, name)) for name in others
    )


def _is_unlabelled_root(names: Collection[str], splits: Mapping[str, str]) -> bool:
    return "train" in splits.values() and len(splits) == len(names)


def _read_splits(tree: Tree, root: Folder) -> Layout:
    """Return the layout below a folder that holds splits, with the wrappers within the splits passed through."""
    splits = name_splits(tree.children(root))
    bases = {_pass_own_name(tree, (*root, name)): split for name, split in splits.items()}
    while (passed := _pass_common_name(tree, bases)) != bases:
        bases = passed
    known = {name for base, split in bases.items() if split == "train" for name in tree.children(base)}
    unlabelled = {folder for base, split in bases.items() for folder in _find_unlabelled(tree, base, split, known)}
    return Layout(root, bases, has_splits=True, unlabelled=frozenset(unlabelled))


def _pass_own_name(tree: Tree, folder: Folder) -> Folder:
    """Pass through the only folder within a split if it is named like the split."""
    while len(names := tree.children(folder)) == 1:
        inner, outer = _read_split_name(names[0]), _read_split_name(folder[-1])
        if fold(names[0]) != fold(folder[-1]) and not (inner and outer and inner[0] == outer[0]):
            break
        folder = (*folder, names[0])
    return folder


def _pass_common_name(tree: Tree, bases: Mapping[Folder, str]) -> dict[Folder, str]:
    """Pass through the only folder within each split if it has one name in all of them and holds class folders."""
    names = {tuple(tree.children(base)) for base, split in bases.items() if split == "train" and tree.children(base)}
    if len(names) != 1 or len(only := next(iter(names))) != 1:
        return dict(bases)
    inner = {base: (*base, only[0]) for base in bases if list(only) == tree.children(base)}
    others = [base for base in bases if base not in inner and tree.children(base)]
    if others or not any(len(tree.children(inner[base])) > 1 for base in inner if bases[base] == "train"):
        return dict(bases)
    return {inner.get(base, base): split for base, split in bases.items()}


def _find_unlabelled(tree: Tree, base: Folder, split: str, known: Collection[str]) -> Iterator[Folder]:
    """Yield the folders within a split that are no classes: called unlabelled, or, alone in valid or test, images."""
    names = tree.children(base)
    same = {fold(name) for name in known if name.lower() not in UNLABELLED}
    for name in names:
        is_empty_word = len(names) == 1 and split != "train" and set(_split_words(name)) <= NO_CLASS
        if fold(name) not in same and (name.lower() in UNLABELLED or is_empty_word):
            yield (*base, name)


def _choose_level(tree: Tree, layout: Layout, class_level: int | None) -> Layout:
    """Take the wanted level, or the upper one, with a problem if the lower one is as likely."""
    levels = [layout.bases]
    while len(levels) < (class_level or 2):
        levels.append(_descend_bases(tree, levels[-1], layout.unlabelled))
    readings = tuple(Reading(at, _count_classes(tree, bases, layout.unlabelled)) for at, bases in enumerate(levels, 1))
    is_deep = class_level is None and len(readings[1].classes) > 1
    chosen = class_level or 1
    return Layout(
        layout.root,
        levels[chosen - 1],
        layout.has_splits,
        chosen,
        layout.unlabelled,
        readings[:2] if is_deep else (),
        "ambiguous_class_level" if is_deep and _is_ambiguous(tree, levels) else None,
    )


def _descend_bases(tree: Tree, bases: Mapping[Folder, str], unlabelled: Collection[Folder]) -> dict[Folder, str]:
    """Return the class folders as bases for the level below, with the wrappers within the classes passed through."""
    inner = {(*base, name): split for base, split in bases.items() for name in tree.children(base)}
    inner = {folder: split for folder, split in inner.items() if folder not in unlabelled and tree.children(folder)}
    while inner and all(len(tree.children(folder)) == 1 for folder in inner):
        names = {tree.children(folder)[0] for folder in inner}
        if len(names) > 1 and any(tree.children(folder)[0] != folder[-1] for folder in inner):
            break
        inner = {(*folder, tree.children(folder)[0]): split for folder, split in inner.items()}
        if not any(tree.children(folder) for folder in inner):
            return {}
    return {folder: split for folder, split in inner.items() if tree.children(folder)}


def _count_classes(tree: Tree, bases: Mapping[Folder, str], unlabelled: Collection[Folder]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for base in bases:
        for name in tree.children(base):
            if (*base, name) not in unlabelled:
                counts[name] += tree.totals[(*base, name)]
    return dict(sorted(counts.items()))


def _is_ambiguous(tree: Tree, levels: list[Mapping[Folder, str]]) -> bool:
    """Return whether the folders within class folders repeat one another, or are named like classes beside them."""
    upper = {name for base, split in levels[0].items() if split == "train" for name in tree.children(base)}
    holders: dict[str, set[str]] = defaultdict(set)
    for folder, split in levels[1].items():
        if split == "train":
            for name in tree.children(folder):
                holders[name].add(_class_of(folder, levels[0]))
    repeated = sum(len(classes) > 1 for classes in holders.values())
    return any(name in upper - classes for name, classes in holders.items()) or 2 * repeated >= max(len(holders), 1)


def _class_of(folder: Folder, bases: Mapping[Folder, str]) -> str:
    return next(folder[depth] for depth in range(len(folder)) if folder[:depth] in bases)
