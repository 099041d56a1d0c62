"""Read what SageMaker hands to the program, once and typed: hyperparameters and folders.

Script mode passes every hyperparameter as text, some as JSON within JSON ("16", "\\"16\\"", "'all'"), and AWS's toolkit
decodes part of it. So each value is unwrapped until it is plain, and only then converted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

OBJECTIVES = ("score", "accuracy", "macro_f1")
PRETRAINED = ("auto", "imagenet", "none")
DEPTHS = ("head", "last_block", "all")
NORMALISATIONS = ("auto", "keep", "learn")
SWITCHES = ("auto", "true", "false")
AUGMENTATIONS = ("usual", "trivial")
IMBALANCES = ("auto", "none", "adjust", "sample")
RULES = (
    "VanishingGradient",
    "ExplodingTensor",
    "LossNotDecreasing",
    "Overfit",
    "Overtraining",
    "PoorWeightInitialization",
    "DeadRelu",
    "SaturatedActivation",
    "WeightUpdateRatio",
    "UnchangedTensor",
    "AllZero",
    "ClassImbalance",
    "Confusion",
    "LearningRateTooHigh",
    "TinyBatch",
    "NearChance",
)
MOST_MIXED = 1000.0  # far beyond that all shares are a half
CACHES = ("auto", "memory", "none")
OPTIONAL_CHANNELS = ("weights", "trial", "live_model", "live_dataset")


class TrainingError(Exception):
    """The training cannot go on for a reason that its user can act on. The message is one readable sentence."""


@dataclass(frozen=True)
class Hyperparameters:
    """Everything that may be chosen for a training, under the names that the tuning job's ranges use.

    max_runtime: the job's time limit in seconds; 0 means that there is none. trial_job and live_run name the best trial
    and the run whose model is live, if there are any: the final training compares its model with theirs.
    baseline_depth: the baseline's fine_tune, as deep as the recipe allows.
    """

    run_id: str = ""
    architecture: str = "resnet18"
    image_size: int = 224
    epochs: int = 10
    seed: int = 0
    objective: str = "score"
    patience: int = 0
    max_runtime: int = 0
    pretrained: str = "auto"
    profile: bool = False
    stop_on_rules: tuple[str, ...] = ()
    cache: str = "auto"
    learning_rate: float = 1.0
    batch_size: int = 32
    weight_decay: float = 0.01
    fine_tune: str = "all"
    baseline_depth: str = "all"
    batch_norm: str = "auto"
    horizontal_flip: str = "auto"
    rotation: str = "auto"
    imbalance: str = "auto"
    augmentation: str = "usual"
    clip_norm: float = 0.0
    head_rate: float = 1.0
    averaging: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    refit: bool = False
    class_level: int = 0
    name_encoding: str = ""
    ignore: tuple[str, ...] = ()
    group: str = ""
    labels: str = ""
    trial_job: str = ""
    live_run: str = ""


@dataclass(frozen=True)
class Places:
    """The folders of a job. Nothing is written outside them.

    trial and live_model hold the artifacts with which the final training is compared; live_dataset is the `input/` of
    the live model's run.
    """

    dataset: Path
    weights: Path | None
    model: Path
    output: Path
    checkpoints: Path
    code: Path
    trial: Path | None = None
    live_model: Path | None = None
    live_dataset: Path | None = None


@dataclass(frozen=True)
class Job:
    """One training job, or one process of it: its name, its folders, and the cores and the machine's GPUs.

    feature_cache, pixel_cache: where this machine's jobs share the features of frozen backbones and decoded images, or
    None. rank, ranks: this process's number and how many train together; place: its number on its machine.
    """

    name: str
    places: Places
    threads: int
    gpus: int
    feature_cache: Path | None = None
    pixel_cache: Path | None = None
    rank: int = 0
    ranks: int = 1
    place: int = 0


def unwrap(value: Any) -> Any:
    """Remove the layers of JSON and quotes from a hyperparameter: '"16"' and "'16'" become 16."""
    while isinstance(value, str):
        text = value.strip()
        if len(text) >= 2 and text[0] == text[-1] == "'":
            value = text[1:-1]
            continue
        try:
            value = json.loads(text)
        except ValueError:
            return text
    return value


def read_hyperparameters(given: Mapping[str, Any], log: Callable[[str], None]) -> Hyperparameters:
    """Convert SageMaker's mapping. Raise TrainingError naming the hyperparameter, its value and what is allowed."""
    known = {field.name: field.default for field in fields(Hyperparameters)}
    unknown = sorted(name for name in given if name not in known and not name.startswith("sagemaker_"))
    if unknown:
        log(f"ignored hyperparameters that this program does not know: {', '.join(unknown)}")
    chosen = {name: convert(name, unwrap(given[name]), default) for name, default in known.items() if name in given}
    hyperparameters = Hyperparameters(**chosen)
    check(hyperparameters)
    return hyperparameters


