"""Settle everything before the first step: what is trained, on which data, and how."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from caching.store import open_store
from images.assembly import Dataset, Split
from images.augment import DRAWS, MORE_DRAWS, augment, augment_more, choose_flip
from images.data import Batches, draw_all, hold_split, read_dataset
from images.decoding.skipping import describe_skipped
from images.early import Decoding, choose_stream, find_archive, only_trains, read_wishes
from images.pixels import Preprocessing, crop_centre, normalise
from images.similar import list_keys, report_near_copies
from job.artifact import write_json
from job.device import choose_device, tune_allocator
from job.metrics import log
from job.settings import Hyperparameters, Job
from judging.deciding.heads import PENALTY
from judging.deciding.imbalance import choose_imbalance, count_classes, draw_balanced, make_criterion, measure_imbalance
from judging.evaluate import measure, standard_error
from torch import nn

from learning.engine import Learner, Metrics
from learning.extraction import Extractor, check_features
from learning.model import build_network, check_input, choose_rate, find_head, find_normalisation, freeze, load_weights
from learning.steps.mixing import Mixing
from learning.steps.precision import choose_precision, compute_exactly
from learning.steps.technique import Technique
from learning.weights import State, choose_preprocessing, find_weights, takes_size

FROM_SCRATCH = (
    "no ImageNet weights could be had, so the network was trained FROM SCRATCH: expect a much lower accuracy on "
    "photographs; put them into the bucket (make weights ARCH={architecture}), or give the job a channel `weights`"
)
# With fewer images for training batch normalisation keeps ImageNet's statistics: benchmarks/training/batch_norm.py,
# which measures up to 1,200; of more nothing is known but that both ways are in use.
FEW_IMAGES = 2000
# A pass without learning keeps no activations, so it can use larger batches.
JUDGED_PIXELS = 64 * 224 * 224
EXTRACTED = {"cpu": 16, "cuda": 64}  # images of a batch whose features are computed, by the device
SPLITS = ("train", "valid", "test")
PREFETCHED = 2  # batches that are fetched ahead for a GPU


@dataclass(frozen=True)
class Setup:
    """A job with its data and its network; `pretrained` is imagenet or none. Warnings are for the user.

    `choices` says what `auto` came to, and by which figures: plain data for evaluation and manifest.
    """

    job: Job
    chosen: Hyperparameters
    dataset: Dataset
    network: nn.Module
    head: nn.Module
    pretrained: str
    device: torch.device
    warnings: list[str]
    inputs: Preprocessing
    features: dict[int, torch.Tensor] = field(default_factory=dict)  # what extract_split returned, by split
    keys: dict[str, list[str]] = field(default_factory=dict)  # of the final training: what images look like, by split
    held: dict[int, torch.Tensor] = field(default_factory=dict)  # the images that lie on the device, by split
    choices: dict[str, Any] = field(default_factory=dict)
    penalty: float = PENALTY  # the strength of L2 of a fitted head
    turned: bool = True  # whether training images are turned a little at random


class Judge:
    """Judge splits with a network's present weights, and remember the last validation: its logits and its seconds.

    answer: gives the logits of a split, by its name.
    """

    def __init__(
        self, setup: Setup, answer: Callable[[str], torch.Tensor], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.labels, self.objective, self.ranks = setup.dataset.valid.labels, setup.chosen.objective, setup.job.ranks
        self.answer, self.clock = answer, clock
        self.logits: torch.Tensor | None = None
        self.seconds = 0.0

    def validate(self) -> Metrics:
        """Measure the validation split, with the standard error of the objective."""
        begun = self.clock()
        self.logits = self.answer("valid")
        measured = measure(self.logits, self.labels)
        measured["standard_error"] = standard_error(self.logits, self.labels, self.objective)
        self.seconds = (self.clock() - begun) * self.ranks  # what it takes the process that closes the job alone
        return measured

    def catch_up(self, epoch: int) -> None:
        """Come to where a training is that resumes after this epoch."""

    def describe_selection(self) -> dict[str, Any] | None:
        """Describe what selected the best epoch, if that was not the validation split."""
        return None


@dataclass(frozen=True)
class Course:
    """What is trained, on which batches, and what judges it. inputs: what the learner's network takes, by split."""

    learner: Learner
    batches: Batches
    judge: Judge
    inputs: Callable[[str], Iterable[torch.Tensor]]

    def validate(self) -> Metrics:
        return self.judge.validate()


