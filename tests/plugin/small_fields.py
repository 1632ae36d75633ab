"""Radiance fields that are small enough to be trained in a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from small_capture import held_out

from nerfstudio_plugin.field_model import QsplatFieldModel
from qsplat.encodings import Fourier, Positional
from qsplat.fields import Hierarchical, OccupancyConfig, Sine
from qsplat.frequency_tokens import Tokens
from qsplat.training.field_presets import field_preset

Configure = Callable[..., Any]
METHODS = {"nerf": Positional, "siren": Sine, "fourier": Fourier, "rffca": Tokens}
RAYS, ITERATIONS = 64, 20


def tiny(method: Any, size: Any, *, iterations: int) -> Any:
    """The presets with small networks and few samples."""
    whole = field_preset(method, size, iterations=iterations)
    sampling = OccupancyConfig(resolution=16, samples=6, bins=24) if size == "small" else Hierarchical(6, 6)
    field = replace(whole.field, depth=2, width=16, skip=None, view_width=8, sampling=sampling, precision="fp32")
    if isinstance(field.frequencies, Fourier):
        field = replace(field, frequencies=replace(field.frequencies, features=8))
    if isinstance(field.frequencies, Tokens):
        field = replace(field, frequencies=replace(field.frequencies, base=8))
    return replace(whole, field=field, rays=RAYS)


def state_of(model: QsplatFieldModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.radiance.state_dict().items()}


def images(trainer: Any) -> dict[str, torch.Tensor]:
    return trainer.pipeline.model.eval().get_outputs_for_camera(held_out(trainer))
