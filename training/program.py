"""One training from its data to its artifact: the steps in their order, each done by a module of its own."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import torch
from artifact import write_artifact, write_json
from augment import augment, choose_flip
from checkpoints import Checkpoint, fingerprint
from data import Batches, Dataset, Split, find_archive, read_dataset
from engine import Hook, Learner, Metrics, Progress, Stopped, fit, restore_best
from evaluate import describe_test, fit_temperature, measure, standard_error
from features import can_extract, extract, fit_head
from metrics import MetricsFile, describe, describe_epoch, log
from model import FROM_SCRATCH, build_network, check_input, choose_rate, find_head, find_weights, freeze, load_weights
from pixels import MEAN, STD, choose_resize, crop_centre, normalise
from settings import Hyperparameters, Job
from torch import nn

# A pass without learning keeps no activations, so it can take larger batches.
JUDGED_PIXELS = 64 * 224 * 224
SMOOTHING = 0.0


class Stop(Protocol):
    """Whether the job was asked to stop; `defer` asks it to wait until the training looks."""

    def __call__(self) -> bool: ...

    def defer(self) -> None: ...


@dataclass(frozen=True)
class Setup:
    """What is to be trained, on what, how."""

    job: Job
    chosen: Hyperparameters
    dataset: Dataset
    network: nn.Module
    head: nn.Module
    pretrained: str
    device: torch.device
    warnings: list[str]
    begun: float

    @property
    def job_folder(self) -> Any:
        return self.job.places.checkpoints


def run(job: Job, chosen: Hyperparameters, stop: Stop, *, begun: float, hooks: Sequence[Hook] = ()) -> None:
    """Train, evaluate and ship. Raises TrainingError for what a user can mend."""
    tune_allocator()
    setup = prepare(job, chosen, begun)
    learner, batches, judge = make_learner(setup)
    mark = fingerprint({"chosen": asdict(setup.chosen), "train": setup.dataset.train.hashes, "threads": job.threads})
    checkpoint = Checkpoint(setup.job_folder, mark)
    progress = checkpoint.resume(learner, log)
    metrics = MetricsFile(setup.job_folder / "metrics.jsonl")
    begin(setup, learner, progress, metrics)
    stop.defer()
    finished = train(setup, learner, batches, judge, progress, checkpoint, metrics, stop, hooks)
    if not progress.best_epoch:
        log("stopped before the first epoch ended; the state was saved")
        return
    restore_best(learner.network, progress)
    ship(setup, learner, progress, metrics, finished)
    if finished:
        checkpoint.remove()


def tune_allocator() -> None:
    """Keep glibc from giving large blocks back to the system after every step, which costs a tenth of the time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_top_pad, 64 * 2**20)


def prepare(job: Job, chosen: Hyperparameters, begun: float) -> Setup:
    """Set up arithmetic, data and network."""
    device = choose_device(job)
    torch.set_num_threads(job.threads)
    torch.manual_seed(chosen.seed)
    network = build_network(chosen.architecture, 1000)
    check_input(network, chosen.image_size, chosen.architecture)
    archive = find_archive(job.places.dataset)
    size = choose_resize(chosen.image_size)
    dataset = read_dataset(archive, size, threads=job.threads, scratch=job.places.output / "scratch")
    network, pretrained = make_network(job, chosen, len(dataset.classes))
    warnings = [*dataset.warnings, *([FROM_SCRATCH] if pretrained == "none" and chosen.pretrained == "auto" else [])]
    for warning in warnings:
        log(f"WARNING: {warning}")
    if pretrained == "none" and chosen.fine_tune != "all":
        log(f"fine_tune={chosen.fine_tune} needs pretrained weights, and there are none: every layer is trained")
        chosen = replace(chosen, fine_tune="all")
    network = network.to(device, memory_format=torch.channels_last)
    head = find_head(network, len(dataset.classes))
    return Setup(job, chosen, dataset, network, head, pretrained, device, warnings, begun)


def choose_device(job: Job) -> torch.device:
    """Choose the accelerator that was granted, and make it repeat itself."""
    if job.gpus == 0 or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda")


