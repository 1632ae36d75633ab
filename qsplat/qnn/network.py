"""The queried-convolution network (QNN): a residual CNN over a signal and the coordinates of its samples."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True)
class QnnConfig:
    """Shape and arithmetic of a QNN.

    ``layers`` convolutions of ``kernel`` samples a side with ``channels`` hidden channels, on signals of ``dims``
    dimensions. ``precision`` is the arithmetic of the convolutions: ``auto`` takes bfloat16 where the processor has
    instructions for it, and float32 elsewhere.

    Raises:
        ValueError: a size the network cannot have.
    """

    layers: int = 4
    channels: int = 64
    kernel: int = 3
    precision: Precision = "auto"
    dims: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        if self.layers < 1 or self.channels < 1:
            raise ValueError(f"layers={self.layers}, channels={self.channels}: a QNN needs at least one of each")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel}: choose an odd size, so that the network keeps the signal's size")


class QNN(nn.Module):
    """Residual of a signal from the signal itself and the coordinates of its samples.

    f(x, q) = Conv(ReLU(... Conv(x (+) q))), zero-padded convolutions, coordinates concatenated as channels. The last
    layer starts at zero, so that a new network leaves the signal as it is. With the default configuration and RGB
    images it has 78,531 parameters and sees 9x9 pixels.

    Source: Kumar et al. 2025, Qonvolution (arXiv 2512.12898), section 4. The initialisation, the padding and the
    coordinate range are not stated there and are our choice: PyTorch's defaults, zeros, and [-1, 1].
    """

    def __init__(self, config: QnnConfig | None = None, *, signal_channels: int = 3) -> None:
        super().__init__()
        self.config = config = config or QnnConfig()
        self.signal_channels = signal_channels
        convolution = nn.Conv2d if config.dims == 2 else nn.Conv1d
        widths = [signal_channels + config.dims, *[config.channels] * (config.layers - 1), signal_channels]
        stages: list[nn.Module] = []
        for width, following in pairwise(widths):
            stages += [convolution(width, following, config.kernel, padding=config.kernel // 2), nn.ReLU()]
        self.stages = nn.Sequential(*stages[:-1])
        for parameter in self.stages[-1].parameters():
            nn.init.zeros_(parameter)
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    @property
    def halo(self) -> int:
        """Number of samples on each side of a sample that its residual depends on."""
        return self.config.layers * (self.config.kernel // 2)

    def forward(
        self, signal: Float[Tensor, "b c *space"], queries: Float[Tensor, "#b d *space"]
    ) -> Float[Tensor, "b c *space"]:
        """The residual to add to ``signal``, given the coordinates ``queries`` of its samples in [-1, 1]."""
        queries = queries.expand(signal.shape[0], *queries.shape[1:])
        half = _uses_bfloat16(self.config.precision, signal.device)
        with torch.autocast(signal.device.type, dtype=torch.bfloat16, enabled=half):
            residual = self.stages(torch.cat([signal, queries], dim=1))
        return residual.to(signal.dtype)


def _uses_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether convolutions on ``device`` run in bfloat16."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and _processor_has_bfloat16()


@cache
def _processor_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16. Where AVX-512 has to imitate it, float32 is 2.5 times faster."""
    if platform.machine() in ("x86_64", "AMD64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
