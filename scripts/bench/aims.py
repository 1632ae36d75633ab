"""The tables of docs/performance.md that say what was aimed at, and whether it was reached."""

from __future__ import annotations

import itertools
from statistics import mean, median
from typing import Any

from cells import ISA, Row, Table, by_case, number, size


def limit(row: Row) -> float:
    """Milliseconds that the rasterizer may take at most: 4.5 ns per overlap and 6 ns per pixel."""
    pixels = row["width"] * row["height"]
    return (4.5 * row["overlap_per_pixel"] + 6) * pixels / 1e6


def aim(what: str, wanted: float, measured: float, unit: str, *, at_least: bool = False) -> dict[str, str]:
    """What was aimed at, what was measured, and whether that reaches it."""
    reached = measured >= wanted if at_least else measured <= wanted
    sign = "at least" if at_least else "at most"
    return {
        "Part": what,
        "Aim": f"{sign} {number(wanted)} {unit}",
        "Measured": f"{number(measured)} {unit}",
        "Reached": "yes" if reached else "**no**",
    }


def targets(rasterizer: Any, loss: Any, training: Any, scaling: Any) -> Table:
    """The aims of the parts and of ``fit()``."""
    lines = []
    for case in by_case(rasterizer["rows"]):
        best, *others = case.values()
        name = f"rasterizer, {best['gaussians']:,} Gaussians, {size(best)}"
        lines.append(aim(f"{name}: 4.5 ns per overlap + 6 ns per pixel", limit(best), best["total_ms"], "ms"))
        for row in others:
            ratio = row["total_ms"] / best["total_ms"]
            lines.append(aim(f"{name}: {ISA[row['isa']]} against {ISA[best['isa']]}", 1.5, ratio, "times"))
    for row in rasterizer["projection"]:
        if row["gaussians"] == 30_000:
            for way in ("forward", "backward"):
                name = f"projection and harmonics, 30,000 Gaussians, {way}, {ISA[row['isa']]}"
                lines.append(aim(name, 2.0, row[f"{way}_ms"], "ms"))
    for row in loss["loss"]:
        if size(row) == "400x300" and not row["masked"]:
            lines.append(aim("L1 + D-SSIM, 400x300", 8.0, row["total_ms"], "ms"))
    for row in loss["optimiser"]:
        lines.append(aim(f"step of the optimisers, {row['gaussians']:,} Gaussians", 2.0, row["step_ms"], "ms"))
    rates = {row["phase"]: row["iterations_per_second"] for row in training}
    lines.append(aim("splatting phase", 25.0, rates["splatting"], "iterations/s", at_least=True))
    ratio = rates["splatting"] / rates["joint"]
    lines.append(aim("joint iteration against one of the splatting phase", 1.5, ratio, "times"))
    for row in scaling["training"]:
        name = f"{row['gaussians']:,} Gaussians at {size(row)}, {row['phase']} phase: peak memory"
        lines.append(aim(name, 6.0, row["peak_mb"] / 1e3, "GB"))
    return lines


def targets_of_programs(startup: Any, ns_train: Any) -> Table:
    """The aims of programs as a whole."""
    starts = {row["start"]: row["total_ms"] / 1e3 for row in startup["rows"]}
    slowest = max(seconds for start, seconds in starts.items() if start.endswith("--help"))
    (ratio,) = (row["ratio_to_fit"] for row in ns_train["rows"] if row["command"] == "ns-train")
    return [
        aim("first iteration of fit()", 3.0, starts["first iteration of fit()"], "s"),
        aim("--help of the slowest script", 2.0, slowest, "s"),
        aim("iteration of ns-train against one of fit()", 1.15, ratio, "times"),
    ]


def targets_of_crops(found: Any) -> Table:
    """The aims of training the head on crops: what they may take and what they may lose."""
    lines = []
    for scene, variant in itertools.product(dict.fromkeys(row["scene"] for row in found), ("crops", "crops alone")):
        crops = [row for row in found if row["scene"] == scene and row["variant"] == variant]
        whole = [row for row in found if row["scene"] == scene and row["variant"] == "whole images"]
        loss = mean(full["psnr"] - crop["psnr"] for crop, full in zip(crops, whole, strict=True))
        ratio = median(row["joint_ms"] / row["splatting_ms"] for row in crops)
        count = number(median(row["gaussians"] for row in crops))
        name = f"{variant}, {scene}, {len(crops)} seeds, about {count} Gaussians"
        lines.append(aim(f"{name}: loss against whole images", 0.05, round(loss, 3), "dB"))
        lines.append(aim(f"{name}: joint iteration against one of the splatting phase", 1.5, ratio, "times"))
    return lines
