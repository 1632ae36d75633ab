"""Where Gaussians are added and removed during training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import ParameterDict
from torch.optim import Optimizer

from qsplat.cameras import Camera
from qsplat.gaussians import Gaussians
from qsplat.render import Trace
from qsplat.training.schedule import Schedule

SHORTEST_RUN_WITH_RESETS = 5000
"""Opacities are not reset in runs of fewer iterations, which would not recover from it."""
SHORTEST_START, SHORTEST_INTERVAL = 100, 50
"""Steps before the first densification, and between two of them, that short runs keep: gradients are averaged over the
views in between."""


@dataclass(frozen=True)
class DefaultDensification:
    """Clone, split and prune by the gradient of the projected means (Kerbl et al. 2023, section 5.2).

    ``start``, ``stop``, ``every`` and ``reset_every`` are shares of the run, equal to 500, 15000, 100 and 3000 of 30000
    steps. ``grow_gradient`` is compared with the mean gradient in units of half the image; with ``absolute_gradient``
    (Ye et al. 2024) raise it, usually to 8e-4, and render with ``RasterConfig(absgrad=True)``. Sizes are in units of
    the scene's, in which the cameras lie within 1 of the origin. ``prune_above``, the size above which Gaussians are
    removed once opacities have been reset, is 0.1 of the extent of the cameras with Kerbl et al.; here it is off, since
    it takes the background of captures with far walls and comes back too late (docs/qnn.md). With ``with_head`` the
    strategy goes on after the head's switch-on, unless that freezes the Gaussians. After a switch-on at 25 % this
    gained 0.2 and 0.6 dB on two captures, since the strategy ends before its time otherwise.
    """

    max_gaussians: int = 1_000_000
    start: float = 1 / 60
    stop: float = 1 / 2
    every: float = 1 / 300
    reset_every: float = 1 / 10
    grow_gradient: float = 2e-4
    absolute_gradient: bool = False
    split_above: float = 0.01
    prune_opacity: float = 0.005
    prune_above: float = math.inf
    with_head: bool = False

    def __post_init__(self) -> None:
        _check_cap(self.max_gaussians)


@dataclass(frozen=True)
class McmcDensification:
    """Relocate the dead and sample new Gaussians by opacity (Kheradmand et al. 2024).

    ``start``, ``stop`` and ``every`` are shares of the run, equal to 500, 25000 and 100 of 30000 steps.
    ``opacity_weight`` and ``scale_weight`` multiply the mean opacity and scale, which the loss then holds down.
    With ``with_head`` the strategy goes on after the head's switch-on, unless that freezes the Gaussians.
    """

    max_gaussians: int = 1_000_000
    start: float = 1 / 60
    stop: float = 5 / 6
    every: float = 1 / 300
    noise: float = 5e5
    min_opacity: float = 0.005
    opacity_weight: float = 0.01
    scale_weight: float = 0.01
    with_head: bool = False

    def __post_init__(self) -> None:
        _check_cap(self.max_gaussians)


Densification = DefaultDensification | McmcDensification


def regularization(gaussians: Gaussians, config: Densification | None) -> Float[Tensor, ""]:
    """What the strategy adds to the loss: 0, or the weighted mean opacity and scale of MCMC."""
    if not isinstance(config, McmcDensification):
        return gaussians.means.new_zeros(())
    opacity = torch.sigmoid(gaussians.opacity_logits).mean()
    return config.opacity_weight * opacity + config.scale_weight * torch.exp(gaussians.log_scales).mean()


def last_change(config: Densification, schedule: Schedule) -> int:
    """The first step from which on ``Densifier`` leaves the Gaussians alone, whatever the strategy would do."""
    to_the_end = config.with_head and schedule.mode != "frozen"
    return schedule.iterations if to_the_end else schedule.head_start


class Densifier:
    """A densification strategy at work in one run. It acts until the head's switch-on at the latest, unless its
    configuration says otherwise."""

    def __init__(self, config: Densification, schedule: Schedule, *, num_views: int) -> None:
        """``num_views`` is the number of training views: all are seen between a reset of opacities and pruning."""
        self._config = config
        self._end = last_change(config, schedule)
        self._strategy = _strategy(config, schedule, num_views)
        self.state: dict[str, Any] = self._strategy.initialize_state()
        """What the strategy remembers from step to step; a resumed run starts with that of the run it continues."""

    def after_backward(
        self,
        parameters: ParameterDict,
        optimizers: Mapping[str, Optimizer],
        *,
        step: int,
        trace: Trace,
        camera: Camera,
        learning_rate: float,
    ) -> None:
        """Take note of a step and, when it is time, replace the parameters by more, fewer or other ones.

        To be called after the optimisers have moved, because new parameters have no gradients. They are put into
        ``parameters`` and into the ``optimizers`` of the same names, each of which holds one parameter.

        Args:
            parameters: those of ``parameters.parameters_of``.
            optimizers: at least one for each of them.
            step: the step that was taken, from 0.
            trace: of the rendering whose loss went backward.
            camera: that took it.
            learning_rate: of the means at this step.
        """
        if step >= self._end:
            return
        known = {name: optimizers[name] for name in parameters}
        completed = step + 1
        if isinstance(self._config, McmcDensification):
            self._strategy.step_post_backward(parameters, known, self.state, completed, {}, lr=learning_rate)
        else:
            info = _info(trace, camera, absolute=self._config.absolute_gradient)
            self._strategy.step_post_backward(parameters, known, self.state, completed, info)


def _strategy(config: Densification, schedule: Schedule, num_views: int) -> Any:
    """gsplat's strategy for ``config``, its times in steps of this run."""
    from qsplat.training.strategies import CappedDefaultStrategy, TorchMcmcStrategy

    every = schedule.steps(config.every, at_least=SHORTEST_INTERVAL)
    common: dict[str, Any] = {
        "cap_max": config.max_gaussians,
        "refine_start_iter": schedule.steps(config.start, at_least=SHORTEST_START),
        "refine_stop_iter": schedule.steps(config.stop),
        "refine_every": every,
    }
    if isinstance(config, McmcDensification):
        return TorchMcmcStrategy(noise_lr=config.noise, min_opacity=config.min_opacity, **common)
    resets = schedule.iterations >= SHORTEST_RUN_WITH_RESETS
    reset_every = schedule.steps(config.reset_every) if resets else schedule.iterations + 1
    return CappedDefaultStrategy(
        reset_every=reset_every,
        pause_refine_after_reset=min(num_views + every, reset_every // 2) if resets else 0,
        grow_grad2d=config.grow_gradient,
        absgrad=config.absolute_gradient,
        grow_scale3d=config.split_above,
        prune_opa=config.prune_opacity,
        prune_scale3d=config.prune_above,
        **common,
    )


def _info(trace: Trace, camera: Camera, *, absolute: bool) -> dict[str, Any]:
    """What gsplat's rasterization would report to its strategies, for one camera."""
    gradient = trace.absolute_gradient() if absolute else trace.gradient()
    name = "absgrad" if absolute else "grad"
    return {
        "width": camera.width,
        "height": camera.height,
        "n_cameras": 1,
        "radii": trace.radii[None],
        "gaussian_ids": None,
        "means2d": SimpleNamespace(**{name: gradient[None].float()}),
    }


def _check_cap(max_gaussians: int) -> None:
    if max_gaussians < 1:
        raise ValueError(f"max_gaussians={max_gaussians}: allow at least 1")
