"""Filming a model past the cameras of its capture: does its head flicker more than its Gaussians?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ablation_variants import REFERENCE

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


def film_failures(rows: Sequence[Mapping[str, Any]], way: str) -> list[str]:
    """What could not be filmed, and why."""
    return [
        f"No film of {row['variant']} on {row['scene']}, seed {row['seed']}: {row['film']['failed']}."
        for row in rows
        if row["hold_out"] == way and "failed" in (row.get("film") or {})
    ]


def film_lines(rows: Sequence[Mapping[str, Any]], way: str) -> list[dict[str, str]]:
    """A line for each variant that was filmed in a scene, over the seeds in which there is a film."""
    lines = []
    here = [row for row in rows if row["hold_out"] == way and row.get("film") and "failed" not in row["film"]]
    plain = {(row["scene"], row["seed"]): row["film"] for row in here if row["variant"] == REFERENCE}
    for scene, variant in dict.fromkeys((row["scene"], row["variant"]) for row in here):
        same = [row for row in here if (row["scene"], row["variant"]) == (scene, variant)]
        films = [row["film"] for row in same]
        against = [_over(row["film"], plain[scene, row["seed"]]) for row in same if (scene, row["seed"]) in plain]
        lines.append(
            {
                "Scene": scene,
                "Variant": variant,
                "Flicker": _ratio(films, "flicker_ratio", each=True),
                "At equal detail": _ratio(films, "ratio_at_equal_detail"),
                "Against plain": _mean(against, each=True),
                "Worst frame": _ratio(films, "worst_frame_ratio"),
                "Neighbours": _decibels(films, "short_psnr"),
                "8 frames apart": _decibels(films, "long_psnr"),
                "Seen": f"{statistics.mean(film['triple_share'] for film in films):.0%}",
                "Step": f"{statistics.mean(film['step_pixels'] for film in films):.1f}",
            }
        )
    return lines


def _over(film: Mapping[str, Any], plain: Mapping[str, Any]) -> float | None:
    """Flicker of a film over that of plain splatting's own one; None where that does not flicker at all."""
    still = plain["head"]["flicker"]
    return film["head"]["flicker"] / still if still > 0 else None


def _ratio(films: Sequence[Mapping[str, Any]], name: str, *, each: bool = False) -> str:
    return _mean([film[name] for film in films], each=each)


def _mean(ratios: Sequence[float | None], *, each: bool) -> str:
    values = [ratio for ratio in ratios if ratio is not None]
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
