"""Options of ``qsplat-plus``, and the records of qsplat that they stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from nerfstudio_plugin.model_config import SplatModelConfig
from qsplat.io.packed_photos import QUALITY, pack_photos
from qsplat.qnn import QnnConfig
from qsplat.qnn.network import Activation, Precision
from qsplat.qnn.photos import PhotoConfig
from qsplat.training.blocks import Blocks
from qsplat.training.photo_head import RATE
from qsplat.training.schedule import Schedule
from qsplat.training.unseen import UNSEEN, unseen_photos


@dataclass
class PhotoHeadOptions:
    """Options of the network that reads photos."""

    channels: int = QnnConfig.channels
    """Hidden channels; no other number was measured for this network."""
    layers: int = QnnConfig.layers
    """Convolutions; no other number was measured for this network."""
    kernel: int = QnnConfig.kernel
    """Side of a convolution in pixels, odd; with 1 the network sees each pixel alone. No other side was measured for
    this network."""
    activation: Activation = "leaky_relu"
    """Between two convolutions. leaky_relu has a slope of 0.1 below zero, so that units that are never above it still
    learn. relu was not measured for this network."""
    precision: Precision = "auto"
    """Arithmetic of the convolutions: auto takes bf16 where the processor multiplies it faster than float32."""
    start: float = 0.9
    """Share of the iterations after which the Gaussians no longer move and the network is trained. In the tables of
    docs/qnn it has 1200 iterations after two sets of 6000, 10,000 or 22,000; what other shares do was not
    measured."""
    crop_share: float = 0.1
    """Share of an image's pixels that the network sees in one training iteration, at a random place; 1 for all. No
    other share was measured for this network."""


@dataclass
class PhotoOptions:
    """Options of the photos that the run keeps, the network reads, and the sets of Gaussians are weighed by."""

    count: int = PhotoConfig.count
    """Photos that are warped into a view. On two sets of Gaussians of plush 4 gained 0.03 dB more than 8 and 16 gained
    0.05 less; on fox all gained the same (docs/qnn/trust.md, one seed)."""
    tolerance: float = PhotoConfig.tolerance
    """Disagreement of two depths, as a share of them, at which a photo is believed with a weight of 1/e. 0.03 and 0.3
    gained 0.01 dB less on plush, and 0.02 less and the same on fox (docs/qnn/trust.md, one seed)."""
    angle: float = PhotoConfig.angle
    """Angle between two lines of sight at which it is, in units of that between neighbouring photos. 0.5 and 2 gained
    0.01 to 0.03 dB less on plush and fox (docs/qnn/trust.md, one seed)."""
    fade: bool = PhotoConfig.fade
    """A photo fades out before another one takes its place. Where photos come and go at once, a film of plush flickered
    1.15 times as much as plain splatting and not 0.96, and held-out views gained 0.07 dB less; fox hardly changed
    (docs/qnn/film.md, one seed)."""
    quality: int = QUALITY
    """Quality of the photos in the checkpoint: that of JPEG, 1 to 99, or 100 for WebP, which loses nothing. 98 cost
    0.08 dB at most, 90 0.03 to 0.56 dB, most where the Gaussians lack least. Renderings without noise take fewer bytes
    with 100 than with 98 (docs/qnn/plus.md)."""
    max_side: int | None = None
    """Photos are reduced, so that no side is longer; None keeps the size of training. Smaller photos take fewer bytes
    and, in the last iterations and in rendering, less memory. With quality 90, half the size cost 0.08 dB on plush,
    0.19 on fox and 0.49 on chair (docs/qnn/plus.md, one seed)."""
    unseen: int = UNSEEN
    """Every so many-th photo is kept from the last set of Gaussians until the last tenth of its iterations: by these
    photos, which it does not know by heart until then, the run tells how far to believe the others, and whether that
    helps. With 0, with a single set, or where fewer than 4 photos would be kept, all sets see all photos and the
    network alone decides. With 0 plush gained 0.25 dB less, fox 0.26 and chair 0.20 (docs/qnn/seen.md, one seed). With
    4, fern, which keeps none with 8, gained 0.32 dB and not 0.39 (docs/qnn/plus.md, one seed)."""

    def config(self) -> PhotoConfig:
        """How photos are chosen and trusted."""
        return PhotoConfig(count=self.count, tolerance=self.tolerance, angle=self.angle, fade=self.fade)


@dataclass
class PlusModelConfig(SplatModelConfig):
    """Options of the model of ``qsplat-plus``."""

    _target: type = field(default_factory=lambda: _model_type())
    qnn: tyro.conf.Suppress[tyro.conf.Fixed[Literal["residual", "none"]]] = "residual"
    """There is a network in any case."""
    qnn_options: Annotated[PhotoHeadOptions, tyro.conf.arg(name="qnn")] = field(default_factory=PhotoHeadOptions)
    """The network's size, arithmetic and time."""
    sets: int = 2
    """Sets of Gaussians, each trained in an equal part of the iterations before the network is switched on. Their mean
    is shown, in which each counts at a pixel as far as photos agree with it. Without photos and network, the mean of
    two gained 0.43 dB over one on plush, 0.81 on fox, 0.43 on fern and 0.38 on chair, for twice the time
    (docs/qnn/every8.md, three seeds); more than two were not measured. With one, photos
    gained 0.14, 0.22, 0.05 and 0.94 dB on these (docs/qnn/seen.md, one seed)."""
    photos: PhotoOptions = field(default_factory=PhotoOptions)
    """The photos that the network reads."""

    def schedule(self, iterations: int) -> Schedule:
        """The plan of a run of ``iterations``, of which ``blocks`` says what the sets of Gaussians make."""
        return Schedule(
            iterations,
            sh_degree=self.sh_degree,
            downscales=self.num_downscales,
            head_share=self.qnn_options.start,
            mode="frozen",
            crop_share=self.qnn_options.crop_share,
            head_rate=RATE,
        )

    def first_plan(self, iterations: int) -> Schedule:
        """The plan of the first set of Gaussians."""
        return self.blocks(self.schedule(iterations)).plan_at(0)

    def blocks(self, schedule: Schedule) -> Blocks:
        """When each set of Gaussians is trained in a run of ``schedule``."""
        return Blocks(schedule, self.sets)

    def network(self) -> QnnConfig:
        """The network that reads photos."""
        options = self.qnn_options
        return QnnConfig(
            layers=options.layers,
            channels=options.channels,
            kernel=options.kernel,
            precision=options.precision,
            activation=options.activation,
        )

    def check(self, iterations: int, *, resumed: bool) -> None:
        """As the model without photos, and that everything fits them.

        Raises:
            ValueError: an option has a value that it cannot have.
        """
        super().check(iterations, resumed=resumed)
        self.photos.config()
        unseen_photos(0, self.photos.unseen)
        pack_photos([], max_side=self.photos.max_side, quality=self.photos.quality)
        if self.background_color == "random":
            raise ValueError(
                "--pipeline.model.background-color random: photos are kept over one colour; give auto, black or white"
            )
        if self.use_bilateral_grid:
            raise ValueError(
                "--pipeline.model.use-bilateral-grid True: photos are compared as they are; leave it out, or use qsplat"
            )
        if self.camera_optimizer.mode != "off":
            raise ValueError(
                f"--pipeline.model.camera-optimizer.mode {self.camera_optimizer.mode}: all sets of Gaussians and the "
                "photos need the same poses; leave it off, or use qsplat"
            )


def _model_type() -> type:
    from nerfstudio_plugin.plus_model import QsplatPlusModel

    return QsplatPlusModel
