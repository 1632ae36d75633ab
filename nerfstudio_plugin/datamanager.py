"""The datamanager: nerfstudio's for whole images, with images of a bounded size, on machines with and without CUDA."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation

from nerfstudio_plugin.cameras import camera_of, mark_as_measured
from nerfstudio_plugin.capture_record import CaptureRecord, RecordedParser, RecordedParserConfig, RecordedViews
from nerfstudio_plugin.datasets import AbsentPhotos, FrameDataset, PhotoDataset
from nerfstudio_plugin.refusals import in_one_sentence
from nerfstudio_plugin.views import view_of
from qsplat.cameras import Camera
from qsplat.io.scene import View
from qsplat.training.seeding import seed_in_view


@dataclass
class QsplatDataManagerConfig(FullImageDatamanagerConfig):
    """Options of nerfstudio's datamanager for whole images, and ours."""

    _target: type = field(default_factory=lambda: QsplatDataManager)
    max_side: int | None = None
    """Images are reduced, by area averaging, so that no side is longer; None keeps their size. A downscale factor given
    to the dataparser comes first."""
    num_random: int = 10_000
    """Where a capture has no sparse points, the number of random ones in the volume that the cameras see."""
    record: tyro.conf.Suppress[tyro.conf.Fixed[Path | None]] = None
    """The capture.json of the run: a training writes it, and a finished run whose capture is gone reads it."""


