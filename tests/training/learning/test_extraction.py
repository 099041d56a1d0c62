"""Features that jobs share have the same bits, whoever computed them and with however many threads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from caching.store import Store
from learning import extraction
from learning.extraction import Extractor
from learning.model import build_network
from torch import nn

IMAGES = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
HASHES = [f"{number:016x}" for number in range(len(IMAGES))]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(1)
    return build_network("resnet18", 3).to(memory_format=torch.channels_last)


def make_extractor(network: Any, store: Store | None = None, workers: int = 1, **about: Any) -> Extractor:
    return Extractor(network, network.fc, torch.device("cpu"), 8, about, store, workers)


def extract(extractor: Extractor, hashes: list[str] = HASHES) -> torch.Tensor:
    return extractor.extract(IMAGES.__getitem__, hashes)


def test_features_are_the_same_bits_by_any_number_of_threads(network: Any) -> None:
    """Torch's own number of threads is left as it was."""
    before = torch.get_num_threads()
    alone = extract(make_extractor(network))
    torch.set_num_threads(2)
    assert torch.equal(extract(make_extractor(network, workers=3)), alone)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_kept_features_are_the_same_bits(network: Any, tmp_path: Path) -> None:
    """Computed and kept, read, or without a store at all."""
    plain = extract(make_extractor(network))
    store = Store(tmp_path)
    assert torch.equal(extract(make_extractor(network, store)), plain)
    assert (store.hits, store.made) == (0, 5)
    again = Store(tmp_path)
    assert torch.equal(extract(make_extractor(network, again)), plain)
    assert (again.hits, again.made) == (5, 0)


def test_how_many_batches_are_kept_at_once_changes_no_bit(network: Any) -> None:
    """A large split is kept in longer chunks, computed in the same batches."""
    longer = replace(make_extractor(network), most_chunks=2)
    assert longer.choose_chunk(len(IMAGES)) == 24
    assert torch.equal(extract(longer), extract(make_extractor(network)))
    assert [make_extractor(network).choose_chunk(images) for images in (1, 2048, 2049, 20_000)] == [8, 8, 16, 80]


def test_what_features_depend_on_is_in_their_key(network: Any, tmp_path: Path) -> None:
    """Other weights, another preprocessing, other images or another order: nothing of before is taken."""
    store = Store(tmp_path)
    extract(make_extractor(network, store))
    other = build_network("resnet18", 3)
    for extractor, hashes in (
        (make_extractor(other, store), HASHES),
        (make_extractor(network, store, image_size=64), HASHES),
        (make_extractor(network, store), HASHES[::-1]),
    ):
        extract(extractor, hashes)
    assert (store.hits, store.made) == (0, 20)


def test_the_head_is_not_in_the_key(network: Any) -> None:
    """Every trial has a head of its own, and the same backbone."""
    before = extraction.hash_weights(network, network.fc)
    with torch.no_grad():
        network.fc.weight.add_(1)
    assert extraction.hash_weights(network, network.fc) == before
    with torch.no_grad():
        network.conv1.weight[0, 0, 0, 0] += 1
    assert extraction.hash_weights(network, network.fc) != before


def test_features_are_those_of_a_whole_forward_pass(network: Any) -> None:
    """The head on the features gives the network's own logits."""
    features = extract(make_extractor(network))
    with torch.no_grad():
        assert torch.allclose(network.fc(features), network.eval()(IMAGES), atol=1e-4)
