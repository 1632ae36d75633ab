"""What a training is made from: a scene and how to train on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from qsplat.qnn import QnnConfig
from qsplat.render import Backend, RasterConfig
from qsplat.training.averaging import check_average_share
from qsplat.training.densification import DefaultDensification, Densification
from qsplat.training.schedule import Schedule
from qsplat.training.targets import TrainingView


@runtime_checkable
class Points(Protocol):
    """Sparse points in the world and their RGB in [0, 1]."""

    @property
    def positions(self) -> Float[Tensor, "n 3"]: ...
    @property
    def colors(self) -> Float[Tensor, "n 3"]: ...


@runtime_checkable
class TrainingScene(Protocol):
    """What training needs to know about a scene."""

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
        average_share: share of the iterations, the last ones, over which the Gaussians are averaged; 0 leaves them as
            the last step did.
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
    average_share: float = 0.0
    background: tuple[float, float, float] | None = None
    random_background: bool = False
    raster: RasterConfig = field(default_factory=RasterConfig)
    backend: Backend | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds={self.seeds}: a scene without points needs at least 1 to start from")
        if self.schedule.drawn == "crop" and self.densification is not None and self.densification.with_head:
            raise ValueError(
                "drawn='crop' with densification.with_head: only whole images show where Gaussians are missing; leave "
                "one of them out"
            )
        check_average_share(self.average_share, self.schedule.with_head(self.head), self.densification)
