"""What a run of ``qsplat-plus`` keeps in its checkpoint besides Gaussians that move: other sets of them, and photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nerfstudio_plugin.plus_config import PhotoOptions
from qsplat.cameras import Camera, same_pose
from qsplat.io.packed_photos import PackedPhotos, pack_masks, pack_photos
from qsplat.io.scene import View
from qsplat.training.targets import Target


class KeptGaussians(nn.Module):
    """A set of Gaussians that is trained no more: buffers of the names of ``qsplat.training.parameters``."""

    def __init__(self, parameters: Mapping[str, Tensor] | nn.ParameterDict) -> None:
        super().__init__()
        for name, value in parameters.items():
            self.register_buffer(name, value.detach().clone())

    @property
    def parameters_by_name(self) -> dict[str, Tensor]:
        """The fields."""
        return dict(self.named_buffers())


class KeptPhotos(nn.Module):
    """The files of photos and of their masks, and the cameras that took them; at first none.

    ``poses`` are cam_from_world [n, 4, 4], ``lenses`` fx, fy, cx, cy, width and height [n, 6] of the cameras before
    photos were made smaller.
    """

    photo_files: Tensor
    photo_ends: Tensor
    mask_files: Tensor
    mask_ends: Tensor
    poses: Tensor
    lenses: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("photo", "mask"):
            self.register_buffer(f"{name}_files", torch.zeros(0, dtype=torch.uint8))
            self.register_buffer(f"{name}_ends", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("poses", torch.zeros(0, 4, 4))
        self.register_buffer("lenses", torch.zeros(0, 6, dtype=torch.float64))

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def num_bytes(self) -> int:
        """Of the photos and masks."""
        return self.photo_files.numel() + self.mask_files.numel()

    def keep(self, views: Sequence[View], background: Tensor, options: PhotoOptions) -> None:
        """Pack the photos of ``views``, as they look over ``background``."""
        device = self.poses.device
        targets = [Target.of(view, 1, str(device)) for view in views]
        photos = [target.over(background) for target in targets]
        packed = {"photo": pack_photos(photos, max_side=options.max_side, quality=options.quality)}
        if any(target.mask is not None for target in targets):
            masks = [torch.ones_like(photo[..., 0], dtype=torch.bool) for photo in photos]
            masks = [
                whole if target.mask is None else target.mask for whole, target in zip(masks, targets, strict=True)
            ]
            packed["mask"] = pack_masks(masks, max_side=options.max_side)
        for name, files in packed.items():
            setattr(self, f"{name}_files", files.data.to(device))
            setattr(self, f"{name}_ends", files.ends.to(device))
        cameras = [view.camera for view in views]
        self.poses = torch.stack([camera.cam_from_world for camera in cameras]).to(device)
        self.lenses = torch.tensor([_lens(camera) for camera in cameras], dtype=torch.float64, device=device)

    def cameras(self) -> list[Camera]:
        """Those that took the photos, before these were made smaller."""
        lenses = zip(self.poses, self.lenses.tolist(), strict=True)
        return [
            Camera(pose, fx, fy, cx, cy, int(width), int(height)) for pose, (fx, fy, cx, cy, width, height) in lenses
        ]

    def views(self) -> list[View]:
        """The photos as they come out of their files, with cameras of their size, and their masks."""
        photos = PackedPhotos(self.photo_files, self.photo_ends).unpack()
        masks = PackedPhotos(self.mask_files, self.mask_ends).unpack_masks() or [None] * len(photos)
        views = []
        for index, (photo, mask, camera) in enumerate(zip(photos, masks, self.cameras(), strict=True)):
            size = photo.shape[1], photo.shape[0]
            own = camera if size == (camera.width, camera.height) else camera.resized(*size)
            views.append(View(str(index), own, photo, mask=mask))
        return views

    def index_of(self, camera: Camera) -> int | None:
        """The photo that was taken from where ``camera`` is, of several the one of the most similar lens, at any
        resolution; None if there is none. Lenses may differ a little: nerfstudio changes those with distortion."""
        (here,) = same_pose(self.poses, camera.cam_from_world.to(self.poses)).nonzero(as_tuple=True)
        if not len(here):
            return None
        lens = self.lenses.new_tensor(_lens(camera))
        shares, own = (some[..., :4] / some[..., [4, 5, 4, 5]] for some in (self.lenses[here], lens))
        return int(here[(shares - own).abs().amax(1).argmin()])

    def make_room(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the sizes of ``tensors``, which are to be loaded."""
        for name, value in self.named_buffers():
            if name in tensors:
                setattr(self, name, torch.empty_like(tensors[name], device=value.device))


def _lens(camera: Camera) -> list[float]:
    return [camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height]
