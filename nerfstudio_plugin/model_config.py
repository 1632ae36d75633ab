"""Options of the model, and the records of qsplat that they stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.models.base_model import ModelConfig

from qsplat.qnn import QnnConfig
from qsplat.qnn.network import Precision
from qsplat.render import Backend, RasterConfig
from qsplat.training.densification import DefaultDensification, McmcDensification
from qsplat.training.schedule import Schedule


@dataclass
class QnnOptions:
    """Options of the residual network."""

    channels: int = 64
    """Hidden channels."""
    layers: int = 4
    """Convolutions."""
    kernel: int = 3
    """Side of a convolution in pixels, odd."""
    precision: Precision = "auto"
    """Arithmetic of the convolutions: auto takes bf16 where the processor has instructions for it."""
    start: float = 0.75
    """Share of the iterations after which the network is switched on and trained together with the Gaussians."""
    crop_share: float = Schedule.crop_share
    """Share of an image's pixels that the network sees in one training iteration, at a random place; 1 for all of them.
    The Gaussians always see the whole image. Crops are for CPUs, where a network on whole images makes an iteration 6
    to 8 times as long; in runs of 2000 iterations a network that was trained on crops gained nothing that could be
    measured (docs/performance.md)."""


@dataclass
class SplatModelConfig(ModelConfig):
    """Options of qsplat's model."""

    _target: type = field(default_factory=lambda: _model_type())
    qnn: Literal["residual", "none"] = "residual"
    """The network on top of the rendered image: its output is added to it, or there is none (plain splatting)."""
    qnn_options: Annotated[QnnOptions, tyro.conf.arg(name="qnn")] = field(default_factory=QnnOptions)
    """The network's size, arithmetic and time."""
    densification: Annotated[DefaultDensification | McmcDensification, tyro.conf.AvoidSubcommands] = field(
        default_factory=DefaultDensification
    )
    """Where Gaussians are added and removed, and how many there may be."""
    sh_degree: int = 3
    """Highest degree of the spherical harmonics, 0 to 3."""
    num_downscales: int = 0
    """How many times the image size is halved at the start; undone after each tenth of the iterations."""
    ssim_lambda: float = 0.2
    """Share of D-SSIM in the loss, the rest being L1."""
    background_color: Literal["auto", "random", "black", "white"] = "auto"
    """Behind the Gaussians. auto: white for photos with alpha, the dataparser's colour where it composited them, black
    for other photos. random: another colour in each iteration."""
    backend: Literal["auto", "reference", "cpu", "cuda"] = "auto"
    """What draws the Gaussians. auto: the kernels for the device. reference: the specification, which runs anywhere and
    is very slow."""
    rasterize_mode: Literal["classic", "antialiased"] = "classic"
    """antialiased keeps the opacity of Gaussians smaller than a pixel right (Mip-Splatting)."""
    camera_optimizer: CameraOptimizerConfig = field(default_factory=lambda: CameraOptimizerConfig(mode="off"))
    """Correction of the training poses."""
    use_bilateral_grid: bool = False
    """Explain differences in exposure and colour between photos by a bilateral grid for each, applied in training."""
    grid_shape: tuple[int, int, int] = (16, 16, 8)
    """Shape (X, Y, W) of the bilateral grids."""
    color_corrected_metrics: bool = False
    """Also report PSNR after an affine colour correction, as is usual with bilateral grids."""

    def schedule(self, iterations: int) -> Schedule:
        """The plan of a run of ``iterations``."""
        return Schedule(
            iterations,
            sh_degree=self.sh_degree,
            downscales=self.num_downscales,
            head_share=self.qnn_options.start if self.qnn != "none" else 1.0,
            crop_share=self.qnn_options.crop_share,
        )

    def network(self) -> QnnConfig | None:
        """The residual network, None for plain splatting."""
        if self.qnn == "none":
            return None
        options = self.qnn_options
        return QnnConfig(
            layers=options.layers, channels=options.channels, kernel=options.kernel, precision=options.precision
        )

    @property
    def rasterizer(self) -> Backend | None:
        """The backend that is asked for, None for the device's own."""
        return None if self.backend == "auto" else self.backend

    def raster(self, *, depth: bool, threads: int | None) -> RasterConfig:
        """The rasterizer's thresholds, what it has to return besides the image, and its threads on a CPU."""
        absgrad = isinstance(self.densification, DefaultDensification) and self.densification.absolute_gradient
        return RasterConfig(
            antialiased=self.rasterize_mode == "antialiased", depth=depth, absgrad=absgrad, threads=threads
        )


def _model_type() -> type:
    from nerfstudio_plugin.splat_model import QsplatModel

    return QsplatModel
