"""FreSh: choose how high the frequencies of a network reach by looking at what it is before any training.

An untrained network of coordinates is an image of random waves. Of several settings, that one is chosen whose spectrum
lies nearest to the spectrum of what is to be learnt; only the chosen network is trained. The spectrum of an image has
the bins

    S_d = sum over frequencies (i, j) with i + j = d of sum over channels |DFT|,   d = 1 .. bins,   normalised to sum 1

(no window; the mean, d = 0, is left out because the last layer's bias fits it), and the distance of two spectra is the
Wasserstein distance of their bins: the sum over bins of |difference of cumulated shares|.

Source: Kania et al. 2024, FreSh (arXiv 2410.05050), and its code (gmum/FreSh). In that code i and j count up from 0
without wrapping, so that waves along one diagonal of the image, whose i and j have opposite signs, do not count. They
do not here either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

BINS = 64
"""Frequencies that are compared, in cycles per image along both axes together. The authors use 64, and half of what
they use for images where a radiance field is concerned."""
INITIALISATIONS = 10
"""Untrained networks that are looked at for each candidate."""
LARGEST_SIDE = 1024


@dataclass(frozen=True)
class Candidate:
    """A setting, the mean distance of its untrained networks from the photos, and the standard error of that mean."""

    value: float
    distance: float
    standard_error: float


@dataclass(frozen=True)
class FreshChoice:
    """The value of the nearest candidate, all candidates in their order, and what it took: images of networks."""

    value: float
    candidates: tuple[Candidate, ...]
    forward_passes: int


def choose(
    targets: Sequence[Float[Tensor, "_ _ _"]],
    candidates: Sequence[float],
    untrained: Callable[[float, int], Float[Tensor, "_ _ _"]],
    *,
    bins: int = BINS,
    initialisations: int = INITIALISATIONS,
) -> FreshChoice:
    """The candidate whose untrained networks have the spectra most like those of ``targets``; the first of equals.

    Args:
        targets: images [h, w, c] to be learnt.
        candidates: values to choose from.
        untrained: makes the image [h, w, c] of a new network with the given value. Its second argument counts the
            networks of a candidate from 0; network k is compared with target k, modulo their number.
        bins: of the spectra.
        initialisations: networks for each candidate.

    Raises:
        ValueError: there is nothing to choose from or to compare with, or an image is too small or has no contrast.
    """
    if not targets or not candidates or initialisations < 1:
        raise ValueError(
            f"{len(targets)} images, {len(candidates)} candidates, initialisations={initialisations}: FreSh needs at "
            "least 1 of each"
        )
    used = targets[:initialisations]
    wanted = [spectrum(target, bins=bins) for target in used]
    measured = []
    for value in candidates:
        images = (untrained(value, index) for index in range(initialisations))
        distances = torch.tensor(
            [
                wasserstein_distance(spectrum(image, bins=bins), wanted[index % len(wanted)])
                for index, image in enumerate(images)
            ],
            dtype=torch.float64,
        )
        error = float(distances.std(correction=0)) / math.sqrt(initialisations)
        measured.append(Candidate(float(value), float(distances.mean()), error))
    nearest = min(measured, key=lambda candidate: candidate.distance)
    return FreshChoice(nearest.value, tuple(measured), len(candidates) * initialisations)


def spectrum(image: Float[Tensor, "h w c"], *, bins: int = BINS) -> Float[Tensor, " bins"]:
    """The shares of the frequencies 1 to ``bins`` in ``image``, made square first.

    Scale and mean of the values do not matter.

    Raises:
        ValueError: the shorter side has no more than ``bins`` pixels, or there is no contrast at these frequencies.
    """
    image = square(image)
    size = image.shape[0]
    if bins < 1 or size <= bins:
        raise ValueError(f"{bins} bins for an image of {size} pixels a side: give 1 to {size - 1}")
    magnitude = torch.fft.fft2(image.double(), dim=(0, 1)).abs().sum(dim=-1)
    index = torch.arange(size, device=image.device)
    # On the axes the upper half is the lower one once more
    magnitude[index > size / 2, 0] = 0
    magnitude[0, index > size / 2] = 0
    order = index[:, None] + index
    counted = (order >= 1) & (order <= bins)
    sums = magnitude.new_zeros(bins).index_add(0, order[counted] - 1, magnitude[counted])
    # What rounding leaves of a constant image is no contrast
    if float(sums.sum()) <= 1e-9 * size**2 * max(1e-30, float(image.abs().max())):
        raise ValueError(f"the image has no contrast at 1 to {bins} cycles: there is no frequency to choose by")
    return sums / sums.sum()


def square(image: Float[Tensor, "h w c"], *, largest: int = LARGEST_SIDE) -> Float[Tensor, "n n c"]:
    """``image`` resized to a square with its shorter side, or ``largest`` if that is less. A smaller square is kept."""
    height, width, _ = image.shape
    side = min(height, width, largest)
    if height == width == side:
        return image
    planes = functional.interpolate(
        image.permute(2, 0, 1)[None], size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )
    return planes[0].permute(1, 2, 0)


def wasserstein_distance(first: Float[Tensor, " bins"], second: Float[Tensor, " bins"]) -> float:
    """How far shares have to be moved, in bins, to make one spectrum of the other. Both sum to 1."""
    return float((first - second).cumsum(dim=0).abs().sum())
