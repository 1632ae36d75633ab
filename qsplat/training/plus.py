"""qsplat-plus: the mean of several sets of Gaussians, corrected by what the nearest photos show besides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.gaussians import Gaussians
from qsplat.qnn import QnnConfig, image_residual
from qsplat.qnn.photo_head import PhotoHead, require_photos
from qsplat.qnn.photos import PhotoConfig, PhotoQueries
from qsplat.qnn.queries import part_queries
from qsplat.render import Backend, RasterConfig, Trace, rasterize
from qsplat.training.config import FitConfig, Points, TrainingScene
from qsplat.training.model import ViewOutputs
from qsplat.training.photo_head import (
    LEAST_GAIN,
    ShownView,
    photo_queries,
    settle_belief,
    train_photo_head,
)
from qsplat.training.targets import Target, TrainingView, averaged
from qsplat.training.training import StepRecord, Training

NEXT_SET = 1000
"""From a set's seed to that of the next: far enough that runs of neighbouring seeds share no set."""

UNSEEN = 8
"""Every so many-th training photo is kept from the last set of Gaussians at first."""
FEWEST_UNSEEN = 4
"""Fewer photos are not kept from it: they would tell too little, and a small capture misses each of them."""
GIVEN_BACK = 0.9
"""Share of its iterations from which on the last set sees them, too."""


