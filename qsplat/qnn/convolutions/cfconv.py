"""Continuous Fourier convolution (CF-Conv): one network gives the spectrum of a large kernel.

K(h, w, i, o), the complex factor by which frequency (h, w) of input channel i reaches output channel o, is an MLP of
these four coordinates. A step of training asks it for few of them, drawn at random, and keeps an average of the rest:

    K+ = A,  but  A + rate (MLP - A)  at the drawn positions;    A becomes K+

so that gradients reach the MLP from the drawn positions alone.

Source: Harper et al. 2024, Scaling Continuous Kernels with Sparse Fourier Domain Learning (arXiv 2409.09875), which
has no published code. Not stated there, and our choice: the MLP (4 to ``width`` to ``width`` to 2, with sines, the
first of 30 radians per unit; its output divided by the root of the number of input channels), the coordinates
(frequencies in their order, -1 to 1 up to the Nyquist frequency; channels from -1 to 1), the rate, and that the average
begins as what the MLP gives. The paper's kernel is as large as the image, which it wraps around; here a fixed grid
bounds it, and images of any size are padded with zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

FIRST_OMEGA = 30.0
"""Radians per unit of the coordinates in the MLP's first layer, as in SIREN (Sitzmann et al. 2020)."""
AT_ONCE = 2**18
"""Positions that are asked for at once where no gradient is needed."""
Edges = Literal["zeros", "wrap"]


@dataclass(frozen=True)
class CFConv:
    """Convolutions whose kernels have ``grid`` x ``grid`` pixels, and the spectrum of that.

    Args:
        grid: side of the spectral grid, and of the kernel in pixels; even.
        samples: positions of the spectrum that are drawn in a step of training; where there are fewer, all of them. The
            paper's best was 2^18, the most that it tried.
        rate: how far the average goes to the MLP where it is drawn.
        width: hidden units of the MLP.

    Raises:
        ValueError: a size, number or rate that there cannot be.
    """

    grid: int = 16
    samples: int = 2**15
    rate: float = 0.5
    width: int = 64
    kind: Literal["cfconv"] = field(default="cfconv", init=False)

    def __post_init__(self) -> None:
        if self.grid < 2 or self.grid % 2:
            raise ValueError(f"grid={self.grid}: the side of CF-Conv's spectral grid is even, and at least 2")
        if self.samples < 1 or self.width < 1:
            raise ValueError(f"samples={self.samples}, width={self.width}: CF-Conv needs at least one of each")
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate={self.rate}: the rate of CF-Conv's average is above 0, and 1 at most")

    def check(self, *, kernel: int, dims: int, channels: int) -> None:
        """Refuse a layer that there is none of.

        Raises:
            ValueError: with the value and what to give instead.
        """
        del kernel, channels
        if dims != 2:
            raise ValueError(f"dims={dims} with CF-Conv: it is for images; choose the standard convolution")

    def reach(self, kernel: int) -> int:
        """Number of pixels on each side of a pixel that its value depends on."""
        del kernel
        return self.grid // 2


