"""What qsplat-plus shows: the mean of several sets of Gaussians, weighed and corrected by the nearest photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.cameras import Camera, Window
from qsplat.gaussians import Gaussians
from qsplat.qnn import image_residual
from qsplat.qnn.images import rows_and_columns
from qsplat.qnn.photo_head import PhotoHead
from qsplat.qnn.photos import PhotoConfig
from qsplat.qnn.queries import part_queries
from qsplat.render import Backend, RasterConfig, Trace, rasterize
from qsplat.training.model import ViewOutputs
from qsplat.training.photo_head import ShownView
from qsplat.training.set_weights import SetView, SetWeights, set_weights, window_of_blocks
from qsplat.training.targets import Target, TrainingView, averaged


@dataclass(frozen=True)
class MeanView:
    """What several sets of Gaussians show of a view: the image of the first, the mean of all images, of the expected
    depths (world units along z; sets count by their coverage, too), and of the coverage."""

    first: Float[Tensor, "h w 3"]
    image: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    alpha: Float[Tensor, "h w"]
    trace: Trace

    def part(self, window: Window) -> MeanView:
        """That of the pixels in ``window``, given in pixels of the image."""
        here = rows_and_columns(window)
        return MeanView(self.first[here], self.image[here], self.depth[here], self.alpha[here], self.trace)


@dataclass(frozen=True)
class PlusModel:
    """Sets of Gaussians that were trained apart from each other, and what photos say of them, if they are asked: how
    far each of the sets is right, and a head that corrects their mean.

    Where each set is wrong in its own way the mean of the images is less wrong, as is known of bagging (Breiman 1996).
    """

    sets: tuple[Gaussians, ...]
    head: PhotoHead | None = None
    weights: SetWeights | None = None
    background: Float[Tensor, "3"] = field(default_factory=lambda: torch.zeros(3))
    config: RasterConfig = field(default_factory=RasterConfig)

    def asking(self, head: PhotoHead, views: Sequence[ShownView], config: PhotoConfig | None = None) -> PlusModel:
        """The same sets with ``head``, and weighed by the photos of ``views``, which are what these sets show."""
        return replace(self, head=head, weights=set_weights(views, config, sets=len(self.sets)))

    def mean(self, camera: Camera, *, backend: Backend | None = None) -> MeanView:
        """The view of ``camera`` without what photos say: all sets count the same."""
        return self._combined(camera, None, backend)

    def _combined(self, camera: Camera, weights: SetWeights | None, backend: Backend | None) -> MeanView:
        config = replace(self.config, depth=True)
        drawn = [rasterize(one.activate(), camera, config=config, backend=backend) for one in self.sets]
        views = [SetView(one.over(self.background), _required(one.depth), one.alpha) for one in drawn]
        if weights is None:
            shares = torch.full_like(torch.stack([one.alpha for one in views]), 1 / len(views))
        else:
            shares = weights(camera.to(views[0].alpha.device), views)
        covered = shares * torch.stack([one.alpha for one in views])
        depths = torch.stack([one.depth for one in views])
        alpha = covered.sum(0)
        return MeanView(
            first=views[0].image,
            image=(shares[..., None] * torch.stack([one.image for one in views])).sum(0),
            depth=(covered * depths).sum(0) / alpha.clamp_min(1e-10),
            alpha=alpha,
            trace=drawn[0].trace,
        )

    def _weighed(self, camera: Camera, left_out: int | None, backend: Backend | None) -> MeanView:
        """The view of ``camera`` in which sets count as far as the photos but ``left_out`` agree with them."""
        if self.weights is None:
            return self.mean(camera, backend=backend)
        blocks = window_of_blocks(camera)
        view = self._combined(camera.cropped(blocks), self.weights.without(left_out), backend)
        return view.part(camera.view.relative_to(blocks))

    def render(self, camera: Camera, *, backend: Backend | None = None, left_out: int | None = None) -> ViewOutputs:
        """The view of ``camera``; its ``rgb_base`` is that of the first set of Gaussians.

        ``left_out`` is the index of the photo that is not read, for a view that is this photo.
        """
        view = self._weighed(camera, left_out, backend)
        rgb = view.image
        if self.head is not None:
            queries = part_queries(self.head.photos.without(left_out), camera.to(rgb.device), view.depth)
            rgb = rgb + image_residual(self.head, rgb, queries)
        return ViewOutputs(
            rgb=rgb,
            rgb_base=view.first,
            residual=rgb - view.first,
            depth=view.depth,
            alpha=view.alpha,
            trace=view.trace,
        )

    @torch.no_grad()
    def shown(
        self, views: Sequence[TrainingView], *, cameras: Sequence[Camera] | None = None, backend: Backend | None = None
    ) -> list[ShownView]:
        """What the sets show of training views, on their device.

        ``cameras`` are those of the photos before they were made smaller. Images are then drawn by these and averaged
        to the size of the photos: drawn in that size, Gaussians look thicker than the photos that taught them.
        """
        shown = []
        for view, camera in zip(views, cameras or [view.camera for view in views], strict=True):
            target = Target.of(view, 1, str(self.background.device))
            mean = self.mean(camera.to(self.background.device), backend=backend)
            size = target.camera.height, target.camera.width
            image, depth, alpha = mean.image, mean.depth, mean.alpha
            if size != tuple(alpha.shape):
                image, alpha = averaged(image, *size), averaged(alpha[..., None], *size)[..., 0]
                depth = averaged((mean.alpha * depth)[..., None], *size)[..., 0] / alpha.clamp_min(1e-10)
            shown.append(ShownView(target.camera, target.over(self.background), target.mask, image, depth, alpha))
        return shown


def as_taken(
    shown: Sequence[ShownView], photos: Sequence[TrainingView], background: Float[Tensor, "3"]
) -> list[ShownView]:
    """``shown``, in which photos may be reduced or compressed, beside the ``photos`` as they were taken, averaged to
    the size of what is shown."""
    targets = [Target.of(photo, 1, str(background.device)) for photo in photos]
    return [
        replace(view, photo=averaged(target.over(background), *view.alpha.shape))
        for view, target in zip(shown, targets, strict=True)
    ]


def _required(depth: Tensor | None) -> Tensor:
    assert depth is not None
    return depth