def make_network(job: Job, chosen: Hyperparameters, classes: int) -> tuple[nn.Module, str]:
    """Build the network for the classes and load what weights there are: (network, imagenet or none)."""
    torch.manual_seed(chosen.seed)
    network = build_network(chosen.architecture, classes)
    state = find_weights(chosen.architecture, chosen.pretrained, job.places.weights, log)
    if state is None:
        return network, "none"
    load_weights(network, state, chosen.architecture)
    return network, "imagenet"


def make_learner(setup: Setup) -> tuple[Learner, Batches, Callable[[Learner], Metrics]]:
    """Make what learns, what it learns from, and how it is validated: on images, or for a head alone on features."""
    chosen, data = setup.chosen, setup.dataset
    if chosen.fine_tune == "head" and can_extract(setup.head):
        return make_head_learner(setup)
    frozen = freeze(setup.network, setup.head, chosen.fine_tune)
    flip = choose_flip(chosen.horizontal_flip, data.photographs)
    prepare_inputs = partial(augment, size=chosen.image_size, flip=flip)
    batches = make_batches(setup, data.train.images, prepare_inputs)
    return build_learner(setup, setup.network, batches, frozen), batches, lambda learner: validate_images(setup, learner)


def make_head_learner(setup: Setup) -> tuple[Learner, Batches, Callable[[Learner], Metrics]]:
    """Run the frozen backbone once over train and valid; what learns is the head, on what it gave."""
    train, valid = (extract_split(setup, split) for split in (setup.dataset.train, setup.dataset.valid))
    batches = make_batches(setup, train.__getitem__, lambda inputs, _generator: inputs)
    labels = setup.dataset.valid.labels
    validate = lambda learner: measure(learner.judge([valid.to(setup.device)]), labels)  # noqa: E731  a one-line closure
    return build_learner(setup, setup.head, batches, []), batches, validate


def make_batches(setup: Setup, fetch: Callable[[torch.Tensor], torch.Tensor], prepare_inputs: Any) -> Batches:
    size, seed = setup.chosen.batch_size, setup.chosen.seed
    return Batches(
        fetch, setup.dataset.train.labels, prepare_inputs, batch_size=size, seed=seed, device=setup.device
    )


def build_learner(setup: Setup, network: nn.Module, batches: Batches, frozen: Sequence[nn.Module]) -> Learner:
    chosen = setup.chosen
    return Learner(
        network,
        rate=choose_rate(chosen.fine_tune, setup.pretrained == "imagenet", chosen.learning_rate),
        weight_decay=chosen.weight_decay,
        steps=chosen.epochs * batches.steps,
        device=setup.device,
        frozen=frozen,
        smoothing=SMOOTHING,
    )


