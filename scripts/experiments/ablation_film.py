"""Filming a model past the cameras of its capture: does its head flicker more than its Gaussians?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qsplat.io.scene import Scene
    from qsplat.training.model import SplatModel
    from qsplat.training.plus_model import PlusModel

FEWEST = 9
"""Frames of a film: those in which frames that are compared lie 8 apart."""


def filmed(scene: Scene, model: SplatModel | PlusModel, frames: int) -> dict[str, Any]:
    """How steady the images of ``model``, and those of its Gaussians without a head, are in a film of ``frames`` frames
    past all cameras of ``scene`` with the lens of the first that is held out; or why it has ``failed``, such as where
    no three frames in a row show the same surface."""
    from qsplat.camera_paths import smooth_path
    from qsplat.metrics.consistency import consistency

    lens = scene.test[0].camera
    poses = [view.camera.cam_from_world for view in (*scene.train, *scene.test)]
    with_depth = replace(model, config=replace(model.config, depth=True))
    try:
        path = smooth_path([replace(lens, cam_from_world=pose) for pose in poses], frames)
        found = consistency(with_depth.render, path)
    except ValueError as refusal:
        return {"failed": str(refusal)}
    steady = {
        name: {measure: value for measure, value in asdict(part).items() if measure != "per_frame"}
        for name, part in (("base", found.base), ("head", found.head))
    }
    return {**found.as_json(), **steady}


def film_lines(rows: Sequence[Mapping[str, Any]], way: str) -> list[dict[str, str]]:
    """A line for each variant that was filmed in a scene, over the seeds in which there is a film."""
    lines = []
    here = [row for row in rows if row["hold_out"] == way and row.get("film") and "failed" not in row["film"]]
    for scene, variant in dict.fromkeys((row["scene"], row["variant"]) for row in here):
        films = [row["film"] for row in here if (row["scene"], row["variant"]) == (scene, variant)]
        lines.append(
            {
                "Scene": scene,
                "Variant": variant,
                "Flicker": _ratio(films, "flicker_ratio", each=True),
                "At equal detail": _ratio(films, "ratio_at_equal_detail"),
                "Worst frame": _ratio(films, "worst_frame_ratio"),
                "Neighbours": _decibels(films, "short_psnr"),
                "8 frames apart": _decibels(films, "long_psnr"),
                "Seen": f"{statistics.mean(film['triple_share'] for film in films):.0%}",
                "Step": f"{statistics.mean(film['step_pixels'] for film in films):.1f}",
            }
        )
    return lines


def _ratio(films: Sequence[Mapping[str, Any]], name: str, *, each: bool = False) -> str:
    values = [film[name] for film in films if film[name] is not None]
    if not values:
        return ""
    listed = f" ({' '.join(f'{value:.2f}' for value in values)})" if each and len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{listed}"


def _decibels(films: Sequence[Mapping[str, Any]], name: str) -> str:
    """Before and after, where both were measured."""
    both = [(film["base"][name], film["head"][name]) for film in films]
    known = [pair for pair in both if None not in pair]
    if not known:
        return ""
    before, after = (statistics.mean(values) for values in zip(*known, strict=True))
    return f"{before:.2f} to {after:.2f}"
