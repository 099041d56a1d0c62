"""Attach smdebug's hook to our training: what is saved, when, and under which names. Imports smdebug, so only watch.py
imports this module, and does so in a try.

smdebug saves a step when its forward pass begins; each forward pass counts as a step of the mode that is set. What its
reductions cannot express is computed here on saving steps and saved as small tensors in a collection `health`:
`activity/M` (share of positive values of each unit of a ReLU), `variance/M` (of a ReLU's input), `saturation/M` (share
of saturated inputs of each unit of a tanh or sigmoid), `update/P` (mean |change| of a weight since the last saved step
over its mean |value|), `spread/inputs` (mean deviation of the network's input between the images of a batch).
"""

from __future__ import annotations

import atexit
import json
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from smdebug import SaveConfigMode, modes
from smdebug.pytorch import Hook
from torch import nn

from debugger.saving import StepWriter
from debugger.sums import count_active, find_variance, list_all_but_units, sum_sizes

HEALTH = "health"
RECTIFIERS = (nn.ReLU, nn.ReLU6)
SATURABLE: dict[type[nn.Module], tuple[float, float]] = {nn.Tanh: (-9.4999, 9.4999), nn.Sigmoid: (-23.0, 16.99999)}
ACTIVATIONS = (*RECTIFIERS, *SATURABLE, nn.SiLU, nn.GELU, nn.Hardswish)
EPSILON = 1e-9
VARIANCE_SAVES = 10  # PoorWeightInitialization looks at no more than this
NEVER = 10**9
SMALL = 10_000  # values of a tensor that is not written at once
LOOKED_AT = 1000  # values of each input, evenly chosen