def inputs_of(setup: Setup, split: Split) -> Iterator[torch.Tensor]:
    """Yield a split as the endpoint would see it: centre crops, normalised, in order."""
    size = setup.chosen.image_size
    for chosen in torch.arange(len(split)).split(max(1, JUDGED_PIXELS // size**2)):
        yield normalise(crop_centre(split.images(chosen).to(setup.device), size))


def extract_split(setup: Setup, split: Split) -> torch.Tensor:
    return extract(setup.network, setup.head, inputs_of(setup, split))


def validate_images(setup: Setup, learner: Learner) -> Metrics:
    return measure(learner.judge(inputs_of(setup, setup.dataset.valid)), setup.dataset.valid.labels)


def begin(setup: Setup, learner: Learner, progress: Progress, metrics: MetricsFile) -> None:
    """Say what will be done, and fit the head first where the backbone brings knowledge."""
    start = describe_start(setup)
    metrics.begin(start, progress.epoch)
    log(" ".join(["start", *(f"{name}={value}" for name, value in start.items() if not isinstance(value, dict))]))
    if progress.epoch or progress.step:
        log(f"resuming after epoch {progress.epoch}, step {progress.step}")
    elif setup.pretrained == "imagenet" and can_extract(setup.head):
        fit_first_head(setup)


def fit_first_head(setup: Setup) -> None:
    loss = fit_head(setup.head, extract_split(setup, setup.dataset.train), setup.dataset.train.labels)
    log(f"the head was fitted on the features of the frozen backbone, to a loss of {loss:.4f}")


def describe_start(setup: Setup) -> dict[str, Any]:
    chosen, data = setup.chosen, setup.dataset
    return {
        "epochs": chosen.epochs,
        "threads": setup.job.threads,
        "classes": len(data.classes),
        "images": {name: len(getattr(data, name)) for name in ("train", "valid", "test")},
        "pretrained": setup.pretrained,
        "fine_tune": chosen.fine_tune,
        "device": setup.device.type,
    }


def train(
    setup: Setup,
    learner: Learner,
    batches: Batches,
    judge: Callable[[Learner], Metrics],
    progress: Progress,
    checkpoint: Checkpoint,
    metrics: MetricsFile,
    stop: Stop,
    hooks: Sequence[Hook],
) -> bool:
    """Run the epochs; say whether they came to their end, or were stopped with the state saved."""

    def report(record: dict[str, Any]) -> None:
        log(describe_epoch(record))
        metrics.add(record)

    chosen = setup.chosen
    try:
        fit(
            learner,
            batches,
            lambda: judge(learner),
            epochs=chosen.epochs,
            patience=chosen.patience,
            objective=chosen.objective,
            seed=chosen.seed,
            progress=progress,
            save=lambda known: checkpoint.save(learner, known),
            report=report,
            hooks=hooks,
            stop_asked=stop,
        )
    except Stopped:
        log(f"stopped in epoch {progress.epoch + 1} of {chosen.epochs}; the state was saved")
        setup.warnings.append(f"the training was stopped after {progress.epoch} of {chosen.epochs} epochs")
        return False
    return True


def ship(setup: Setup, learner: Learner, progress: Progress, metrics: MetricsFile, finished: bool) -> None:
    """Evaluate the kept weights on valid and test, and write the artifact."""
    learner.network = setup.network
    data, objective = setup.dataset, setup.chosen.objective
    valid_logits, test_logits = (learner.judge(inputs_of(setup, split)) for split in (data.valid, data.test))
    valid = {"images": len(data.valid), **measure(valid_logits, data.valid.labels)}
    temperature = fit_temperature(valid_logits, data.valid.labels)
    test = describe_test(test_logits, data.test.labels, data.classes, temperature)
    error = standard_error(valid_logits, data.valid.labels, objective)
    goal = {"name": f"valid:{objective}", "value": valid[objective], "standard_error": error, "images": len(data.valid)}
    write_json(setup.job_folder / "evaluation.json", describe_evaluation(setup, goal, valid, test, finished))
    write_artifact(setup.job.places.model, setup.network, describe_model(setup, valid, test), setup.job.places.code)
    metrics.add({"best": {"epoch": progress.best_epoch, "valid": progress.best}})
    log(" ".join([f"best epoch={progress.best_epoch}", *describe("valid", progress.best)]))
    log(" ".join(describe("test", pick(test, "accuracy", "macro_precision", "macro_recall", "macro_f1"))))


def pick(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names}


def describe_evaluation(setup: Setup, goal: Any, valid: Any, test: Any, finished: bool) -> dict[str, Any]:
    return {
        "format": 1,
        "objective": goal,
        "valid": valid,
        "test": test,
        "classes": setup.dataset.classes,
        "warnings": setup.warnings,
        "pretrained": setup.pretrained,
        "threads": setup.job.threads,
        "finished": finished,
        "seconds": round(time.time() - setup.begun, 3),
    }


def describe_model(setup: Setup, valid: Any, test: Any) -> dict[str, Any]:
    chosen = setup.chosen
    return {
        "run_id": chosen.run_id,
        "training_job_name": setup.job.name,
        "architecture": chosen.architecture,
        "classes": setup.dataset.classes,
        "image_size": chosen.image_size,
        "resize_size": choose_resize(chosen.image_size),
        "mean": MEAN,
        "std": STD,
        "pretrained": setup.pretrained,
        "fine_tune": chosen.fine_tune,
        "hyperparameters": asdict(chosen),
        "metrics": {"valid": valid, "test": pick(test, *(name for name in test if not isinstance(test[name], (list, dict))))},
        "training_image_hashes": setup.dataset.train.hashes,
        "warnings": setup.warnings,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
