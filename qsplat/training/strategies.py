"""gsplat's densification strategies: the one with a cap, the other in torch operations that also run on a CPU.

This module imports gsplat, so it is imported when a densifier is built. What gsplat's ``MCMCStrategy`` calls for
relocation and noise exists in CUDA only; its steps are written here with ``relocation`` instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy, MCMCStrategy
from gsplat.strategy.ops import _update_param_with_optimizer as replace_parameters
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Parameter, ParameterDict
from torch.optim import Optimizer

from qsplat.render.projection import rotation_matrices
from qsplat.training.relocation import relocated_shapes

Optimizers = dict[str, Optimizer]


@dataclass
class CappedDefaultStrategy(DefaultStrategy):
    """``DefaultStrategy`` that grows to at most ``cap_max`` Gaussians.

    The room below the cap is shared out evenly over the refinements to come. Where more ask to be cloned or split than
    that, the ones with the largest mean gradients are served: whoever asked first would else use up the room before
    the scene has taken shape (about 0.4 dB on two captures of 2000 iterations). A budget that grows over the run is an
    idea of Mallick et al. 2024, Taming 3DGS.
    """

    cap_max: int = 1_000_000

    @torch.no_grad()
    def _grow_gs(
        self, params: ParameterDict, optimizers: Optimizers, state: dict[str, Any], step: int
    ) -> tuple[int, int]:
        refinements = len(range(step, self.refine_stop_iter, self.refine_every))
        room = math.ceil(max(0, self.cap_max - len(params["means"])) / refinements)
        gradients = state["grad2d"] / state["count"].clamp_min(1)
        if int((gradients > self.grow_grad2d).sum()) > room:
            refused = torch.argsort(gradients, descending=True, stable=True)[room:]
            state["grad2d"][refused] = 0
        return super()._grow_gs(params, optimizers, state, step)


@dataclass
class TorchMcmcStrategy(MCMCStrategy):
    """``MCMCStrategy`` whose relocation, additions and noise are torch operations, on any device."""

    def step_post_backward(
        self,
        params: ParameterDict,
        optimizers: Optimizers,
        state: dict[str, Any],
        step: int,
        info: dict[str, Any],
        lr: float,
    ) -> None:
        """Relocate and add Gaussians when it is time to, and move all of them at random, the faint ones farthest.

        ``lr`` is the rate of the means at ``step``.
        """
        if self.refine_start_iter < step < self.refine_stop_iter and step % self.refine_every == 0:
            self._relocate_gs(params, optimizers, state["binoms"])
            self._add_new_gs(params, optimizers, state["binoms"])
        add_noise(params, lr * self.noise_lr)

    @torch.no_grad()
    def _relocate_gs(self, params: ParameterDict, optimizers: Optimizers, binoms: Tensor) -> int:
        opacities = torch.sigmoid(params["opacities"][:, 0])
        dead = (opacities <= self.min_opacity).nonzero()[:, 0]
        alive = (opacities > self.min_opacity).nonzero()[:, 0]
        if len(dead) == 0 or len(alive) == 0:
            return 0
        chosen = alive[torch.multinomial(opacities[alive], len(dead), replacement=True)]
        shared = self._shared(params, chosen)

        def move(name: str, value: Tensor) -> Parameter:
            moved = value.detach().clone()
            moved[chosen] = shared.get(name, moved[chosen])
            moved[dead] = moved[chosen]
            return Parameter(moved)

        def forget(_: str, moment: Tensor) -> Tensor:
            return moment.index_fill(0, chosen, 0)

        replace_parameters(move, forget, params, optimizers)
        return len(dead)

    @torch.no_grad()
    def _add_new_gs(self, params: ParameterDict, optimizers: Optimizers, binoms: Tensor) -> int:
        count = len(params["means"])
        wanted = max(0, min(self.cap_max, int(1.05 * count)) - count)
        if wanted == 0:
            return 0
        chosen = torch.multinomial(torch.sigmoid(params["opacities"][:, 0]), wanted, replacement=True)
        shared = self._shared(params, chosen)

        def append(name: str, value: Tensor) -> Parameter:
            kept = value.detach().clone()
            kept[chosen] = shared.get(name, kept[chosen])
            return Parameter(torch.cat([kept, kept[chosen]]))

        def append_zeros(_: str, moment: Tensor) -> Tensor:
            return torch.cat([moment, moment.new_zeros(wanted, *moment.shape[1:])])

        replace_parameters(append, append_zeros, params, optimizers)
        return wanted

    def _shared(self, params: ParameterDict, chosen: Int[Tensor, " m"]) -> dict[str, Tensor]:
        """Opacity logits and log scales that the Gaussians ``chosen`` share with their new copies."""
        copies = torch.bincount(chosen, minlength=len(params["means"]))[chosen] + 1
        opacities, scales = torch.sigmoid(params["opacities"][chosen, 0]), torch.exp(params["scales"][chosen])
        shapes = relocated_shapes(opacities, scales, copies)
        bounded = shapes.opacities.clamp(self.min_opacity, 1 - torch.finfo(torch.float32).eps)
        return {"opacities": torch.logit(bounded)[:, None], "scales": torch.log(shapes.scales)}


@torch.no_grad()
def add_noise(params: ParameterDict, scale: float) -> None:
    """Move the means by ``scale`` times their covariance times normal noise, weighted by 1 / (1 + exp(100 (o - 0.005)))
    for the opacity o.

    Source: Kheradmand et al. 2024, equation 8.
    """
    axes = rotation_matrices(params["quats"]) * torch.exp(params["scales"])[:, None, :]
    weights = torch.sigmoid(-100 * (torch.sigmoid(params["opacities"]) - 0.005))
    noise = torch.randn_like(params["means"]) * weights * scale
    params["means"].add_(_apply(axes, noise))


def _apply(axes: Float[Tensor, "n 3 3"], vectors: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """The covariances ``axes axes^T`` times ``vectors``."""
    return torch.einsum("nij,nkj,nk->ni", axes, axes, vectors)
