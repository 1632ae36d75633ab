"""One self-contained HTML page about a run: pictures, metrics and the commands behind them. It asks nothing of the net.

``page(report)`` returns the text; ``scripts/demo.py`` fills the ``Report``.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
"""sRGB, h w 3."""

TEMPLATE = Path(__file__).with_name("report.html")

METRICS: Mapping[str, tuple[str, str, int]] = {
    "psnr": ("PSNR", "dB, higher is better", 2),
    "ssim": ("SSIM", "higher is better", 4),
    "lpips": ("LPIPS", "lower is better", 4),
    "psnr_edge": ("PSNR at edges", "dB, higher is better", 2),
}


@dataclass(frozen=True)
class Comparison:
    """A held-out photo beside what the model makes of its camera, all of one size."""

    name: str
    photo: Picture
    base: Picture
    rgb: Picture
    residual: Picture
    base_error: Picture
    rgb_error: Picture


@dataclass(frozen=True)
class Report:
    """Everything on the page.

    ``metrics`` is what ``scripts/evaluate.py`` writes. ``orbit`` are the frames of an animation, ``residual_gain`` the
    amplification of the residuals, ``error_range`` the error (in [0, 1]) at which the maps are brightest.
    """

    title: str
    summary: str
    orbit: Sequence[Picture]
    comparisons: Sequence[Comparison]
    metrics: Mapping[str, Any]
    commands: Sequence[str]
    residual_gain: float
    error_range: float


def page(report: Report) -> str:
    """The HTML text.

    Raises:
        ValueError: there is nothing to compare.
    """
    if not report.comparisons:
        raise ValueError("0 held-out views: the page compares at least one")
    views = [_view(comparison) for comparison in report.comparisons]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(report.title),
        summary=escape(report.summary),
        hero=_animation(report.orbit) if report.orbit else _encoded(report.comparisons[0].rgb),
        views=json.dumps(views).replace("</", "<\\/"),
        thumbnails="\n".join(
            f'<button type="button" data-view="{i}" aria-label="{escape(view["name"])}">'
            f'<img src="{view["photo"]}" alt="{escape(view["name"])}"></button>'
            for i, view in enumerate(views)
        ),
        metrics=_metrics_table(report.metrics),
        per_image=_per_image_table(report.metrics),
        notes="\n".join(f"<li>{escape(str(note))}</li>" for note in report.metrics.get("notes", ())),
        commands=escape("\n".join(report.commands)),
        gain=f"{report.residual_gain:g}",
        range=f"{report.error_range:g}",
    )


def _view(comparison: Comparison) -> dict[str, str]:
    pictures = ("photo", "base", "rgb", "residual", "base_error", "rgb_error")
    return {"name": comparison.name, **{name: _encoded(getattr(comparison, name)) for name in pictures}}


def _metrics_table(metrics: Mapping[str, Any]) -> str:
    rows = []
    for key, (label, unit, digits) in METRICS.items():
        base, mean = metrics["base"].get(key), metrics["mean"].get(key)
        change = "" if base is None or mean is None else f"{mean - base:+.{digits}f}"
        cells = "".join(f"<td>{cell}</td>" for cell in (_number(base, digits), _number(mean, digits), change))
        rows.append(f"<tr><th>{label}<small>{unit}</small></th>{cells}</tr>")
    return "\n".join(rows)


def _per_image_table(metrics: Mapping[str, Any]) -> str:
    rows = []
    for image in metrics.get("per_image", ()):
        cells = "".join(f"<td>{_number(image.get(key), digits)}</td>" for key, (_, _, digits) in METRICS.items())
        rows.append(f"<tr><th>{escape(str(image.get('name', '')))}</th>{cells}</tr>")
    return "\n".join(rows)


def _number(value: float | None, digits: int) -> str:
    return '<span class="missing">not measured</span>' if value is None else f"{value:.{digits}f}"


def _encoded(picture: Picture, form: Literal["webp"] = "webp") -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, quality=92, method=4)
    return _data_uri(buffer.getvalue())


def _animation(frames: Sequence[Picture]) -> str:
    buffer = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(buffer, "webp", save_all=True, append_images=others, duration=90, loop=0, quality=84, method=4)
    return _data_uri(buffer.getvalue())


def _data_uri(content: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
