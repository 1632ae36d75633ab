"""Fully connected layers with ReLU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Module):
    """``depth`` linear layers of ``width`` channels, each followed by ReLU.

    After the layer with index ``skip`` (counted from 0; None for nowhere) the input is put before the channels again.
    The weights are PyTorch's defaults. Source: DeepSDF's skip as in NeRF's code, where it comes after layer 4 of 8.
    """

    def __init__(self, inputs: int, *, width: int, depth: int, skip: int | None = None) -> None:
        super().__init__()
        self.skip = skip
        incoming = [inputs, *(width + (inputs if index == skip else 0) for index in range(depth - 1))]
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in incoming)

    def forward(self, inputs: Float[Tensor, "n inputs"]) -> Float[Tensor, "n width"]:
        """The channels of the last layer."""
        channels = inputs
        for index, layer in enumerate(self.layers):
            channels = functional.relu(layer(channels))
            if index == self.skip and index + 1 < len(self.layers):
                channels = torch.cat([inputs.to(channels), channels], dim=-1)
        return channels
