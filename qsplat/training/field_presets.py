"""Radiance fields and their training as they were published, and smaller for a CPU."""

from __future__ import annotations

from typing import Literal

from qsplat.encodings import Fourier, Positional
from qsplat.fields.frequencies import Sine
from qsplat.fields.nerf import FieldConfig
from qsplat.fields.occupancy import OccupancyConfig
from qsplat.frequency_tokens import Tokens
from qsplat.training.fit_field import FieldFitConfig
from qsplat.training.optimizers import Rate

FieldMethod = Literal["nerf", "siren", "fourier", "rffca"]
"""NeRF with its positional encoding, and the same field with sines, with Gaussian Fourier features and with attention
to waves (RFF-CA) in its place."""
FieldSize = Literal["original", "small"]
"""Layers and samples as published, for a GPU; or what learns in minutes on a CPU."""


def field_preset(method: FieldMethod, size: FieldSize, *, iterations: int) -> FieldFitConfig:
    """What ``method`` is trained with.

    In the ``original`` size all have 8 layers of 256 channels and a view layer of 128, two networks, 64 and 128 samples
    and 1024 rays a step (Mildenhall et al. 2020, its paper configuration for made-up scenes). Rates shrink to a tenth
    over the run, as they do there. Where the sources are about other tasks or other shapes we chose: SIREN has its own
    initialisation, its rate for images, and a density by softplus, because its outputs begin near 0 where half of all
    ReLUs pass nothing on; Fourier features have the deviation that Tancik et al. 2020 found for a radiance field.
    RFF-CA, which was not tried on radiance fields, has in place of the 8 layers the 4 blocks of 64 channels and the 512
    waves of its authors (Feng et al. 2025), NeRF's rate, and our own choice of the lowest octave.

    In the ``small`` size all but RFF-CA, with 2 blocks of 32 channels and 128 waves, have 4 layers of 128 channels; all
    have a view layer of 64, bfloat16 where the processor has it,
    12 samples of each ray that meets something, and rates that suit short runs. Its Fourier features are of lower
    frequencies, because photos are small and a few samples cannot find an object among waves shorter than their
    distance.
    """
    small = size == "small"
    match method:
        case "nerf":
            frequencies, rate = Positional(10), 5e-3 if small else 5e-4
        case "fourier":
            frequencies = Fourier(features=64, scale=2.0) if small else Fourier(features=256, scale=6.0)
            rate = 5e-3 if small else 5e-4
        case "siren":
            frequencies, rate = Sine(), 1e-3 if small else 1e-4
        case "rffca":
            frequencies = Tokens(base=32 if small else 128, sigma=0.25)
            rate = 5e-3 if small else 5e-4
    if small:
        field = FieldConfig(
            frequencies,
            depth=2 if method == "rffca" else 4,
            width=32 if method == "rffca" else 128,
            skip=None,
            view_width=64,
            density="softplus",
            sampling=OccupancyConfig(),
            precision="auto",
        )
    elif method == "rffca":
        field = FieldConfig(frequencies, depth=4, width=64, skip=None)
    else:
        field = FieldConfig(frequencies, density="softplus" if method == "siren" else "relu")
    return FieldFitConfig(field, iterations=iterations, rate=Rate(rate, rate / 10, "exponential"))
