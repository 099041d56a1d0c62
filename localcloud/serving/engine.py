"""Let a loaded network compute in onnxruntime, where its answers are torch's.

The archive's handlers stay as they are: `model_fn` loads the network into torch, and what it returns is given back with
another module in the network's place, which takes and returns the same tensors. On AWS nothing of this exists, and the
same handlers compute in torch.

The network is converted once, in a child process, so that neither a crash nor the exporter's memory is the server's.
The result is cached under a hash of the archive. Whether it agrees is checked at every start, on images that pass
through the archive's own `input_fn` and preprocessing. Whatever goes wrong, the network stays in torch.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from localcloud.serving.sessions import (
    AGREEMENT,
    OPSET,
    SAMPLES,
    describe,
    draw_sample,
    forget_old,
    hash_archive,
    open_session,
)

CONVERSION_SECONDS = 30
Seen = list[tuple[torch.Tensor, torch.Tensor]]
Predict = Callable[[Any, bytes], object]


class EngineError(Exception):
    """The network stays in torch. The text says why."""


@dataclass(frozen=True)
class Engine:
    """What answers from now on, one line about it for the log, and an image to warm it with."""

    model: Any
    description: str
    sample: bytes | None = None
    converted: Path | None = None
    outputs: list[Any] = field(default_factory=list)  # torch's, for the images that were compared


class Recorder(torch.nn.Module):
    """A network that remembers what it was asked and what it answered."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: Seen = []

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.network(batch)
        self.seen.append((batch, output))
        return output


class OnnxNetwork(torch.nn.Module):
    """A network that answers in onnxruntime.

    torch still computes inputs of another shape than the converted one, and whatever is not asked in inference mode:
    who asks otherwise may want gradients or the layers' outputs, as an explanation does.
    """

    def __init__(self, network: torch.nn.Module, path: Path, shape: torch.Size) -> None:
        super().__init__()
        self.network = network
        self._shape = shape
        self._session = open_session(path)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if batch.shape != self._shape or not torch.is_inference_mode_enabled():
            output: torch.Tensor = self.network(batch)
            return output
        return torch.from_numpy(self._session.run(None, {"input": batch.contiguous().numpy()})[0])


def choose_engine(model: Any, predict: Predict, model_dir: Path, cache: Path) -> Engine:
    """Return the model with the faster engine, or as it is. `predict(model, jpeg)` classifies an image with a model."""
    try:
        return _use_onnx(model, predict, model_dir, cache)
    except Exception as error:  # noqa: BLE001 - the network is foreign, and torch serves it in any case
        why = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
        return Engine(model, f"torch {torch.__version__} ({why})")


def _use_onnx(model: Any, predict: Predict, model_dir: Path, cache: Path) -> Engine:
    name, network = find_network(model)
    recorder = Recorder(network)
    for number in range(len(SAMPLES)):
        predict(put_network(model, name, recorder), draw_sample(number))
    seen = recorder.seen
    check_inputs(seen)
    path = cache / f"{hash_archive(model_dir, seen[0][0].shape)}.onnx"
    converted, difference = obtain(network, seen, path)
    outputs = [output.tolist() for _, output in seen]
    return Engine(put_network(model, name, converted), describe(difference), draw_sample(0), path, outputs)


def find_network(model: Any) -> tuple[str | None, torch.nn.Module]:
    """Return the network in what `model_fn` returned, and the name of its field if that is a dataclass."""
    if isinstance(model, torch.nn.Module):
        return None, model
    if is_dataclass(model) and not isinstance(model, type):
        networks = [each.name for each in fields(model) if isinstance(getattr(model, each.name), torch.nn.Module)]
        if len(networks) == 1:
            return networks[0], getattr(model, networks[0])
    raise EngineError(f"model_fn returned {type(model).__name__}, in which no single network is found")


def put_network(model: Any, name: str | None, network: torch.nn.Module) -> Any:
    """Return the model with another network in its place."""
    return network if name is None else replace(model, **{name: network})


def check_inputs(seen: Seen) -> None:
    """Raise EngineError unless every image was one tensor of one shape on the processor."""
    if len(seen) != len(SAMPLES):
        raise EngineError(f"{len(SAMPLES)} images called the network {len(seen)} times")
    if len({batch.shape for batch, _ in seen}) > 1:
        raise EngineError("its inputs have several shapes")
    if any(tensor.device.type != "cpu" or tensor.dtype != torch.float32 for pair in seen for tensor in pair):
        raise EngineError("it does not compute in float32 on the processor")


def obtain(network: torch.nn.Module, seen: Seen, path: Path) -> tuple[OnnxNetwork, float]:
    """Return the converted network and its difference from torch, from the cache if it is there and agrees."""
    shape = seen[0][0].shape
    if path.exists():
        try:
            os.utime(path)  # the cache forgets what was not used for longest
            return load_agreeing(network, seen, path)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is converted again
            path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    convert(network, shape, path)
    forget_old(path.parent.glob("*.onnx"))
    try:
        return load_agreeing(network, seen, path)
    except EngineError:
        path.unlink(missing_ok=True)
        raise


def load_agreeing(network: torch.nn.Module, seen: Seen, path: Path) -> tuple[OnnxNetwork, float]:
    """Load a conversion. Raises EngineError if its outputs are not torch's."""
    converted = OnnxNetwork(network, path, seen[0][0].shape)
    difference = measure_difference(converted, seen)
    if not difference <= AGREEMENT:
        raise EngineError(f"onnxruntime's outputs differ from torch's by {difference:.1e}, more than {AGREEMENT:g}")
    return converted, difference


def measure_difference(network: torch.nn.Module, seen: Seen) -> float:
    """Return the largest difference between the recorded outputs and this network's; infinite for other shapes."""
    with torch.inference_mode():
        pairs = [(output, network(batch)) for batch, output in seen]
    if any(ours.shape != theirs.shape for ours, theirs in pairs):
        return float("inf")
    return max(float((ours - theirs).abs().max()) for ours, theirs in pairs)


def convert(network: torch.nn.Module, shape: Sequence[int], path: Path) -> None:
    """Write the network as ONNX, in a child process. Raises EngineError if that fails or takes too long."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        child = multiprocessing.get_context("fork").Process(target=export, args=(network, shape, written), daemon=True)
        child.start()
        child.join(CONVERSION_SECONDS)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise EngineError(f"its conversion took more than {CONVERSION_SECONDS} s")
        if child.exitcode != 0:
            raise EngineError(f"its conversion ended with {child.exitcode}; the lines above say why")
        written.replace(path)


def compute_alone() -> None:
    """Let a forked child compute in one thread: it has none of torch's others, and would wait for them."""
    torch.set_num_threads(1)


def export(network: torch.nn.Module, shape: Sequence[int], path: Path) -> None:
    """Write the network as ONNX, whole and on the disk."""
    compute_alone()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter warns of its successor, which takes five times as long
        torch.onnx.export(
            network,
            (torch.zeros(*shape),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output"],
        )
    with path.open("rb") as file:
        os.fsync(file.fileno())
