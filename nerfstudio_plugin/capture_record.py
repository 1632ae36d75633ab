"""``capture.json``: what a run writes down of its capture besides photos, to be shown where the capture is gone.

Cameras are nerfstudio's, column by column under the names that it gives them, in the size of training. Where lenses
have distortion they are those of the files: nerfstudio changes them when it reads the photos.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from qsplat.io.atomic import written_whole

FILE_NAME = "capture.json"
"""Beside the config.yml of a run."""
_LENS = ("fx", "fy", "cx", "cy")
_SIZE = ("width", "height")


@dataclass(frozen=True)
class RecordedViews:
    """Where photos lay, and the cameras that took them."""

    photos: tuple[Path, ...]
    cameras: Cameras

    @classmethod
    def of(cls, dataset: InputDataset) -> RecordedViews:
        """Those of ``dataset``, whose cameras nerfstudio changes when it removes the distortion of its photos."""
        return cls(tuple(dataset.image_filenames), deepcopy(dataset.cameras))


@dataclass(frozen=True)
class CaptureRecord:
    """Views to train on and views that a finished run is evaluated on, in the same order as in the capture.

    ``transparent`` says whether photos have an alpha channel that training composites, ``alpha_color`` over what the
    dataparser did so before; ``box``, ``transform`` and ``scale`` are the dataparser's.
    """

    train: RecordedViews
    test: RecordedViews
    transparent: bool
    alpha_color: Float[Tensor, "3"] | None
    box: Float[Tensor, "2 3"]
    transform: Float[Tensor, "3 4"]
    scale: float

    def write(self, path: Path) -> None:
        """Put all of it into ``path``."""
        content = {
            "train": _as_json(self.train),
            "test": _as_json(self.test),
            "transparent": self.transparent,
            "alpha_color": None if self.alpha_color is None else self.alpha_color.tolist(),
            "box": self.box.tolist(),
            "transform": self.transform.tolist(),
            "scale": self.scale,
        }
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def outputs(self, split: str) -> DataparserOutputs:
        """What the dataparser said of nerfstudio's splits train and test, without points."""
        views = self.train if split == "train" else self.test
        return DataparserOutputs(
            image_filenames=list(views.photos),
            cameras=views.cameras,
            alpha_color=self.alpha_color,
            scene_box=SceneBox(aabb=self.box),
            metadata={"transparent": self.transparent},
            dataparser_transform=self.transform,
            dataparser_scale=self.scale,
        )


def read_record(path: Path) -> CaptureRecord:
    """What ``CaptureRecord.write`` put into ``path``.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        color = content["alpha_color"]
        return CaptureRecord(
            train=_views(content["train"]),
            test=_views(content["test"]),
            transparent=bool(content["transparent"]),
            alpha_color=None if color is None else _numbers(color, 3),
            box=_numbers(content["box"], 2, 3),
            transform=_numbers(content["transform"], 3, 4),
            scale=float(content["scale"]),
        )
    except (ValueError, TypeError, KeyError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is damaged ({reason}) and the capture is gone: put the capture back where it was, or train again"
        ) from None


@dataclass
class RecordedParserConfig(DataParserConfig):
    """In place of the dataparser of a run whose capture is gone."""

    _target: type = field(default_factory=lambda: RecordedParser)
    record: Path = Path(FILE_NAME)
    """The file that the run wrote."""


class RecordedParser(DataParser):
    """What another dataparser said when the run began."""

    config: RecordedParserConfig

    @cached_property
    def _record(self) -> CaptureRecord:
        """Read once for both splits."""
        return read_record(self.config.record)

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        return self._record.outputs(split)


def _as_json(views: RecordedViews) -> dict[str, Any]:
    cameras = views.cameras
    lenses = cameras.distortion_params
    return {
        "photos": [photo.as_posix() for photo in views.photos],
        "camera_to_worlds": cameras.camera_to_worlds.tolist(),
        **{name: getattr(cameras, name)[:, 0].tolist() for name in (*_LENS, *_SIZE)},
        "camera_type": [CameraType(kind).name for kind in cameras.camera_type[:, 0].tolist()],
        "distortion_params": None if lenses is None else lenses.tolist(),
    }


def _views(values: dict[str, Any]) -> RecordedViews:
    photos, lenses = tuple(Path(photo) for photo in values["photos"]), values["distortion_params"]
    count = len(photos)
    cameras = Cameras(
        camera_to_worlds=_numbers(values["camera_to_worlds"], count, 3, 4),
        camera_type=_numbers([CameraType[kind].value for kind in values["camera_type"]], count, 1).long(),
        distortion_params=None if not lenses else _numbers(lenses, count, len(lenses[0])),
        **_columns(values, _LENS, count, torch.float32),
        **_columns(values, _SIZE, count, torch.int64),
    )
    return RecordedViews(photos, cameras)


def _columns(values: dict[str, Any], names: tuple[str, ...], count: int, dtype: torch.dtype) -> dict[str, Any]:
    return {name: _numbers(values[name], count, 1).to(dtype) for name in names}


def _numbers(values: Any, *shape: int) -> Tensor:
    numbers = torch.tensor(values, dtype=torch.float32).reshape(shape)
    if not bool(torch.isfinite(numbers).all()):
        raise ValueError("a number is not finite")
    return numbers
