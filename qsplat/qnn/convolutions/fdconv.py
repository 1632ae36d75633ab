"""Frequency dynamic convolution (FDConv): the kernel follows the image, frequency by frequency.

Source: Chen et al. 2025, Frequency Dynamic Convolution for Dense Image Prediction (arXiv 2503.18783), and what its
published code computes. Three parts, each of which changes nothing at birth:

- Fourier disjoint weights: the kernel's spectrum is learnt, in groups of frequencies that the image weighs.
- Kernel spatial modulation: the image scales the kernel by input channel, output channel and place (global), and each
  of its elements (local).
- Frequency band modulation: each octave of the features is scaled by a map over their pixels.

Our choice, other than in that code: LayerNorm in place of BatchNorm, which needs several images; groups whose sizes
differ by a few where their number does not divide that of the frequencies, and conjugate frequencies in one group, so
that groups are orthogonal; all heads of the modulation start near zero (there, one does not by mistake); bands are cut
at their exact frequencies for every size of image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional

REDUCTION, LEAST_HIDDEN = 16, 16
"""The modulation's hidden layer has a 16th of the input channels, and at least 16."""
FEWEST_CHANNELS = 17
"""Narrower convolutions stay as they are."""
BORN = 1e-6
"""Standard deviation of the weights that modulate, at birth."""
OCTAVES = (1 / 4, 1 / 8, 1 / 16)
"""Lower ends, in cycles per pixel, of the bands that are modulated. Below the last nothing is."""