def convert(name: str, value: Any, default: Any) -> Any:
    """Convert a value to the type of its default."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if isinstance(default, int):
            return as_whole_number(value)
        if isinstance(default, float):
            return float(value)
    except (ValueError, TypeError, KeyError) as error:
        kind = type(default).__name__
        raise TrainingError(f"hyperparameter {name} is {value!r}, which is no {kind}; correct the recipe") from error
    if isinstance(default, tuple):
        names = value if isinstance(value, list) else str(value).split(",")
        return tuple(str(name).strip() for name in names if str(name).strip())
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_whole_number(value: Any) -> int:
    if float(value) != int(float(value)):
        raise ValueError(value)
    return int(float(value))


def check(chosen: Hyperparameters) -> None:
    """Refuse values that no training can use."""
    allowed = {
        "objective": OBJECTIVES,
        "pretrained": PRETRAINED,
        "cache": CACHES,
        "fine_tune": DEPTHS,
        "baseline_depth": DEPTHS,
        "batch_norm": NORMALISATIONS,
        "horizontal_flip": SWITCHES,
        "rotation": SWITCHES,
        "imbalance": IMBALANCES,
        "augmentation": AUGMENTATIONS,
    }
    for name, values in allowed.items():
        if getattr(chosen, name) not in values:
            raise TrainingError(
                f"hyperparameter {name} is {getattr(chosen, name)!r}; choose one of {', '.join(values)}"
            )
    for name in set(chosen.stop_on_rules) - set(RULES):
        raise TrainingError(
            f"hyperparameter stop_on_rules names {name!r}, which is not a rule; the rules: {', '.join(RULES)}"
        )
    least = {
        "image_size": 8,
        "epochs": 1,
        "batch_size": 1,
        "patience": 0,
        "max_runtime": 0,
        "seed": 0,
        "weight_decay": 0.0,
        "clip_norm": 0.0,
        "averaging": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "class_level": 0,
    }
    for name, lowest in least.items():
        if not getattr(chosen, name) >= lowest:
            raise TrainingError(f"hyperparameter {name} is {getattr(chosen, name)}; it must be at least {lowest}")
    for name in ("learning_rate", "head_rate"):
        if not 0 < getattr(chosen, name) < float("inf"):
            raise TrainingError(f"hyperparameter {name} is {getattr(chosen, name)}; it must be above 0 and finite")
    for name in ("mixup", "cutmix"):
        if getattr(chosen, name) > MOST_MIXED:
            raise TrainingError(f"hyperparameter {name} is {getattr(chosen, name)}; it must be at most {MOST_MIXED}")
    if not chosen.averaging < 1:
        raise TrainingError(f"hyperparameter averaging is {chosen.averaging}; it must be below 1")


def read_job(environ: Mapping[str, str], code: Path, *, share: bool = True) -> Job:
    """Read the job's folders from SageMaker's environment, falling back to their defaults below /opt/ml.

    share: whether to use the folders that FEATURE_CACHE and PIXEL_CACHE name.
    """
    base = Path(environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    name = environ.get("TRAINING_JOB_NAME") or "training"
    given = {channel: environ.get(f"SM_CHANNEL_{channel.upper()}") for channel in OPTIONAL_CHANNELS}
    places = Places(
        dataset=Path(environ.get("SM_CHANNEL_DATASET", base / "input/data/dataset")),
        model=Path(environ.get("SM_MODEL_DIR", base / "model")),
        output=Path(environ.get("SM_OUTPUT_DIR", base / "output")),
        checkpoints=base / "checkpoints" / name,
        code=code,
        **{channel: Path(folder) if folder else None for channel, folder in given.items()},
    )
    threads, gpus = (count(environ, variable) for variable in ("SM_NUM_CPUS", "SM_NUM_GPUS"))
    beside = max(1, count(environ, "LOCAL_WORLD_SIZE"))  # torchrun's variables, in a job of several processes
    # Processes of one machine need not all decode the same images.
    scratch = str(places.output / "scratch") if beside > 1 else None
    named = [environ.get(variable, scratch) if share else None for variable in ("FEATURE_CACHE", "PIXEL_CACHE")]
    features, pixels = (Path(folder) if folder else None for folder in named)
    ranks, own = max(1, count(environ, "WORLD_SIZE")), (count(environ, "RANK"), count(environ, "LOCAL_RANK"))
    cores = max(1, (threads or os.cpu_count() or 1) // beside)
    return Job(name, places, cores, gpus, features, pixels, own[0], ranks, own[1])


def count(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "0")
    return int(text) if text.isdigit() else 0


def read_given(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read SM_HPS, the JSON object of the hyperparameters."""
    try:
        given = json.loads(environ.get("SM_HPS") or "{}")
    except ValueError as error:
        raise TrainingError(f"SM_HPS is no JSON ({error}); run this program under SageMaker's script mode") from error
    if not isinstance(given, dict):
        raise TrainingError(f"SM_HPS is {type(given).__name__}, not an object; run it under SageMaker's script mode")
    return given
