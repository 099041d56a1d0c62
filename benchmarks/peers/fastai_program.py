"""Fine-tune ResNet18 as fastai does: `ImageDataLoaders`, `vision_learner`, every layer, channels last.

It runs in the peers' environment, with a folder of `train/ valid/`. It prints one JSON line: the seconds of each epoch,
training and validation together. fastai's own head replaces the last layer. `--seconds` lets it train as its users do,
with `aug_transforms` and `fine_tune`, for as many epochs as fit, and `--answers` keeps what it answers to the images of
`test/`, as logarithms of probabilities.
"""

import argparse
import json
import time
from typing import Any

import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import (
    Callback,
    FlipItem,
    ImageDataLoaders,
    L,
    Normalize,
    RandomResizedCrop,
    Resize,
    accuracy,
    aug_transforms,
    get_image_files,
    imagenet_stats,
    params,
    set_seed,
    vision_learner,
)
from torch import nn
from torchvision import models

from benchmarks.peers.options import read_options


class Timer(Callback):
    """Take the time of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_epoch(self) -> None:
        self.begun = time.perf_counter()

    def after_epoch(self) -> None:
        self.seconds.append(time.perf_counter() - self.begun)


def make_loaders(told: argparse.Namespace) -> ImageDataLoaders:
    """Return the loaders: with the reference's augmentation where speed is compared, else with fastai's."""
    items, batches = [RandomResizedCrop(told.size), FlipItem()], []
    if told.seconds:
        items, batches = [Resize(told.size * 256 // 224)], aug_transforms(size=told.size, min_scale=0.75)
    return ImageDataLoaders.from_folder(
        told.data,
        train="train",
        valid="valid",
        item_tfms=items,
        batch_tfms=[*batches, Normalize.from_stats(*imagenet_stats)],
        bs=told.batch_size,
        num_workers=told.workers,
    )


def split(network: nn.Module) -> L:
    """Return the parameters in the groups that fastai gives to ResNets."""
    return L(network[0][:6], network[0][6:], network[1:]).map(params)


def make_learner(told: argparse.Namespace, loaders: ImageDataLoaders, **options: Any) -> Any:
    def resnet18(pretrained: bool = False) -> Any:  # noqa: ARG001 - fastai calls it so
        network = models.resnet18()
        network.load_state_dict(torch.load(told.weights, weights_only=True))
        return network

    return vision_learner(loaders, resnet18, metrics=accuracy, **options)


def train_as_users_do(told: argparse.Namespace, loaders: ImageDataLoaders) -> tuple[Any, int, float]:
    """Fine-tune for about so many seconds of the processor. Return the learner, its epochs, and what they took.

    How many epochs fit is found by one epoch of each kind with a learner that is thrown away, and costs nothing.
    """
    tried, took = make_learner(told, loaders, pretrained=True, splitter=split), []
    for prepare in (tried.freeze, tried.unfreeze):
        prepare()
        begun = time.process_time()
        with tried.no_bar(), tried.no_logging():
            tried.fit_one_cycle(1)
        took.append(time.process_time() - begun)
    epochs = max(1, int((told.seconds - took[0]) / took[1]))
    learner = make_learner(told, loaders, pretrained=True, splitter=split)
    begun = time.process_time()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
    return learner, epochs + 1, time.process_time() - begun


def answer(told: argparse.Namespace, learner: Any) -> torch.Tensor:
    """Return the logarithms of the probabilities of the test images, in the order of their names."""
    names = sorted(get_image_files(told.data / "test"), key=str)
    with learner.no_bar(), learner.no_logging():
        probabilities, _ = learner.get_preds(dl=learner.dls.test_dl(names, num_workers=told.workers))
    return torch.as_tensor(probabilities).clamp(min=1e-12).log()


def main() -> None:
    told = read_options()
    torch.set_num_threads(told.threads)
    if told.seed is not None:
        set_seed(told.seed)
    loaders = make_loaders(told)
    if told.seconds:
        learner, epochs, seconds = train_as_users_do(told, loaders)
        torch.save(answer(told, learner), told.answers)
        print(json.dumps({"epochs": epochs, "processor": seconds}))
        return
    timer = Timer()
    learner = make_learner(told, loaders, pretrained=False, cbs=[ChannelsLast(), timer])
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(told.epochs, 1e-3)
    print(json.dumps({"epochs": [{"all": seconds} for seconds in timer.seconds]}))


if __name__ == "__main__":
    main()
