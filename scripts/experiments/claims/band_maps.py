"""The maps by which FDConv scales the bands of an image: taken from a network, beside edges, kept as pictures."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from claims.images import pixel_grid, planes
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from qsplat.qnn import QNN
from qsplat.qnn.convolutions import FDConv2d


def first_maps(head: QNN, image: Float[Tensor, "h w 3"]) -> Float[Tensor, "3 h w"]:
    """The factors of the bands, the fastest first, in the first layer that has any."""
    seen: list[Tensor] = []
    layer = next(stage for stage in head.modules() if isinstance(stage, FDConv2d))
    assert layer.bands is not None
    handle = layer.bands.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    head(planes([image]), planes([pixel_grid(*image.shape[:2])]))
    handle.remove()
    return layer.bands.factors(seen[0])[0]


def with_edges(values: Float[Tensor, "h w"], image: Float[Tensor, "h w 3"]) -> float:
    """The correlation of a map with the size of an image's gradient; 0 where one is the same everywhere."""
    down, across = torch.gradient(image.mean(dim=-1))
    pair = torch.stack([values.flatten(), torch.hypot(down, across).flatten()])
    return torch.corrcoef(pair)[0, 1].nan_to_num().item()


def kept(name: str, photo: Float[Tensor, "h w 3"], maps: Float[Tensor, "3 h w"]) -> dict[str, Any]:
    """A photo and its maps, small enough for a JSON file."""
    bands = []
    for values in maps:
        low, high = values.min().item(), values.max().item()
        scaled = (values - low) / max(high - low, 1e-12)
        bands.append({"low": low, "high": high, "picture": _packed(scaled)})
    return {"name": name, "photo": _packed(photo), "bands": bands}


def photo_of(known: dict[str, Any]) -> np.ndarray:
    """The photo that was ``kept``, [h, w, 3]."""
    return _opened(known["photo"])


def maps_of(known: dict[str, Any]) -> list[np.ndarray]:
    """The maps that were ``kept``, [h, w] each."""
    return [
        one["low"] + (one["high"] - one["low"]) / 255 * _opened(one["picture"]).astype(float) for one in known["bands"]
    ]


def _packed(values: Tensor) -> str:
    """Values in [0, 1] as a PNG in text."""
    file = io.BytesIO()
    Image.fromarray((values * 255).round().byte().numpy()).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def _opened(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
