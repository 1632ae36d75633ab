"""The usual convolution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class Standard:
    """Convolutions with the same small kernel everywhere and for every image."""

    kind: Literal["standard"] = field(default="standard", init=False)

    def check(self, *, kernel: int, dims: int, channels: int) -> None:
        """Nothing that a network may ask for is refused."""

    def reach(self, kernel: int) -> int:
        """Number of samples on each side of a sample that its value depends on."""
        return kernel // 2


def plain_convolution(inputs: int, outputs: int, *, kernel: int, dims: int) -> nn.Conv1d | nn.Conv2d:
    """A convolution of signals of ``dims`` dimensions, zero-padded so that it keeps their size."""
    kind = nn.Conv2d if dims == 2 else nn.Conv1d
    return kind(inputs, outputs, kernel, padding=kernel // 2)
