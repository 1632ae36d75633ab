"""Measuring a model on views that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.metrics.bands import Band, band_errors
from qsplat.metrics.edges import psnr_edge
from qsplat.metrics.lpips import SMALLEST, Lpips, LpipsNet, LpipsUnavailable
from qsplat.metrics.psnr import psnr
from qsplat.metrics.ssim import ssim


@runtime_checkable
class HeldOut(Protocol):
    """A photo that was held out: premultiplied colours if it has alpha; True in the mask where a pixel counts."""

    @property
    def name(self) -> str: ...
    @property
    def camera(self) -> Camera: ...
    @property
    def image(self) -> Float[Tensor, "h w 3"]: ...
    @property
    def alpha(self) -> Float[Tensor, "h w"] | None: ...
    @property
    def mask(self) -> Bool[Tensor, "h w"] | None: ...


@runtime_checkable
class RenderedView(Protocol):
    """The image of a model, and the image that its head started from."""

    @property
    def rgb(self) -> Float[Tensor, "h w 3"]: ...
    @property
    def rgb_base(self) -> Float[Tensor, "h w 3"]: ...


@dataclass(frozen=True)
class Scores:
    """One image, or the mean over images. PSNR in dB; None where a measure has no value (the notes say why)."""

    psnr: float | None
    ssim: float | None
    lpips: float | None
    lpips_alex: float | None
    psnr_edge: float | None
    band_psnr: tuple[float, ...]


@dataclass(frozen=True)
class ImageScores:
    """Scores of one view, of its base image, and the seconds that rendering it took."""

    name: str
    scores: Scores
    base: Scores
    seconds: float


@dataclass(frozen=True)
class RunFacts:
    """What produced the images. None where it is not known."""

    method: str
    scene: str
    device: str
    iterations: int | None
    num_gaussians: int | None
    train_seconds: float | None


@dataclass(frozen=True)
class Report:
    """A finished evaluation: means over the images of ``rgb`` and of ``rgb_base``, every image, and remarks."""

    facts: RunFacts
    mean: Scores
    base: Scores
    per_image: tuple[ImageScores, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as JSON can hold it. ``lpips`` is that of the vgg backbone, ``lpips_alex`` the other;
        ``band_psnr`` goes from the lowest octave to the highest."""
        images = [
            {"name": image.name, **asdict(image.scores), "base": asdict(image.base), "render_seconds": image.seconds}
            for image in self.per_image
        ]
        return {
            **asdict(self.facts),
            "num_images": len(self.per_image),
            "mean": asdict(self.mean),
            "base": asdict(self.base),
            "per_image": images,
            "notes": list(self.notes),
        }


def evaluate(
    render: Callable[[Camera], RenderedView],
    views: Sequence[HeldOut],
    facts: RunFacts,
    *,
    background: Float[Tensor, "3"] | None = None,
    lpips: Mapping[LpipsNet, Lpips | LpipsUnavailable] | None = None,
    on_view: Callable[[ImageScores, Float[Tensor, "h w 3"], RenderedView], None] | None = None,
) -> Report:
    """Render ``views`` and measure them against their photos.

    Args:
        render: the model.
        views: held-out views; photos with alpha are put over ``background`` (black when None).
        facts: what the report says about the run.
        background: RGB that the model renders over.
        lpips: backbones to measure LPIPS with, or why not; none by default.
        on_view: is given the scores of each view, the photo as it was measured, and the rendering.

    Raises:
        ValueError: there are no views, a rendering holds NaN or infinity, or a view cannot be measured (its mask leaves
            no pixel, or it is smaller than the window of SSIM).
    """
    if not views:
        raise ValueError("there are 0 held-out views to evaluate: hold some out (every 8th by default)")
    nets = lpips or {}
    notes = [f"LPIPS ({entry.net}): {entry.reason}" for entry in nets.values() if isinstance(entry, LpipsUnavailable)]
    ready: dict[LpipsNet, Lpips] = {name: entry for name, entry in nets.items() if isinstance(entry, Lpips)}
    per_image: list[ImageScores] = []
    for view in views:
        photo = _composited(view, background)
        began = time.perf_counter()
        with torch.no_grad():
            output = render(view.camera)
        seconds = time.perf_counter() - began
        if not (bool(torch.isfinite(output.rgb).all()) and bool(torch.isfinite(output.rgb_base).all())):
            raise ValueError(f"the rendering of {view.name} holds NaN or infinity: the training has diverged")
        target, mask = photo.to(output.rgb.device), None if view.mask is None else view.mask.to(output.rgb.device)
        try:
            both = [_scores(image, target, mask, ready) for image in (output.rgb, output.rgb_base)]
        except ValueError as error:
            raise ValueError(f"{view.name}: {error}") from None
        per_image.append(ImageScores(view.name, both[0], both[1], seconds))
        if on_view is not None:
            on_view(per_image[-1], photo, output)
    if any(view.mask is not None for view in views):
        notes.append("masks: PSNR and SSIM over counted pixels; LPIPS and bands with the photo outside of them")
    without_edges = [image.name for image in per_image if image.scores.psnr_edge is None]
    if without_edges:
        notes.append(f"psnr_edge: no edges in {', '.join(without_edges)}, left out of its mean")
    too_small = [image.name for image in per_image if (image.scores.lpips, image.scores.lpips_alex) == (None, None)]
    if ready and too_small:
        notes.append(f"lpips: {', '.join(too_small)} under {SMALLEST} pixels a side, left out of its mean")
    return Report(
        facts=facts,
        mean=_mean([image.scores for image in per_image]),
        base=_mean([image.base for image in per_image]),
        per_image=tuple(per_image),
        notes=tuple(notes),
    )


def _composited(view: HeldOut, background: Float[Tensor, "3"] | None) -> Float[Tensor, "h w 3"]:
    if view.alpha is None or background is None:
        return view.image
    return view.image + (1 - view.alpha)[..., None] * background.to(view.image)


def _scores(
    image: Float[Tensor, "h w 3"],
    photo: Float[Tensor, "h w 3"],
    mask: Bool[Tensor, "h w"] | None,
    lpips: Mapping[LpipsNet, Lpips],
) -> Scores:
    filled = image if mask is None else torch.where(mask[..., None], image, photo)
    bands: tuple[Band, ...] = band_errors(filled, photo)
    return Scores(
        psnr=psnr(image, photo, mask=mask),
        ssim=ssim(image, photo, mask=mask),
        lpips=lpips["vgg"](filled, photo) if "vgg" in lpips else None,
        lpips_alex=lpips["alex"](filled, photo) if "alex" in lpips else None,
        psnr_edge=psnr_edge(image, photo, mask=mask),
        band_psnr=tuple(band.psnr for band in bands),
    )


def _mean(scores: Sequence[Scores]) -> Scores:
    """Means over the images that have a value."""

    def over(name: str) -> float | None:
        values = [value for value in (getattr(entry, name) for entry in scores) if value is not None]
        return sum(values) / len(values) if values else None

    octaves = zip(*(entry.band_psnr for entry in scores), strict=True)
    return Scores(
        psnr=over("psnr"),
        ssim=over("ssim"),
        lpips=over("lpips"),
        lpips_alex=over("lpips_alex"),
        psnr_edge=over("psnr_edge"),
        band_psnr=tuple(sum(values) / len(scores) for values in octaves),
    )
