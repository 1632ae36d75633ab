"""Trained models in one safetensors file: tensors, and how to put them together as JSON in its header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.gaussians import Gaussians
from qsplat.io.tensors import load_tensors, save_tensors
from qsplat.qnn import QNN, QnnConfig
from qsplat.render import RasterConfig

FORMAT = "qsplat-1"


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: Gaussians (None in a file of a head alone), the head if there is one, and what
    the image is composited over and rasterized with."""

    gaussians: Gaussians | None
    head: QNN | None = None
    background: Float[Tensor, "3"] = field(default_factory=lambda: torch.zeros(3))
    raster: RasterConfig = field(default_factory=RasterConfig)


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path``, which appears only when it is complete."""
    head, gaussians = checkpoint.head, checkpoint.gaussians
    tensors = {"background": checkpoint.background}
    if gaussians is not None:
        tensors |= {f"gaussians.{entry.name}": getattr(gaussians, entry.name) for entry in fields(gaussians)}
    if head is not None:
        tensors |= {f"head.{name}": value for name, value in head.state_dict().items()}
    header = {
        "head": None if head is None else {"config": asdict(head.config), "signal_channels": head.signal_channels},
        "raster": asdict(checkpoint.raster),
    }
    save_tensors(path, tensors, header, format=FORMAT)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a file of ``save_checkpoint``, to the CPU, the head ready to be evaluated.

    Raises:
        ValueError: the file is missing, truncated, or not one of ours.
    """
    contents = load_tensors(path, format=FORMAT)
    header, tensors = contents.facts, contents.tensors
    try:
        gaussians = _named("gaussians.", tensors)
        return Checkpoint(
            gaussians=Gaussians(**gaussians) if gaussians else None,
            head=_head(header["head"], _named("head.", tensors)) if header["head"] else None,
            background=tensors["background"],
            raster=RasterConfig(**header["raster"]),
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is a damaged checkpoint ({error}): train or copy it again") from None


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _head(description: Mapping[str, Any], weights: dict[str, Tensor]) -> QNN:
    head = QNN(QnnConfig.of(description["config"]), signal_channels=description["signal_channels"])
    head.load_state_dict(weights)
    return head.eval()
