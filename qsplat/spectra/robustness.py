"""Which frequencies of a trained network survive when its weights are moved.

Source: Rahaman et al. 2019, section 3 and figure 2: random directions of a given length in the space of all weights.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call


def moved_outputs(
    network: nn.Module, inputs: Tensor, distance: float, *, directions: int, generator: torch.Generator
) -> Float[Tensor, "directions ..."]:
    """Outputs at ``inputs`` with the weights moved by ``distance`` (Euclidean, over all of them) in random directions.

    Directions are uniform on the sphere and differ from call to call of one ``generator``.

    Raises:
        ValueError: a negative distance, or no directions.
    """
    if distance < 0 or directions < 1:
        raise ValueError(f"distance={distance}, directions={directions}: give at least 0, and at least 1")
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    outputs = []
    for _ in range(directions):
        ways = {name: torch.randn(weight.shape, generator=generator).to(weight) for name, weight in weights.items()}
        length = torch.stack([way.square().sum() for way in ways.values()]).sum().sqrt()
        moved = {name: weight + distance / length * ways[name] for name, weight in weights.items()}
        with torch.no_grad():
            outputs.append(functional_call(network, moved, (inputs,)))
    return torch.stack(outputs)
