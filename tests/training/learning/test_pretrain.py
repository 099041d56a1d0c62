"""The stand-in for ImageNet's weights: a job takes it as it takes torchvision's file."""

from __future__ import annotations

from pathlib import Path

from learning.weights import find_weights

from benchmarks.training.pretrain import pretrain


def test_a_job_begins_with_the_stand_in(tmp_path: Path) -> None:
    """It is found in the channel by its network's name, with a tensor for each of the network's."""
    pretrain(tmp_path, "mobilenet_v3_small", epochs=1, images=4)
    state = find_weights("mobilenet_v3_small", "imagenet", tmp_path, print)
    assert state is not None
    assert state["classifier.3.weight"].shape[0] == 10
