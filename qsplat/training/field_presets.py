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
    and 1024 rays a step (Mildenhall et al. 2020, whose code has 500,000 steps of 1024 rays for made-up scenes, and for
    photos 200,000 of 4096 with noise on the density). Our choice for both: 200,000 steps of 1024 rays over which the
    rate shrinks to a tenth, no noise, a last sample that ends with its ray instead of having a length of 1e10, and
    PyTorch's initialisation instead of Glorot's. Where the sources are about other tasks or other shapes we chose, too:
    SIREN has its own initialisation, its rate for images, and a density by softplus, because its outputs begin near 0
    where half of all ReLUs pass nothing on; Fourier features have a deviation of 6. Tancik et al. 2020 have 26 radians
    per unit of lego, 4.1 cycles; around chair, of the same kind, our unit is 1.6 of those, and 4.1 become 6.6. RFF-CA,
    which was not tried on radiance fields, has in place of the 8 layers the 4 blocks of 64 channels and the 512 waves
    of its authors (Feng et al. 2025), NeRF's rate, and our own choice of the lowest octave.

    In the ``small`` size all but RFF-CA, with 2 blocks of 32 channels and 128 waves, have 4 layers of 128 channels; all
    have a view layer of 64, bfloat16 where that is faster, 12 samples of each ray that meets something, and rates that
    suit short runs. Its Fourier features are of lower frequencies, because photos are small and a few samples
    cannot find an object among waves shorter than their distance.
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