class CFConv2d(nn.Module):
    """A continuous Fourier convolution.

    While it is trained (``train()``, with gradients), a call draws positions and moves the average. Otherwise the
    kernel is what the MLP gives everywhere, computed once for the parameters as they are.

    The draws do not touch torch's random state: they follow from a number in the layer's own state.
    """

    average: Float[Tensor, "positions 2"]
    draws: Int[Tensor, ""]

    def __init__(self, inputs: int, outputs: int, config: CFConv | None = None, *, edges: Edges = "zeros") -> None:
        """A new layer. With ``edges="wrap"`` it is the paper's: images have the size of the grid and are periodic. With
        ``"zeros"`` images have any size and are 0 around."""
        super().__init__()
        self.config, self.edges = config or CFConv(), edges
        self.inputs, self.outputs = inputs, outputs
        grid, width = self.config.grid, self.config.width
        self.shape = (grid, grid // 2 + 1, inputs, outputs)
        first, second, last = _Sines(4, width, FIRST_OMEGA), _Sines(width, width, 1.0), nn.Linear(width, 2)
        nn.init.uniform_(first.weight, -1 / 4, 1 / 4)
        for layer in (second, last):
            nn.init.uniform_(layer.weight, -math.sqrt(6 / width), math.sqrt(6 / width))
        self.mlp = nn.Sequential(first, second, last)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self._dense: tuple[Float[Tensor, " weights"], Float[Tensor, "positions 2"]] | None = None
        self.register_buffer("average", self._everywhere())
        self.register_buffer("draws", torch.randint(2**62, ()))

    @property
    def positions(self) -> int:
        """Number of values of the spectral kernel."""
        return math.prod(self.shape)

    def forward(self, features: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """The convolved ``features``, in the type of the parameters.

        Raises:
            ValueError: the features wrap around, and are not of the grid's size.
        """
        with torch.autocast(features.device.type, enabled=False):
            kernel = self.spectral_kernel()
            convolved = _zero_padded if self.edges == "zeros" else _wrapped
            return convolved(features.to(self.bias.dtype), kernel) + self.bias[:, None, None]

    def spectral_kernel(self) -> Complex[Tensor, "h half i o"]:
        """The kernel of this call: K+ with gradients in training, what the MLP gives otherwise."""
        values = self._drawn() if self.training and torch.is_grad_enabled() else self.refreshed()
        return torch.view_as_complex(values).view(self.shape)

    def refreshed(self) -> Float[Tensor, "positions 2"]:
        """What the MLP gives everywhere, without gradients. It is kept, beside a copy of the few weights that it is of:
        neither their places nor their versions tell that they changed, which a fused optimizer does unnoticed."""
        weights = torch.cat([one.detach().flatten() for one in self.mlp.parameters()])
        if torch.is_inference_mode_enabled():  # What it makes cannot be part of a later gradient
            return self._everywhere()
        known = self._dense
        if known is None or not _same(known[0], weights):
            known = self._dense = weights, self._everywhere()
        return known[1]

    def _drawn(self) -> Float[Tensor, "positions 2"]:
        """K+, which becomes the average."""
        if self.config.samples < self.positions:
            generator = torch.Generator(self.average.device).manual_seed(int(self.draws))
            order = torch.randperm(self.positions, generator=generator, device=self.average.device)
            drawn = order[: self.config.samples]
        else:
            drawn = torch.arange(self.positions, device=self.average.device)
        before = self.average[drawn]
        after = before + self.config.rate * (self._at(drawn) - before)
        values = self.average.index_copy(0, drawn, after)
        with torch.no_grad():
            self.average.index_copy_(0, drawn, after)
            self.draws += 1
        return values

    def _at(self, drawn: Int[Tensor, " n"]) -> Float[Tensor, "n 2"]:
        """What the MLP gives at positions of the flat kernel, real and imaginary part."""
        grid, half, inputs, outputs = self.shape
        into = drawn % outputs
        come = drawn // outputs % inputs
        across = drawn // (outputs * inputs) % half
        down = drawn // (outputs * inputs * half)
        signed = (down + grid // 2) % grid - grid // 2
        coordinates = [
            signed * (2 / grid),
            across * (2 / grid),
            come * (2 / max(1, inputs - 1)) - 1,
            into * (2 / max(1, outputs - 1)) - 1,
        ]
        return self.mlp(torch.stack(coordinates, dim=-1).to(self.bias)) / math.sqrt(inputs)

    @torch.no_grad()
    def _everywhere(self) -> Float[Tensor, "positions 2"]:
        each = torch.arange(self.positions, device=self.bias.device)
        return torch.cat([self._at(part) for part in each.split(AT_ONCE)])


def _same(first: Tensor, second: Tensor) -> bool:
    kind = first.device, first.dtype
    return kind == (second.device, second.dtype) and torch.equal(first, second)


class _Sines(nn.Linear):
    """sin(omega (W x + b))."""

    def __init__(self, inputs: int, outputs: int, omega: float) -> None:
        super().__init__(inputs, outputs)
        self.omega = omega

    def forward(self, input: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        return torch.sin(self.omega * super().forward(input))


def _wrapped(features: Float[Tensor, "b i h w"], kernel: Complex[Tensor, "g half i o"]) -> Float[Tensor, "b o h w"]:
    """The circular convolution of ``features``, which have the size of the kernel."""
    height, width = features.shape[-2:]
    if not height == width == len(kernel):
        raise ValueError(
            f"features of {width}x{height} pixels on a spectral grid of {len(kernel)}: give those of its size, or "
            'choose edges="zeros"'
        )
    spectrum = _product(torch.fft.rfft2(features), kernel)
    return torch.fft.irfft2(spectrum, s=(height, width))


def _zero_padded(features: Float[Tensor, "b i h w"], kernel: Complex[Tensor, "g half i o"]) -> Float[Tensor, "b o h w"]:
    """The convolution of ``features``, around which all is 0, with the inverse transform of ``kernel``, whose pixels
    lie from -g/2 to g/2 - 1 around the one it is for.

    Blocks of g pixels a side are computed from windows of 2 g (overlap-save), so that memory does not grow with the
    product of channels and pixels.
    """
    grid = len(kernel)
    batch, _, height, width = features.shape
    down, across = -(-height // grid), -(-width // grid)
    pads = [((count + 1) * grid - size) - grid // 2 for count, size in ((across, width), (down, height))]
    padded = nn.functional.pad(features, (grid // 2, pads[0], grid // 2, pads[1]))
    windows = padded.unfold(2, 2 * grid, grid).unfold(3, 2 * grid, grid)  # b i down across 2g 2g
    windows = windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    spectrum = _product(torch.fft.rfft2(windows), _finer(kernel))
    blocks = torch.fft.irfft2(spectrum, s=(2 * grid, 2 * grid))[..., grid:, grid:]
    blocks = blocks.unflatten(0, (batch, down, across)).permute(0, 3, 1, 4, 2, 5)  # b o down g across g
    return blocks.flatten(4, 5).flatten(2, 3)[..., :height, :width]


def _finer(kernel: Complex[Tensor, "g half i o"]) -> Complex[Tensor, "g2 half2 i o"]:
    """The spectrum, at twice as many frequencies an axis, of the inverse transform of ``kernel`` with zeros around it,
    which is moved by g / 2 pixels along both axes so that none of its pixels has a negative place.

    A transform of g numbers is a small matrix: as products of matrices this is several times faster than by FFT.
    """
    grid = len(kernel)
    unit = torch.eye(grid // 2 + 1, dtype=kernel.dtype, device=kernel.device)
    real, imaginary = (_finer_rows(part, grid) for part in (unit, 1j * unit))
    across = torch.cat([real - 1j * imaginary, real + 1j * imaginary]).T / 2
    columns = torch.fft.ifft(torch.eye(grid, dtype=kernel.dtype, device=kernel.device)).roll(grid // 2, dims=-1)
    down = torch.fft.fft(columns, n=2 * grid).T
    known = kernel.flatten(2)
    mirrored = known[-torch.arange(grid, device=kernel.device) % grid].conj()
    rows = across @ torch.cat([known, mirrored], dim=1)
    return (down @ rows.flatten(1)).unflatten(1, (grid + 1, *kernel.shape[2:]))


def _finer_rows(spectra: Complex[Tensor, "n half"], grid: int) -> Complex[Tensor, "n half2"]:
    """``_finer`` of one axis. It is linear over the real numbers only."""
    return torch.fft.rfft(torch.fft.irfft(spectra, n=grid).roll(grid // 2, dims=-1), n=2 * grid)


def _product(
    features: Complex[Tensor, "b i h half"], kernel: Complex[Tensor, "h half i o"]
) -> Complex[Tensor, "b o h half"]:
    """Every frequency by itself: the channels of ``features`` times the matrix of ``kernel``."""
    out = features.flatten(2).permute(2, 0, 1) @ kernel.flatten(0, 1)
    return out.permute(1, 2, 0).unflatten(2, features.shape[2:])
