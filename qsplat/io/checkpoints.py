"""Trained models in one safetensors file: tensors, and how to put them together as JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.gaussians import Gaussians
from qsplat.io.atomic import written_whole
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
    from safetensors.torch import save_file

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
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with written_whole(path) as temporary:
        save_file(plain, str(temporary), metadata={"format": FORMAT, "header": json.dumps(header)})


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a file of ``save_checkpoint``, to the CPU.

    Raises:
        ValueError: the file is missing, truncated, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give the path of a checkpoint")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error}): train or copy it again") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of qsplat (format {metadata.get('format')!r} instead of {FORMAT!r})")
    try:
        header = json.loads(metadata["header"])
        gaussians = _named("gaussians.", tensors)
        return Checkpoint(
            gaussians=Gaussians(**gaussians) if gaussians else None,
            head=_head(header["head"], _named("head.", tensors)) if header["head"] else None,
            background=tensors["background"],
            raster=RasterConfig(**header["raster"]),
        )
    except (KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is a damaged checkpoint ({error}): train or copy it again") from None


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _head(description: Mapping[str, Any], weights: dict[str, Tensor]) -> QNN:
    head = QNN(QnnConfig(**description["config"]), signal_channels=description["signal_channels"])
    head.load_state_dict(weights)
    return head
