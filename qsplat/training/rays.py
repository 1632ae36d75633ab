"""Random rays of all photos at once, which is what a radiance field learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qsplat.fields.rays import CameraTable, Rays, rays_through
from qsplat.training.targets import Target, TrainingView


@dataclass(frozen=True)
class RayPool:
    """The pixels of all photos, one after the other.

    Args:
        cameras: that took the photos.
        starts: where each photo begins among ``colors``.
        widths: of the photos in pixels.
        colors: of the pixels over the background.
        counted: the pixels that masks leave; None for all.
    """

    cameras: CameraTable
    starts: Int[Tensor, " v"]
    widths: Int[Tensor, " v"]
    colors: Float[Tensor, "p 3"]
    counted: Int[Tensor, " k"] | None

    @staticmethod
    def of(views: Sequence[TrainingView], background: Float[Tensor, "3"], *, device: torch.device | str) -> RayPool:
        """The pixels of ``views`` on ``device``, over ``background`` where they have alpha.

        Raises:
            ValueError: there are no views, or their masks leave no pixel.
        """
        if not views:
            raise ValueError("the scene has 0 training views: training needs at least one")
        counted = None
        if any(view.mask is not None for view in views):
            masks = [torch.ones_like(view.image[..., 0]).bool() if view.mask is None else view.mask for view in views]
            counted = torch.cat([mask.flatten() for mask in masks]).nonzero()[:, 0].to(device)
            if len(counted) == 0:
                raise ValueError("the masks of the training views leave 0 pixels: remove them, or mark what counts")
        sizes = torch.tensor([view.image.shape[0] * view.image.shape[1] for view in views])
        return RayPool(
            cameras=CameraTable.of([view.camera for view in views], device),
            starts=(sizes.cumsum(dim=0) - sizes).to(device),
            widths=torch.tensor([view.image.shape[1] for view in views], device=device),
            colors=torch.cat([Target.of(view, 1, "cpu").over(background).reshape(-1, 3) for view in views]).to(device),
            counted=counted,
        )

    def sample(self, count: int) -> tuple[Rays, Float[Tensor, "r 3"]]:
        """``count`` random rays, with replacement, and the colours that the photos have there."""
        candidates = len(self.colors) if self.counted is None else len(self.counted)
        pixels = torch.randint(candidates, (count,), device=self.colors.device)
        if self.counted is not None:
            pixels = self.counted[pixels]
        views = torch.searchsorted(self.starts, pixels, right=True) - 1
        within, widths = pixels - self.starts[views], self.widths[views]
        places = torch.stack([within % widths, within // widths], dim=-1) + 0.5
        return rays_through(places, self.cameras, views), self.colors[pixels]
