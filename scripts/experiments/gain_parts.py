"""What the gain of a head consists of, view by view: numbers that need images and nothing else.

A head adds a residual to a base image. Its gain is the PSNR of the sum less that of the base, in dB. Each function asks
for a part of the residual, or for a cheaper correction in its place, and says what that gains.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from qsplat.metrics.psnr import FLOOR, decibels
from qsplat.spectra.cosines import cosine_energies
from qsplat.spectra.radial import octave_lows

OCTAVES = octave_lows(5)
"""Where the octaves of a gain begin, in cycles per pixel: 0, 1/32, 1/16, 1/8 and 1/4, which is half of Nyquist."""

OCTAVE_NAMES = ("0 to 1/32", "1/32 to 1/16", "1/16 to 1/8", "1/8 to 1/4", "from 1/4 on")

COLOUR, QUARTER_NYQUIST, HALF_NYQUIST = 1, 3, 4
"""Numbers of octaves: below the first lie colours and slow shading, from the others on what sharpness is made of."""

SIGMAS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Widths in pixels of the Gaussians that an unsharp filter is chosen from."""


@dataclass(frozen=True)
class Corrected:
    """A photo and what a model makes of its view, before and after its head: h w 3 in [0, 1].

    Where ``mask`` is False all three are the photo, so that there is neither error nor residual.
    """

    photo: Float[Tensor, "h w 3"]
    base: Float[Tensor, "h w 3"]
    image: Float[Tensor, "h w 3"]
    mask: Bool[Tensor, "h w"]

    @property
    def missing(self) -> Float[Tensor, "h w 3"]:
        """The residual that would be right."""
        return self.photo - self.base

    @property
    def residual(self) -> Float[Tensor, "h w 3"]:
        """The residual of the head, once the image is clamped to [0, 1]."""
        return self.image - self.base

    @property
    def left(self) -> Float[Tensor, "h w 3"]:
        """What is missing after the head."""
        return self.photo - self.image


@dataclass(frozen=True)
class Unsharp:
    """The filter ``image + amount * (image - blurred image)``, with a Gaussian of ``sigma`` pixels."""

    sigma: float
    amount: float


@dataclass(frozen=True)
class GainParts:
    """The gain of a head in one view, and the gains of its parts and of other corrections, in dB of PSNR.

    ``octaves`` add up to ``gain``; the other parts overlap. See the functions of the same names.
    """

    psnr_base: float
    psnr: float
    octaves: tuple[float, ...]
    colour_map: float
    best_colour_map: float
    slow: float
    above_quarter_nyquist: float
    above_half_nyquist: float
    unsharp: float
    wrong_view: float

    @property
    def gain(self) -> float:
        """PSNR with the head less PSNR without it."""
        return self.psnr - self.psnr_base


def corrected(
    photo: Float[Tensor, "h w 3"],
    base: Float[Tensor, "h w 3"],
    image: Float[Tensor, "h w 3"],
    *,
    mask: Bool[Tensor, "h w"] | None = None,
) -> Corrected:
    """The record of three images of one view; all of it counts without a mask.

    Raises:
        ValueError: the images differ in size, an image holds NaN or infinity, or the mask leaves no pixel.
    """
    shapes = {tuple(each.shape) for each in (photo, base, image)}
    if len(shapes) > 1:
        raise ValueError(f"images of the shapes {sorted(shapes)}: give a photo and renderings of its size")
    if not all(bool(torch.isfinite(each).all()) for each in (photo, base, image)):
        raise ValueError("an image holds NaN or infinity: the training has diverged")
    photo = photo.double().cpu()
    counted = torch.ones(photo.shape[:2], dtype=torch.bool) if mask is None else mask.cpu()
    if not bool(counted.any()):
        raise ValueError("the mask leaves no pixel to measure: remove it, or the view")
    base, image = (torch.where(counted[..., None], each.double().cpu().clamp(0, 1), photo) for each in (base, image))
    return Corrected(photo, base, image, counted)


def place_gain(view: Corrected, *, unsharp: Unsharp, wrong: Float[Tensor, "h w 3"]) -> GainParts:
    """Every number of one view. ``wrong`` is the residual of the head in another view."""
    return GainParts(
        psnr_base=_psnr(view, view.missing),
        psnr=_psnr(view, view.left),
        octaves=gain_by_octave(view),
        colour_map=colour_map_gain(view),
        best_colour_map=best_colour_map_gain(view),
        slow=gain_of_octaves(view, 0, COLOUR),
        above_quarter_nyquist=gain_of_octaves(view, QUARTER_NYQUIST),
        above_half_nyquist=gain_of_octaves(view, HALF_NYQUIST),
        unsharp=gain_of(view, unsharp_residual(view, unsharp)),
        wrong_view=gain_of(view, wrong),
    )


