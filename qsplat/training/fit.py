"""The light training loop: photos in, a model out. Front ends have loops of their own and call the same rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.gaussians import Gaussians, seed_from_points
from qsplat.qnn import QNN, QnnConfig
from qsplat.render import Backend, RasterConfig
from qsplat.training.densification import DefaultDensification, Densification, Densifier, regularization
from qsplat.training.losses import photometric_loss
from qsplat.training.memory import keep_freed_memory
from qsplat.training.model import SplatModel, ViewOutputs
from qsplat.training.optimizers import gaussian_optimizers, optimizer_for, set_rates
from qsplat.training.parameters import gaussians_of, parameters_of
from qsplat.training.schedule import Phase, Schedule
from qsplat.training.seeding import seed_in_view
from qsplat.training.targets import Target, TrainingView
from qsplat.training.threads import share_threads


@runtime_checkable
class Points(Protocol):
    """Sparse points in the world and their RGB in [0, 1]."""

    @property
    def positions(self) -> Float[Tensor, "n 3"]: ...
    @property
    def colors(self) -> Float[Tensor, "n 3"]: ...


@runtime_checkable
class TrainingScene(Protocol):
    """What ``fit`` needs to know about a scene."""

    @property
    def train(self) -> Sequence[TrainingView]: ...
    @property
    def points(self) -> Points | None: ...


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    Args:
        schedule: the plan of the run.
        densification: None keeps the Gaussians that the run starts with.
        head: None trains Gaussians alone.
        seed: of everything random. The same seed gives the same result on the same machine.
        seeds: number of points to start from where the scene has none.
        ssim_weight: share of D-SSIM in the loss.
        background: RGB behind the Gaussians; None is white for photos with alpha and black for others.
        random_background: composite photos that have alpha over a new random colour at each step.
        raster: thresholds of the rasterizer.
        backend: of the rasterizer; None follows ``device``.
        device: where to train.
    """

    schedule: Schedule = field(default_factory=lambda: Schedule(2000))
    densification: Densification | None = field(default_factory=DefaultDensification)
    head: QnnConfig | None = field(default_factory=QnnConfig)
    seed: int = 0
    seeds: int = 10_000
    ssim_weight: float = 0.2
    background: tuple[float, float, float] | None = None
    random_background: bool = False
    raster: RasterConfig = field(default_factory=RasterConfig)
    backend: Backend | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds={self.seeds}: a scene without points needs at least 1 to start from")


@dataclass(frozen=True)
class StepRecord:
    """One step: its loss, the PSNR in dB of its training view, and the seconds since the run began."""

    step: int
    loss: float
    psnr: float
    num_gaussians: int
    phase: Phase
    seconds: float


@dataclass(frozen=True)
class Fitted:
    """A finished run: the model without gradients, about a hundred records along the way, and its duration."""

    model: SplatModel
    history: tuple[StepRecord, ...]
    seconds: float


def fit(
    scene: TrainingScene, config: FitConfig | None = None, *, on_step: Callable[[StepRecord], None] | None = None
) -> Fitted:
    """Train on the views of ``scene``, one at a time in shuffled epochs.

    ``on_step`` is called after every step. The random state of the caller is left as it was. On a CPU, the process
    keeps the memory that it frees from now on (``memory.keep_freed_memory``).

    Raises:
        ValueError: the scene has no training views, or nothing to start from.
    """
    config = config or FitConfig()
    if not scene.train:
        raise ValueError("the scene has 0 training views: training needs at least one")
    if config.device == "cpu":
        keep_freed_memory()
    threads = torch.get_num_threads()
    devices = [torch.device(config.device)] if config.device != "cpu" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        run = _Run(scene, config)
        # Once more, so that the steps before the head's switch-on are the same with a head as without.
        torch.manual_seed(config.seed)
        try:
            return run.finish(on_step)
        finally:
            torch.set_num_threads(threads)


