"""The trainings of the library as stages whose length can be changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from qsplat.io.packed_photos import PackedPhotos, pack_masks, pack_photos
from qsplat.io.scene import Scene, View
from qsplat.qnn.photo_head import PhotoHead
from qsplat.training.config import FitConfig, TrainingScene
from qsplat.training.fit_field import FieldFitConfig, FieldTraining
from qsplat.training.photo_head import (
    LEAST_GAIN,
    PhotoHeadTraining,
    leave_one_out_gain,
    photo_queries,
)
from qsplat.training.plus import PlusConfig, settle_plus, told_and_taught
from qsplat.training.plus_model import PlusModel
from qsplat.training.randomness import PhotoOrder
from qsplat.training.targets import Target
from qsplat.training.training import Training
from qsplat.training.unseen import Witness, given_back, without_unseen

PROBED = 3
"""Steps by which the pace with a network is judged before it is switched on; they are thrown away."""
JUDGED = 32
"""Training views, evenly chosen, by which a network that reads photos is judged at the end."""


class SplatStage:
    """Gaussians, with a head or without. The training views ``unseen`` are kept from them at first, as from the last
    set of qsplat-plus; ``witness`` is what they are before they see these."""

    reserve = 0.0

    def __init__(self, scene: TrainingScene, config: FitConfig, unseen: Sequence[int] = ()) -> None:
        self._scene, self._unseen = scene, tuple(unseen)
        self.witness: Witness | None = None
        # A fork draws the order of the photos by itself: it stays the same, however often the run is planned anew.
        self.training = Training(without_unseen(scene, unseen) if unseen else scene, config).fork(config)
        self._share, self._switched_on = config.schedule.head_share, config.head is None

    @property
    def step(self) -> int:
        return self.training.step

    @property
    def turn(self) -> int | None:
        start = self.training.schedule.head_start
        return None if self._switched_on or start <= self.step else start

    def plan(self, iterations: int) -> None:
        config = self.training.config
        start = self.training.schedule.head_start
        if not self._switched_on and self.step >= start:
            self._switched_on = True
        share = self._share
        if self._switched_on and config.head is not None:
            share = start / iterations
        schedule = replace(config.schedule, iterations=iterations, head_share=share)
        if schedule != config.schedule:
            self.training = self.training.fork(replace(config, schedule=schedule))

    def affordable(self, seconds: float, pace: float) -> int:
        steps = seconds / pace
        if self.turn is None:
            return int(steps)
        # Of n steps in all, a share goes on at this pace and the rest at that of the head
        ratio = max(1.0, self._pace_with_head() / pace)
        planned = int((self.step + steps) / (self._share + (1 - self._share) * ratio))
        return planned - self.step

    def advance(self, until: int) -> None:
        if self._unseen and self.witness is None:
            turn = given_back(self.training.schedule.iterations)
            self.training.advance(max(self.step, min(until, turn)))
            if until >= turn:
                self._call_witness()
                self.training = self.training.fork(self.training.config, scene=self._scene)
        self.training.advance(until)

    def finish(self) -> None:
        """A run that was over before it saw all training views is its own witness."""
        if self._unseen and self.witness is None:
            self._call_witness()

    def _call_witness(self) -> None:
        self.witness = Witness(self.training.model().gaussians, self._unseen)

    def _pace_with_head(self) -> float:
        config = self.training.config
        schedule = replace(config.schedule, head_share=self.step / config.schedule.iterations)
        probe = self.training.fork(replace(config, schedule=schedule))
        probe.advance(self.step + 1)
        began = time.process_time()
        probe.advance(self.step + 1 + PROBED)
        return (time.process_time() - began) / PROBED


class FieldStage:
    """A radiance field."""

    reserve, turn = 0.0, None

    def __init__(self, scene: Scene, config: FieldFitConfig) -> None:
        self.training = FieldTraining(scene, config)

    @property
    def step(self) -> int:
        return self.training.step

    def plan(self, iterations: int) -> None:
        self.training.plan(iterations)

    def affordable(self, seconds: float, pace: float) -> int:
        return int(seconds / pace)

    def advance(self, until: int) -> None:
        self.training.advance(until)

    def finish(self) -> None:
        """Nothing comes after the last step."""


class PhotoHeadStage:
    """The head of qsplat-plus on sets of Gaussians that no longer move. It reads photos as the run keeps them, packed,
    and is dropped at the end if it does not help: the ``witness`` on photos that this has not seen, or without one the
    sets by leave-one-out."""

    turn = None

    def __init__(self, scene: Scene, sets: PlusModel, config: PlusConfig, witness: Witness | None) -> None:
        self._sets, self._config, self._witness, self.step = sets, config, witness, 0
        self._photos = scene.train
        self._packed, self.photo_bytes = packed(scene, sets)
        told, self._views = told_and_taught(sets, self._photos, self._packed, config)
        seed = config.base.seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = PhotoHead(config.head)
        self.head.photos = photo_queries(told, config.photos)
        self._asking = sets.asking(self.head, told, config.photos)
        self._training = PhotoHeadTraining(
            self.head, self._views, steps=config.head_steps, crop_share=config.crop_share, seed=seed
        )
        self._order = PhotoOrder(len(self._views), generator=torch.Generator().manual_seed(seed))
        self.kept = True
        count = min(JUDGED, len(self._views))
        self._judged = [index * len(self._views) // count for index in range(count)]
        began = time.process_time()
        leave_one_out_gain(self.head, self._views, self._judged[:1])
        self.reserve = (time.process_time() - began) * (2 * len(witness.unseen) if witness else count)

    def plan(self, iterations: int) -> None:
        self._training.steps = iterations

    def affordable(self, seconds: float, pace: float) -> int:
        return int(seconds / pace)

    def advance(self, until: int) -> None:
        while self.step < until:
            self._training.step(self.step, next(self._order), ssim_weight=self._config.base.ssim_weight)
            self.step += 1

    def finish(self) -> None:
        gain = settle_plus(
            self.head,
            self._views,
            model=self._sets,
            witness=self._witness,
            photos=self._photos,
            kept=self._packed,
            config=self._config,
            chosen=self._judged,
        )
        self.kept = gain >= LEAST_GAIN

    def model(self) -> PlusModel:
        """The sets and, if they help, what photos say of them."""
        return self._asking if self.kept else self._sets


def packed(scene: Scene, sets: PlusModel) -> tuple[Sequence[View], int]:
    """The training views with their photos as a run keeps them, and the number of their bytes."""
    targets = [Target.of(view, 1, "cpu") for view in scene.train]
    kept: PackedPhotos = pack_photos([target.over(sets.background) for target in targets])
    masks = pack_masks([view.mask for view in scene.train if view.mask is not None])
    size = kept.data.numel() + (masks.data.numel() if len(masks) else 0)
    views = [replace(view, image=photo, alpha=None) for view, photo in zip(scene.train, kept.unpack(), strict=True)]
    return views, size
