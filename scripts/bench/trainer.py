"""Steps of training on given splats, and the training of many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layer import random_layer
from measuring import WARM_UP, medians, milliseconds, peak_megabytes

if TYPE_CHECKING:
    from qsplat.cameras import Camera
    from qsplat.gaussians import Splats

LENGTH = 300
"""Steps of the run that a trainer's steps are taken from."""
DENSIFYING = 149
"""The one of them in which Gaussians are added: all that there is room for."""


class Trainer:
    """Steps of training on ``splats`` and a random photo, as ``fit()`` takes them."""

    def __init__(self, splats: Splats, camera: Camera, threads: int, *, densify_to: int | None = None) -> None:
        import torch

        from qsplat.gaussians import SH_DC, Gaussians
        from qsplat.qnn import QNN
        from qsplat.training.densification import DefaultDensification, Densifier
        from qsplat.training.optimizers import gaussian_optimizers, optimizer_for
        from qsplat.training.parameters import parameters_of
        from qsplat.training.schedule import Schedule

        assert splats.sh is not None
        self.camera, self.threads = camera, threads
        self.photo = torch.rand(camera.height, camera.width, 3, generator=torch.Generator().manual_seed(0))
        self.parameters = parameters_of(
            Gaussians(
                means=splats.means,
                log_scales=splats.scales.log(),
                quats=splats.quats,
                opacity_logits=splats.opacities.logit(),
                sh_dc=splats.sh[:, 0] / SH_DC,
                sh_rest=splats.sh[:, 1:],
            )
        )
        self.optimizers: dict[str, Any] = dict(gaussian_optimizers(self.parameters))
        self.schedule = Schedule(LENGTH, head_share=0.75)
        config = DefaultDensification(
            max_gaussians=densify_to or len(splats.means),
            stop=0.6,
            grow_gradient=0.0,
            split_above=float(splats.scales.detach().amax(dim=1).median()),
        )
        self.densifier = Densifier(config, self.schedule, num_views=1)
        self.head, self.windows = QNN(), torch.Generator().manual_seed(0)
        self.optimizers["qnn"] = optimizer_for("qnn", self.head.parameters())

    def step(self, step: int) -> None:
        """Take step number ``step`` of the schedule, with all harmonics."""
        from qsplat.render import RasterConfig
        from qsplat.training.losses import photometric_loss
        from qsplat.training.model import SplatModel
        from qsplat.training.optimizers import set_rates
        from qsplat.training.parameters import gaussians_of
        from qsplat.training.threads import share_threads

        phase = self.schedule.phase_at(step)
        share_threads(self.schedule, step, self.threads)
        model = SplatModel(
            gaussians_of(self.parameters),
            self.head if phase == "joint" else None,
            config=RasterConfig(depth=False, threads=self.threads),
        )
        width, height = self.camera.width, self.camera.height
        window = self.schedule.head_window_at(step, width=width, height=height, generator=self.windows)
        view = model.render(self.camera, head_window=window)
        photometric_loss(view.rgb, self.photo, threads=self.threads).backward()
        set_rates(self.optimizers, step, self.schedule)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.densifier.after_backward(
            self.parameters,
            self.optimizers,
            step=step,
            trace=view.trace,
            camera=self.camera,
            learning_rate=self.optimizers["means"].param_groups[0]["lr"],
        )


def training(most: int, width: int, height: int, *, threads: int, repeats: int) -> list[dict[str, Any]]:
    """A row for the splatting phase, in which the Gaussians become ``most``, and one for the joint phase after it."""
    splats, camera = random_layer(max(1, most * 9 // 10), width, height)
    trainer = Trainer(splats, camera, threads, densify_to=most)
    before = len(splats.means)
    del splats
    rows = []

    def row(phase: str, first: int, densification_ms: float | None) -> dict[str, Any]:
        times = [milliseconds(lambda step=step: trainer.step(step)) for step in range(first, first + WARM_UP + repeats)]
        return {
            "phase": phase,
            "gaussians_before": before,
            "gaussians": len(trainer.parameters["means"]),
            "width": width,
            "height": height,
            "threads": threads,
            "step_ms": medians([{"ms": time} for time in times[WARM_UP:]])["ms"],
            "densifying_step_ms": densification_ms,
            "peak_mb": peak_megabytes(),
        }

    for step in range(DENSIFYING - WARM_UP, DENSIFYING):
        trainer.step(step)
    rows.append(row("splatting", DENSIFYING + 1, round(milliseconds(lambda: trainer.step(DENSIFYING)), 3)))
    before = rows[0]["gaussians"]
    rows.append(row("joint", trainer.schedule.head_start, None))
    return rows