class _Run:
    """The moving parts of one training."""

    def __init__(self, scene: TrainingScene, config: FitConfig) -> None:
        self.began = time.perf_counter()
        self.scene, self.config = scene, config
        self.schedule = config.schedule if config.head else replace(config.schedule, head_share=1.0)
        generator = torch.Generator().manual_seed(config.seed)
        self.crops = torch.Generator().manual_seed(config.seed)
        gaussians = initial_gaussians(
            scene.points or seed_in_view(scene.train, config.seeds, generator=generator),
            max_gaussians=config.densification.max_gaussians if config.densification else None,
            sh_degree=config.schedule.sh_degree,
            generator=generator,
        )
        self.parameters = parameters_of(gaussians.to(config.device))
        self.optimizers = gaussian_optimizers(self.parameters)
        self.head = QNN(config.head).to(config.device) if config.head else None
        if self.head is not None:
            self.optimizers["qnn"] = optimizer_for("qnn", self.head.parameters())
        self.densifier = (
            Densifier(config.densification, self.schedule, num_views=len(scene.train)) if config.densification else None
        )
        transparent = any(view.alpha is not None for view in scene.train)
        color = config.background or ((1.0, 1.0, 1.0) if transparent else (0.0, 0.0, 0.0))
        self.background = torch.tensor(color, device=config.device)
        self.threads = config.raster.threads or torch.get_num_threads()
        self.raster = replace(config.raster, depth=False, threads=self.threads)

    def finish(self, on_step: Callable[[StepRecord], None] | None) -> Fitted:
        history: list[StepRecord] = []
        order = _shuffled_epochs(len(self.scene.train))
        targets: dict[tuple[int, int], Target] = {}
        keep_every = max(1, self.schedule.iterations // 100)
        for step in range(self.schedule.iterations):
            key = next(order), self.schedule.downscale_at(step)
            if key not in targets:
                targets[key] = Target.of(self.scene.train[key[0]], key[1], self.config.device)
            target = targets[key]
            share_threads(self.schedule.phase_at(step), self.threads)
            loss, image, photo = self.step(step, target)
            kept = step % keep_every == 0 or step + 1 == self.schedule.iterations
            if kept or on_step is not None:
                record = StepRecord(
                    step=step,
                    loss=float(loss),
                    psnr=float(_psnr(image, photo, target.mask)),
                    num_gaussians=len(self.parameters["means"]),
                    phase=self.schedule.phase_at(step),
                    seconds=time.perf_counter() - self.began,
                )
                history += [record] if kept else []
                if on_step is not None:
                    on_step(record)
        return Fitted(model=self.model(), history=tuple(history), seconds=time.perf_counter() - self.began)

    def step(self, step: int, target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """Move every parameter once; the loss before that, the image and the photo."""
        background = self.background
        if self.config.random_background and target.alpha is not None:
            background = torch.rand(3, device=background.device)
        gaussians = gaussians_of(self.parameters)
        joint = self.schedule.phase_at(step) == "joint"
        model = SplatModel(gaussians, self.head if joint else None, background, self.raster)
        camera = target.camera
        view = model.render(
            camera,
            sh_degree=self.schedule.sh_degree_at(step),
            backend=self.config.backend,
            head_window=self.schedule.head_window_at(
                step, width=camera.view.width, height=camera.view.height, generator=self.crops
            ),
        )
        photo = target.over(background)
        loss = photometric_loss(
            view.rgb, photo, ssim_weight=self.config.ssim_weight, mask=target.mask, threads=self.threads
        )
        (loss + regularization(gaussians, self.config.densification)).backward()
        self.move(step, view, camera)
        return loss.detach(), view.rgb.detach(), photo

    def move(self, step: int, view: ViewOutputs, camera: Camera) -> None:
        """Let the optimisers and the densifier act on the gradients of ``view``."""
        set_rates(self.optimizers, step, self.schedule)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.densifier is not None:
            self.densifier.after_backward(
                self.parameters,
                self.optimizers,
                step=step,
                trace=view.trace,
                camera=camera,
                learning_rate=self.optimizers["means"].param_groups[0]["lr"],
            )

    def model(self) -> SplatModel:
        """The model as it is, without gradients."""
        gaussians = gaussians_of({name: value.detach() for name, value in self.parameters.items()})
        head = self.head.eval().requires_grad_(False) if self.head is not None else None
        return SplatModel(gaussians, head, self.background, self.config.raster)


def initial_gaussians(
    points: Points, *, max_gaussians: int | None, sh_degree: int, generator: torch.Generator
) -> Gaussians:
    """Gaussians at ``points``; at most half of the cap that densification keeps to, at random, so that it has room."""
    positions, colors = points.positions, points.colors
    if max_gaussians is not None and len(positions) > (most := max(1, max_gaussians // 2)):
        kept = torch.randperm(len(positions), generator=generator)[:most].sort().values
        positions, colors = positions[kept], colors[kept]
    return seed_from_points(positions, colors, sh_degree=sh_degree, generator=generator)


def _shuffled_epochs(count: int) -> Iterator[int]:
    """Indices below ``count`` without end, each once per epoch, in a new random order each time."""
    while True:
        yield from torch.randperm(count).tolist()


def _psnr(
    prediction: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"], mask: Bool[Tensor, "h w"] | None
) -> Float[Tensor, ""]:
    """PSNR in dB of images in [0, 1] where ``mask`` is True."""
    squared = (prediction.clamp(0, 1) - target).square()
    if mask is not None:
        squared = squared[mask]
    return -10 * torch.log10(squared.mean())
