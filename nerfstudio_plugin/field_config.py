"""Options of the radiance fields, and the records of qsplat that they stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import tyro
from nerfstudio.models.base_model import ModelConfig

from qsplat.fields.frequencies import Frequencies, with_frequency
from qsplat.training.field_presets import FieldMethod, FieldSize, field_preset
from qsplat.training.fit_field import FieldFitConfig

FREQUENCY_NAMES: dict[FieldMethod, str] = {"nerf": "L", "siren": "omega_0", "fourier": "sigma", "rffca": "1/sigma"}
"""What sets how high the frequencies of a method are."""


@dataclass
class FieldModelConfig(ModelConfig):
    """Options of a radiance field."""

    _target: type = field(default_factory=lambda: _model_type())
    method: tyro.conf.Suppress[tyro.conf.Fixed[FieldMethod]] = "nerf"
    """What gives the field its high frequencies."""
    preset: Literal["auto", "original", "small"] = "auto"
    """Layers, samples and rates. original: as published, but for what docs/fields.md names as our choice. small: what
    learns in minutes on a CPU. auto: original on a GPU, small without one."""
    frequency: Literal["default", "auto"] | float = "default"
    """How high the field's frequencies are: L of qsplat-nerf, omega_0 of qsplat-siren, sigma of qsplat-fourier, 1/sigma
    of qsplat-rffca, as a number. default: that of the preset. auto: FreSh chooses it from the photos before
    training."""
    background_color: Literal["auto", "black", "white"] = "auto"
    """Behind the field. auto: white for photos with alpha, black for others."""

    def size(self, device: torch.device) -> FieldSize:
        """The preset on ``device``."""
        if self.preset != "auto":
            return self.preset
        return "original" if device.type == "cuda" else "small"

    def fitting(self, size: FieldSize, iterations: int) -> FieldFitConfig:
        """How a run of ``iterations`` is trained, its frequencies being those of the preset."""
        return field_preset(self.method, size, iterations=iterations)

    def frequencies(self, size: FieldSize) -> Frequencies:
        """Those of the preset, or the ones that a number asks for.

        Raises:
            ValueError: there are none such.
        """
        published = self.fitting(size, 1).field.frequencies
        return published if isinstance(self.frequency, str) else with_frequency(published, self.frequency)

    def check(self, iterations: int, *, resumed: bool) -> None:
        """Refuse what a run of ``iterations`` cannot have.

        Raises:
            ValueError: an option has a value that it cannot have.
        """
        del resumed
        self.fitting("small", iterations)
        try:
            self.frequencies("small")
        except ValueError as error:
            raise ValueError(f"--pipeline.model.frequency {self.frequency}: {error}") from None


def _model_type() -> type:
    from nerfstudio_plugin.field_model import QsplatFieldModel

    return QsplatFieldModel
