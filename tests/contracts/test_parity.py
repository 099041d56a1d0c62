"""An image gets the same probabilities from the endpoint as from the evaluation that the report shows.

`benchmarks/training/parity.py` compares every family of architectures at every size.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.parity import compare


@pytest.mark.parametrize(
    ("architecture", "image_size"),
    [("resnet18", 128), ("resnet18", 48), ("mobilenet_v3_small", 160), ("squeezenet1_1", 96)],
)
def test_evaluation_and_endpoint_agree(tmp_path: Path, architecture: str, image_size: int) -> None:
    """Within 0.001 for images of every mode and format: in torch, as on AWS, and in the local cloud's onnxruntime."""
    found = compare(tmp_path, architecture, image_size)
    assert [engine.split()[0] for engine in found] == ["torch", "onnxruntime"]
    assert max(found.values()) < 1e-3