def gain_of(view: Corrected, residual: Float[Tensor, "h w 3"]) -> float:
    """The gain in dB when ``residual`` is added to the base instead of the head's, and the sum is not clamped."""
    return _psnr(view, view.missing - residual * view.mask[..., None]) - _psnr(view, view.missing)


def gain_by_octave(view: Corrected) -> tuple[float, ...]:
    """The gain in dB as a sum over the octaves of frequency that begin at ``OCTAVES``.

    Each octave's part is the squared error that the head removes in it (cosine transform, so that octaves add up),
    times the decibels that a unit of squared error is worth between the image before and the image after: 10 / ln 10
    over the logarithmic mean of the two errors. It is negative where the head adds error. Source of the weight: the
    logarithmic mean Divisia index, Ang 2005, Energy Policy 33(7).
    """
    before, after = (cosine_energies(error, OCTAVES) for error in (view.missing, view.left))
    first, last = max(before.sum().item(), FLOOR), max(after.sum().item(), FLOOR)
    mean = first if math.isclose(first, last, rel_tol=1e-9) else (first - last) / math.log(first / last)
    return tuple((10 / math.log(10) / mean * (before - after)).tolist())


def gain_of_octaves(view: Corrected, first: int, end: int | None = None) -> float:
    """The gain in dB when only the residual's octaves from ``first`` to before ``end`` (the last when None) are added.

    The parts of an image in different octaves of the cosine transform are orthogonal, so that those which are not
    added keep the error they had.
    """
    before, after = (cosine_energies(error, OCTAVES) for error in (view.missing, view.left))
    partly = before.clone()
    partly[first:end] = after[first:end]
    return _decibels(view, partly.sum().item()) - _decibels(view, before.sum().item())


def colour_map_gain(view: Corrected) -> float:
    """The gain in dB when only that part of the residual is added which is an affine function of the base's colour.

    The map is the one of this view that is nearest to the head's own residual, by least squares over its pixels: what
    the head does like a colour correction.
    """
    return gain_of(view, _affine(view, view.residual))


def best_colour_map_gain(view: Corrected) -> float:
    """The gain in dB of the affine colour map from base to photo that is best for this view: the most that correcting
    colours, without regard to the place in the image, could gain. The photo is needed to find it."""
    return gain_of(view, _affine(view, view.missing))


def fit_unsharp(views: Iterable[Corrected]) -> Unsharp:
    """The one unsharp filter of the base images that leaves the least squared error in ``views`` together.

    For each of the widths ``SIGMAS`` the best amount is that of least squares; it is negative where blurring is best.
    """
    products = [[0.0, 0.0] for _ in SIGMAS]
    for view in views:
        for sigma, sums in zip(SIGMAS, products, strict=True):
            detail = unsharp_residual(view, Unsharp(sigma, 1.0))
            sums[0] += (detail * view.missing).sum().item()
            sums[1] += detail.square().sum().item()
    amounts = [along / max(power, FLOOR) for along, power in products]
    best = max(range(len(SIGMAS)), key=lambda index: amounts[index] * products[index][0])
    return Unsharp(SIGMAS[best], amounts[best])


def unsharp_residual(view: Corrected, unsharp: Unsharp) -> Float[Tensor, "h w 3"]:
    """What the filter adds to the base, 0 where the mask is False."""
    blurred = torch.from_numpy(gaussian_filter(view.base.numpy(), (unsharp.sigma, unsharp.sigma, 0)))
    return unsharp.amount * (view.base - blurred) * view.mask[..., None]


def _affine(view: Corrected, residual: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """The affine function of the base's colour that is nearest to ``residual``, 0 where the mask is False."""
    colours, wanted = view.base[view.mask], residual[view.mask]
    inputs = torch.cat([colours, torch.ones_like(colours[:, :1])], dim=1)
    matrix = torch.linalg.pinv(inputs.T @ inputs, hermitian=True) @ (inputs.T @ wanted)
    fitted = torch.zeros_like(residual)
    fitted[view.mask] = inputs @ matrix
    return fitted


def _psnr(view: Corrected, error: Float[Tensor, "h w 3"]) -> float:
    return _decibels(view, error.square().mean().item())


def _decibels(view: Corrected, mean_squared_error: float) -> float:
    """PSNR over the pixels that count, from the mean over all of them."""
    return decibels(mean_squared_error / view.mask.double().mean().item())
