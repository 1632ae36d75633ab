"""The gain of a head over all views of a scene: on views it has seen and on others, near the training cameras and far.

``map_gain`` needs a function from a camera to a rendering, so that it takes runs of ns-train and models of ``fit``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from gain_parts import Corrected, GainParts, Unsharp, corrected, fit_unsharp, place_gain
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from qsplat.cameras import Camera
from qsplat.io.scene import View
from qsplat.metrics.report import RenderedView
from qsplat.spectra.radial import RadialSpectrum, mean_spectrum, radial_spectrum
from qsplat.training.targets import Target

Render = Callable[[Camera], RenderedView]

FEWEST_RANKED = 4
"""Fewer views than this have no rank correlation worth the name."""


@dataclass(frozen=True)
class Neighbour:
    """The training camera nearest to a camera: its number, the distance of the centres in units of the world, and the
    angle between the optical axes in degrees."""

    index: int
    distance: float
    angle: float


@dataclass(frozen=True)
class Spectra:
    """Radial spectra of what is missing before the head (photo less base), of what is left after it, and of the
    head's residual."""

    before: RadialSpectrum
    after: RadialSpectrum
    residual: RadialSpectrum


@dataclass(frozen=True)
class ViewGain:
    """One view: its gain and where it sits."""

    name: str
    nearest: Neighbour
    parts: GainParts
    spectra: Spectra


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation, -1 to 1, and the probability of one as strong between unrelated values."""

    rho: float
    p: float


@dataclass(frozen=True)
class ViewsGain:
    """At least one view."""

    views: tuple[ViewGain, ...]

    @property
    def gain(self) -> float:
        """Mean gain in dB."""
        return self.mean("gain")

    @property
    def better(self) -> int:
        """How many views gain."""
        return sum(view.parts.gain > 0 for view in self.views)

    @property
    def octaves(self) -> tuple[float, ...]:
        """Means of the gain's octaves in dB; they add up to the mean gain."""
        return tuple(
            statistics.mean(values) for values in zip(*(view.parts.octaves for view in self.views), strict=True)
        )

    @property
    def spectra(self) -> Spectra:
        """Mean spectra."""
        every = [view.spectra for view in self.views]
        return Spectra(
            before=mean_spectrum([each.before for each in every]),
            after=mean_spectrum([each.after for each in every]),
            residual=mean_spectrum([each.residual for each in every]),
        )

    @property
    def by_distance(self) -> Correlation | None:
        """Of the gain with the distance to the nearest training camera; None if it cannot be said."""
        return rank_correlation([view.nearest.distance for view in self.views], self._gains)

    @property
    def by_angle(self) -> Correlation | None:
        """Of the gain with the angle to the nearest training camera; None if it cannot be said."""
        return rank_correlation([view.nearest.angle for view in self.views], self._gains)

    def mean(self, part: str) -> float:
        """The mean of one number of ``GainParts`` over the views."""
        return statistics.mean(getattr(view.parts, part) for view in self.views)

    def as_json(self) -> dict[str, Any]:
        """Means, correlations, spectra and every view, as JSON can hold them."""
        spectra = self.spectra
        numbers = [field.name for field in fields(GainParts) if field.name != "octaves"]
        return {
            "views": len(self.views),
            "better": self.better,
            "mean": {name: self.mean(name) for name in ("gain", *numbers)} | {"octaves": self.octaves},
            "share_above_half_nyquist": {
                name: getattr(spectra, name).share_above() for name in ("before", "after", "residual")
            },
            "gain_by_distance": None if self.by_distance is None else asdict(self.by_distance),
            "gain_by_angle": None if self.by_angle is None else asdict(self.by_angle),
            "spectra": {
                "cycles_per_pixel": spectra.before.frequencies.tolist(),
                **{name: getattr(spectra, name).energy.tolist() for name in ("before", "after", "residual")},
            },
            "per_view": [
                {"name": view.name, "gain": view.parts.gain, **asdict(view.parts), **_placed(view.nearest)}
                for view in self.views
            ],
        }

    @property
    def _gains(self) -> list[float]:
        return [view.parts.gain for view in self.views]


