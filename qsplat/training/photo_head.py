"""Training of the head that reads photo queries, on Gaussians that no longer move."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.qnn.images import crop_residual, image_residual, rows_and_columns
from qsplat.qnn.photo_head import PhotoHead
from qsplat.qnn.photos import PhotoConfig, PhotoQueries, Source
from qsplat.qnn.queries import part_queries
from qsplat.training.adam import Adam
from qsplat.training.crops import random_crop
from qsplat.training.losses import photometric_loss
from qsplat.training.optimizers import EPSILON

RATE = 1e-3
"""Initial learning rate, which goes to 0 by a cosine."""
LEAST_GAIN = 0.01
"""Gain in dB on photos of the training below which a head counts as no help: by leave-one-out on photos that the
Gaussians have seen, trainings of a head that learns nothing of use came out at 0.002 above or below 0."""


@dataclass(frozen=True)
class ShownView:
    """A training view and what the Gaussians make of it: image over the background, expected depth (world units along
    z) and coverage. The photo is over the same background; True in the mask where a pixel counts."""

    camera: Camera
    photo: Float[Tensor, "h w 3"]
    mask: Bool[Tensor, "h w"] | None
    image: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    alpha: Float[Tensor, "h w"]

    @property
    def source(self) -> Source:
        """What other views may learn from this one. Pixels that do not count are of no surface, and lack nothing."""
        residual, alpha = self.photo - self.image, self.alpha
        if self.mask is not None:
            residual = torch.where(self.mask[..., None], residual, torch.zeros_like(residual))
            alpha = alpha * self.mask
        return Source(self.camera, residual, self.depth, alpha)


def photo_queries(views: Sequence[ShownView], config: PhotoConfig | None = None) -> PhotoQueries:
    """Queries of which the photos are those of ``views``, in that order."""
    return PhotoQueries([view.source for view in views], config)


class PhotoHeadTraining:
    """A head at work on ``views``, whose photos are those of ``head.photos`` in the same order. No step lets a view
    read its own photo."""

    def __init__(
        self, head: PhotoHead, views: Sequence[ShownView], *, steps: int, crop_share: float, seed: int
    ) -> None:
        assert len(head.photos.cameras) == len(views)
        self.head, self.views, self.steps = head, views, steps
        self._crop_share = crop_share
        self._generator = torch.Generator().manual_seed(seed)
        self._optimizer = Adam(list(head.parameters()), lr=RATE, eps=EPSILON, fused=True)
        self._queries = [head.photos.without(index) for index in range(len(views))]

    def step(self, step: int, index: int, *, ssim_weight: float = 0.2, threads: int | None = None) -> Float[Tensor, ""]:
        """Move the head once, on a crop of view ``index``; the loss before that."""
        view = self.views[index]
        height, width, _ = view.image.shape
        crop = random_crop(width, height, self._crop_share, generator=self._generator)
        here = rows_and_columns(crop)
        queries = part_queries(self._queries[index], view.camera, view.depth)
        image = view.image[here] + crop_residual(self.head, view.image, queries, crop)
        mask = None if view.mask is None else view.mask[here]
        loss = photometric_loss(
            image, view.photo[here].contiguous(), ssim_weight=ssim_weight, mask=mask, threads=threads
        )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in self._optimizer.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * step / self.steps)) / 2
        self._optimizer.step()
        return loss.detach()


def train_photo_head(
    head: PhotoHead,
    views: Sequence[ShownView],
    *,
    steps: int,
    crop_share: float,
    seed: int = 0,
    ssim_weight: float = 0.2,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Train ``head`` for ``steps`` steps on crops of ``views`` in shuffled epochs."""
    training = PhotoHeadTraining(head, views, steps=steps, crop_share=crop_share, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    upcoming: list[int] = []
    for step in range(steps):
        upcoming = upcoming or torch.randperm(len(views), generator=generator).tolist()
        training.step(step, upcoming.pop(), ssim_weight=ssim_weight)
        if on_step is not None:
            on_step(step)


@torch.no_grad()
def leave_one_out_gain(head: PhotoHead, views: Sequence[ShownView], chosen: Sequence[int] | None = None) -> float:
    """Mean over ``views``, or those of the indices ``chosen``, of the gain in PSNR, in dB, of images with the head over
    those without, none of which reads its own photo; 0 without a view of which a pixel counts. ``views`` are those of
    ``head.photos`` in that order."""
    assert len(head.photos.cameras) == len(views)
    gains = []
    for index in range(len(views)) if chosen is None else chosen:
        view = views[index]
        if view.mask is not None and not view.mask.any():
            continue
        queries = part_queries(head.photos.without(index), view.camera, view.depth)
        corrected = view.image + image_residual(head, view.image, queries)
        before, after = (_squared_error(image, view) for image in (view.image, corrected))
        gains.append(10 * math.log10(max(before, 1e-12) / max(after, 1e-12)))
    return statistics.mean(gains) if gains else 0.0


def settle_belief(
    head: PhotoHead,
    views: Sequence[ShownView],
    unseen: Sequence[int],
    testimony: Callable[[], tuple[PhotoQueries, Sequence[ShownView]]],
    chosen: Sequence[int] | None = None,
) -> float:
    """Fit the belief of ``head`` by the photos ``unseen`` of ``views``; ``testimony`` is how Gaussians that have not
    seen them show all photos, and the queries of these. Without such photos leave it as it is.

    Returns:
        The gain in dB on these photos over those Gaussians, or that of ``leave_one_out_gain``.
    """
    counted = [index for index in unseen if (mask := views[index].mask) is None or bool(mask.any())]
    return fit_belief(head, *testimony(), counted) if counted else leave_one_out_gain(head, views, chosen)


@torch.no_grad()
def fit_belief(head: PhotoHead, photos: PhotoQueries, views: Sequence[ShownView], unseen: Sequence[int]) -> float:
    """Decide how far ``head`` believes the photos: ``head.belief`` becomes what brings ``unseen`` views nearest to
    their photos, none of which its own view reads.

    ``views`` are those of ``photos`` in that order, both as Gaussians show them that were not trained on the photos of
    the ``unseen`` ones, of which there is one at least. Where Gaussians know a photo by heart, other photos have little
    to add; where they do not, the same photos are right much more often. The network of ``head`` may have learnt from
    all photos: it has then seen more than what it is judged by should allow, but only one number depends on it.

    Returns:
        The mean gain in dB over these views, each with the belief that the others decide; that of a single one with its
        own.
    """
    assert len(photos.cameras) == len(views)
    residuals = dict[int, Float[Tensor, "2 h w 3"]]()
    for index in unseen:
        view = views[index]
        queries, parts = part_queries(photos.without(index), view.camera, view.depth), []
        for belief in ((1.0, 0.0), (0.0, 1.0)):
            head.belief.copy_(torch.tensor(belief))
            parts.append(image_residual(head, view.image, queries))
        residuals[index] = torch.stack(parts)
    equations = {index: _equations(views[index], parts) for index, parts in residuals.items()}
    gains = []
    for index, parts in residuals.items():
        others = [other for other in equations if other != index] or [index]
        belief = _belief([equations[other] for other in others])
        corrected = views[index].image + torch.einsum("p,phwc->hwc", belief.to(parts), parts)
        before, after = (_squared_error(image, views[index]) for image in (views[index].image, corrected))
        gains.append(10 * math.log10(max(before, 1e-12) / max(after, 1e-12)))
    head.belief.copy_(_belief(list(equations.values())))
    return statistics.mean(gains)


def _equations(view: ShownView, parts: Float[Tensor, "2 h w 3"]) -> Float[Tensor, "2 3"]:
    """Normal equations of what ``view`` lacks in terms of ``parts``, relative to its squared error, as a mean of PSNR
    weighs views: a matrix and, beside it, the right side."""
    lacks = view.photo - view.image
    if view.mask is not None:
        lacks, parts = lacks[view.mask], parts[:, view.mask]
    parts, lacks = parts.flatten(1).double(), lacks.flatten().double()
    system = torch.cat([parts @ parts.T, (parts @ lacks)[:, None]], dim=1)
    return (system / lacks.square().sum().clamp_min(1e-12)).cpu()


def _belief(equations: Sequence[Float[Tensor, "2 3"]]) -> Float[Tensor, "2"]:
    """The least squares solution of the sum of ``equations`` of which neither part is negative."""
    (a, b, right), (_, c, other) = torch.stack(list(equations)).sum(0).tolist()

    def error(belief: tuple[float, float]) -> float:
        s, t = belief
        return a * s * s + 2 * b * s * t + c * t * t - 2 * (right * s + other * t)

    tried = [(max(0.0, right / max(a, 1e-12)), 0.0), (0.0, max(0.0, other / max(c, 1e-12)))]
    determinant = a * c - b * b
    if determinant > 1e-9 * a * c:
        both = (c * right - b * other) / determinant, (a * other - b * right) / determinant
        tried += [both] if min(both) >= 0 else []
    return torch.tensor(min(tried, key=error))


def _squared_error(image: Float[Tensor, "h w 3"], view: ShownView) -> float:
    squared = (image.clamp(0, 1) - view.photo).square()
    return float(squared.mean() if view.mask is None else squared[view.mask].mean())