def prepare(job: Job, chosen: Hyperparameters, early: Decoding | None = None) -> Setup:
    """Set up arithmetic, data and network. Raises TrainingError for what a user can correct.

    early: the images, if they are being decoded already.
    """
    tune_allocator()
    torch.set_num_threads(job.threads)
    device = choose_device(job)
    if device.type == "cuda":
        compute_exactly()
    if not takes_size(chosen.architecture, chosen.image_size):
        check_input(build_network(chosen.architecture, 2), chosen.image_size, chosen.architecture)
    state = find_weights(chosen.architecture, chosen.pretrained, job.places.weights, log)
    pretrained = "none" if state is None else "imagenet"
    inputs = choose_preprocessing(chosen.architecture, chosen.image_size, pretrained=state is not None)
    dataset = read_data(job, chosen, inputs, early)
    network = make_network(chosen, len(dataset.classes), state)
    scratch = [FROM_SCRATCH.format(architecture=chosen.architecture)]
    warnings = [*(scratch if pretrained == "none" and chosen.pretrained == "auto" else []), *dataset.warnings]
    for warning in warnings:
        log(f"WARNING: {warning}")
    network = network.to(device, memory_format=torch.channels_last)
    head = find_head(network, len(dataset.classes))
    chosen = choose_normalisation(choose_depth(chosen, pretrained), pretrained, len(dataset.train))
    keys = list_all_keys(dataset, job.threads) if chosen.profile else {}
    chosen, balance = settle_imbalance(chosen, dataset)
    told = {"keys": keys, "choices": {"imbalance": balance}}
    return Setup(job, chosen, dataset, network, head, pretrained, device, warnings, inputs, **told)


def list_all_keys(data: Dataset, threads: int) -> dict[str, list[str]]:
    """Return what the images of each split look like."""
    return {name: list_keys(getattr(data, name), threads, photographs=data.photographs) for name in SPLITS}


def read_data(job: Job, chosen: Hyperparameters, inputs: Preprocessing, early: Decoding | None = None) -> Dataset:
    """Read the dataset, list skipped images in skipped.json, and look for near copies, in the final training only."""
    dataset = read_dataset(
        find_archive(job.places.dataset),
        inputs.resize_size,
        threads=job.threads,
        scratch=job.places.output / "scratch",
        streams=partial(choose_stream, chosen),
        wishes=read_wishes(chosen),
        interpolation=inputs.interpolation,
        only_train=only_trains(chosen),
        shared=job.pixel_cache,
        early=early,
    )
    if chosen.profile:
        dataset.warnings.extend(report_near_copies(dataset))
    if dataset.skipped:
        write_json(job.places.checkpoints / "skipped.json", describe_skipped(dataset.skipped, len(dataset)))
    return dataset


def make_network(chosen: Hyperparameters, classes: int, state: State | None) -> nn.Module:
    """Build the network and load the weights, if there are any."""
    torch.manual_seed(chosen.seed)
    network = build_network(chosen.architecture, classes)
    if state is not None:
        load_weights(network, state, chosen.architecture)
    return network


def choose_depth(chosen: Hyperparameters, pretrained: str) -> Hyperparameters:
    """Train every layer if none is pretrained."""
    if pretrained != "none" or chosen.fine_tune == "all":
        return chosen
    log(f"fine_tune={chosen.fine_tune} needs pretrained weights, and there are none: every layer is trained")
    return replace(chosen, fine_tune="all")


