"""An image as a sum of cosines whose squares add up to its own: no window, nothing counted less at the border.

What a Hann window does to an image is right for looking at a spectrum and wrong for dividing a mean squared error, in
which every pixel counts alike. The cosine transform (DCT-II) mirrors the image at its borders instead of repeating it,
so that it needs no window, and its parts are orthogonal: the mean square of an image is the sum of those of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from scipy.fft import dctn
from torch import Tensor

from qsplat.spectra.radial import energies_between


def cosine_energies(image: Float[Tensor, "h w c"], lows: Sequence[float]) -> Float[Tensor, " bands"]:
    """The parts of the mean square of ``image`` in bands of frequency, which add up to it.

    Args:
        image: an image or a difference of images; the energy is in its units, squared.
        lows: where the bands begin, in cycles per pixel, from 0 upwards; the last one reaches into the corners.
    """
    height, width, _ = image.shape
    waves = torch.from_numpy(dctn(image.double().cpu().numpy(), axes=(0, 1), norm="ortho"))
    y, x = (torch.arange(size, dtype=torch.float64) / (2 * size) for size in (height, width))
    power = waves.square().mean(dim=-1) / (height * width)
    return energies_between(power, torch.hypot(y[:, None], x[None, :]), lows)
