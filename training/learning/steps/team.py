"""Share a training out among processes, on one machine or several: each takes its part of every batch.

All make the same step: the gradients of the parts' sums are added up and divided by the number of all images, so that
the batch, the learning rate and the schedule mean what they mean to one process. Process 0, the chief, also does what
only one may do, and meanwhile the others wait.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

# A connection that closes is noticed at once. So this only bounds what the chief does by itself.
TIMEOUT = timedelta(days=5)
TOLD_SECONDS = 1.0  # that a process which fails stays, so that the others learn why
HEARD_SECONDS = 3.0
LOST = "another process of this training ended without saying why; the job's other logs say more"
Value = TypeVar("Value")


class PeerLost(Exception):
    """Another process of the team has ended. The message is its reason, as far as it told one."""


class Reasons:
    """Why a process of the team failed: one says it, and the others hear it before they miss that process."""

    def __init__(self, store: dist.Store) -> None:
        self.store, self.reason, self.heard = store, "", threading.Event()
        threading.Thread(target=self.listen, args=(store.clone(),), name="reasons", daemon=True).start()

    def listen(self, store: dist.Store) -> None:
        try:
            store.wait(["reason"], TIMEOUT)
            self.reason = store.get("reason").decode()
        except RuntimeError:  # the store has gone
            return
        self.heard.set()

    def tell(self, reason: str) -> None:
        try:
            self.store.set("reason", reason)
        except RuntimeError:
            return
        time.sleep(TOLD_SECONDS)

    def hear(self) -> str:
        self.heard.wait(HEARD_SECONDS)
        return self.reason or LOST


class Team:
    """The place of this process among those that train together; by default there is no other."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size, self.is_apart = rank, size, False

    @property
    def is_chief(self) -> bool:
        return self.rank == 0

    @property
    def is_shared(self) -> bool:
        """Return whether what is done now is done together."""
        return self.size > 1 and not self.is_apart

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Let the chief work by itself for a while."""
        kept, self.is_apart = self.is_apart, True
        try:
            yield
        finally:
            self.is_apart = kept

    def leave(self) -> None:
        """Let the chief work by itself from now on; the others wait for its end."""
        self.is_apart = True

    def merge(self, network: nn.Module, images: int) -> None:
        """Turn the gradients of the parts' mean losses into that of the whole batch. images: how many this part has."""
        if not self.is_shared:
            return
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        count = torch.full((1,), float(images), dtype=gradients[0].dtype, device=gradients[0].device)
        flat = torch.cat([*(gradient.flatten() * count for gradient in gradients), count])
        with noticing():
            dist.all_reduce(flat)
        put_back(flat[:-1] / flat[-1], gradients)

    def level(self, network: nn.Module) -> None:
        """Give every process the mean of the statistics that layers in training mode have learnt."""
        if not self.is_shared:
            return
        learning = [module for module in network.modules() if module.training]
        own = [value for module in learning for value in module.buffers(recurse=False) if value.is_floating_point()]
        if own:
            flat = torch.cat([value.flatten() for value in own])
            with noticing():
                dist.all_reduce(flat)
            put_back(flat / self.size, own)

    def take(self, batches: Iterable[Value]) -> Iterator[Value]:
        """Yield this process's turns of what is computed once for all."""
        size = self.size if self.is_shared else 1
        yield from (batch for number, batch in enumerate(batches) if number % size == self.rank % size)

    def gather(self, parts: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Return what all processes computed of what `take` gave them, in its order."""
        if not self.is_shared:
            return parts
        found: list[Any] = [None] * self.size
        with noticing():
            dist.all_gather_object(found, [part.cpu() for part in parts])
        return [part for turn in zip_longest(*found) for part in turn if part is not None]

    def add(self, *values: float) -> list[float]:
        """Return the sums over all processes."""
        if not self.is_shared:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        with noticing():
            dist.all_reduce(sums)
        return list(sums.tolist())

    def agree(self, wanted: bool) -> bool:
        """Return whether any process wants something."""
        return self.add(float(wanted))[0] > 0

    def spread(self, value: Value) -> Value:
        """Return the chief's value."""
        if not self.is_shared:
            return value
        held = [pack(value) if self.is_chief else b""]
        with noticing():
            dist.broadcast_object_list(held)
        return value if self.is_chief else unpack(held[0])

    def wait(self) -> None:
        """Wait until all are done."""
        self.is_apart = False
        self.agree(False)


def pack(value: Any) -> bytes:
    packed = io.BytesIO()
    torch.save(value, packed)
    return packed.getvalue()


def unpack(packed: bytes) -> Any:
    """Return what another process of this job packed, on the CPU: its GPU is not this one's."""
    return torch.load(io.BytesIO(packed), map_location="cpu", weights_only=False)


def put_back(flat: torch.Tensor, values: Sequence[torch.Tensor]) -> None:
    """Write what was laid out in one tensor back to where it came from."""
    with torch.no_grad():
        for value, part in zip(values, flat.split([value.numel() for value in values]), strict=True):
            value.copy_(part.view_as(value))


@contextmanager
def noticing() -> Iterator[None]:
    """Report a connection that broke as what it means: a process has ended."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(str(error)) from error


@contextmanager
def join(rank: int, size: int, *, place: int, on_gpu: bool, explain: Callable[[BaseException], str]) -> Iterator[Team]:
    """Join the other processes, and wait for them at the end. place: this process's number on its machine.

    A process that fails says why. The others then raise PeerLost with the same reason.
    """
    if size == 1:
        yield Team()
        return
    if interface := os.environ.get("SM_NETWORK_INTERFACE_NAME"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)  # as the toolkit does for NCCL
    if on_gpu and torch.cuda.is_available():
        torch.cuda.set_device(place)
    store = next(iter(dist.rendezvous("env://")))[0]
    ways = {"store": dist.PrefixStore("team", store), "rank": rank, "world_size": size, "timeout": TIMEOUT}
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", **ways)
    team, reasons = Team(rank, size), Reasons(dist.PrefixStore("reasons", store))
    try:
        yield team
        team.wait()
    except PeerLost as lost:
        raise PeerLost(reasons.hear()) from lost
    except BaseException as error:
        reasons.tell(explain(error))
        raise
    dist.destroy_process_group()
