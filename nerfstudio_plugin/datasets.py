"""Datasets that read photos at the size their cameras have, shrunk by area averaging."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor

from nerfstudio_plugin.cameras import cameras_of
from qsplat.io.frames import Frame
from qsplat.io.images import Photo, read_mask, read_photo, shrink
from qsplat.io.transforms import load_view


class PhotoDataset(InputDataset):
    """The photos of any dataparser, at most ``max_side`` pixels a side.

    Lens distortion is left to nerfstudio's datamanager, which removes it from what this dataset returns.
    """

    def __init__(self, dataparser_outputs: DataparserOutputs, *, max_side: int | None) -> None:
        super().__init__(dataparser_outputs)
        if max_side is not None:
            _shrink_cameras(self.cameras, max_side)
        self._data = cache(self._read)

    def get_data(self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32") -> dict:
        """``image`` [h, w, 3] or, where the file has an alpha channel that is not composited away, [h, w, 4] with
        straight colours, and ``mask`` [h, w, 1] where there are masks. Read once and kept as bytes."""
        data = dict(self._data(image_idx))
        if image_type == "float32":
            data["image"] = data["image"].float() / 255
        return data

    def __getitem__(self, image_idx: int) -> dict:
        """What is shown: as ``get_data``, with transparent images over white."""
        data = self.get_data(image_idx)
        if data["image"].shape[-1] == 4:
            alpha = data["image"][..., 3:]
            data["image"] = data["image"][..., :3] * alpha + 1 - alpha
        return data

    @property
    def transparent(self) -> bool:
        """Whether the photos have an alpha channel that training has to composite; the first one answers for all."""
        return self._data(0)["image"].shape[-1] == 4

    def _read(self, index: int) -> dict:
        size = int(self.cameras.width[index].item()), int(self.cameras.height[index].item())
        photo = read_photo(self._dataparser_outputs.image_filenames[index])
        color, masks = self._dataparser_outputs.alpha_color, self._dataparser_outputs.mask_filenames
        if photo.alpha is not None and color is not None:
            photo = Photo(photo.image + (1 - photo.alpha[..., None]) * color.numpy(), None)
        image = torch.from_numpy(shrink(photo.image, *size))
        alpha = None if photo.alpha is None else torch.from_numpy(shrink(photo.alpha, *size))
        data = {"image_idx": index, "image": _bytes(image, alpha)}
        if masks is not None:
            mask = shrink(read_mask(masks[index]).astype("float32"), *size)
            data["mask"] = torch.from_numpy(mask > 0.999)[..., None]
        return data


class FrameDataset(PhotoDataset):
    """The photos of ``qsplat-data``, which come without distortion."""

    def __init__(self, dataparser_outputs: DataparserOutputs, *, max_side: int | None) -> None:
        self._frames: tuple[Frame, ...] = dataparser_outputs.metadata["frames"]
        downscale = dataparser_outputs.metadata["downscale"]
        self._size: dict[str, Any] = {"max_side": max_side} if downscale is None else {"downscale": downscale}
        super().__init__(dataparser_outputs, max_side=None)
        self.cameras = cameras_of([frame.camera_at(**self._size) for frame in self._frames])

    def _read(self, index: int) -> dict:
        view = load_view(self._frames[index], **self._size)
        data = {"image_idx": index, "image": _bytes(view.image, view.alpha)}
        if view.mask is not None:
            data["mask"] = view.mask[..., None]
        return data


class AbsentPhotos(PhotoDataset):
    """The cameras of a capture that is gone from ``folder``; whatever needs a photo ends in one sentence.

    Where ``grey`` is set, what is shown of each view is grey.
    """

    grey = False

    def __init__(self, dataparser_outputs: DataparserOutputs, *, folder: Path) -> None:
        super().__init__(dataparser_outputs, max_side=None)
        self._folder = folder

    def __getitem__(self, image_idx: int) -> dict:
        """A grey image where that will do."""
        if not self.grey:
            return super().__getitem__(image_idx)
        height, width = (int(side[image_idx].item()) for side in (self.cameras.height, self.cameras.width))
        return {"image_idx": image_idx, "image": torch.full((height, width, 3), 0.5)}

    def get_numpy_image(self, image_idx: int) -> NoReturn:
        """None, as ns-render would have the nearest photo."""
        self._refuse()

    @property
    def transparent(self) -> bool:
        """Whether the photos had an alpha channel that training composited."""
        return self.metadata["transparent"]

    def _read(self, index: int) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise SystemExit(
            f"qsplat: this needs the photos of the capture, and {self._folder} is gone: put it back there, or a link "
            "to where it is now"
        )


def _shrink_cameras(cameras: Cameras, max_side: int) -> None:
    """Give every camera whole numbers of pixels, none larger than ``max_side``, and the intrinsics that follow."""
    factor = (max_side / torch.maximum(cameras.width, cameras.height)).clamp_max(1)
    width, height = ((side * factor).round().clamp_min(1).to(side) for side in (cameras.width, cameras.height))
    across, down = width / cameras.width, height / cameras.height
    cameras.fx, cameras.cx, cameras.width = cameras.fx * across, cameras.cx * across, width
    cameras.fy, cameras.cy, cameras.height = cameras.fy * down, cameras.cy * down, height


def _bytes(image: Float[Tensor, "h w 3"], alpha: Float[Tensor, "h w"] | None) -> Tensor:
    """Premultiplied colours as bytes: RGB, or RGBA with straight colours as nerfstudio composites them."""
    if alpha is not None:
        image = torch.cat([image / alpha[..., None].clamp_min(1e-6), alpha[..., None]], dim=-1)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)
