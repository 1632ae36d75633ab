"""Training of qsplat-plus: sets of Gaussians, one after the other, then the head that reads photos."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from qsplat.qnn import QnnConfig
from qsplat.qnn.photo_head import PhotoHead, require_photos
from qsplat.qnn.photos import PhotoConfig, PhotoQueries
from qsplat.training.config import FitConfig, TrainingScene
from qsplat.training.photo_head import LEAST_GAIN, ShownView, photo_queries, settle_belief, train_photo_head
from qsplat.training.plus_model import PlusModel, as_taken
from qsplat.training.targets import TrainingView
from qsplat.training.training import StepRecord, Training
from qsplat.training.unseen import UNSEEN, Witness, given_back, unseen_photos, without_unseen

NEXT_SET = 1000
"""From a set's seed to that of the next: far enough that runs of neighbouring seeds share no set."""


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
    there are any, and else that over the mean of the sets on all. Where it is below LEAST_GAIN the model does not ask
    photos: it has no head, and all its sets count the same. How far the sets count is not part of what is judged: they
    know the photos by heart."""

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
    kept: Sequence[TrainingView] | None = None,
    witness: Witness | None = None,
) -> FittedPlus:
    """Train a head on the sets of ``model``, which has none, and let ``witness`` tell how far to believe it; ``began``
    is when the run did, by ``perf_counter``.

    ``kept`` are the photos that the model asks in the place of those of ``scene``, reduced or compressed. The head
    learns and is judged by the photos of ``scene`` all the same: those that are spoilt are no measure of what they are
    worth to other views.
    """
    told, views = told_and_taught(model, scene.train, kept, config)
    device = model.background.device
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(config.base.seed)
        head = PhotoHead(config.head).to(device)
    head.photos = photo_queries(told, config.photos)
    train_photo_head(
        head,
        views,
        steps=config.head_steps,
        crop_share=config.crop_share,
        seed=config.base.seed,
        ssim_weight=config.base.ssim_weight,
    )
    head.eval().requires_grad_(False)

    gain = settle_plus(head, views, model=model, witness=witness, photos=scene.train, config=config, kept=kept)
    if gain >= LEAST_GAIN:
        model = model.asking(head, told, config.photos)
    return FittedPlus(model, gain, time.perf_counter() - began)


def settle_plus(
    head: PhotoHead,
    shown: Sequence[ShownView],
    *,
    model: PlusModel,
    witness: Witness | None,
    photos: Sequence[TrainingView],
    config: PlusConfig,
    kept: Sequence[TrainingView] | None = None,
    chosen: Sequence[int] | None = None,
) -> float:
    """Let ``witness`` tell how far to believe ``head``, which is on the sets of ``model``; ``shown`` is what the
    sets show of ``photos``, in the place of which ``kept`` ones may be asked. Without a witness ``chosen`` ones of
    them, or all, judge it by leave-one-out.

    Returns:
        The gain in dB, as of ``settle_belief``.
    """

    def testimony() -> tuple[PhotoQueries, list[ShownView]]:
        assert witness is not None
        told, seen = told_and_taught(replace(model, sets=(witness.gaussians,)), photos, kept, config)
        return photo_queries(told, config.photos), seen

    return settle_belief(head, shown, () if witness is None else witness.unseen, testimony, chosen)


def told_and_taught(
    model: PlusModel, photos: Sequence[TrainingView], kept: Sequence[TrainingView] | None, config: PlusConfig
) -> tuple[list[ShownView], list[ShownView]]:
    """What ``model`` shows beside the photos that it asks, and beside those by which its head learns: the same where
    none are ``kept`` in the place of ``photos``."""
    cameras = [photo.camera for photo in photos]
    told = model.shown(kept or photos, cameras=cameras, backend=config.base.backend)
    return told, told if kept is None else as_taken(told, photos, model.background)
