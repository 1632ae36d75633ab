"""How far each of several sets of Gaussians is to be believed at a pixel: by the photos around it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from qsplat.cameras import Camera, Window
from qsplat.qnn.photos import PhotoConfig, PhotoQueries
from qsplat.training.photo_head import ShownView

BLOCK = 2
"""Side in pixels of the blocks in which images and photos are compared. Blocks are counted from the first pixel of the
whole image; at its right and lower border they may be smaller."""
PHOTOS = 4
"""Photos that are compared with a view, at most."""
UNSEEN_TRUST = 0.05
"""Confidence that is added to that of the photos: a surface that none of them sees may be there."""
USUAL_ERROR = 0.02
"""Root mean square of the difference between two photos of the same surface, in units of white."""
UNKNOWN_ERROR = 0.2
"""The same for a surface that no photo sees."""
HALF_KNOWN = 1e-3
"""Confidence in the colours of a surface at which its error is taken for halfway known."""


@dataclass(frozen=True)
class SetView:
    """What one set of Gaussians shows of a view: image over the background, expected depth (world units along z), and
    coverage."""

    image: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    alpha: Float[Tensor, "h w"]


class SetWeights:
    """Weights of the sets of Gaussians that an image is the mean of.

    The photos nearest to a view are warped into it through the depth of each set alone. With their confidence c and the
    squared difference e of their colours from those of the set, the set counts

        w = sqrt((c + u) / ((c e + l q^2) / (c + l) + s^2))

    with u = UNSEEN_TRUST, s = USUAL_ERROR, q = UNKNOWN_ERROR and l = HALF_KNOWN: little where it shows a surface that
    no photo sees, as haze is that hangs before the camera, or one of another colour than photos show there. Where no
    photo sees the surface of any set all count the same. The pixels of a block share their weights, between whose
    centres these are interpolated.

    Source: ours. The constants, and the root, are those that gained most on photos that no set had seen.
    """

    def __init__(self, views: Sequence[ShownView], config: PhotoConfig | None = None) -> None:
        """Photos of any sizes, with the depth that all sets together give to them."""
        config = config or PhotoConfig()
        small = [_in_blocks(view) for view in views]
        self._colors = PhotoQueries([view.source for view in small], replace(config, count=min(config.count, PHOTOS)))

    def without(self, index: int | None) -> SetWeights:
        """The same without photo ``index``, for the view that is that photo; with all photos if None."""
        other = copy.copy(self)
        other._colors = self._colors.without(index)
        return other

    @torch.no_grad()
    def __call__(self, camera: Camera, shown: Sequence[SetView]) -> Float[Tensor, "k h w"]:
        """The weight of each set at the pixels that ``camera`` renders; those of a pixel have the sum 1.

        A window has to begin with a block.
        """
        eye, weights = camera_of_blocks(camera), []
        for one in shown:
            colors, confidence = self._colors.seen(eye, _depth(one))
            error = (_averaged(one.image) - colors).square().mean(-1)
            error = (confidence * error + HALF_KNOWN * UNKNOWN_ERROR**2) / (confidence + HALF_KNOWN)
            weights.append(((confidence + UNSEEN_TRUST) / (error + USUAL_ERROR**2)).sqrt())
        shares = torch.stack(weights)
        shares = functional.interpolate(
            (shares / shares.sum(0))[None], scale_factor=BLOCK, mode="bilinear", align_corners=False
        )
        height, width = shown[0].alpha.shape
        return shares[0, :, :height, :width]


def set_weights(views: Sequence[ShownView], config: PhotoConfig | None = None, *, sets: int) -> SetWeights | None:
    """Weights of ``sets`` sets of Gaussians by the photos of ``views``; None for one, which is all there is."""
    return SetWeights(views, config) if sets > 1 else None


def window_of_blocks(camera: Camera) -> Window:
    """What has to be drawn of ``camera`` for the pixels of its window to have the weights that they have in the whole
    image: the blocks that it touches and those around them."""
    part = camera.view
    left, top = (max(0, start // BLOCK - 1) * BLOCK for start in (part.x, part.y))
    right = min(camera.width, (_blocks(part.x + part.width) + 1) * BLOCK)
    bottom = min(camera.height, (_blocks(part.y + part.height) + 1) * BLOCK)
    return Window(left, top, right - left, bottom - top)


def camera_of_blocks(camera: Camera) -> Camera:
    """The same view with a pixel for each block; the window of ``camera`` has to begin with one."""
    part = camera.view
    assert part.x % BLOCK == 0
    assert part.y % BLOCK == 0
    return replace(
        camera,
        fx=camera.fx / BLOCK,
        fy=camera.fy / BLOCK,
        cx=camera.cx / BLOCK,
        cy=camera.cy / BLOCK,
        width=_blocks(camera.width),
        height=_blocks(camera.height),
        window=None
        if camera.window is None
        else Window(part.x // BLOCK, part.y // BLOCK, _blocks(part.width), _blocks(part.height)),
    )


def _blocks(pixels: int) -> int:
    return -(-pixels // BLOCK)


def _in_blocks(view: ShownView) -> ShownView:
    """``view`` with a pixel for each block and no image: what it lacks is the photo itself."""
    photo = _averaged(view.photo)
    counted = None if view.mask is None else _averaged(view.mask[..., None].float())[..., 0] == 1
    alpha = _averaged(view.alpha[..., None])[..., 0]
    depth = _depth(SetView(view.image, view.depth, view.alpha))
    return ShownView(camera_of_blocks(view.camera), photo, counted, torch.zeros_like(photo), depth, alpha)


def _depth(shown: SetView) -> Float[Tensor, "v u"]:
    """Mean depth of the blocks' covered parts."""
    alpha = _averaged(shown.alpha[..., None])[..., 0]
    return _averaged((shown.alpha * shown.depth)[..., None])[..., 0] / alpha.clamp_min(1e-10)


def _averaged(image: Float[Tensor, "h w c"]) -> Float[Tensor, "v u c"]:
    planes = functional.avg_pool2d(image.permute(2, 0, 1)[None], BLOCK, ceil_mode=True, count_include_pad=False)
    return planes[0].permute(1, 2, 0)
