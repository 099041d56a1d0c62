"""Build any torchvision classifier by name, load its weights, and choose how many layers are trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torchvision
from job.settings import TrainingError
from torch import nn
from torchvision import models

# AdamW's rates when the hyperparameter learning_rate, a multiplier, is 1. New weights tolerate larger steps than
# pretrained ones, and few layers larger steps than many. So one range of the multiplier serves every depth.
BASE_RATES = {"head": 3e-3, "last_block": 5e-4, "all": 2e-4}
SCRATCH_RATE = 2e-3
# The last block is the shortest tail of stages that holds at least this share of the backbone's weights.
TAIL_SHARE = 0.1
# A stage that holds more than this share of its network's weights is split into its own stages.
LARGE_STAGE = 0.8
# The tensors of auxiliary classifiers, which these networks' files hold and our networks lack.
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


def build_network(architecture: str, classes: int) -> nn.Module:
    """Build a torchvision classifier with random weights. Raise TrainingError for an unknown name."""
    known = models.list_models(module=torchvision.models)
    if architecture not in known:
        raise TrainingError(
            f"architecture {architecture!r} is not a torchvision classifier; choose one of {', '.join(known)}"
        )
    return models.get_model(architecture, weights=None, num_classes=classes, **choose_options(architecture))


def choose_options(architecture: str) -> dict[str, int]:
    """Return what torchvision must know to build a network: a size other than usual, or to leave out what never learns.

    No loss reads auxiliary classifiers, and inception_v3's cannot take images much smaller than its own.
    """
    if architecture in AUXILIARY:
        return {"aux_logits": False}
    return {"image_size": 518} if architecture == "vit_h_14" else {}


def check_input(network: nn.Module, image_size: int, architecture: str) -> None:
    """Run the network on a blank image. Raise TrainingError if it cannot take this size."""
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise TrainingError(
            f"{architecture} cannot take images of {image_size} pixels ({error}); change image_size"
        ) from error


def load_weights(network: nn.Module, state: dict[str, torch.Tensor], architecture: str) -> None:
    """Load all weights except those of layers that depend on the number of classes.

    Raises TrainingError if anything else differs: a network loaded in part would learn from noise in silence.
    """
    own, unwanted = network.state_dict(), AUXILIARY.get(architecture, ())
    state = {name: value for name, value in state.items() if not name.startswith(unwanted)}
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    wrong = sorted(name for name in own.keys() | state.keys() if not may_differ(name, own, state))
    if wrong:
        raise TrainingError(
            f"the weights do not fit {architecture}: {len(fitting)} of {len(own)} tensors do, and more than the last "
            f"layer differs ({', '.join(wrong[:3])}{' …' if len(wrong) > 3 else ''}); give it torchvision's own file"
        )
    own.update(fitting)
    network.load_state_dict(own)


def may_differ(name: str, own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> bool:
    """Return whether a tensor may be absent from the weights, or of another shape: a counter, or a classifier's.

    A classifier's tensor differs in its first dimension alone, which is the number of classes.
    """
    if name.endswith("num_batches_tracked"):
        return True
    return name in own and name in state and own[name].shape[1:] == state[name].shape[1:]


def find_head(network: nn.Module, classes: int) -> nn.Module:
    """Find the layer that outputs the classes: the last one with that many outputs."""
    layers = [module for module in network.modules() if count_outputs(module) == classes]
    if not layers:
        raise TrainingError(f"{type(network).__name__} has no last layer that could be trained for {classes} classes")
    return layers[-1]


def count_outputs(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) else 0


def list_stages(network: nn.Module) -> list[nn.Module]:
    """List a network's parts in order, splitting any that holds nearly all of its weights."""
    stages: list[nn.Module] = []
    total = count_weights(network)
    for child in network.children():
        opens = count_weights(child) > LARGE_STAGE * total and any(True for _ in child.children())
        stages += list_stages(child) if opens else [child]
    return stages


def measure_size(module: nn.Module) -> int:
    """Return the bytes of a module's weights and statistics."""
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())


def count_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def freeze(network: nn.Module, head: nn.Module, depth: str) -> list[nn.Module]:
    """Leave only the head, or the last block and the head, trainable (depth: head, last_block, all).

    Return the frozen modules. They must stay in evaluation mode, or batch normalisation would keep learning.
    """
    if depth == "all":
        return []
    trained = {id(module) for module in head.modules()}
    if depth == "last_block":
        trained |= {id(module) for stage in find_tail(network, head) for module in stage.modules()}
    frozen = [module for module in network.modules() if id(module) not in trained and not list(module.children())]
    own = [parameter for module in network.modules() if id(module) in trained for parameter in module.parameters()]
    kept = {id(parameter) for parameter in own}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in kept)
    return frozen


def find_normalisation(network: nn.Module) -> list[nn.Module]:
    """List the layers that keep running statistics of what they normalise."""
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def find_tail(network: nn.Module, head: nn.Module) -> list[nn.Module]:
    """Find the shortest tail of stages that holds TAIL_SHARE of the weights below the head."""
    needed = TAIL_SHARE * (count_weights(network) - count_weights(head))
    tail, held = [], 0
    for stage in reversed(list_stages(network)):
        tail.append(stage)
        held += 0 if stage is head else count_weights(stage)
        if held >= needed:
            break
    return tail


def choose_rate(depth: str, pretrained: bool, multiplier: float) -> float:
    """Choose the peak learning rate: the base rate of the trained depth times the hyperparameter."""
    return multiplier * (BASE_RATES[depth] if pretrained else SCRATCH_RATE)