def choose_normalisation(chosen: Hyperparameters, pretrained: str, images: int) -> Hyperparameters:
    """Let batch normalisation keep pretrained statistics where too few images would replace them by worse ones."""
    if pretrained == "none":
        if chosen.batch_norm == "keep":
            log("batch_norm=keep needs pretrained weights, and there are none: the statistics are learnt")
        return replace(chosen, batch_norm="learn")
    wish = {"auto": "keep" if images < FEW_IMAGES else "learn"}
    return replace(chosen, batch_norm=wish.get(chosen.batch_norm, chosen.batch_norm))


def settle_imbalance(chosen: Hyperparameters, data: Dataset) -> tuple[Hyperparameters, dict[str, Any]]:
    """Decide what is done about classes of different size. Return that with the counts' ratio, and log it."""
    counts = count_classes(data.train.labels, len(data.classes))
    taken, ratio = choose_imbalance(chosen.imbalance, counts), measure_imbalance(counts)
    log(f"imbalance={taken}: the largest class has {ratio:.1f} times the training images of the smallest")
    return replace(chosen, imbalance=taken), {"taken": taken, "asked": chosen.imbalance, "ratio": round(ratio, 3)}


def make_course(setup: Setup) -> Course:
    """Plan the training: a head alone is trained on features, anything deeper on images."""
    if is_head_alone(setup):
        return make_head_course(setup)
    chosen, data = setup.chosen, setup.dataset
    frozen = freeze(setup.network, setup.head, chosen.fine_tune)
    frozen += find_normalisation(setup.network) if chosen.batch_norm == "keep" else []
    flip = choose_flip(chosen.horizontal_flip, data.photographs)
    levels = {"mean": setup.inputs.mean, "std": setup.inputs.std}
    change, draws = (augment_more, MORE_DRAWS) if chosen.augmentation == "trivial" else (augment, DRAWS)
    prepared = partial(change, size=chosen.image_size, flip=flip, turn=setup.turned, **levels)
    batches = make_batches(setup, data.train.lessons, prepared, draws=draws)
    if chosen.mixup or chosen.cutmix:
        batches.mixing = Mixing(chosen.mixup, chosen.cutmix, len(data.classes), chosen.image_size)
    bring_near(setup, batches)
    learner = make_learner(setup, setup.network, batches, frozen)
    return make_judged(setup, learner, batches, lambda name: inputs_of(setup, getattr(data, name)))


def bring_near(setup: Setup, batches: Batches) -> None:
    """Put the images where a GPU reads them fastest: into its memory, or into pinned memory a few batches ahead."""
    if setup.device.type == "cpu":
        return
    for split in (setup.dataset.train, setup.dataset.valid):
        if (held := hold_split(split, setup.device)) is not None:
            setup.held[id(split)] = held
    batches.held = setup.held.get(id(setup.dataset.train))
    batches.prefetch, batches.pin = PREFETCHED, True


def make_head_course(setup: Setup) -> Course:
    """Run the frozen backbone once over every split, and plan to train and judge the head on its features."""
    if setup.chosen.mixup or setup.chosen.cutmix:
        log("nothing is mixed: a head alone is trained on features, and mixup and cutmix are for images")
    features = {name: extract_split(setup, getattr(setup.dataset, name)) for name in SPLITS}
    batches = make_batches(setup, features["train"].__getitem__, lambda inputs, _chance: inputs)
    batches.held = features["train"].to(setup.device) if setup.device.type != "cpu" else None
    learner = make_learner(setup, setup.head, batches, [])
    return make_judged(setup, learner, batches, lambda name: [features[name].to(setup.device)])


def make_judged(
    setup: Setup, learner: Learner, batches: Batches, inputs: Callable[[str], Iterable[torch.Tensor]]
) -> Course:
    return Course(learner, batches, Judge(setup, lambda name: learner.judge(inputs(name))), inputs)


