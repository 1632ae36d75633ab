"""One self-contained HTML page about a run: pictures, metrics and the commands behind them. It asks nothing of the net.

``page(report)`` returns the text; ``scripts/demo.py`` fills the ``Report``.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from pictures import ERROR_RANGE, RESIDUAL_GAIN, Panels, Picture
from PIL import Image

TEMPLATE = Path(__file__).with_name("report.html")

METRICS: Mapping[str, tuple[str, str, int]] = {
    "psnr": ("PSNR", "dB, higher is better", 2),
    "ssim": ("SSIM", "higher is better", 4),
    "lpips": ("LPIPS", "lower is better", 4),
    "psnr_edge": ("PSNR at edges", "dB, higher is better", 2),
}


@dataclass(frozen=True)
class Report:
    """Everything on the page.

    ``metrics`` is what ``scripts/evaluate.py`` writes. ``orbit`` are the frames of an animation, ``comparisons`` the
    pictures of the held-out views by name.
    """

    title: str
    summary: str
    orbit: Sequence[Picture]
    comparisons: Mapping[str, Panels]
    metrics: Mapping[str, Any]
    commands: Sequence[str]


def page(report: Report) -> str:
    """The HTML text.

    Raises:
        ValueError: there is nothing to compare.
    """
    if not report.comparisons:
        raise ValueError("0 held-out views: the page compares at least one")
    views = [_view(name, panels) for name, panels in report.comparisons.items()]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(report.title),
        summary=escape(report.summary),
        hero=_animation(report.orbit) if report.orbit else views[0]["rgb"],
        views=json.dumps(views).replace("</", "<\\/"),
        thumbnails="\n".join(
            f'<button type="button" data-view="{i}" aria-label="{escape(view["name"])}">'
            f'<img src="{view["photo"]}" alt="{escape(view["name"])}"></button>'
            for i, view in enumerate(views)
        ),
        metrics=_metrics_table(report.metrics),
        per_image=_per_image_table(report.metrics),
        notes="\n".join(f"<li>{escape(str(note))}</li>" for note in report.metrics.get("notes", ())),
        commands=escape("\n\n".join(report.commands)),
        gain=f"{RESIDUAL_GAIN:g}",
        range=f"{ERROR_RANGE:g}",
    )


def _view(name: str, panels: Panels) -> dict[str, str]:
    return {"name": name, **{entry.name: _encoded(getattr(panels, entry.name)) for entry in fields(panels)}}


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


def _encoded(picture: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "webp", quality=92, method=4)
    return _data_uri(buffer.getvalue())


def _animation(frames: Sequence[Picture]) -> str:
    buffer = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(buffer, "webp", save_all=True, append_images=others, duration=90, loop=0, quality=84, method=4)
    return _data_uri(buffer.getvalue())


def _data_uri(content: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
