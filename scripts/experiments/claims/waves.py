"""Networks with waves and attention, and their twins without: what the experiments on RFF-CA compare."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from qsplat.fields.rffca import RffcaNetwork
from qsplat.frequency_tokens import TokenBank, Tokens

Kind = Literal["NN", "RFF-NN", "NN-CA", "RFF-CA"]
KINDS: tuple[Kind, ...] = ("NN", "RFF-NN", "NN-CA", "RFF-CA")


class Blocks(nn.Module):
    """The layers of RFF-CA without attention: q + gelu(W q + b), from the coordinates (NN) or their waves (RFF-NN)."""

    def __init__(self, bank: TokenBank | None, *, dims: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.bank = bank or nn.Identity()
        self.first = nn.Linear(dims if bank is None else len(bank.phases), width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.Linear(width, outputs)

    def forward(self, coordinates: Float[Tensor, "n dims"]) -> Float[Tensor, "n outputs"]:
        """The values at ``coordinates``."""
        query = self.first(self.bank(coordinates))
        for block in self.blocks:
            query = query + functional.gelu(block(query))
        return self.last(query)


def network_of(
    kind: Kind, sigma: float, seed: int, *, dims: int = 1, outputs: int = 1, width: int = 32, depth: int = 2
) -> nn.Module:
    """A new network with as many waves as 4 times its ``width``. Those without attention are made wider, until they
    have at least as many parameters as RFF-CA."""
    tokens = Tokens(base=width, sigma=sigma, query="coordinates" if kind in ("NN", "NN-CA") else "features", seed=seed)
    torch.manual_seed(seed)
    if kind in ("NN-CA", "RFF-CA"):
        return RffcaNetwork(tokens, dims=dims, outputs=outputs, width=width, depth=depth)
    largest = size(RffcaNetwork(Tokens(base=width), dims=dims, outputs=outputs, width=width, depth=depth))
    bank = TokenBank(dims, tokens) if kind == "RFF-NN" else None
    while True:
        network = Blocks(bank, dims=dims, outputs=outputs, width=width, depth=depth)
        if size(network) >= largest:
            return network
        width += 1


def size(network: nn.Module) -> int:
    """The number of its parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
