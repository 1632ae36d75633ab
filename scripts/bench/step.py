"""A step of training taken apart, so that each part can be timed on the device where it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from device import Stopwatch
from measuring import Times, medians
from training import Kind

if TYPE_CHECKING:
    from qsplat.training.fit import FitConfig

WARM_UP = 3
"""Steps that do not count."""


@dataclass(frozen=True)
class Training(Kind):
    """Runs of ``fit()`` on ``device``."""

    device: str = "cuda"

    @property
    def config(self) -> FitConfig:
        """How to train."""
        return replace(super().config, device=self.device)

    def parts(self, phase: str) -> Times:
        """Median milliseconds of the parts of a step of ``phase``."""
        step = Step(self, joint=phase == "joint")
        return medians([step.take() for _ in range(WARM_UP + self.iterations)][WARM_UP:])


class Step:
    """The step: each part begins with what the one before it made, as leaves of the graph."""

    def __init__(self, training: Training, *, joint: bool) -> None:
        import torch

        from qsplat.qnn import QNN
        from qsplat.render import RasterConfig
        from qsplat.training.optimizers import gaussian_optimizers, optimizer_for
        from qsplat.training.parameters import parameters_of
        from qsplat.training.targets import Target
        from qsplat.training.training import initial_gaussians

        self.config, self.device = training.config, training.device
        self.generator = torch.Generator().manual_seed(self.config.seed)
        points = training.scene.points
        assert points is not None
        start = initial_gaussians(points, max_gaussians=None, sh_degree=3, generator=self.generator)
        self.parameters = parameters_of(start.to(self.device))
        self.optimizers = gaussian_optimizers(self.parameters)
        self.head = QNN(self.config.head).to(self.device) if joint else None
        if self.head is not None:
            self.optimizers["qnn"] = optimizer_for("qnn", self.head.parameters())
        self.target = Target.of(training.scene.train[0], 1, self.device)
        self.background = torch.zeros(3, device=self.device)
        self.raster = RasterConfig(depth=False)

    def take(self) -> Times:
        """Move every parameter once."""
        from qsplat.qnn import part_queries, window_residual
        from qsplat.training.losses import photometric_loss
        from qsplat.training.model import SplatModel
        from qsplat.training.parameters import gaussians_of

        camera, schedule = self.target.camera, self.config.schedule
        window = schedule.head_window_at(
            schedule.head_start, width=camera.view.width, height=camera.view.height, generator=self.generator
        )
        model = SplatModel(gaussians_of(self.parameters), None, self.background, self.raster)
        watch = Stopwatch(self.device)
        drawn = model.render(camera).rgb
        watch.mark("rendering")
        base = drawn.detach().requires_grad_()
        image = base
        if self.head is not None:
            assert self.head.queries is not None
            queries = part_queries(self.head.queries, camera)
            image = base + window_residual(self.head, base, queries, window or camera.view)
            watch.mark("head")
        seen = image.detach().requires_grad_()
        loss = photometric_loss(seen, self.target.image)
        watch.mark("loss")
        loss.backward()
        watch.mark("loss backward")
        gradient = seen.grad
        if self.head is not None:
            image.backward(seen.grad)
            watch.mark("head backward")
            gradient = base.grad
        drawn.backward(gradient)
        watch.mark("rendering backward")
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        watch.mark("optimisers")
        return watch.times()