class QsplatDataManager(FullImageDatamanager[PhotoDataset]):
    """Whole images in the order of an epoch, from any dataparser.

    What the model is told about the photos goes through the metadata of the training set: ``alpha_color``, over which
    the dataparser had transparent photos composited, and ``transparent``, whether they still are.

    Cameras of photos are marked as measured. A finished run whose capture is gone has those that it wrote down, and no
    photos.
    """

    config: QsplatDataManagerConfig
    _left_out: frozenset[int] = frozenset()
    _to_record: CaptureRecord | None = None

    def __init__(self, config: QsplatDataManagerConfig, **arguments: Any) -> None:
        with in_one_sentence():
            _check(config)
            super().__init__(_with_what_is_there(config, arguments.get("test_mode", "val")), **arguments)
            self.train_dataset.metadata["alpha_color"] = self.train_dataparser_outputs.alpha_color
            self.train_dataset.metadata["transparent"] = self.train_dataset.transparent
            if self.test_mode == "val" and config.record is not None:
                self._to_record = self._recorded()
            if self.test_mode == "val" and "points3D_xyz" not in self.train_dataparser_outputs.metadata:
                self._add_random_points()

    def create_train_dataset(self) -> PhotoDataset:
        """Photos to train on."""
        return self._dataset(self.train_dataparser_outputs)

    def create_eval_dataset(self) -> PhotoDataset:
        """Photos held out."""
        return self._dataset(self.dataparser.get_dataparser_outputs(split=self.test_split))

    def _dataset(self, outputs: DataparserOutputs) -> PhotoDataset:
        dataset = self._photos(outputs)
        mark_as_measured(dataset.cameras)
        return dataset

    def _photos(self, outputs: DataparserOutputs) -> PhotoDataset:
        if isinstance(self.dataparser, RecordedParser):
            return AbsentPhotos(outputs, folder=self.get_datapath())
        chosen = getattr(self.config.dataparser, "downscale_factor", None) is not None
        make = FrameDataset if "frames" in outputs.metadata else PhotoDataset
        return make(outputs, max_side=None if chosen else self.config.max_side)

    def setup_train(self) -> None:
        """For a viewer, grey in the place of photos that are gone.

        nerfstudio does not call this where ns-render saves photos beside what is rendered, which must not be grey.
        """
        if isinstance(self.train_dataset, AbsentPhotos):
            self.train_dataset.grey = True

    def setup_eval(self) -> None:
        """As ``setup_train``."""
        if isinstance(self.eval_dataset, AbsentPhotos):
            self.eval_dataset.grey = True

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Before the first iteration, when nothing refuses the run any more, write the record of the capture."""
        del training_callback_attributes
        return [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self._write_record)]

    def _write_record(self, step: int) -> None:
        del step
        record, self._to_record = self._to_record, None
        if record is not None and self.local_rank == 0:
            assert self.config.record is not None
            with in_one_sentence():
                record.write(self.config.record)

    def _recorded(self) -> CaptureRecord:
        outputs = self.train_dataparser_outputs
        return CaptureRecord(
            train=RecordedViews.of(self.train_dataset),
            test=RecordedViews.of(self._dataset_to_evaluate_later()),
            transparent=self.train_dataset.transparent,
            alpha_color=outputs.alpha_color,
            box=outputs.scene_box.aabb,
            transform=outputs.dataparser_transform,
            scale=outputs.dataparser_scale,
        )

    def _dataset_to_evaluate_later(self) -> PhotoDataset:
        """Some dataparsers tell the views that a training is evaluated on from those for the finished run, and some
        captures have none of the latter."""
        try:
            return self._dataset(self.dataparser.get_dataparser_outputs(split="test"))
        except (ValueError, OSError, AssertionError, RuntimeError):
            return self.eval_dataset

    def _load_images(self, split: Literal["train", "eval"], cache_images_device: Literal["cpu", "gpu"]) -> list[dict]:
        """As nerfstudio does, except that memory is pinned only where CUDA is: elsewhere torch refuses to."""
        where = cache_images_device if torch.cuda.is_available() else "gpu"
        with in_one_sentence():
            return super()._load_images(split, where)

    @cached_property
    def fixed_indices_eval_dataloader(self) -> list[tuple[Cameras, dict]]:
        """All held-out views. Cached, because nerfstudio's viewer asks for every other property when it starts."""
        return super().fixed_indices_eval_dataloader

    def sample_train_cameras(self) -> list[int]:
        """The order of the next epoch, without the photos that are left out."""
        order: list[int] = []
        while not order:
            order = [index for index in super().sample_train_cameras() if index not in self._left_out]
        return order

    def leave_out(self, photos: Collection[int]) -> None:
        """From now on do not train on ``photos``, of which there are fewer than photos to train on; where these are
        others than before, an epoch begins."""
        if self._left_out != frozenset(photos):
            self._left_out = frozenset(photos)
            self.train_unseen_cameras = self.sample_train_cameras()

    def training_views(self, device: torch.device) -> list[View]:
        """The photos to train on, by their index."""
        photos = self.cached_train  # comes first: nerfstudio changes the cameras when it removes the distortion
        pairs = zip(self.training_cameras(), photos, strict=True)
        return [view_of(camera, photo, device) for camera, photo in pairs]

    def training_cameras(self) -> list[Camera]:
        """Those that took the photos to train on, by their index."""
        return _each(self.train_dataset.cameras)

    def evaluated_cameras(self) -> list[Camera]:
        """Those that took the photos held out, by their index."""
        return _each(self.eval_dataset.cameras)

    def _add_random_points(self) -> None:
        generator = torch.Generator().manual_seed(torch.initial_seed())
        photos = self.training_views(torch.device("cpu"))
        points = seed_in_view(photos, self.config.num_random, generator=generator)
        outputs = self.train_dataparser_outputs
        outputs.metadata = {
            **outputs.metadata,
            "points3D_xyz": points.positions,
            "points3D_rgb": (points.colors * 255).round().to(torch.uint8),
        }


def _each(cameras: Cameras) -> list[Camera]:
    return [camera_of(cameras[index : index + 1]) for index in range(len(cameras))]


def _with_what_is_there(
    config: QsplatDataManagerConfig, test_mode: Literal["test", "val", "inference"]
) -> QsplatDataManagerConfig:
    """``config`` or, where the capture is gone or an empty folder, and there is a record of it that will do, with
    this."""
    folder = config.data or config.dataparser.data
    record = config.record
    gone = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if test_mode == "val" or record is None or not gone or not record.is_file():
        return config
    return replace(config, dataparser=RecordedParserConfig(data=folder, record=record))


def _check(config: QsplatDataManagerConfig) -> None:
    if config.max_side is not None and config.max_side < 1:
        raise ValueError(f"--pipeline.datamanager.max-side {config.max_side}: images have at least 1 pixel a side")
    if config.num_random < 1:
        raise ValueError(
            f"--pipeline.datamanager.num-random {config.num_random}: a capture without points needs at least 1"
        )
