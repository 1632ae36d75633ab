"""Networks that learn one signal: the training that experiments share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import Parameter


def descend(
    parameters: Iterable[Parameter],
    loss_of: Callable[[int], Tensor],
    *,
    steps: int,
    rate: float,
    watch: Callable[[int], None] | None = None,
    every: int = 1,
) -> None:
    """Adam at a constant rate. ``loss_of`` is given the step, ``watch`` it too, before every ``every``-th step and
    after the last."""
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for step in range(steps):
        if watch is not None and step % every == 0:
            watch(step)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    if watch is not None:
        watch(steps)