@dataclass(frozen=True)
class GainMap:
    """Held-out views, training views, and the unsharp filter that was fitted on the training views."""

    held_out: ViewsGain
    train: ViewsGain
    unsharp: Unsharp


def map_gain(
    render: Render,
    train: Sequence[View],
    held_out: Sequence[View],
    *,
    background: Float[Tensor, "3"],
) -> GainMap:
    """Render every view and place its gain.

    Each view is compared with its nearest training view other than itself, whose residual is also the wrong one that
    is tried in its place.

    Args:
        render: the model. It is given the cameras of the views themselves, so that a head that reads photos can leave
            out that of the view; where it does not, the gain of training views is that of copying.
        train: views of the training, at least two.
        held_out: other views, at least one.
        background: RGB that the model renders over, and photos with alpha are put over.

    Raises:
        ValueError: there are too few views, one of them cannot be measured, or no view is changed by the head.
    """
    if len(train) < 2 or not held_out:
        raise ValueError(f"{len(train)} training and {len(held_out)} held-out views: there must be at least 2 and 1")
    cameras = [view.camera for view in train]
    unsharp = fit_unsharp(seen(render, view, background) for view in train)

    def placed(views: Iterable[View], training: bool) -> ViewsGain:
        gains = []
        for index, view in enumerate(views):
            here = seen(render, view, background)
            near = nearest(view.camera, cameras, other_than=index if training else None)
            there = seen(render, train[near.index], background).residual
            parts = place_gain(here, unsharp=unsharp, wrong=_stretched(there, here.residual.shape))
            gains.append(ViewGain(view.name, near, parts, spectra_of(here)))
        return ViewsGain(tuple(gains))

    found = GainMap(placed(held_out, False), placed(train, True), unsharp)
    residuals = (views.spectra.residual.energy for views in (found.held_out, found.train))
    if not any(bool(energy.any()) for energy in residuals):
        raise ValueError("the head changes none of the views: give a model with a trained head")
    return found


def seen(render: Render, view: View, background: Float[Tensor, "3"]) -> Corrected:
    """The photo of ``view`` and its rendering.

    Raises:
        ValueError: they cannot be compared.
    """
    target = Target.of(view, 1, "cpu")
    with torch.no_grad():
        shown = render(view.camera)
    return corrected(target.over(background.cpu()), shown.rgb_base, shown.rgb, mask=target.mask)


def spectra_of(view: Corrected) -> Spectra:
    """The spectra of one view."""
    return Spectra(
        before=radial_spectrum(view.missing),
        after=radial_spectrum(view.left),
        residual=radial_spectrum(view.residual),
    )


def nearest(camera: Camera, others: Sequence[Camera], *, other_than: int | None = None) -> Neighbour:
    """The one of ``others`` whose centre is nearest to that of ``camera``, leaving out number ``other_than``."""
    distances = torch.stack([torch.linalg.vector_norm(other.center - camera.center) for other in others]).double()
    if other_than is not None:
        distances[other_than] = torch.inf
    index = int(distances.argmin())
    axes = [each.cam_from_world[2, :3].double() for each in (camera, others[index])]
    angle = torch.atan2(torch.linalg.vector_norm(torch.linalg.cross(*axes)), torch.dot(*axes))
    return Neighbour(index, distances[index].item(), torch.rad2deg(angle).item())


def _stretched(image: Float[Tensor, "v u c"], shape: torch.Size) -> Float[Tensor, "h w c"]:
    """``image`` at the size of ``shape``, where views differ in size."""
    if image.shape == shape:
        return image
    planes = functional.interpolate(image.permute(2, 0, 1)[None], size=shape[:2], mode="bilinear")
    return planes[0].permute(1, 2, 0)


def rank_correlation(positions: Sequence[float], gains: Sequence[float]) -> Correlation | None:
    """That of two properties of views; None for too few of them, or where one of the two is the same in all."""
    if len(gains) < FEWEST_RANKED or len(set(positions)) == 1 or len(set(gains)) == 1:
        return None
    ranked: Any = spearmanr(positions, gains)
    return Correlation(float(ranked.statistic), float(ranked.pvalue))


def _placed(near: Neighbour) -> dict[str, float]:
    return {"distance": near.distance, "angle_degrees": near.angle}
