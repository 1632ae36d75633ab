"""A comparison as one self-contained HTML page, which asks nothing of the net.

Photos and images are embedded without loss; error maps, residuals and close-ups are made of them in the browser.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

from pictures import ERROR_RANGE, RESIDUAL_GAIN

from comparison.methods import METHODS
from comparison.tables import remarks, verdicts

HERE = Path(__file__).parent
COLORS = ("#5f646c", "#24508f", "#0b8268", "#c2571a", "#8f3f97", "#b0882a", "#b3262a")
"""Of the methods, in the order of their table."""
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("psnr", "PSNR", ".2f"),
    ("ssim", "SSIM", ".4f"),
    ("psnr_edge", "PSNR on edges", ".2f"),
    ("lpips", "LPIPS", ".4f"),
    ("train_seconds", "time, s", ".1f"),
    ("iterations", "iterations", ",.0f"),
    ("parameters", "parameters", ",.0f"),
    ("bytes", "file, MB", ".2f"),
    ("fps", "views a second", ".2f"),
)


def page(content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The HTML text of ``content``, that of comparison.json, with the pictures of ``rows``."""
    settings, found = content["settings"], content["summary"]
    methods = [name for name in METHODS if any(one["method"] == name for one in found)]
    scenes = list(dict.fromkeys(one["scene"] for one in found))
    embedded = {
        "methods": [{"name": name, "color": color_of(name)} for name in methods],
        "scenes": [_scene(scene, found, rows, settings["unit"]) for scene in scenes],
        "unit": settings["unit"],
        "bands": _bands(),
        "inferno": _inferno(),
        "errorRange": ERROR_RANGE,
        "residualGain": RESIDUAL_GAIN,
    }
    count = f"{_number(len(methods), 'method')}, {_number(len(scenes), 'scene')}"
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{count[0].upper()}{count[1:]}, {settings['budget']} each"),
        lead=escape(_lead(methods)),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        verdicts="\n".join(_verdict(sentence) for sentence in verdicts(found)),
        overview=_overview(found, methods, scenes),
        scenes="\n".join(f'<button type="button" aria-pressed="false">{escape(scene)}</button>' for scene in scenes),
        tables="\n".join(_table(scene, found) for scene in scenes),
        how=escape(_how(content)),
        command=escape(settings["command"]),
        remarks=_remarks(content["rows"]),
        data=json.dumps(embedded, separators=(",", ":")).replace("</", "<\\/"),
    )


def color_of(method: str) -> str:
    """The colour that stands for a method."""
    return COLORS[list(METHODS).index(method) % len(COLORS)]


def _scene(
    scene: str, found: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], unit: str
) -> dict[str, Any]:
    """What the page shows of a scene: pictures of the first seed of each method, and lines over all seeds."""
    summaries = {one["method"]: one for one in found if one["scene"] == scene and one["psnr"]}
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["scene"] == scene and "failed" not in row:
            by_method.setdefault(row["method"], []).append(row)
    views: dict[str, dict[str, Any]] = {}
    for method, some in by_method.items():
        for shown in some[0]["pictures"]:
            view = {"name": shown["view"], "photo": shown["photo"], "images": {}, "psnr": {}}
            view = views.setdefault(shown["view"], view)
            view["images"][method], view["psnr"][method] = shown["image"], round(shown["psnr"], 3)
    return {
        "name": scene,
        "best": max(summaries, key=lambda name: summaries[name]["psnr"]["mean"], default="photo"),
        "views": list(views.values()),
        "curves": {method: _curve(some, unit) for method, some in by_method.items()},
        "octaves": {method: [round(value, 3) for value in one["band_psnr"]] for method, one in summaries.items()},
    }


def _curve(rows: Sequence[Mapping[str, Any]], unit: str) -> list[tuple[float, float]]:
    """Means over seeds of where a training stood and of its PSNR, at each mark."""
    points = zip(*(row["curve"] for row in rows), strict=True)
    return [
        (round(statistics.mean(one[unit] for one in some), 2), round(statistics.mean(one["psnr"] for one in some), 3))
        for some in points
    ]


def _lead(methods: Sequence[str]) -> str:
    named = ", ".join(f"{name} ({METHODS[name].label})" for name in methods)
    return f"{named}: the same photos, the same budget, judged by the same code on views that none of them has seen."


def _verdict(sentence: str) -> str:
    role = "baseline" if "a baseline wins" in sentence else "ours"
    scene, _, said = sentence.partition(": ")
    return f'<li class="{role}"><b>{escape(scene)}</b>: {escape(said)}</li>'


