"""Train ResNet18 as ultralytics does: `ClassificationTrainer` with torchvision's ResNet18 as its model's backbone.

Its trainer takes the name `resnet18` too, but then fails at the first batch (8.3.253). It runs in the peers'
environment, with a folder of `train/ valid/`. It prints one JSON line: the seconds of each epoch, training and
validation together. Its own augmentation is reduced to the crop and the flip that all sides have.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp()  # else it writes settings into the home folder
os.environ["YOLO_OFFLINE"] = "true"

import torch
from torchvision import models
from ultralytics import settings
from ultralytics.models.yolo.classify import ClassificationTrainer

from benchmarks.peers.options import read_options

MODEL = """nc: 4
backbone:
  - [-1, 1, TorchVision, [512, resnet18, None, True, 2, False]]
head:
  - [-1, 1, Classify, [nc]]
"""


class Timer:
    """Take the time of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.begun = 0.0

    def begin(self, _trainer: Any) -> None:
        self.begun = time.perf_counter()

    def end(self, _trainer: Any) -> None:
        if self.begun:  # the last validation, of the best weights, is no epoch
            self.seconds.append(time.perf_counter() - self.begun)
        self.begun = 0.0


def number_layers(weights: dict[str, Any]) -> dict[str, Any]:
    """Rename ResNet18's weights as its layers are numbered in a sequence without the last two."""
    layers = [name for name, _ in models.resnet18().named_children()][:-2]
    split = [(name.partition("."), value) for name, value in weights.items()]
    return {f"{layers.index(layer)}.{rest}": value for (layer, _, rest), value in split if layer in layers}


def main() -> None:
    told = read_options()
    settings.update({"mlflow": False, "tensorboard": False})  # which it would feed if they are installed
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "resnet18-cls.yaml"
        model.write_text(MODEL)
        options = {
            "model": str(model),
            "pretrained": False,
            "data": str(told.data),
            "epochs": told.epochs,
            "batch": told.batch_size,
            "imgsz": told.size,
            "workers": told.workers,
            "device": "cpu",
            "project": folder,
            "amp": False,
            "auto_augment": None,
            "erasing": 0.0,
            "hsv_h": 0.0,
            "hsv_s": 0.0,
            "hsv_v": 0.0,
            "plots": False,
            "save": False,
            "verbose": False,
        }
        trainer, timer = ClassificationTrainer(overrides=options), Timer()

        def prepare(trainer: Any) -> None:
            torch.set_num_threads(told.threads)
            weights = torch.load(told.weights, weights_only=True)
            trainer.model.model[0].m.load_state_dict(number_layers(weights))

        trainer.add_callback("on_pretrain_routine_end", prepare)
        trainer.add_callback("on_train_epoch_start", timer.begin)
        trainer.add_callback("on_fit_epoch_end", timer.end)
        trainer.train()
    print(json.dumps({"epochs": [{"all": seconds} for seconds in timer.seconds]}))


if __name__ == "__main__":
    main()
