"""Show where in an image a network saw its answer: a class activation map, and the image with it.

Where the last layer is linear in the mean of a feature map (ResNets and most others), the map is that layer's weights
times the feature map. Everywhere else it is the gradient of the answer's logit times the activation, summed over
channels: HiResCAM (Draelos and Carin, 2020), which gives the same map where both exist. Maps come from the last layer
that still has LEAST places a side; in a transformer from the last normalisation that other places look at.

`inference/explaining.py` and `training/judging/explaining.py` are the same text, which a test compares.
"""

from __future__ import annotations

import base64
import io
import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

LEAST = 4  # places a side: fewer show nothing
STRENGTH = 0.65
# From what mattered least to what mattered most; bright means much, for those too who see no colours.
COLOURS = ((0.0, (20, 11, 53)), (0.35, (132, 32, 107)), (0.7, (229, 92, 48)), (1.0, (252, 255, 164)))
CLOSE = 1e-3


@dataclass(frozen=True)
class Place:
    """Where a network's maps come from: a layer, and how. how: maps (its own), linear (the head's) or gradient."""

    layer: nn.Module
    how: str
    head: nn.Module | None = None


class Explainer:
    """Explains a network's answers at one image size. Other threads may use the network meanwhile."""

    def __init__(self, network: nn.Module, inputs: torch.Tensor) -> None:
        """inputs: an example (1, 3, n, n), by which the layer is chosen. Raises ValueError if no layer will do."""
        self.network, self.own = network.eval(), threading.local()
        for place in list_places(network, inputs):
            self.place = place
            handle = place.layer.register_forward_hook(self.keep)
            if bool(self.run(inputs, None)[1].any()):
                return
            handle.remove()
        raise ValueError(f"{type(network).__name__} has no layer of {LEAST} x {LEAST} places at this image size")

    def explain(self, inputs: torch.Tensor, label: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits (classes,) of one image, and the map (h, w) of a class, from 0 to 1.

        label: the class's number; None for the answer's.
        """
        logits, heat = self.run(inputs, label)
        heat = heat.float().cpu().nan_to_num(0).clamp(min=0)
        top = float(heat.max())
        return logits, heat / top if top else heat

    def run(self, inputs: torch.Tensor, label: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits, and how much each place (h, w) speaks for or against the class."""
        self.own.wanted = True
        try:
            with torch.no_grad():
                logits = self.network(inputs)[0]
                chosen = int(logits.argmax()) if label is None else label
                heat = weigh(self.place, self.own.kept, logits, chosen)
        finally:
            self.own.wanted, self.own.kept = False, None
        return logits.detach(), heat.detach()

    def keep(self, _layer: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        """Keep the layer's output; where gradients are needed, compute with them what comes after it."""
        if not getattr(self.own, "wanted", False):
            return None
        if self.place.how != "gradient":
            self.own.kept = output
            return None
        torch.set_grad_enabled(True)  # until the enclosing no_grad ends
        self.own.kept = output.detach().requires_grad_()
        return self.own.kept.clone()


def make_explainer(network: nn.Module, example: torch.Tensor) -> Explainer | None:
    """Return what explains a network's answers, or None if no layer of it has enough places."""
    noise = torch.rand(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    try:
        return Explainer(network, noise)
    except ValueError:
        return None


def weigh(place: Place, kept: torch.Tensor, logits: torch.Tensor, label: int) -> torch.Tensor:
    """Return how much each place (h, w) speaks for a class."""
    if place.how == "maps":
        return kept[0, label]
    if isinstance(place.head, nn.Linear):
        return torch.einsum("c,chw->hw", place.head.weight[label], kept[0])
    slope = torch.autograd.grad(logits[label], kept)[0]
    found = to_maps(slope * kept.detach())
    return torch.zeros(1, 1) if found is None else found[0].sum(0)


def to_maps(output: Any) -> torch.Tensor | None:
    """Return a layer's output as (n, channels, h, w), or None if it has no square of at least LEAST places a side."""
    if not isinstance(output, torch.Tensor) or output.ndim not in (3, 4):
        return None
    if output.ndim == 3:  # a transformer's tokens, with or without one for the class
        side = math.isqrt(output.shape[1])
        if output.shape[1] - side**2 > 1:
            return None
        output = output[:, output.shape[1] - side**2 :].transpose(1, 2).unflatten(2, (side, side))
    if output.shape[2] != output.shape[3]:
        output = output.permute(0, 3, 1, 2)  # channels last
    return output if output.shape[2] == output.shape[3] >= LEAST else None


def list_places(network: nn.Module, inputs: torch.Tensor) -> list[Place]:
    """List the layers that maps may come from, the best first."""
    own, layers, last, heads = threading.get_ident(), [], None, []
    pair = torch.cat([inputs, inputs.flip(3)])  # by their number outputs are told from constants

    def record(layer: nn.Module, given: Any, output: Any) -> None:
        nonlocal last
        if threading.get_ident() != own:
            return
        if isinstance(layer, nn.Linear):
            heads.append((layer, given[0]))
            del heads[:-1]
        is_map = to_maps(output) is not None and len(output) == len(pair)
        if is_map and (output.ndim == 4 or isinstance(layer, nn.LayerNorm)):
            layers.append(layer)
            last = output

    handle = nn.modules.module.register_module_forward_hook(record)
    try:
        with torch.no_grad():
            logits = network(pair)
    finally:
        handle.remove()
    if not layers:
        return []
    closed = [choose_closed(layers[-1], last, logits, *heads[-1:])] if last is not None else []
    return [*filter(None, closed), *(Place(layer, "gradient") for layer in reversed(layers) if layer is not network)]


def choose_closed(
    layer: nn.Module, kept: torch.Tensor, logits: torch.Tensor, head: tuple[nn.Linear, torch.Tensor] | None = None
) -> Place | None:
    """Return the place whose map needs no gradient, if the last feature map is one."""
    if are_means(logits, kept):
        return Place(layer, "maps")
    return Place(layer, "linear", head[0]) if head and are_means(head[1], kept) else None


def are_means(values: torch.Tensor, kept: torch.Tensor) -> bool:
    """Return whether values (n, channels) are the means of a feature map (n, channels, h, w)."""
    if kept.ndim != 4 or values.shape != kept.shape[:2]:
        return False
    return torch.allclose(kept.mean((2, 3)), values, rtol=CLOSE, atol=CLOSE)


def paint(square: Image.Image, heat: torch.Tensor) -> Image.Image:
    """Lay a map over the square that the network saw."""
    places = Image.fromarray((heat * 255).round().to(torch.uint8).numpy())
    levels = places.resize(square.size, Image.Resampling.BICUBIC)
    glow = levels.copy()
    glow.putpalette(make_palette())
    mask = levels.point([round(255 * STRENGTH * (0.35 + 0.65 * level / 255)) for level in range(256)])
    return Image.composite(glow.convert("RGB"), square, mask)


def make_palette() -> bytes:
    """Return COLOURS, and those between them, as 256 triples."""
    places, colours = zip(*COLOURS, strict=True)
    bands = [np.interp(np.linspace(0, 1, 256), places, band) for band in zip(*colours, strict=True)]
    return np.stack(bands, axis=1).round().astype(np.uint8).tobytes()


def to_address(image: Image.Image) -> str:
    """Return a data URL that holds the image as a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
