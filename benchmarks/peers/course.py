"""Train as the course did: ImageFolder, DataLoader, a frozen ResNet18 whose last layer alone learns; a process a trial.

Run it with a folder of `train/ valid/ test/`. It prints one JSON line: the seconds since the process began, by part.
`--seconds` lets it train for as many whole epochs as fit, and `--answers` keeps what it answers to the test images.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

BEGUN = time.time()

import torch  # noqa: E402  the import is a part of what is timed
from torch import nn, optim  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402
from torchvision import datasets, models, transforms  # noqa: E402


def make_loaders(data: Path, batch_size: int, size: int = 224) -> dict[str, DataLoader]:
    """Return the loaders of the three splits, with the course's transforms."""
    level = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    flipped = [transforms.RandomHorizontalFlip()]
    sets = {
        split: datasets.ImageFolder(
            str(data / split),
            transforms.Compose(
                [
                    transforms.Resize(size * 256 // 224),
                    transforms.CenterCrop(size),
                    *(flipped if split == "train" else []),
                    transforms.ToTensor(),
                    level,
                ]
            ),
        )
        for split in ("train", "valid", "test")
    }
    return {split: DataLoader(each, batch_size, shuffle=split == "train") for split, each in sets.items()}


def make_network(weights: Path, classes: int) -> nn.Module:
    network = models.resnet18()
    network.load_state_dict(torch.load(weights, weights_only=True))
    for parameter in network.parameters():
        parameter.requires_grad = False
    network.fc = nn.Linear(network.fc.in_features, classes)
    return network


def train(network: nn.Module, loader: DataLoader, criterion: nn.Module, optimizer: optim.Optimizer) -> None:
    network.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(network(inputs), labels)
        loss.backward()
        optimizer.step()


def test(network: nn.Module, loader: DataLoader, criterion: nn.Module) -> tuple[float, float]:
    network.eval()
    loss, hits = 0.0, 0
    with torch.no_grad():
        for inputs, labels in loader:
            outputs = network(inputs)
            loss += criterion(outputs, labels).item() * len(labels)
            hits += int((outputs.argmax(1) == labels).sum())
    return loss / len(loader.dataset), hits / len(loader.dataset)


def answer(network: nn.Module, loader: DataLoader) -> torch.Tensor:
    network.eval()
    with torch.no_grad():
        return torch.cat([network(inputs) for inputs, _ in loader])


def cache_features(network: nn.Module, loaders: dict[str, DataLoader], batch_size: int) -> dict[str, DataLoader]:
    """The variant: run the frozen backbone once over each split, without mirroring."""
    backbone = nn.Sequential(*list(network.children())[:-1], nn.Flatten()).eval()
    found = {}
    with torch.no_grad():
        for split, loader in loaders.items():
            pairs = [(backbone(inputs), labels) for inputs, labels in loader]
            features, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            found[split] = DataLoader(TensorDataset(features, labels), batch_size, shuffle=split == "train")
    return found


def fits(begun: float, epochs: int, seconds: float) -> bool:
    """Return whether one more epoch ends in time, if it takes as long as the others did. There is always a first.

    begun, seconds: of the processor, which other processes hardly disturb.
    """
    spent = time.process_time() - begun
    return not epochs or spent * (epochs + 1) / epochs <= seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--cache-features", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0, help="of the processor, instead of so many epochs")
    parser.add_argument("--answers", type=Path, help="where the logits of the test images go")
    told = parser.parse_args()
    imported = time.time()
    if told.seed is not None:
        torch.manual_seed(told.seed)
    if told.threads:
        torch.set_num_threads(told.threads)
    loaders = make_loaders(told.data, told.batch_size, told.size)
    network = make_network(told.weights, len(loaders["train"].dataset.classes))
    trained: nn.Module = network
    if told.cache_features:
        loaders, trained = cache_features(network, loaders, told.batch_size), network.fc
    criterion, optimizer = nn.CrossEntropyLoss(), optim.Adam(network.fc.parameters(), lr=told.learning_rate)
    begun, working, epochs = time.time(), time.process_time(), 0
    while epochs < told.epochs if not told.seconds else fits(working, epochs, told.seconds):
        train(trained, loaders["train"], criterion, optimizer)
        loss, accuracy = test(trained, loaders["valid"], criterion)
        epochs += 1
    trained_for, worked_for = time.time() - begun, time.process_time() - working
    test(trained, loaders["test"], criterion)
    torch.save(network.state_dict(), told.out)
    if told.answers:
        torch.save(answer(network, loaders["test"]), told.answers)
    seconds = {"import": imported - BEGUN, "training": trained_for, "processor": worked_for, "all": time.time() - BEGUN}
    print(json.dumps({"seconds": seconds, "epochs": epochs, "loss": loss, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
