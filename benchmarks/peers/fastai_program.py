"""Fine-tune ResNet18 as fastai does: `ImageDataLoaders`, `vision_learner`, every layer, channels last.

It runs in the peers' environment, with a folder of `train/ valid/`. It prints one JSON line: the seconds of each epoch,
training and validation together. fastai's own head replaces the last layer.
"""

import json
import time
from typing import Any

import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import (
    Callback,
    FlipItem,
    ImageDataLoaders,
    Normalize,
    RandomResizedCrop,
    accuracy,
    imagenet_stats,
    vision_learner,
)
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


def main() -> None:
    told = read_options()
    torch.set_num_threads(told.threads)

    def resnet18(pretrained: bool = False) -> Any:  # noqa: ARG001 - fastai calls it so
        network = models.resnet18()
        network.load_state_dict(torch.load(told.weights, weights_only=True))
        return network

    loaders = ImageDataLoaders.from_folder(
        told.data,
        train="train",
        valid="valid",
        item_tfms=[RandomResizedCrop(told.size), FlipItem()],
        batch_tfms=Normalize.from_stats(*imagenet_stats),
        bs=told.batch_size,
        num_workers=told.workers,
    )
    timer = Timer()
    learner = vision_learner(loaders, resnet18, pretrained=False, metrics=accuracy, cbs=[ChannelsLast(), timer])
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(told.epochs, 1e-3)
    print(json.dumps({"epochs": [{"all": seconds} for seconds in timer.seconds]}))


if __name__ == "__main__":
    main()