def make_batches(
    setup: Setup, fetch: Callable[[torch.Tensor], torch.Tensor], prepare_inputs: Any, draws: int = 0
) -> Batches:
    own = {"batch_size": setup.chosen.batch_size, "seed": setup.chosen.seed, "device": setup.device, "draws": draws}
    order = draw_balanced if setup.chosen.imbalance == "sample" else draw_all
    return Batches(fetch, setup.dataset.train.labels, prepare_inputs, order=order, **own)


def make_learner(setup: Setup, network: nn.Module, batches: Batches, frozen: Sequence[nn.Module]) -> Learner:
    chosen = setup.chosen
    whole = network is setup.network  # a head alone is so little work that half precision would only cost exactness
    return Learner(
        network,
        rate=choose_rate(chosen.fine_tune, setup.pretrained == "imagenet", chosen.learning_rate),
        weight_decay=chosen.weight_decay,
        steps=chosen.epochs * batches.steps,
        device=setup.device,
        frozen=frozen,
        precision=choose_precision(setup.device, chosen.image_size) if whole else None,
        criterion=make_criterion(*weigh(setup)),
        technique=Technique(chosen.clip_norm, chosen.head_rate if whole else 1.0, chosen.averaging, setup.head),
    )


def weigh(setup: Setup) -> tuple[str, torch.Tensor]:
    """Return what is done about imbalance, and the classes' counts."""
    counts = count_classes(setup.dataset.train.labels, len(setup.dataset.classes))
    return choose_imbalance(setup.chosen.imbalance, counts), counts


def inputs_of(setup: Setup, split: Split) -> Iterator[torch.Tensor]:
    """Yield a split as the endpoint would see it: normalised centre crops, in order."""
    size = setup.chosen.image_size
    for chosen in torch.arange(len(split)).split(max(1, JUDGED_PIXELS // size**2)):
        yield make_inputs(setup, split, chosen)


def make_inputs(setup: Setup, split: Split, chosen: torch.Tensor) -> torch.Tensor:
    """Return the chosen images of a split as the endpoint would see them."""
    inputs, held = setup.inputs, setup.held.get(id(split))
    images = split.images(chosen).to(setup.device) if held is None else held[chosen.to(setup.device)]
    return normalise(crop_centre(images, inputs.image_size), inputs.mean, inputs.std)


def extract_split(setup: Setup, split: Split) -> torch.Tensor:
    """Return the head's input for each image of a split: (n, features), computed once in this job's life."""
    if id(split) not in setup.features:
        wanted = list_together(setup, split)
        extractor = make_extractor(setup)
        found = extractor.extract_all([(partial(make_inputs, setup, one), one.hashes) for one in wanted])
        for one, features in zip(wanted, found, strict=True):
            setup.features[id(one)] = check_features(features, setup.chosen.architecture)
        if store := extractor.store:
            images = sum(len(one) for one in wanted)
            log(f"features of {images} images: {store.hits} chunks were there, {store.made} made")
    return setup.features[id(split)]


def list_together(setup: Setup, split: Split) -> list[Split]:
    """Return the splits whose features are computed together: all of them, for a head that is trained alone."""
    every = [getattr(setup.dataset, name) for name in SPLITS]
    return every if is_head_alone(setup) and any(one is split for one in every) else [split]


def is_head_alone(setup: Setup) -> bool:
    """Return whether only a linear head is trained, on the features of a frozen backbone."""
    return setup.chosen.fine_tune == "head" and isinstance(setup.head, nn.Linear)


def make_extractor(setup: Setup) -> Extractor:
    """Describe the frozen backbone, and everything besides the images that its features depend on."""
    chosen, device = setup.chosen, setup.device
    workers = 1 if device.type == "cuda" else setup.job.threads
    batch = max(1, min(EXTRACTED[device.type], JUDGED_PIXELS // chosen.image_size**2))
    about = {"architecture": chosen.architecture, **asdict(setup.inputs)}
    store = open_store(setup.job.feature_cache)
    return Extractor(setup.network, setup.head, device, batch, about, store, workers)
