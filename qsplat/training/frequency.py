"""Frequencies of networks chosen by FreSh from the photos, before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.encodings import Fourier, Positional
from qsplat.fields.frequencies import Frequencies, Sine, with_frequency, with_seed
from qsplat.fields.model import FieldModel
from qsplat.fields.nerf import FieldConfig
from qsplat.fields.network import CoordinateNetwork
from qsplat.frequency_tokens import Tokens
from qsplat.spectra.fresh import BINS, INITIALISATIONS, FreshChoice, choose, square
from qsplat.training.config import TrainingScene
from qsplat.training.fit_field import region_for
from qsplat.training.randomness import Randomness
from qsplat.training.targets import Target

SLICE_SIDE = 4
"""Pixels along a side of the photos and slices that are compared, as a multiple of the bins: more of them would tell
nothing about frequencies as low as those of the bins."""


def candidates_for(frequencies: Frequencies) -> tuple[float, ...]:
    """What FreSh chooses from: the grids of its authors, and our own for what they do not have: every L from 1 to 16,
    and the lowest octave of tokens from 2 to 40 radians per unit."""
    match frequencies:
        case Sine():
            return tuple(float(omega) for omega in range(10, 201, 10))
        case Fourier():
            return tuple(float(sigma) for sigma in range(1, 21))
        case Positional():
            return tuple(float(octaves) for octaves in range(1, 17))
        case Tokens():
            return tuple(float(deviation) for deviation in range(2, 41, 2))


def choose_image_frequency(
    image: Float[Tensor, "h w c"],
    frequencies: Frequencies,
    *,
    width: int = 256,
    depth: int = 4,
    bins: int = BINS,
    seed: int = 0,
    candidates: Sequence[float] | None = None,
) -> FreshChoice:
    """The frequency of a network that is to learn ``image``, whose pixel centres are spread over [-1, 1].

    Raises:
        ValueError: the image is too small for the bins, or has no contrast.
    """
    target = square(image)
    size, _, channels = target.shape
    axis = (torch.arange(size, device=image.device) + 0.5) * (2 / size) - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)

    def untrained(value: float, index: int) -> Float[Tensor, "n n c"]:
        chosen = with_seed(with_frequency(frequencies, value), seed + index)
        network = CoordinateNetwork(chosen, outputs=channels, width=width, depth=depth).to(image.device)
        return torch.cat([network(part) for part in grid.split(2**16)]).reshape(size, size, channels)

    with Randomness(seed, str(image.device)).in_use(), torch.no_grad():
        return choose([target], candidates or candidates_for(frequencies), untrained, bins=bins)


def choose_field_frequency(
    scene: TrainingScene,
    config: FieldConfig,
    *,
    seed: int = 0,
    candidates: Sequence[float] | None = None,
    device: str = "cpu",
) -> FreshChoice:
    """The frequency of a radiance field that is to learn ``scene``.

    Ten random photos, over black, are compared with ten untrained fields: each with the colours, whatever the density
    and the direction, on a sphere around the photo's camera through the middle of the scene. 64 bins, 32 for a SIREN,
    as the authors advise; fewer for tiny photos.

    Raises:
        ValueError: the scene has no training views, or a photo has no contrast.
    """
    if not scene.train:
        raise ValueError("the scene has 0 training views: frequencies are chosen from photos")
    region, black = region_for(scene), torch.zeros(3, device=device)
    order = torch.randperm(len(scene.train), generator=torch.Generator().manual_seed(seed)).tolist()
    views = [scene.train[order[index % len(order)]] for index in range(INITIALISATIONS)]
    wanted = BINS // 2 if isinstance(config.frequencies, Sine) else BINS
    bins = min(wanted, min(min(view.image.shape[:2]) for view in views) // 2)
    photos = [square(Target.of(view, 1, device).over(black), largest=SLICE_SIDE * bins) for view in views]
    cameras = [view.camera.resized(*photo.shape[:2]) for view, photo in zip(views, photos, strict=True)]

    def untrained(value: float, index: int) -> Float[Tensor, "n n 3"]:
        frequencies = with_seed(with_frequency(config.frequencies, value), seed + index)
        # bfloat16 would add the spectrum of its rounding
        model = FieldModel(replace(config, frequencies=frequencies, precision="fp32"), region, black).to(device)
        return model.slice_colors(cameras[index])

    with Randomness(seed, device).in_use(), torch.no_grad():
        return choose(photos, candidates or candidates_for(config.frequencies), untrained, bins=bins)
