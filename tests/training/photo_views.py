"""Gaussians that photos know better than, and heads that believe these to a given extent."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from qsplat.gaussians import Gaussians
from qsplat.io.scene import View
from qsplat.qnn import QnnConfig
from qsplat.qnn.photo_head import GAIN, PhotoHead
from qsplat.qnn.photos import PhotoConfig
from qsplat.training.photo_head import ShownView, photo_queries
from qsplat.training.plus_model import PlusModel

SMALL = QnnConfig(channels=8, precision="fp32", activation="leaky_relu")


def photo_of(model: PlusModel, view: View) -> Tensor:
    """The photo over the background of ``model``."""
    return view.image if view.alpha is None else view.image + (1 - view.alpha)[..., None] * model.background


def miscoloured(truth: Gaussians, seed: int = 0) -> Gaussians:
    """Gaussians in the right places whose colours are off by the same from everywhere, as photos can tell."""
    noise = torch.randn(truth.sh_dc.shape, generator=torch.Generator().manual_seed(seed))
    return replace(truth, sh_dc=truth.sh_dc + 0.4 * noise)


def believing(views: Sequence[ShownView], belief: float) -> PhotoHead:
    """A head that believes the photos of ``views`` to the same extent everywhere."""
    head = PhotoHead(SMALL)
    believe(head, belief)
    head.photos = photo_queries(views, PhotoConfig(count=3))
    return head.requires_grad_(False)


def believe(head: PhotoHead, belief: float) -> None:
    with torch.no_grad():
        cast(Tensor, head.stages[-1].weight).zero_()
        cast(Tensor, head.stages[-1].bias).fill_(belief / GAIN)


def spoilt(views: Sequence[ShownView], index: int, poison: float) -> list[ShownView]:
    """``views`` of which one has a photo of ``poison``."""
    bad = replace(views[index], photo=torch.full_like(views[index].photo, poison))
    return [bad if position == index else view for position, view in enumerate(views)]


def two_miscoloured(truth: Gaussians) -> PlusModel:
    """Two sets of them, over a background."""
    return PlusModel((miscoloured(truth, 0), miscoloured(truth, 1)), background=torch.tensor([0.1, 0.2, 0.3]))


def with_strip(views: Sequence[ShownView], value: float) -> list[ShownView]:
    """``views`` with a masked strip in which the photos are ``value``."""
    mask = torch.ones(36, 48, dtype=torch.bool)
    mask[:, 20:30] = False
    filled = [torch.where(mask[..., None], view.photo, torch.tensor(value)) for view in views]
    return [replace(view, mask=mask, photo=photo) for view, photo in zip(views, filled, strict=True)]
