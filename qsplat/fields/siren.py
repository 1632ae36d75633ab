"""Fully connected layers with sines (SIREN).

Source: Sitzmann et al. 2020, Implicit Neural Representations with Periodic Activation Functions, and its code, which
multiplies the bias by omega as well as the weights: sin(omega (W x + b)).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SineLayer(nn.Linear):
    """sin(omega (W x + b)).

    Weights are uniform within 1/inputs in the ``first`` layer of a network and within sqrt(6/inputs)/omega in others;
    biases are PyTorch's default, uniform within 1/sqrt(inputs).
    """

    def __init__(self, inputs: int, outputs: int, *, omega: float, first: bool = False) -> None:
        super().__init__(inputs, outputs)
        self.omega = omega
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / omega
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, input: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        """The channels after the sine, between -1 and 1."""
        return torch.sin(self.omega * super().forward(input))


def linear_after_sines(inputs: int, outputs: int, *, omega: float) -> nn.Linear:
    """The linear layer that ends a SIREN whose hidden layers have ``omega``: its weights are as theirs."""
    layer = nn.Linear(inputs, outputs)
    bound = math.sqrt(6 / inputs) / omega
    nn.init.uniform_(layer.weight, -bound, bound)
    return layer
