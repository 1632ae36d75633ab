"""What a rendered view is compared with: a photo at the resolution and over the background of the moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from qsplat.cameras import Camera, Window
from qsplat.qnn import QNN
from qsplat.qnn.images import rows_and_columns
from qsplat.training.seeding import Photo


@runtime_checkable
class TrainingView(Photo, Protocol):
    """A camera, its photo, and a mask that is True where a pixel counts."""

    @property
    def mask(self) -> Bool[Tensor, "h w"] | None: ...


@dataclass(frozen=True)
class Target:
    """A training view at the resolution of the moment."""

    camera: Camera
    image: Float[Tensor, "h w 3"]
    alpha: Float[Tensor, "h w"] | None
    mask: Bool[Tensor, "h w"] | None

    @staticmethod
    def of(view: TrainingView, downscale: int, device: str) -> Target:
        """``view`` with sides ``downscale`` times smaller, averaged over areas; a pixel counts if all of it does."""
        camera = view.camera.to(device)
        alpha, mask = view.alpha, view.mask
        if downscale == 1:
            image = view.image.to(device).contiguous()
        else:
            height, width = (max(1, round(side / downscale)) for side in view.image.shape[:2])
            camera = camera.resized(width, height)
            image = averaged(view.image, height, width)
            alpha = None if alpha is None else averaged(alpha[..., None], height, width)[..., 0]
            mask = None if mask is None else averaged(mask[..., None].float(), height, width)[..., 0] > 0.999
        return Target(
            camera=camera,
            image=image.to(device),
            alpha=None if alpha is None else alpha.to(device),
            mask=None if mask is None else mask.to(device),
        )

    @property
    def counted(self) -> int:
        """How many pixels count."""
        return self.image.shape[0] * self.image.shape[1] if self.mask is None else int(self.mask.sum())

    def part(self, window: Window) -> Target:
        """That of the pixels in ``window``, given in pixels of the image."""
        here = rows_and_columns(window)
        return Target(
            camera=self.camera.part(window),
            image=self.image[here].contiguous(),
            alpha=None if self.alpha is None else self.alpha[here],
            mask=None if self.mask is None else self.mask[here],
        )

    def over(self, background: Float[Tensor, "3"]) -> Float[Tensor, "h w 3"]:
        """The photo in front of ``background``."""
        return self.image if self.alpha is None else self.image + (1 - self.alpha)[..., None] * background


def drawn_alone(target: Target, window: Window, head: QNN) -> tuple[Target, Window]:
    """What has to be drawn of ``target`` for ``head`` to see the crop ``window``, and where in that the crop lies: the
    crop and what the head reads around it; all of the target where none of these pixels counts.

    Raises:
        ValueError: the head's residual depends on all of the image.
    """
    if head.halo is None:
        raise ValueError("the head's residual depends on all of the image: a crop cannot be drawn alone")
    drawn = window.grown(head.halo, width=target.camera.view.width, height=target.camera.view.height)
    part = target.part(drawn)
    return (part, window.relative_to(drawn)) if part.counted else (target, window)


def averaged(image: Float[Tensor, "h w c"], height: int, width: int) -> Float[Tensor, "v u c"]:
    """``image`` averaged over areas."""
    planes = functional.interpolate(image.permute(2, 0, 1)[None], size=(height, width), mode="area")
    return planes[0].permute(1, 2, 0).contiguous()