@dataclass(frozen=True)
class FDConv:
    """Frequency dynamic convolutions of 1x1 or 3x3 pixels.

    Every value of their output depends on the whole image, so that there are no crops or tiles of it.

    Args:
        groups: of frequencies of the kernel.
        kernel_modulation: whether the kernel is scaled in space too.
        band_modulation: whether the octaves of the features are scaled, before kernels larger than 1x1.

    Raises:
        ValueError: no groups.
    """

    groups: int = 64
    kernel_modulation: bool = True
    band_modulation: bool = True
    kind: Literal["fdconv"] = field(default="fdconv", init=False)

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"groups={self.groups}: FDConv divides the frequencies of a kernel into at least 1")

    def check(self, *, kernel: int, dims: int, channels: int) -> None:
        """Refuse a layer that there is none of.

        Raises:
            ValueError: with the value and what to give instead.
        """
        if dims != 2:
            raise ValueError(f"dims={dims} with FDConv: it is for images; choose the standard convolution")
        if kernel not in (1, 3):
            raise ValueError(f"kernel={kernel} with FDConv: choose 1 or 3")
        if channels < FEWEST_CHANNELS:
            raise ValueError(f"channels={channels} with FDConv: choose {FEWEST_CHANNELS} or more")
        most = kernel * channels * (kernel * channels // 2 + 1)
        if self.groups > most:
            raise ValueError(
                f"groups={self.groups} with FDConv: the kernel has {most} frequencies; give no more groups"
            )

    def reach(self, kernel: int) -> None:
        """No number of pixels bounds what a value depends on."""


class FDConv2d(nn.Module):
    """A frequency dynamic convolution in the place of ``plain``, to which it is equal at birth.

    Spectra are computed in the type of the parameters, such as float32, whatever the arithmetic of the convolution. A
    layer of 64 to 64 channels and 3x3 pixels has 9,598 parameters more than the plain one.
    """

    group_of: Int[Tensor, "rows half"]

    def __init__(self, plain: nn.Conv2d, config: FDConv | None = None) -> None:
        """A new layer with the kernel, bias, stride and padding of ``plain``.

        Raises:
            ValueError: ``config`` has no such layer.
        """
        super().__init__()
        self.config = config = config or FDConv()
        inputs, outputs, (kernel, _) = plain.in_channels, plain.out_channels, plain.kernel_size
        config.check(kernel=kernel, dims=2, channels=min(inputs, outputs))
        if plain.groups != 1 or plain.padding_mode != "zeros" or isinstance(plain.padding, str):
            raise ValueError(f"{plain} cannot be an FDConv: give one of a single group, zero-padded by a number")
        self.inputs, self.outputs, self.kernel = inputs, outputs, kernel
        self.stride, self.padding, self.dilation = plain.stride, plain.padding, plain.dilation
        self.bias = None if plain.bias is None else nn.Parameter(plain.bias.detach().clone())
        # The size of what is learnt decides how fast Adam learns it: this divisor is that of the published code.
        self._scale = min(inputs, outputs) // 2
        spectrum = torch.fft.rfft2(_as_matrix(plain.weight.detach())) / self._scale
        self.spectrum = nn.Parameter(torch.view_as_real(spectrum).contiguous())
        self.register_buffer("group_of", frequency_groups(kernel * outputs, kernel * inputs, config.groups))
        self.modulation = KernelModulation(inputs, outputs, kernel, config)
        self.bands = BandModulation(inputs) if config.band_modulation and kernel > 1 else None

    def forward(self, features: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o v u"]:
        """The convolved ``features``, each image of the batch with a kernel of its own."""
        batch, _, height, width = features.shape
        with torch.autocast(features.device.type, enabled=False):
            exact = features.to(self.spectrum.dtype)
            kernels = self.kernels(exact)
            if self.bands is not None:
                exact = self.bands(exact)
        out = functional.conv2d(
            exact.reshape(1, batch * self.inputs, height, width),
            kernels.flatten(0, 1),
            None if self.bias is None else self.bias.repeat(batch),
            self.stride,
            self.padding,
            self.dilation,
            groups=batch,
        )
        return out.unflatten(1, (batch, self.outputs))[0]

    def kernels(self, features: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o i k k"]:
        """The kernel of each image."""
        pooled = features.mean(dim=(2, 3))
        shares, scales = self.modulation(pooled)
        weighted = self._learnt * shares[:, self.group_of]
        kernels = self._in_space(weighted)
        return kernels if scales is None else kernels * scales

    @torch.no_grad()
    def group_kernels(self) -> Float[Tensor, "n o i k k"]:
        """The kernel of each group of frequencies alone; their sum is the kernel at birth."""
        each = torch.arange(self.config.groups, device=self.group_of.device)[:, None, None]
        return self._in_space(self._learnt * (self.group_of == each))

    @property
    def _learnt(self) -> Complex[Tensor, "rows half"]:
        return torch.view_as_complex(self.spectrum) * self._scale

    def _in_space(self, spectra: Complex[Tensor, "b rows half"]) -> Float[Tensor, "b o i k k"]:
        kernel, size = self.kernel, (self.kernel * self.outputs, self.kernel * self.inputs)
        matrices = torch.fft.irfft2(spectra, s=size)
        return matrices.unflatten(2, (self.inputs, kernel)).unflatten(1, (self.outputs, kernel)).transpose(2, 3)


class KernelModulation(nn.Module):
    """From the mean of each channel of an image: shares of the groups of frequencies, and scales of the kernel's
    elements. All are 1 at birth."""

    def __init__(self, inputs: int, outputs: int, kernel: int, config: FDConv) -> None:
        super().__init__()
        self.kernel = kernel
        hidden = max(inputs // REDUCTION, LEAST_HIDDEN)
        self.reduce = nn.Linear(inputs, hidden, bias=False)
        nn.init.kaiming_normal_(self.reduce.weight, mode="fan_out", nonlinearity="relu")
        self.norm = nn.LayerNorm(hidden)
        self.slope, self.offset = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))
        self.groups = nn.Linear(hidden, config.groups)
        heads: list[nn.Module] = [self.groups]
        self.channels = self.filters = self.places = self.local = self.local_norm = None
        if config.kernel_modulation:
            self.channels, self.filters = nn.Linear(hidden, inputs), nn.Linear(hidden, outputs)
            self.places = nn.Linear(hidden, kernel * kernel) if kernel > 1 else None
            self.local_norm = nn.LayerNorm(inputs)
            reach = round(math.log2(inputs) / 2 + 0.5) // 2
            self.local = nn.Conv1d(1, outputs * kernel * kernel, 2 * reach + 1, padding=reach, bias=False)
            heads += [head for head in (self.channels, self.filters, self.places, self.local) if head is not None]
        for head in heads:
            _near_zero(head)

    def forward(self, pooled: Float[Tensor, "b i"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b o i k k"] | None]:
        """Shares, and scales where the kernel is scaled."""
        hidden = self.slope * functional.relu(self.norm(self.reduce(pooled))).square() + self.offset
        shares = _factor(self.groups(hidden))
        if self.channels is None or self.filters is None or self.local is None or self.local_norm is None:
            return shares, None
        local = _factor(self.local(self.local_norm(pooled)[:, None]))
        scales = local.unflatten(1, (-1, self.kernel, self.kernel)).movedim(-1, 2)
        scales = scales * _factor(self.channels(hidden))[:, None, :, None, None]
        scales = scales * _factor(self.filters(hidden))[:, :, None, None, None]
        if self.places is not None:
            scales = scales * _factor(self.places(hidden)).unflatten(1, (1, 1, self.kernel, self.kernel))
        return shares, scales


class BandModulation(nn.Module):
    """Scales the octaves (1/4, 1/2], (1/8, 1/4] and (1/16, 1/8] cycles per pixel of features, each by a map over the
    pixels that a 3x3 convolution makes of the features. What is slower stays."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.maps = nn.Conv2d(inputs, len(OCTAVES), 3, padding=1)
        _near_zero(self.maps)

    def factors(self, features: Float[Tensor, "b i h w"]) -> Float[Tensor, "b 3 h w"]:
        """The maps, the fastest octave first; 1 at birth."""
        return _factor(self.maps(features))

    def forward(self, features: Float[Tensor, "b i h w"]) -> Float[Tensor, "b i h w"]:
        """The sum of the scaled octaves and of what is slower. It is computed as what the scales change, so that
        factors of 1 leave the features as they are, to the bit."""
        size = features.shape[-2:]
        spectrum, rate = torch.fft.rfft2(features), _fastest_axis(*size, device=features.device)
        changes, upper = self.factors(features) - 1, 1.0
        for index, lower in enumerate(OCTAVES):
            octave = torch.fft.irfft2(spectrum * ((rate > lower) & (rate <= upper)), s=size)
            features = features + changes[:, index : index + 1] * octave
            upper = lower
        return features


def frequency_groups(rows: int, columns: int, groups: int) -> Int[Tensor, "rows half"]:
    """The group, from 0 on, of every frequency in the half spectrum of a matrix: equal numbers of frequencies to each,
    from the lowest on; a frequency and its conjugate are in one."""
    along = torch.fft.fftfreq(rows, dtype=torch.float64)[:, None]
    across = torch.fft.rfftfreq(columns, dtype=torch.float64)[None]
    order = torch.hypot(along, across).flatten().argsort(stable=True)
    group = torch.empty_like(order)
    group[order] = torch.arange(len(order)) * groups // len(order)
    group = group.view(rows, -1)
    # Only in these columns are both of a pair part of the half spectrum.
    paired = [0, columns // 2] if columns % 2 == 0 else [0]
    conjugate = -torch.arange(rows) % rows
    group[:, paired] = torch.minimum(group[:, paired], group[conjugate][:, paired])
    return group


def _fastest_axis(height: int, width: int, *, device: torch.device) -> Float[Tensor, "h half"]:
    """Of every frequency in the half spectrum of an image, the larger of the two along its axes, in cycles per
    pixel."""
    down = torch.fft.fftfreq(height, device=device).abs()[:, None]
    return torch.maximum(down, torch.fft.rfftfreq(width, device=device)[None])


def _as_matrix(kernel: Float[Tensor, "o i k k"]) -> Float[Tensor, "ok ik"]:
    """The kernels of all pairs of channels side by side: output channels down, input channels across."""
    return kernel.transpose(1, 2).flatten(2, 3).flatten(0, 1)


def _factor(logits: Tensor) -> Tensor:
    """Between 0 and 2, 1 for a logit of 0."""
    return 2 * torch.sigmoid(logits)


def _near_zero(head: nn.Module) -> None:
    for name, parameter in head.named_parameters():
        nn.init.normal_(parameter, std=BORN) if name == "weight" else nn.init.zeros_(parameter)
