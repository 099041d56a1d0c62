"""Choose the device of a job, and prepare its memory."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import torch

from job.settings import Job, TrainingError


def tune_allocator() -> None:
    """Keep glibc from returning large blocks to the system after every step, which costs a tenth of the time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_top_pad, 64 * 2**20)


def try_gpu() -> None:
    """Compute something on the GPU: a driver too old or a card too new shows itself only there."""
    if not torch.cuda.is_available():
        raise RuntimeError(f"torch.cuda is not available; this PyTorch was built for CUDA {torch.version.cuda}")
    values = torch.ones(8, 8, device="cuda")
    if float((values @ values).sum()) != 512.0:
        raise RuntimeError("the product of two matrices is wrong")


def seed_generators(seed: int) -> None:
    """Seed the generators of all devices in use. Without a GPU, `torch.manual_seed` would also note the call for one.

    That note, with the stack's text, costs 1.5 ms: more than a step of a head.
    """
    if torch.cuda.is_initialized():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def choose_device(job: Job, probe: Callable[[], None] = try_gpu) -> torch.device:
    """Choose the GPU that was granted.

    Raises TrainingError for one that cannot be used: on the CPU the job would be slow, at the price of a GPU.
    """
    if job.gpus == 0:
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA is first used
    try:
        probe()
    except Exception as error:
        raise TrainingError(
            f"the job was granted {job.gpus} GPU(s), and PyTorch {torch.__version__} cannot use them "
            f"({type(error).__name__}: {error}); choose a training image whose CUDA fits the instance type's driver, "
            "or an instance type without a GPU"
        ) from error
    return torch.device("cuda")
