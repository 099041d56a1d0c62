"""Choose the precision of training steps by the hardware. Whatever is judged is computed in single precision."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

# On a CPU the copies of the weights in half precision cost more than they gain where images are small.
LEAST_SIDE = 96
CPU_FLAGS = ("avx512_bf16", "amx_bf16")


def choose_precision(device: torch.device, image_size: int = 0) -> torch.dtype | None:
    """Choose a half precision that the hardware computes in by itself; None means single precision.

    image_size: the side of the network's input in pixels; 0 if it does not take images.
    """
    if device.type == "cpu":
        return torch.bfloat16 if image_size >= LEAST_SIDE and has_half_precision() else None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def has_half_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this CPU computes in bfloat16 natively; emulation is slower."""
    try:
        flags = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in flags for flag in CPU_FLAGS)


def arithmetic(device: torch.device, precision: torch.dtype | None) -> Any:
    """Return the context that sets the precision of a step.

    Copies of weights are not cached: a step needs each once, and a graph must make them anew whenever it is replayed.
    """
    return torch.autocast(device.type, precision, cache_enabled=False) if precision else nullcontext()


def compute_exactly() -> None:
    """Let a GPU compute the same bits every time, and in single precision where that is asked for."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
