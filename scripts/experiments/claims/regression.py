"""Networks that learn one signal or image: the training that experiments share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from claims.images import pixel_grid, planes
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qsplat.qnn import QNN
from qsplat.training.adam import Adam


def descend(
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[int], Tensor],
    *,
    steps: int,
    rate: float,
    watch: Callable[[int], None] | None = None,
    every: int = 1,
) -> None:
    """Adam at a constant rate. ``loss_of`` is given the step, ``watch`` it too, before every ``every``-th step and
    after the last."""
    optimizer = Adam(list(parameters), lr=rate)
    for step in range(steps):
        if watch is not None and step % every == 0:
            watch(step)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    if watch is not None:
        watch(steps)


def corrected(head: QNN, base: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """``base`` and the residual of ``head`` at its pixels."""
    queries = planes([pixel_grid(*base.shape[:2])])
    return base + head(planes([base]), queries)[0].permute(1, 2, 0)


def learn_residual(
    head: QNN,
    base: Float[Tensor, "h w 3"],
    photo: Float[Tensor, "h w 3"],
    *,
    steps: int,
    learnt: Bool[Tensor, "h w"] | None = None,
    rate: float = 1e-3,
) -> Float[Tensor, "h w 3"]:
    """Train ``head`` to make ``photo`` of ``base`` in the pixels ``learnt`` (all when None), by the mean squared error;
    the image that it makes in the end, without gradients."""

    def loss(step: int) -> Tensor:
        error = (corrected(head, base) - photo).square()
        return (error if learnt is None else error[learnt]).mean()

    descend(head.parameters(), loss, steps=steps, rate=rate)
    with torch.no_grad():
        return corrected(head, base)