def unseen_photos(count: int, every: int, *, sets: int = 2) -> tuple[int, ...]:
    """Which of ``count`` training photos the last of ``sets`` sets of Gaussians does not see up to ``given_back``:
    every ``every``-th one, evenly spread. None where that is 0 or would be fewer than ``FEWEST_UNSEEN``, or where no
    other set sees them.

    Raises:
        ValueError: no photo would be left, or ``every`` is below 0.
    """
    if every < 0 or every == 1:
        raise ValueError(f"unseen={every}: give 2 or more, or 0 to keep no photo from any set of Gaussians")
    number = count // every if every else 0
    if number < FEWEST_UNSEEN or sets < 2:
        return ()
    return tuple((2 * index + 1) * count // (2 * number) for index in range(number))


def given_back(iterations: int) -> int:
    """The step of ``iterations`` from which on the last set of Gaussians sees all photos."""
    return round(GIVEN_BACK * iterations)


@dataclass(frozen=True)
class Witness:
    """The last set of Gaussians as it was before it saw the photos of the indices ``unseen``, of which there is one at
    least: these photos can tell of it how far others are to be believed."""

    gaussians: Gaussians
    unseen: tuple[int, ...]


@dataclass(frozen=True)
class PartOfScene:
    """Some of the training views of a scene, and its points."""

    train: Sequence[TrainingView]
    points: Points | None


def without_unseen(scene: TrainingScene, unseen: Sequence[int]) -> PartOfScene:
    """``scene`` without the training views ``unseen``."""
    kept = [view for index, view in enumerate(scene.train) if index not in unseen]
    return PartOfScene(kept, scene.points)


@dataclass(frozen=True)
class MeanView:
    """What several sets of Gaussians show of a view: the image of the first, the mean of all images, the mean of the
    expected depths weighted by coverage (world units along z), and the mean coverage."""

    first: Float[Tensor, "h w 3"]
    image: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    alpha: Float[Tensor, "h w"]
    trace: Trace


@dataclass(frozen=True)
class PlusModel:
    """Sets of Gaussians that were trained apart from each other, and a head that reads photos, if there is one.

    Where each set is wrong in its own way the mean of the images is less wrong, as is known of bagging (Breiman 1996).
    """

    sets: tuple[Gaussians, ...]
    head: PhotoHead | None = None
    background: Float[Tensor, "3"] = field(default_factory=lambda: torch.zeros(3))
    config: RasterConfig = field(default_factory=RasterConfig)

    def mean(self, camera: Camera, *, backend: Backend | None = None) -> MeanView:
        """The view of ``camera`` without the head."""
        config = replace(self.config, depth=True)
        drawn = [rasterize(one.activate(), camera, config=config, backend=backend) for one in self.sets]
        images = [one.over(self.background) for one in drawn]
        covered = torch.stack([one.alpha for one in drawn])
        depths = torch.stack([one.depth for one in drawn if one.depth is not None])
        return MeanView(
            first=images[0],
            image=torch.stack(images).mean(0),
            depth=(covered * depths).sum(0) / covered.sum(0).clamp_min(1e-10),
            alpha=covered.mean(0),
            trace=drawn[0].trace,
        )

    def render(self, camera: Camera, *, backend: Backend | None = None, left_out: int | None = None) -> ViewOutputs:
        """The view of ``camera``; its ``rgb_base`` is that of the first set of Gaussians.

        ``left_out`` is the index of the photo that is not read, for a view that is this photo.
        """
        view = self.mean(camera, backend=backend)
        rgb = view.image
        if self.head is not None:
            queries = part_queries(self.head.photos.without(left_out), camera.to(rgb.device), view.depth)
            rgb = rgb + image_residual(self.head, rgb, queries)
        return ViewOutputs(
            rgb=rgb,
            rgb_base=view.first,
            residual=rgb - view.first,
            depth=view.depth,
            alpha=view.alpha,
            trace=view.trace,
        )

    @torch.no_grad()
    def shown(
        self, views: Sequence[TrainingView], *, cameras: Sequence[Camera] | None = None, backend: Backend | None = None
    ) -> list[ShownView]:
        """What the sets show of training views, on their device.

        ``cameras`` are those of the photos before they were made smaller. Images are then drawn by these and averaged
        to the size of the photos: drawn in that size, Gaussians look thicker than the photos that taught them.
        """
        shown = []
        for view, camera in zip(views, cameras or [view.camera for view in views], strict=True):
            target = Target.of(view, 1, str(self.background.device))
            mean = self.mean(camera.to(self.background.device), backend=backend)
            size = target.camera.height, target.camera.width
            image, depth, alpha = mean.image, mean.depth, mean.alpha
            if size != tuple(alpha.shape):
                image, alpha = averaged(image, *size), averaged(alpha[..., None], *size)[..., 0]
                depth = averaged((mean.alpha * depth)[..., None], *size)[..., 0] / alpha.clamp_min(1e-10)
            shown.append(ShownView(target.camera, target.over(self.background), target.mask, image, depth, alpha))
        return shown


@dataclass(frozen=True)
class PlusConfig:
    """How to train.

    Args:
        base: each set of Gaussians, from seeds that count up by NEXT_SET from its own; its head is left out.
        sets: number of sets.
        head: the network.
        photos: how photos are chosen.
        head_steps: steps in which the network is trained.
        crop_share: share of the image's pixels that it sees in a step.
        unseen: every so many-th photo is kept from the last set until the last tenth of its iterations, to tell by it
            how far photos can be believed; 0 keeps none from it, and the network alone decides.

    Raises:
        ValueError: no sets, no steps, a share outside its range, or a network that cannot read photos.
    """

    base: FitConfig = field(default_factory=FitConfig)
    sets: int = 2
    head: QnnConfig = field(default_factory=lambda: QnnConfig(activation="leaky_relu"))
    photos: PhotoConfig = field(default_factory=PhotoConfig)
    head_steps: int = 1200
    crop_share: float = 0.1
    unseen: int = UNSEEN

    def __post_init__(self) -> None:
        if self.sets < 1:
            raise ValueError(f"sets={self.sets}: at least 1 set of Gaussians is needed")
        if self.head_steps < 1:
            raise ValueError(f"head_steps={self.head_steps}: the network is trained for at least 1 step")
        if not 0 < self.crop_share <= 1:
            raise ValueError(f"crop_share={self.crop_share}: a crop is a share of the image above 0, and 1 at most")
        unseen_photos(0, self.unseen)
        require_photos(self.head)


@dataclass(frozen=True)
class FittedPlus:
    """A finished run: the model without gradients, the gain of its head in dB by leave-one-out on the training views,
    and the duration. The gain is that over the last set, as it was before it saw the photos kept from it, on these, if
    there are any, and else that over the mean of the sets on all. The model has no head where it is below
    LEAST_GAIN."""

    model: PlusModel
    leave_one_out: float
    seconds: float


def fit_plus(
    scene: TrainingScene, config: PlusConfig | None = None, *, on_step: Callable[[StepRecord], None] | None = None
) -> FittedPlus:
    """Train the sets of Gaussians on the views of ``scene``, one after the other, then the head.

    ``on_step`` is called after every step of a set.

    Raises:
        ValueError: the scene has no training views, or nothing to start from.
    """
    config, began = config or PlusConfig(), time.perf_counter()
    unseen, witness = unseen_photos(len(scene.train), config.unseen, sets=config.sets), None
    models = []
    for index in range(config.sets):
        base = replace(config.base, head=None, seed=config.base.seed + index * NEXT_SET)
        if unseen and index == config.sets - 1:
            training = Training(without_unseen(scene, unseen), base)
            training.advance(given_back(base.schedule.iterations), on_step)
            witness = Witness(training.model().gaussians, unseen)
            training = training.fork(base, scene=scene)
        else:
            training = Training(scene, base)
        training.advance(on_step=on_step)
        models.append(training.model())
    sets = tuple(model.gaussians for model in models)
    return finish_plus(
        PlusModel(sets, background=models[0].background, config=config.base.raster),
        scene,
        config,
        began=began,
        witness=witness,
    )


def finish_plus(
    model: PlusModel,
    scene: TrainingScene,
    config: PlusConfig,
    *,
    began: float,
    cameras: Sequence[Camera] | None = None,
    witness: Witness | None = None,
) -> FittedPlus:
    """Train a head on the sets of ``model``, which has none, and let ``witness`` tell how far to believe it; ``began``
    is when the run did, by ``perf_counter``, and ``cameras`` are those of the photos before they were made smaller."""
    views = model.shown(scene.train, cameras=cameras, backend=config.base.backend)
    device = model.background.device
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(config.base.seed)
        head = PhotoHead(config.head).to(device)
    head.photos = photo_queries(views, config.photos)
    train_photo_head(
        head,
        views,
        steps=config.head_steps,
        crop_share=config.crop_share,
        seed=config.base.seed,
        ssim_weight=config.base.ssim_weight,
    )
    head.eval().requires_grad_(False)

    gain = settle_plus(head, views, model=model, witness=witness, photos=scene.train, config=config, cameras=cameras)
    return FittedPlus(replace(model, head=head if gain >= LEAST_GAIN else None), gain, time.perf_counter() - began)


def settle_plus(
    head: PhotoHead,
    shown: Sequence[ShownView],
    *,
    model: PlusModel,
    witness: Witness | None,
    photos: Sequence[TrainingView],
    config: PlusConfig,
    cameras: Sequence[Camera] | None = None,
    chosen: Sequence[int] | None = None,
) -> float:
    """Let ``witness`` tell how far to believe ``head``, which is on the sets of ``model``; ``shown`` is what the
    sets show of ``photos``. Without a witness ``chosen`` ones of them, or all, judge it by leave-one-out.

    Returns:
        The gain in dB, as of ``settle_belief``.
    """

    def testimony() -> tuple[PhotoQueries, list[ShownView]]:
        assert witness is not None
        alone = replace(model, sets=(witness.gaussians,))
        seen = alone.shown(photos, cameras=cameras, backend=config.base.backend)
        return photo_queries(seen, config.photos), seen

    return settle_belief(head, shown, () if witness is None else witness.unseen, testimony, chosen)
