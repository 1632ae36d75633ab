"""The comparisons of an ablation as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ablation_film import film_failures, film_lines
from ablation_pairs import Comparison, Difference, Row, comparisons, over_scenes
from ablation_variants import REFERENCE

LEGEND = (
    "PSNR and PSNR on edges in dB, means over seeds (after ± their standard deviation, in brackets each seed). "
    "Octaves: change of the PSNR of each octave of frequencies, from the lowest to the highest. Views: "
    "held-out photos with a higher PSNR, each counted once per seed. Distance: Spearman's rank correlation of what a "
    "held-out view gains and its distance to the nearest training camera. Time: processor time of the training on one "
    "thread, as a multiple; sets of Gaussians count by their iterations, since seconds of the same work differ from "
    "hour to hour (as do those of joint trainings that share little with plain splatting), and what is given to plain "
    "splatting is rounded up to the next 0.2. Gap: mean distance from a held-out camera to the "
    "nearest training camera, where all cameras lie within 1 of their middle along each axis. Views of plain "
    "splatting: trained / held out. Dead units: hidden units of the network that are at most 0 before their ReLU, "
    "leaky or not, at every pixel looked at. Residual: mean absolute difference to the image of the "
    "(first) set of Gaussians alone, on held-out views, where white is 1."
)
FILM_LEGEND = (
    "Flicker: what changes between three frames in a row where all show the same surface, as a multiple of that of "
    "the Gaussians alone (of the first set) at the same pixels. At equal detail: that over the ratio of their detail. "
    "Against plain: flicker as a multiple of that of plain splatting in its own film, whose frames are followed by "
    "its own depth. Worst frame: the largest multiple of a single frame. Neighbours, and frames 8 apart: PSNR in dB "
    "of one frame warped into the other, without the head and with it. Seen: share of the pixels that three frames in "
    "a row show. Step: how far pixels move between frames, in pixels."
)
WAYS = {
    "every8": "every 8th view, or the split that the capture comes with",
    "block": "an eighth of the views, next to each other in the order of the capture, or by their angle around the "
    "middle where it comes with a split; the block that lies farthest from the other views",
}


def page(rows: Sequence[Row]) -> str:
    """All tables: for each way of holding out the reference, the variants against it, and against the variant that they
    differ from in one respect; what failed; and remarks."""
    found = comparisons(rows)
    parts = [LEGEND]
    for way in dict.fromkeys(row["hold_out"] for row in rows):
        here = [one for one in found if one.hold_out == way]
        parts.append(f"## Hold-out: {WAYS[way]}")
        for title, lines in (
            ("Plain splatting", _reference(rows, way)),
            ("Against plain splatting", _differences(here, rows, to_reference=True)),
            ("Against the variant that it differs from in one respect", _differences(here, rows, to_reference=False)),
            ("Against plain splatting, on the views of the training", _on_training_views(here)),
            ("Means over scenes", _everywhere(over_scenes(here))),
        ):
            parts += [f"### {title}", table(lines)] if lines else []
        films = film_lines(rows, way)
        parts += ["### In a film past the cameras", FILM_LEGEND, table(films)] if films else []
        parts += film_failures(rows, way)
    failures = [row for row in rows if "failed" in row]
    if failures:
        names = ("scene", "hold_out", "seed", "variant", "failed")
        parts += ["## Failed", table([{name: row[name] for name in names} for row in failures])]
    return "\n\n".join([*parts, *remarks(rows)]) + "\n"


def remarks(rows: Sequence[Row]) -> list[str]:
    """What the rows were measured on, and what makes them hard to compare."""
    said = []
    done = [row for row in rows if "failed" not in row]
    for name, meaning in (("code", "versions of the code"), ("processor", "processors")):
        values = sorted({row[name] for row in done})
        if len(values) > 1:
            said.append(f"Note: the rows come from {len(values)} {meaning} ({', '.join(values)}).")
        elif values and name == "processor":
            said.append(f"Processor: {values[0]}.")
    if computed := sorted({row["arithmetic"] for row in done if row.get("arithmetic")}):
        said.append(f"Networks computed in {' or '.join(computed)}.")
    return said


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """``lines``, which have the same keys, as a Markdown table."""
    names = list(lines[0])
    cells = [[str(line[name]).replace("|", "/").replace("\n", " ") for name in names] for line in lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in (names, ["---"] * len(names), *cells))


def _reference(rows: Sequence[Row], way: str) -> list[dict[str, str]]:
    """The reference itself, one line per scene."""
    kept = [row for row in rows if (row["hold_out"], row["variant"]) == (way, REFERENCE) and "failed" not in row]
    lines = []
    for scene in dict.fromkeys(row["scene"] for row in kept):
        same = [row for row in kept if row["scene"] == scene]
        lines.append(
            {
                "Scene": scene,
                "Seeds": str(len(same)),
                "Views": f"{len(same[0]['train_views'])} / {len(same[0]['held_out_views'])}",
                "Gap": f"{same[0]['gap']:.2f}",
                "PSNR": _mean(same, "held_out", "psnr", 2),
                "SSIM": _mean(same, "held_out", "ssim", 4),
                "Edges": _mean(same, "held_out", "psnr_edge", 2),
                "Train PSNR": _mean(same, "train", "psnr", 2),
                "Train SSIM": _mean(same, "train", "ssim", 4),
                "Train edges": _mean(same, "train", "psnr_edge", 2),
                "Iterations": f"{same[0]['iterations']:,}",
                "Gaussians": f"{statistics.mean(row['splats'] for row in same):,.0f}",
                "Time": f"{statistics.mean(row['cpu_seconds'] for row in same):.0f} s",
            }
        )
    return lines


def _differences(found: Sequence[Comparison], rows: Sequence[Row], *, to_reference: bool) -> list[dict[str, str]]:
    """One line per comparison with the reference, or with other variants."""
    lines = []
    for one in found:
        if (one.against == REFERENCE) != to_reference:
            continue
        same = [
            row
            for row in rows
            if (row["scene"], row["hold_out"], row["variant"]) == (one.scene, one.hold_out, one.variant)
            and row["seed"] in one.seeds
            and "failed" not in row
        ]
        named = {"Scene": one.scene, "Variant": one.variant} | ({} if to_reference else {"Against": one.against})
        lines.append(
            {
                **named,
                "PSNR": _shown(one.psnr, 3),
                "SSIM": _shown(one.ssim, 4),
                "Edges": _shown(one.psnr_edge, 3),
                "Octaves": _octaves(one.octaves),
                "Views": f"{one.views_better} of {one.views}",
                "Distance": "" if one.with_distance is None else f"{one.with_distance:+.2f}",
                "Time": f"{one.time:.2f}",
                **_of_the_head(same),
            }
        )
    return lines


def _on_training_views(found: Sequence[Comparison]) -> list[dict[str, str]]:
    """One line per comparison with the reference: what changes on the views that both learnt from."""
    return [
        {
            "Scene": one.scene,
            "Variant": one.variant,
            "PSNR": _shown(one.train_psnr, 3),
            "SSIM": _shown(one.train_ssim, 4),
            "Edges": _shown(one.train_psnr_edge, 3),
            "Octaves": _octaves(one.train_octaves),
        }
        for one in found
        if one.against == REFERENCE
    ]


def _octaves(changes: Sequence[float]) -> str:
    return " ".join(f"{change:+.2f}" for change in changes)


def _of_the_head(rows: Sequence[Row]) -> dict[str, str]:
    """Size and state of the head, empty without one."""
    if rows[0]["parameters"] is None:
        return {"Parameters": "", "Dead units": "", "Residual": ""}
    dead, residuals = ([row[name] for row in rows if row[name] is not None] for name in ("dead_units", "mean_residual"))
    return {
        "Parameters": f"{rows[0]['parameters']:,}",
        "Dead units": f"{100 * statistics.mean(dead):.0f} %" if dead else "",
        "Residual": f"{statistics.mean(residuals):.4f}" if residuals else "",
    }


def _everywhere(means: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "Scenes": ", ".join(one["scenes"]),
            "Variant": one["variant"],
            "Against": one["against"],
            "PSNR": f"{one['psnr']:+.3f}",
            "SSIM": f"{one['ssim']:+.4f}",
            "Edges": "" if one["psnr_edge"] is None else f"{one['psnr_edge']:+.3f}",
            "Train PSNR": f"{one['train_psnr']:+.3f}",
            "Views": f"{one['views_better']} of {one['views']}",
            "Time": f"{one['time']:.2f}",
        }
        for one in means
    ]


def _shown(difference: Difference | None, digits: int) -> str:
    if difference is None:
        return ""
    if difference.deviation is None:
        return f"{difference.mean:+.{digits}f}"
    each = " ".join(f"{value:+.{digits}f}" for value in difference.each)
    return f"{difference.mean:+.{digits}f} ± {difference.deviation:.{digits}f} ({each})"


def _mean(rows: Sequence[Row], part: str, measure: str, digits: int) -> str:
    values = [row[part][measure] for row in rows if row[part][measure] is not None]
    return f"{statistics.mean(values):.{digits}f}" if values else ""
