"""The light training loop of radiance fields: photos in, a model out. Front ends call the same rules."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.fields.frequencies import with_seed
from qsplat.fields.model import FieldModel, Marched
from qsplat.fields.nerf import FieldConfig
from qsplat.fields.region import Region, region_of
from qsplat.training.adam import Adam
from qsplat.training.config import TrainingScene
from qsplat.training.memory import keep_freed_memory
from qsplat.training.optimizers import Rate
from qsplat.training.randomness import Randomness
from qsplat.training.rays import RayPool
from qsplat.training.schedule import Schedule
from qsplat.training.seeding import focus_point
from qsplat.training.targets import TrainingView


@dataclass(frozen=True)
class FieldFitConfig:
    """How to train a field. The defaults are NeRF's but for what ``field_presets``, which has others, names as ours.

    Args:
        field: the network and its sampling.
        iterations: length of the run.
        rays: of each step, from all photos.
        rate: of Adam over the run.
        seed: of everything random. The same seed gives the same result on the same machine.
        background: RGB behind the field; None is white for photos with alpha and black for others.
        device: where to train.

    Raises:
        ValueError: no iterations, or no rays.
    """

    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    iterations: int = 200_000
    rays: int = 1024
    rate: Rate = dataclasses.field(default_factory=lambda: Rate(5e-4, 5e-5, "exponential"))
    seed: int = 0
    background: tuple[float, float, float] | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.rays < 1:
            raise ValueError(f"iterations={self.iterations}, rays={self.rays}: a run has at least 1 of each")


@dataclass(frozen=True)
class FieldStep:
    """One step: its loss, the PSNR in dB of its rays, and the seconds of training since the run began."""

    step: int
    loss: float
    psnr: float
    seconds: float


@dataclass(frozen=True)
class FittedField:
    """A finished run: the model without gradients, about a hundred records along the way, and its duration."""

    model: FieldModel
    history: tuple[FieldStep, ...]
    seconds: float


class FieldTraining:
    """A training of a field on random rays of all views of a scene, step by step.

    ``step`` is the next step to take, ``history`` holds about a hundred records along the way, ``seconds`` is the time
    spent so far. The caller's random state is left as it was. On a CPU, the process keeps the memory that it frees from
    now on (``memory.keep_freed_memory``).
    """

    def __init__(self, scene: TrainingScene, config: FieldFitConfig | None = None) -> None:
        """Begin.

        Raises:
            ValueError: the scene has no training views, or their masks leave no pixel.
        """
        began = time.perf_counter()
        self.config = config = config or FieldFitConfig()
        if config.device == "cpu":
            keep_freed_memory()
        background = torch.tensor(config.background or default_background(scene.train))
        self._pool = RayPool.of(scene.train, background, device=config.device)
        self._random = Randomness(config.seed, config.device)
        with self._random.in_use():
            chosen = replace(config.field, frequencies=with_seed(config.field.frequencies, config.seed))
            self._model = FieldModel(chosen, region_for(scene), background).to(config.device)
        self._optimizer = Adam(list(self._model.parameters()), lr=config.rate.initial, fused=True)
        self.step, self.history = 0, list[FieldStep]()
        self.seconds = time.perf_counter() - began

    def plan(self, iterations: int) -> None:
        """Go on as a run of ``iterations`` steps, whose rate is that of its length.

        Raises:
            ValueError: more steps were taken already.
        """
        if iterations < self.step:
            raise ValueError(f"iterations={iterations}: the training stands at step {self.step}; give a longer run")
        self.config = replace(self.config, iterations=iterations)

    def advance(self, until: int | None = None, on_step: Callable[[FieldStep], None] | None = None) -> None:
        """Take the steps from ``step`` up to, not including, ``until`` (the end of the run when None).

        ``on_step`` is called after every step.

        Raises:
            ValueError: ``until`` lies behind, or beyond the end of the run.
        """
        iterations, began = self.config.iterations, time.perf_counter() - self.seconds
        until = iterations if until is None else until
        if not self.step <= until <= iterations:
            raise ValueError(
                f"until={until}: the training stands at step {self.step} of {iterations}; give one between them"
            )
        with self._random.in_use():
            while self.step < until:
                record = _take(self.step, self._model, self._pool, self._optimizer, self.config)
                record = replace(record, seconds=time.perf_counter() - began)
                if self.step % max(1, iterations // 100) == 0 or self.step + 1 == iterations:
                    self.history.append(record)
                self.step += 1
                if on_step is not None:
                    on_step(record)
        self.seconds = time.perf_counter() - began

    def model(self) -> FieldModel:
        """A copy of the model as it is now, without gradients."""
        return copy.deepcopy(self._model).eval().requires_grad_(False)


def fit_field(
    scene: TrainingScene, config: FieldFitConfig | None = None, *, on_step: Callable[[FieldStep], None] | None = None
) -> FittedField:
    """Train a field on the views of ``scene`` from the beginning to the end of the run.

    ``on_step`` is called after every step. ``FieldTraining`` does the same in parts.

    Raises:
        ValueError: the scene has no training views, or their masks leave no pixel.
    """
    training = FieldTraining(scene, config)
    training.advance(on_step=on_step)
    return FittedField(training.model(), tuple(training.history), training.seconds)


def field_loss(marched: Marched, photo: Float[Tensor, "r 3"], background: Float[Tensor, "3"]) -> Float[Tensor, ""]:
    """The mean squared error of what is seen over ``background``, that of the coarse pass added to it if there is one.

    Source: Mildenhall et al. 2020, equation 6.
    """
    loss = (marched.fine.over(background) - photo).square().mean()
    if marched.coarse is None:
        return loss
    return loss + (marched.coarse.over(background) - photo).square().mean()


def region_for(scene: TrainingScene) -> Region:
    """The region that the views of ``scene`` show: a box where all photos have alpha, everything otherwise."""
    cameras = [view.camera for view in scene.train]
    bounded = all(view.alpha is not None for view in scene.train)
    points = None if scene.points is None else scene.points.positions
    return region_of(cameras, focus_point(cameras), bounded=bounded, points=points)


def default_background(views: Sequence[TrainingView]) -> tuple[float, float, float]:
    """White for photos with alpha and black for others."""
    return (1.0, 1.0, 1.0) if any(view.alpha is not None for view in views) else (0.0, 0.0, 0.0)


def _take(step: int, model: FieldModel, pool: RayPool, optimizer: Adam, config: FieldFitConfig) -> FieldStep:
    """Move every parameter once; how it was before that."""
    for group in optimizer.param_groups:
        group["lr"] = config.rate.at(step, Schedule(config.iterations))
    rays, photo = pool.sample(config.rays)
    marched = model.march(rays, jitter=True)
    loss = field_loss(marched, photo, model.background)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.after_step(step)
    error = (marched.fine.over(model.background).detach().clamp(0, 1) - photo).square().mean()
    psnr = float(-10 * torch.log10(error))
    return FieldStep(step, float(loss.detach()), psnr, seconds=0.0)