def choose_interval(steps: int) -> int:
    """Choose how many steps lie between two saves, given the number of steps in the training."""
    return max(10, steps // 50)


def describe_hook(network: nn.Module, loss: str, interval: int, folder: Path) -> dict[str, Any]:
    """Return the hook's configuration in the form of SageMaker's debughookconfig.json.

    Only the reductions that rules read are saved: each costs a write, and writes are most of what a saving step costs.
    Validation is not saved by intervals, since a split may take one forward pass or hundreds. See Watcher.set_phase.
    """
    acting = [re.escape(name) for name, module in network.named_modules() if name and isinstance(module, ACTIVATIONS)]
    collections: dict[str, dict[str, str]] = {
        "losses": {},
        "gradients": {"reductions": "abs_mean,std"},
        "weights": {"reductions": "abs_mean"},
        "biases": {"reductions": "abs_mean"},
        "predictions": {"include_regex": f"{loss}_input_0"},
        "labels": {"include_regex": f"{loss}_input_1"},
        HEALTH: {"include_regex": "^(activity|variance|saturation|update|spread)/"},
    }
    if acting:
        collections["activations"] = {
            "include_regex": f"^({'|'.join(acting)})_output",
            "reductions": "abs_mean",
        }
    hook = {"train.save_interval": str(interval), "eval.start_step": str(NEVER), "predict.start_step": str(NEVER)}
    described = [{"CollectionName": name, "CollectionParameters": own} for name, own in collections.items()]
    return {"LocalPath": str(folder), "HookParameters": hook, "CollectionConfigurations": described}


class Watch(Hook):  # type: ignore[misc]
    """smdebug's hook, made harmless: its own error is kept in `trouble` and ends the watching, not the training.

    Only the network's own forward pass is always hooked. What sees its modules and gradients is attached in passes of
    which something is saved, so that all others cost nothing.
    """

    trouble: Exception | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.lookers: list[Callable[[], Any]] = []
        self.attached: list[Any] = []
        self.rectified: set[str] = set()  # the modules whose outputs are never negative
        self.sizes: dict[str, torch.Tensor] = {}  # the sums of absolute values that this step has computed
        self.waiting: list[tuple[Any, ...]] = []  # what writes each small tensor of this step
        super().__init__(*arguments, **options)
        # We close it ourselves: when the program ends, its folder may be gone.
        atexit.unregister(self._cleanup)

    def _closure_for_registering_forward_hook(self, module: nn.Module) -> None:
        self.lookers.append(partial(module.register_forward_hook, self.forward_hook))

    def _backward_apply(self, module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                hook = self.backward_hook(f"{module._get_name()}_{name}")
                self.lookers.append(partial(parameter.register_hook, hook))

    def look(self, wanted: bool) -> None:
        """Attach what sees modules and gradients, or detach it."""
        if wanted and not self.attached:
            self.attempt(lambda: self.attached.extend(register() for register in self.lookers))
        while self.attached and not wanted:
            self.attached.pop().remove()

    def forward_pre_hook(self, module: nn.Module, inputs: Any) -> None:
        self.sizes.clear()
        self.attempt(super().forward_pre_hook, module, inputs)
        self.look(self.trouble is None and bool(self._get_collections_to_save_for_step()))

    def forward_hook(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        if self.trouble is None and self._get_collections_to_save_for_step():
            self.attempt(super().forward_hook, module, inputs, outputs)
            # It records the time of each module for a profiler that is off; the records would pile up.
            self.reset_forward_module_profile_stats()

    def backward_hook(self, name: str) -> Any:
        save = super().backward_hook(name)
        return lambda gradient: self.attempt(save, gradient)

    def attempt(self, action: Any, *arguments: Any) -> None:
        if self.trouble is None:
            try:
                action(*arguments)
            except Exception as error:  # noqa: BLE001  whatever smdebug meets, the training goes on
                self.trouble = error

    def is_saving(self, collection: str) -> bool:
        """Return whether this step's tensors of a collection are saved."""
        saved = self._get_collections_to_save_for_step() if self.trouble is None and self.prepared_collections else ()
        return any(each.name == collection for each in saved)

    def saves_next(self) -> bool:
        """Return whether the next step has anything to save, so that the hooks must see it."""
        if not self.prepared_collections:
            return True
        step = self.mode_steps.get(self.mode, -1) + 1
        held = self.collection_manager.get_collections().values()
        return any(each.save_config.should_save_step(self.mode, step) for each in held)

    def pass_over(self) -> None:
        """Count a step that the hooks did not see, and close what the one before it wrote."""
        self.look(False)
        if self.writer is not None:
            self._close_writers()
        self._increment_step()

    def save_next(self, mode: Any, collection: str) -> None:
        """Save a collection in the next forward pass of a mode, and in no later one unless called again."""
        once = SaveConfigMode(save_steps=[self.mode_steps.get(mode, -1) + 1], start_step=NEVER)
        if self.prepared_collections and collection in self.collection_manager.collections:
            self.get_collection(collection).save_config.set_save_config(mode, once)

    def save_now(self, name: str, value: torch.Tensor) -> None:
        """Save a tensor with the last forward pass, whether or not that pass itself was saved."""
        self._initialize_writers(only_initialize_if_missing=True)
        self._save_for_tensor(name, value, check_before_write=False)

    def _write_raw_tensor_simple(
        self, tensor_name: str, tensor_value: Any, tensor_ref: Any = None, timestamp: float | None = None
    ) -> None:
        """Write a tensor with the others of its step, if it is small: between two layers that takes several times as
        long, since nothing that it needs is in the processor's cache.
        """
        value = self._make_numpy_array(tensor_value)
        if value.size > SMALL or self.writer is None:
            self.write_waiting()
            super()._write_raw_tensor_simple(tensor_name, value, tensor_ref, timestamp)
            return
        self.waiting.append(
            (value.copy(), tensor_name, self.mode, self.mode_steps[self.mode], timestamp or time.time())
        )

    def write_waiting(self) -> None:
        waiting, self.waiting = self.waiting, []
        for value, name, mode, step, when in waiting:
            self.writer.write_tensor(value, name, mode=mode, mode_step=step, timestamp=when)

    def _close_writers(self) -> None:
        self._write_scalars()
        self.write_waiting()
        super()._close_writers()

    def _log_save(self, *_: Any) -> None:
        """Describe no tensor for a log that nobody reads."""

    def _initialize_writers(self, only_initialize_if_missing: bool = False) -> None:
        before = self.writer
        super()._initialize_writers(only_initialize_if_missing)
        if self.writer is not None and self.writer is not before:
            self.writer = StepWriter(trial_dir=self.out_dir, step=self.step, worker=self.worker)

    def _get_reduction_of_data(self, name: str, value: torch.Tensor, tensor_name: str, abs: bool) -> Any:
        values = value.detach().float()  # norms in half precision overflow
        if name == "std":
            return find_variance(values).sqrt()
        if name == "mean" and abs:
            return self.sum_sizes(values, tensor_name) / max(values.numel(), 1)
        return Hook._get_reduction_of_data(name, values, tensor_name, abs)

    def sum_sizes(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Sum absolute values, and keep the sum."""
        is_rectified = name.rpartition("_output_")[0] in self.rectified
        self.sizes[name] = values.sum() if is_rectified else sum_sizes(values)
        return self.sizes[name]

    @staticmethod
    def _make_numpy_array(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
            value = value.detach().float()  # numpy has no such type
        return Hook._make_numpy_array(value)


class Watcher:
    """Attach a Watch to a network and its loss, and compute what smdebug does not."""

    def __init__(self, watch: Watch, network: nn.Module, criterion: nn.Module, *, ours: bool) -> None:
        self.watch, self.network, self.criterion, self.ours = watch, network, criterion, ours
        self.before: dict[str, torch.Tensor] = {}
        self.sizes: dict[str, torch.Tensor] = {}  # the sums of their absolute values
        self.variances = 0
        for name, module in network.named_modules():
            self.observe(name or type(module).__name__, module)
        criterion.register_forward_hook(lambda *_: watch.attempt(self.record_updates))
        watch.register_module(network)
        network.register_forward_pre_hook(lambda _, given: watch.attempt(self.record_spread, given[0]))
        watch.register_loss(criterion)
        watch.set_mode(modes.TRAIN)

    def observe(self, name: str, module: nn.Module) -> None:
        """Follow a module, if it is an activation."""
        watch, before, after = self.watch, module.register_forward_pre_hook, module.register_forward_hook
        if isinstance(module, RECTIFIERS):
            watch.rectified.add(name)
            watch.lookers += [
                partial(before, lambda _, given: watch.attempt(self.record_variance, name, given[0])),
                partial(after, lambda _m, _i, given: watch.attempt(self.record_activity, name, given)),
            ]
        elif type(module) in SATURABLE:
            ends = SATURABLE[type(module)]
            save = lambda _, given: watch.attempt(self.record_saturation, name, given[0], ends)  # noqa: E731
            watch.lookers.append(partial(before, save))

    def is_recording(self) -> bool:
        return self.watch.mode == modes.TRAIN and self.watch.is_saving(HEALTH)

    def record_spread(self, inputs: torch.Tensor) -> None:
        if self.is_recording() and len(inputs) > 1:
            flat = inputs.detach().flatten(1)
            values = flat[:, :: max(1, flat.shape[1] // LOOKED_AT)].float()
            self.watch.record_tensor_value("spread/inputs", values.std(0).mean().reshape(1))

    def record_variance(self, name: str, inputs: torch.Tensor) -> None:
        """Save the variance of a ReLU's input, before it may be overwritten in place."""
        if self.is_recording() and self.variances < VARIANCE_SAVES:
            self.watch.record_tensor_value(f"variance/{name}", find_variance(inputs.detach().float()).reshape(1))

    def record_activity(self, name: str, outputs: torch.Tensor) -> None:
        if self.is_recording():
            rest = list_all_but_units(outputs)
            count = count_active(outputs.detach(), rest)
            self.watch.record_tensor_value(f"activity/{name}", count * (count.numel() / outputs.numel()))

    def record_saturation(self, name: str, inputs: torch.Tensor, ends: tuple[float, float]) -> None:
        if self.is_recording():
            beyond = (inputs.detach() < ends[0]) | (inputs.detach() > ends[1])
            self.watch.record_tensor_value(f"saturation/{name}", beyond.float().mean(list_all_but_units(inputs)))

    def record_updates(self) -> None:
        """Save how far each trained weight moved since the last saved step, then remember its current value."""
        if not self.is_recording():
            return
        self.variances += 1
        for name, weight in self.trained_weights():
            if name in self.before:
                moved = self.before[name].sub_(weight).abs_().sum() / (self.sizes[name] + EPSILON * weight.numel())
                self.watch.record_tensor_value(f"update/{name}", moved.reshape(1))
                self.before[name].copy_(weight)
            else:
                self.before[name] = weight.clone()
            known = self.watch.sizes.get(f"{self.network._get_name()}_{name}")
            self.sizes[name] = sum_sizes(weight) if known is None else known

    def trained_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad and parameter.ndim > 1:
                yield name, parameter.detach()

    def set_phase(self, phase: str) -> None:
        """Set the phase: `train`; `valid`, whose first forward pass is saved; or another, of which nothing is saved."""
        self.watch.set_mode({"train": modes.TRAIN, "valid": modes.EVAL}.get(phase, modes.PREDICT))
        if phase == "valid" and self.ours:
            self.watch.attempt(self.watch.save_next, modes.EVAL, "activations")

    def record_valid_loss(self, loss: float) -> None:
        """Save a validation's loss under the name that training losses have."""
        self.watch.attempt(self.watch.save_now, f"{type(self.criterion).__name__}_output_0", torch.tensor(loss))

    def close(self) -> None:
        """Write out what is buffered. What the network does afterwards is not saved."""
        self.watch.attempt(self.watch.close)
        self.set_phase("none")
        self.before.clear()


def attach(network: nn.Module, criterion: nn.Module, interval: int, folder: Path, given: Path | None) -> Watcher:
    """Make the hook from the configuration file `given`, or from ours written below `folder`, and attach it."""
    path = given or folder.with_suffix(".json")
    if given is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(describe_hook(network, type(criterion).__name__, interval, folder), indent=1))
    return Watcher(Watch.create_from_json_file(str(path)), network, criterion, ours=given is None)
