"""What the convolutions of a network between its first and its last one are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from qsplat.qnn.convolutions.cfconv import CFConv, CFConv2d
from qsplat.qnn.convolutions.fdconv import FDConv, FDConv2d
from qsplat.qnn.convolutions.standard import Standard, plain_convolution

Convolution = Standard | FDConv | CFConv

__all__ = ["CFConv", "CFConv2d", "Convolution", "FDConv", "FDConv2d", "Standard", "convolution", "convolution_of"]


def convolution(choice: Convolution, inputs: int, outputs: int, *, kernel: int, dims: int = 2) -> nn.Module:
    """A layer that gives ``outputs`` channels of the size of its ``inputs`` channels.

    Raises:
        ValueError: ``choice`` has no such layer.
    """
    choice.check(kernel=kernel, dims=dims, channels=min(inputs, outputs))
    match choice:
        case Standard():
            return plain_convolution(inputs, outputs, kernel=kernel, dims=dims)
        case FDConv():
            return FDConv2d(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), choice)
        case CFConv():
            return CFConv2d(inputs, outputs, choice)


def convolution_of(description: Mapping[str, Any]) -> Convolution:
    """The choice that ``dataclasses.asdict`` made ``description`` of.

    Raises:
        KeyError, TypeError, ValueError: it is of none of them.
    """
    kinds: dict[str, type[Convolution]] = {"standard": Standard, "fdconv": FDConv, "cfconv": CFConv}
    values = dict(description)
    return kinds[values.pop("kind")](**values)
