"""The dataparser ``qsplat-data``: folders in nerfstudio's or blender's format, read by ``qsplat.io``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from nerfstudio_plugin.cameras import cameras_of
from qsplat.io.frames import Frames
from qsplat.io.transforms import read_frames


@dataclass
class QsplatDataParserConfig(DataParserConfig):
    """Options of ``qsplat-data``."""

    _target: type = field(default_factory=lambda: QsplatDataParser)
    downscale_factor: float | None = None
    """How many times smaller the images are than the files, any number from 1. If not set, images are reduced to the
    datamanager's max-side."""
    holdout_every: int = 8
    """Every so many views, from the first, one is held out, unless the files name the splits; 0 holds out nothing."""


class QsplatDataParser(DataParser):
    """Poses normalised, lens distortion removed, sparse points read through plyfile."""

    config: QsplatDataParserConfig

    @cached_property
    def frames(self) -> Frames:
        """The capture, read once for all splits."""
        return read_frames(self.config.data, holdout_every=self.config.holdout_every)

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        """Outputs of nerfstudio's splits train, val and test, of which the latter two are the same held-out views.

        Where nothing is held out, the evaluated views are those of the training.
        """
        captured = self.frames
        frames = captured.train if split == "train" or not captured.test else captured.test
        similarity = captured.world_from_original.float()
        scale = torch.linalg.det(similarity[:3, :3]).item() ** (1 / 3)
        metadata: dict[str, object] = {"frames": frames, "downscale": self.config.downscale_factor}
        if captured.points is not None:
            metadata["points3D_xyz"] = captured.points.positions
            metadata["points3D_rgb"] = (captured.points.colors * 255).round().to(torch.uint8)
        return DataparserOutputs(
            image_filenames=[frame.path for frame in frames],
            cameras=cameras_of([frame.camera for frame in frames]),
            scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])),
            metadata=metadata,
            dataparser_transform=similarity[:3] / scale,
            dataparser_scale=scale,
        )


qsplat_data = DataParserSpecification(
    config=QsplatDataParserConfig(),
    description="nerfstudio- and blender-format folders: any downscale factor, no distortion, no open3d",
)
