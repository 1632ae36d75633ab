"""The datamanager of radiance fields: random rays of all photos, from any dataparser."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import tyro
from jaxtyping import Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from nerfstudio_plugin.datamanager import QsplatDataManager, QsplatDataManagerConfig
from nerfstudio_plugin.datasets import PhotoDataset
from nerfstudio_plugin.refusals import in_one_sentence
from nerfstudio_plugin.views import points_of
from qsplat.fields.rays import Rays
from qsplat.io.scene import Scene
from qsplat.training.config import TrainingScene
from qsplat.training.fit_field import FieldFitConfig
from qsplat.training.rays import RayPool


@dataclass
class FieldDataManagerConfig(QsplatDataManagerConfig):
    """Options of the datamanager for whole images, of which evaluation makes use, and of rays."""

    _target: type = field(default_factory=lambda: FieldDataManager)
    train_num_rays_per_batch: int = FieldFitConfig.rays
    """Rays of each iteration, at random from all photos."""
    num_random: tyro.conf.Suppress[tyro.conf.Fixed[int]] = 1
    """A field needs no points."""


class FieldDataManager(QsplatDataManager):
    """Rays and their colours for training, whole images for evaluation.

    Photos keep their alpha channel, also where the dataparser would composite it away: it tells that there is nothing
    behind the object.
    """

    config: FieldDataManagerConfig

    def __init__(self, config: FieldDataManagerConfig, **arguments: Any) -> None:
        with in_one_sentence():
            if config.train_num_rays_per_batch < 1:
                raise ValueError(
                    f"--pipeline.datamanager.train-num-rays-per-batch {config.train_num_rays_per_batch}: an iteration "
                    "has at least 1"
                )
        super().__init__(config, **arguments)
        self._pool: RayPool | None = None

    def _dataset(self, outputs: DataparserOutputs) -> PhotoDataset:
        return super()._dataset(replace(outputs, alpha_color=None))

    def _add_random_points(self) -> None:
        """None: they would say where the scene begins."""

    def scene(self) -> TrainingScene:
        """What there is to learn from."""
        given = self.train_dataparser_outputs.metadata
        points = None
        if "points3D_xyz" in given:
            points = points_of((given["points3D_xyz"], given["points3D_rgb"]))
        return Scene("", tuple(self.training_views(torch.device("cpu"))), (), points, torch.eye(4))

    def draw_from(self, scene: TrainingScene, background: Float[Tensor, "3"]) -> None:
        """Take the rays of the photos of ``scene``, as they look over ``background``."""
        self._pool = RayPool.of(scene.train, background.cpu(), device=self.device)

    def next_train(self, step: int) -> tuple[Rays, dict[str, Tensor]]:
        """Random rays, and the colours that the photos have there as ``image``."""
        del step
        assert self._pool is not None
        rays, colors = self._pool.sample(self.config.train_num_rays_per_batch)
        return rays, {"image": colors}

    def get_train_rays_per_batch(self) -> int:
        """For the rate that nerfstudio shows."""
        return self.config.train_num_rays_per_batch
