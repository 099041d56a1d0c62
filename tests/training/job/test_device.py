"""Test how a job's device is prepared."""

from __future__ import annotations

import torch
from job.device import seed_generators


def test_a_seed_gives_the_numbers_that_torch_s_own_gives() -> None:
    """A job without a GPU seeds its one generator alone, to the same bits."""
    torch.manual_seed(2_000_000_011)
    wanted = torch.rand(8)
    seed_generators(2_000_000_011)
    assert torch.equal(torch.rand(8), wanted)
