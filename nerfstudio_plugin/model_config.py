"""Options of the model, and the records of qsplat that they stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.models.base_model import ModelConfig
from nerfstudio.utils.rich_utils import CONSOLE

from qsplat.encodings import Encoding, Fourier, Identity, Positional
from qsplat.frequency_tokens import Tokens
from qsplat.precision import Precision
from qsplat.qnn import QnnConfig
from qsplat.qnn.convolutions import CFConv, Convolution, FDConv, Standard
from qsplat.qnn.network import Activation, Architecture, Input
from qsplat.qnn.queries import QueryKind
from qsplat.render import Backend, RasterConfig
from qsplat.training.averaging import check_average_share
from qsplat.training.densification import DefaultDensification, McmcDensification
from qsplat.training.schedule import Decay, HeadMode, Schedule


@dataclass
class QnnOptions:
    """Options of the residual network."""

    channels: int = QnnConfig.channels
    """Hidden channels. 16, 32, 64 and 128 gained the same on finished Gaussians of plush, fox, fern and chair, within
    0.01 dB (docs/qnn/finished.md, one seed)."""
    architecture: Architecture = QnnConfig.architecture
    """cnn: convolutions. rffca: one convolution, after which each pixel attends to waves of its queries; on a CPU it
    takes 8 to 9 times as long on crops, and 12 times to show a whole image. In short runs on fox and plush it was not
    better than cnn beyond chance, and 0.28 dB worse in the same time (docs/experiments.md)."""
    sigma: float = Tokens.sigma
    """Of rffca: the lowest waves have a standard deviation of 1/sigma radians per unit, and those of the top octave 8
    times as much; an image or a scene is two units wide. Here no other value was measured."""
    layers: int = QnnConfig.layers
    """Convolutions, or blocks of attention. On finished Gaussians 2 convolutions gained more than 4 on plush (0.02 dB)
    and fox (0.01), and less on fern (0.01); 3, 5 and 6 gained the same, within 0.005 dB (docs/qnn/finished.md, one
    seed). Other numbers of blocks were not measured."""
    kernel: int = QnnConfig.kernel
    """Side of a convolution in pixels, odd; with 1 the network sees each pixel alone. 1, 3 and 5 gained the same on
    finished Gaussians of plush, fox, fern and chair, within 0.01 dB (docs/qnn/finished.md, one seed). Jointly on whole
    images 1 gained 0.19 dB and 3 0.15 on plush (three seeds, each more), in 0.6 times the time, and 0.02 and 0.13 on
    chair (one seed; docs/qnn/whole.md)."""
    activation: Activation = QnnConfig.activation
    """Between two convolutions. leaky_relu has a slope of 0.1 below zero, so that units that are never above it still
    learn. With relu 12 % of the units never were on finished Gaussians of plush, 17 % on fern, 19 % on fox and 22 % on
    chair (docs/qnn/finished.md, one seed), and after 10,000 steps 8 % on fern to 37 % on chair (docs/qnn/posthoc.md,
    three seeds). On plush and fox both gained the same, within 0.01 dB. At a rate of 1e-3 relu left 36 and 39 % dead,
    leaky_relu 10 and 1 %, for 0.01 dB more on plush."""
    convolution: Literal["standard", "fdconv", "cfconv"] = "standard"
    """What the convolutions between the first and the last are. fdconv: the kernel follows the image, frequency by
    frequency; whole images only. cfconv: large kernels, whose spectrum one small network gives. In short runs on fox
    and plush neither was better than standard beyond chance, for 3 and 10 times its time (docs/experiments.md)."""
    fdconv_groups: int = FDConv.groups
    """Groups of frequencies that an image weighs in the kernel of fdconv. A network that learnt what enlarged photos
    lack gained 0.05 dB more with 4 than with 1, and the same with 64 (docs/experiments.md); on Gaussians no other
    number was measured."""
    cfconv_grid: int = CFConv.grid
    """Side of the kernels of cfconv in pixels, even; as many frequencies bound its memory. No other side was measured
    on Gaussians."""
    cfconv_samples: int = CFConv.samples
    """Values of a kernel's spectrum that cfconv computes anew in an iteration, at random. A network that classified
    digits was better with 4096 than with 512, and with 32,768 no better than that beyond chance (docs/experiments.md);
    on Gaussians no other number was measured."""
    precision: Precision = "auto"
    """Arithmetic of the convolutions: auto takes bf16 where the processor multiplies it faster than float32. On
    finished Gaussians of plush and fox both gained the same, within 0.01 dB (docs/qnn/inputs.md, three seeds)."""
    input: Input = QnnConfig.input
    """What the network sees: the rendered image, the queries, or both. Its output is added to the rendered image in any
    case. On finished Gaussians of plush the queries alone and both gained 0.04 dB and the image alone 0.01, on those
    of fox none more than 0.004 (docs/qnn/inputs.md, three seeds), and on those of fern and chair nothing
    (docs/qnn/finished.md, one seed). A network that was trained jointly on whole images gained 0.15 dB on plush and
    0.10 on chair with both, and 0.04 and 0.21 with the image alone (docs/qnn/whole.md, three seeds); with the queries
    alone it gained 0.11 on plush, a view of haze aside, and nothing on chair (docs/qnn/faithful.md, one seed)."""
    query: QueryKind = QnnConfig.query
    """What the network is told about a pixel. pixels: where it is in the image. locations: where its surface is in the
    scene, by the rendered depth. rays: from where and in which direction it looks.
    On finished Gaussians pixels were best on plush (0.02 dB) and rays on fox (0.025), and on fern and chair none gained
    (docs/qnn/finished.md, one seed). In short runs on fern rays gained 0.03 dB more than pixels, and locations the
    same (docs/experiments.md). Jointly on whole images locations gained 0.02 dB on plush, a view of haze aside, where
    pixels gained 0.05 to 0.08, and 0.05 on chair instead of 0.13 (docs/qnn/faithful.md, one seed)."""
    encoding: Literal["identity", "positional", "fourier"] = "identity"
    """How the queries are written. identity: as they are. positional: with sines and cosines of doubling frequencies,
    as in NeRF. fourier: as cosines and sines of random frequencies. On finished Gaussians of plush identity and
    positional gained 0.04 dB, and fourier of scale 1 gained 0.03; on those of fox none gained more than 0.003
    (docs/qnn/inputs.md, three seeds), and on those of fern and chair none more than 0.005 (docs/qnn/finished.md, one
    seed). Jointly on whole images of plush fourier of scale 1 gained 0.17 and identity 0.16 (docs/qnn/whole.md, one
    seed)."""
    octaves: int = Positional.octaves
    """Frequencies of the positional encoding, each twice the one before. What encoding says was measured with 10, and
    no other number was."""
    fourier_features: int = Fourier.features
    """Random frequencies of the Fourier encoding; each adds two channels to what the network sees. What fourier-scale
    says was measured with 64, and no other number was."""
    fourier_scale: float = Fourier.scale
    """Standard deviation of those frequencies, in cycles per unit; an image or a scene is two units wide. 10 is the
    paper's, as far as known. On finished Gaussians of 22,000 iterations 1 gained 0.03 dB on plush, by which seeds
    differ, and nothing on fox (docs/qnn/inputs.md, three seeds); on those of 10,000 1 gained 0.076 and 10 gained 0.016
    on plush, and neither more than 0.005 on fox and fern (docs/qnn/finished.md, one seed)."""
    mode: HeadMode = Schedule.mode
    """What the Gaussians do once the network is switched on. joint: they are trained by the loss of the corrected
    image, together with the network. detached: they go on as if there were no network, which learns from their images.
    frozen: they no longer move, and until then the rate of their places has fallen to its end; their images are drawn
    once and kept, and the network alone learns. joint and detached gained the same on plush and fox in the last 1500 of
    10,000 iterations, within 0.03 dB (docs/qnn/start.md, one seed). On Gaussians that were finished and then frozen,
    10,000 steps gained 0.034 dB on plush, -0.004 on fox, -0.007 on fern and 0.001 on chair (docs/qnn/posthoc.md, three
    seeds)."""
    start: float = Schedule.head_share
    """Share of the iterations after which the network is switched on. Joint runs on plush and fox that were switched on
    at 50, 75, 85 and 90 % of 10,000 gained -0.07 to 0.07 dB (docs/qnn/start.md, one seed), and those from 0 on differed
    as runs of different seeds do (the same, three seeds). A switch-on before densification.stop ends densification,
    which can cost more: see densification.with-head."""
    crop_share: float | None = Schedule.crop_share
    """Share of an image's pixels that the network sees in one training iteration, at a random place; 1 for all of them;
    None for 0.01, or 0.16 on frozen Gaussians. Gaussians that learn always see the whole image. Crops are for CPUs,
    where a network on whole images makes an iteration 6 to 8 times as long. A network that was trained jointly on crops
    gained nothing that could be told from noise. In the last 2500 of 10,000 iterations one on whole images gained 0.15
    dB on plush, 0.10 on chair and nothing on fox and fern, for 2.5 to 3.2 times the time of the run in float32
    (docs/qnn/whole.md, three seeds), and in the last 2500 of 22,000 0.05 dB on plush and nothing on chair (one seed).
    On finished Gaussians of plush whole images gained 0.028 dB and crops of 0.16 gained 0.023; on those of fox neither
    gained (docs/qnn/finished.md, one seed)."""
    rate: float = Schedule.head_rate
    """Learning rate of the network at its switch-on. On finished Gaussians of plush and fox 1e-4 and 3e-4 gained the
    same within 0.01 dB; 1e-3 gained 0.02 dB less on plush, with over a third of the units dead on both
    (docs/qnn/finished.md, one seed)."""
    decay: Decay = Schedule.head_decay
    """How the learning rate goes on: by a cosine to 0 at the end of the run, or constant. At 1e-3 a constant rate lost
    0.01 dB on finished Gaussians of plush and fox, a cosine lost nothing (docs/qnn/finished.md, one seed)."""

    def queries_as(self) -> Encoding:
        """The encoding of the queries."""
        match self.encoding:
            case "identity":
                return Identity()
            case "positional":
                return Positional(self.octaves)
            case "fourier":
                return Fourier(self.fourier_features, self.fourier_scale)

    def convolution_between(self) -> Convolution:
        """The convolutions between the first and the last one."""
        match self.convolution:
            case "standard":
                return Standard()
            case "fdconv":
                return FDConv(self.fdconv_groups)
            case "cfconv":
                return CFConv(self.cfconv_grid, self.cfconv_samples)


@dataclass
class SplatModelConfig(ModelConfig):
    """Options of qsplat's model."""

    _target: type = field(default_factory=lambda: _model_type())
    qnn: Literal["residual", "none"] = "residual"
    """The network on top of the rendered image: its output is added to it, or there is none (plain splatting). In the
    last 1500 of 10,000 iterations, on crops, it gained between -0.001 and 0.006 dB over none on plush, fox, fern and
    chair (docs/qnn/every8.md, means of three seeds), and in the last 10,000 of 22,000 between -0.003 and 0.025, where
    plain splatting with 30,800 iterations, which take a little more time, gained between 0.10 and 0.40
    (docs/qnn/joint.md, the same). In the last 10,000 of 48,400 it gained 0.014 on fox and -0.004 on chair
    (docs/qnn/end.md, the same). On whole images it gained more: see qnn.crop-share."""
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
    average_share: float = 0.0
    """Share of the iterations, the last ones in which the Gaussians move, over which these are averaged (with
    qsplat-plus a share of those of each set); 0 leaves them as the last one did. 0.1 gained up to 0.3 dB in runs of
    10,000 iterations and takes no time; in short runs, which still learn, the mean lags behind (docs/qnn/plus.md)."""
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
        plan = Schedule(
            iterations,
            sh_degree=self.sh_degree,
            downscales=self.num_downscales,
            head_share=self.qnn_options.start,
            mode=self.qnn_options.mode,
            crop_share=self.qnn_options.crop_share,
            head_rate=self.qnn_options.rate,
            head_decay=self.qnn_options.decay,
        )
        return plan.with_head(self.network())

    def first_plan(self, iterations: int) -> Schedule:
        """The plan that the Gaussians follow first in a run of ``iterations``."""
        return self.schedule(iterations)

    def network(self) -> QnnConfig | None:
        """The residual network, None for plain splatting."""
        if self.qnn == "none":
            return None
        options = self.qnn_options
        return QnnConfig(
            layers=options.layers,
            channels=options.channels,
            kernel=options.kernel,
            precision=options.precision,
            input=options.input,
            query=options.query,
            encoding=options.queries_as(),
            activation=options.activation,
            convolution=options.convolution_between(),
            architecture=options.architecture,
            tokens=Tokens(sigma=options.sigma, query="coordinates"),
        )

    def check(self, iterations: int, *, resumed: bool) -> None:
        """Refuse what a run of ``iterations``, or of so many more of a ``resumed`` one, cannot have, and say what
        follows from its options.

        Raises:
            ValueError: an option has a value that it cannot have.
        """
        self.schedule(iterations)
        if not resumed:
            check_average_share(self.average_share, self.first_plan(iterations), self.densification)
        network = self.network()
        if network is not None and network.halo is None and self.qnn_options.crop_share is None:
            CONSOLE.print(f"The network learns on whole images: {self.qnn_options.convolution} needs all of an image")

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
