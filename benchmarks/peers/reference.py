"""Train as torchvision's classification reference does: its transforms, its loader, its loop, one device.

Run it with a folder of `train/ valid/`. It prints one JSON line: the seconds of each epoch, of its training and of its
evaluation, and the images of an epoch. `--seconds` lets it train for as many whole epochs as fit, and `--answers` keeps
what it answers to the test images.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHOWN = 10  # steps between two lines of the log; every step's loss is read all the same


def make_loaders(data: Path, told: argparse.Namespace, device: torch.device) -> dict[str, DataLoader]:
    size = told.size
    final = [transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float), transforms.Normalize(MEAN, STD)]
    augmented = [transforms.RandomResizedCrop(size, antialias=True), transforms.RandomHorizontalFlip(), *final]
    judged = [transforms.Resize(size * 256 // 224, antialias=True), transforms.CenterCrop(size), *final]
    sets = {
        split: datasets.ImageFolder(str(data / split), transforms.Compose(steps))
        for split, steps in (("train", augmented), ("valid", judged), *([("test", judged)] if told.answers else []))
    }
    options: dict[str, Any] = {"num_workers": told.workers, "pin_memory": device.type == "cuda"}
    options["persistent_workers"] = told.workers > 0
    return {
        split: DataLoader(each, told.batch_size, shuffle=split == "train", **options) for split, each in sets.items()
    }


class Meter:
    """The reference's SmoothedValue: the last values of something, and their sum."""

    def __init__(self) -> None:
        self.last: deque[float] = deque(maxlen=SHOWN)
        self.total, self.count = 0.0, 0

    def update(self, value: float, count: int = 1) -> None:
        self.last.append(value)
        self.total += value * count
        self.count += count


def measure(outputs: torch.Tensor, labels: torch.Tensor, best: tuple[int, ...]) -> list[torch.Tensor]:
    """Return the reference's accuracy in per cent among the best 1 and the best 5."""
    with torch.inference_mode():
        _, found = outputs.topk(min(max(best), outputs.shape[1]), 1, True, True)
        right = found.t().eq(labels[None])
        return [right[:most].flatten().sum(dtype=torch.float32) * (100.0 / len(labels)) for most in best]


def train_one_epoch(
    network: nn.Module, criterion: nn.Module, optimizer: Any, loader: DataLoader, told: argparse.Namespace, scaler: Any
) -> None:
    network.train()
    device, meters = next(network.parameters()).device, [Meter(), Meter(), Meter()]
    for number, (images, labels) in enumerate(loader):
        images, labels = images.to(device), labels.to(device)
        if told.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.amp.autocast(device.type, enabled=scaler is not None):
            outputs = network(images)
            loss = criterion(outputs, labels)
        optimizer.zero_grad()
        if scaler is not None:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()
        first, fifth = measure(outputs, labels, (1, 5))
        for meter, value in zip(meters, (loss.item(), first.item(), fifth.item()), strict=True):
            meter.update(value, len(images))
        if number % SHOWN == 0:
            print(f"step {number} loss {meters[0].last[-1]:.4f}", flush=True)


def evaluate(network: nn.Module, criterion: nn.Module, loader: DataLoader) -> float:
    network.eval()
    device, meter = next(network.parameters()).device, Meter()
    with torch.inference_mode():
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            outputs = network(images)
            criterion(outputs, labels).item()
            meter.update(measure(outputs, labels, (1,))[0].item(), len(images))
    return meter.total / meter.count


def answer(network: nn.Module, loader: DataLoader) -> torch.Tensor:
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        return torch.cat([network(images.to(device)).cpu() for images, _ in loader])


def fits(begun: float, epochs: int, seconds: float) -> bool:
    """Return whether one more epoch ends in time, if it takes as long as the others did. There is always a first.

    begun, seconds: of the processor, which other processes hardly disturb.
    """
    spent = time.process_time() - begun
    return not epochs or spent * (epochs + 1) / epochs <= seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--amp", action="store_true", help="the reference's: CUDA's")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seconds", type=float, default=0.0, help="of the processor, instead of so many epochs")
    parser.add_argument("--answers", type=Path, help="where the logits of the test images go")
    told = parser.parse_args()
    if told.seed is not None:
        torch.manual_seed(told.seed)
    if told.threads:
        torch.set_num_threads(told.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaders = make_loaders(told.data, told, device)
    network = models.resnet18()
    if told.weights:
        network.load_state_dict(torch.load(told.weights, weights_only=True))
    network.fc = nn.Linear(network.fc.in_features, len(loaders["train"].dataset.classes))
    network = network.to(device, memory_format=torch.channels_last if told.channels_last else torch.contiguous_format)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    scaler = torch.amp.GradScaler("cuda") if told.amp and device.type == "cuda" else None
    epochs = []
    working = time.process_time()
    while len(epochs) < told.epochs if not told.seconds else fits(working, len(epochs), told.seconds):
        begun = time.perf_counter()
        train_one_epoch(network, criterion, optimizer, loaders["train"], told, scaler)
        schedule.step()
        trained = time.perf_counter()
        evaluate(network, criterion, loaders["valid"])
        ended = time.perf_counter()
        epochs.append({"train": trained - begun, "valid": ended - trained, "all": ended - begun})
    worked_for = time.process_time() - working
    if told.answers:
        torch.save(answer(network, loaders["test"]), told.answers)
    images = {split: len(loader.dataset) for split, loader in loaders.items()}
    print(json.dumps({"epochs": epochs, "images": images, "processor": worked_for}))


if __name__ == "__main__":
    main()