def _overview(found: Sequence[Mapping[str, Any]], methods: Sequence[str], scenes: Sequence[str]) -> str:
    """PSNR of all methods on all scenes."""
    cells = {(one["scene"], one["method"]): one for one in found}
    head = "".join(f'<th scope="col">{escape(scene)}</th>' for scene in scenes)
    lines = [f"<table><thead><tr><th></th>{head}</tr></thead><tbody>"]
    for name in methods:
        row = [_score_cell(cells.get((scene, name)), _best(found, scene, "psnr"), "psnr", ".2f") for scene in scenes]
        lines.append(f'<tr><th scope="row">{_dotted(name)}</th>{"".join(row)}</tr>')
    return "\n".join([*lines, "</tbody></table>"])


def _table(scene: str, found: Sequence[Mapping[str, Any]]) -> str:
    """All figures of one scene."""
    of_scene = [one for one in found if one["scene"] == scene]
    columns = [column for column in COLUMNS if any(one[column[0]] is not None for one in of_scene)]
    head = "".join(f'<th scope="col">{escape(label)}</th>' for _, label, _ in columns)
    lines = [
        '<div class="wide" tabindex="0" data-scene-table>'
        f"<table><thead><tr><th>{escape(scene)}</th>{head}</tr></thead><tbody>"
    ]
    for one in of_scene:
        cells = []
        for name, _, form in columns:
            if isinstance(one[name], Mapping) or not one["seeds"]:
                cells.append(_score_cell(one, _best(found, scene, name), name, form))
            else:
                value = one[name] / 1e6 if name == "bytes" else one[name]
                cells.append(f"<td>{format(value, form)}</td>")
        lines.append(f'<tr><th scope="row">{_dotted(one["method"])}</th>{"".join(cells)}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def _score_cell(one: Mapping[str, Any] | None, best: float | None, name: str, form: str) -> str:
    if one is None:
        return "<td></td>"
    if not one["seeds"]:
        return '<td class="failed">failed</td>'
    score = one[name]
    if score is None:
        return "<td>-</td>"
    text = format(score["mean"], form)
    text = f"<b>{text}</b>" if score["mean"] == best else text
    spread = "" if score["deviation"] is None else f" <small>± {format(score['deviation'], form)}</small>"
    return f"<td>{text}{spread}</td>"


def _best(found: Sequence[Mapping[str, Any]], scene: str, name: str) -> float | None:
    """The best mean of a score on a scene."""
    known = [one[name]["mean"] for one in found if one["scene"] == scene and isinstance(one[name], Mapping)]
    return (min if name.startswith("lpips") else max)(known, default=None)


def _how(content: Mapping[str, Any]) -> str:
    settings, machine = content["settings"], content["machine"]
    return (
        f"Photos of at most {settings['max_side']} pixels a side, at most {settings['gaussians']:,} Gaussians (in each "
        "set), one thread for each training. Time is processor time of the training alone; a second of it is worth up "
        "to a fifth less while the machine is busy with other work. Pictures are those of the first seed. "
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}."
    )


def _remarks(rows: Sequence[Mapping[str, Any]]) -> str:
    failed = [
        f"{row['scene']}, {row['method']}, seed {row['seed']} failed: {row['failed']}"
        for row in rows
        if "failed" in row
    ]
    lines = [f'<li class="failed">{escape(one)}</li>' for one in failed]
    lines += [f"<li>{escape(one)}</li>" for one in remarks(rows)]
    return "<ul>\n" + "\n".join(lines) + "\n</ul>" if lines else ""


def _dotted(method: str) -> str:
    return f'<span class="dot" style="background:{color_of(method)}"></span>{escape(method)}'


def _bands() -> list[dict[str, str]]:
    """The octaves in cycles per pixel, in few words and in more."""
    from qsplat.metrics.bands import OCTAVES
    from qsplat.spectra.radial import octave_lows

    edges = [f"1/{round(1 / low)}" for low in octave_lows(OCTAVES)[1:]]
    long = [f"below {edges[0]}", *(f"{low} to {high}" for low, high in pairwise(edges)), f"{edges[-1]} and more"]
    short = [*(f"to {edge}" for edge in edges), "above"]
    return [{"short": few, "long": more} for few, more in zip(short, long, strict=True)]


def _inferno() -> list[list[int]]:
    """The colours of error maps, the same as in ``pictures.error_map``."""
    from matplotlib import colormaps

    colors = colormaps["inferno"](range(256))[:, :3]
    return (colors * 255).round().astype(int).tolist()


def _number(count: int, noun: str) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    word = words[count] if count < len(words) else str(count)
    return f"{word} {noun}{'' if count == 1 else 's'}"
