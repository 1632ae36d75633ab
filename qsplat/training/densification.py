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
    """Clone, split and prune by the gradient of the projected means (Kerbl et al. 2023, section 5.2). Shares are of the
    run, with qsplat-plus of the part that a set has. Sizes are in units of the scene's, in which the cameras lie
    within 1 of the origin."""

    max_gaussians: int = 1_000_000
    """The most Gaussians there may be; with qsplat-plus, in each set."""
    start: float = 1 / 60
    """Share after which Gaussians are added and removed, and at least 100 steps: 500 of 30,000."""
    stop: float = 1 / 2
    """Share after which they no longer are: 15,000 of 30,000."""
    every: float = 1 / 300
    """Share between two times, and at least 50 steps: 100 of 30,000."""
    reset_every: float = 1 / 10
    """Share between two resets of all opacities, 3000 of 30,000; there are none in runs of fewer than 5000."""
    grow_gradient: float = 2e-4
    """Mean gradient of a projected mean, in units of half the image, above which a Gaussian is cloned or split."""
    absolute_gradient: bool = False
    """Add up the gradients of the pixels without their signs (Ye et al. 2024). Raise grow_gradient then, usually to
    8e-4. ns-train renders accordingly; the library needs RasterConfig(absgrad=True)."""
    split_above: float = 0.01
    """Size above which a Gaussian is split and not cloned."""
    prune_opacity: float = 0.005
    """Opacity below which Gaussians are removed."""
    prune_above: float = math.inf
    """Size above which Gaussians are removed once opacities have been reset; 0.1 of the extent of the cameras with
    Kerbl et al. It takes the background of captures with far walls, which comes back too late: after 8000 iterations
    0.1 cost plush 0.9 dB and fern 9.4, and 0.5 cost fern 1.0 (docs/qnn/plus.md, one seed)."""
    with_head: bool = False
    """Go on after the network's switch-on, unless that freezes the Gaussians; otherwise densification ends there at the
    latest. After a switch-on at 25 % runs that went on gained 0.304 dB over plain splatting on plush and -0.111 on fox,
    and those that did not -0.008 and -0.522 (docs/qnn/start.md, one seed)."""

    def __post_init__(self) -> None:
        _check_cap(self.max_gaussians)


@dataclass(frozen=True)
class McmcDensification:
    """Relocate the dead and sample new Gaussians by opacity (Kheradmand et al. 2024). Shares are of the run."""

    max_gaussians: int = 1_000_000
    """The most Gaussians there may be."""
    start: float = 1 / 60
    """Share after which Gaussians are relocated and added, and at least 100 steps: 500 of 30,000."""
    stop: float = 5 / 6
    """Share after which they no longer are: 25,000 of 30,000."""
    every: float = 1 / 300
    """Share between two times, and at least 50 steps: 100 of 30,000."""
    noise: float = 5e5
    """Size of the noise that moves the means in every step, as a multiple of their learning rate."""
    min_opacity: float = 0.005
    """Opacity up to which a Gaussian counts as dead."""
    opacity_weight: float = 0.01
    """Weight of the mean opacity in the loss, which holds it down."""
    scale_weight: float = 0.01
    """Weight of the mean scale in the loss, which holds it down."""
    with_head: bool = False
    """Go on after the network's switch-on, unless that freezes the Gaussians; otherwise relocation, additions and noise
    end there, with a switch-on at 75 % before their time. What either gains was not measured; for the strategy of
    qsplat see docs/qnn/start.md."""

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
