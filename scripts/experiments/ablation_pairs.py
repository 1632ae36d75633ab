"""Runs against the reference of the same scene, hold-out and seed: differences, their spread, and views that gained."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablation_variants import REFERENCE, VARIANTS, Headed

Row = Mapping[str, Any]
"""A run as the file holds it: ``scene``, ``hold_out``, ``seed``, ``variant``, and its scores, or why it ``failed``."""
EVERYWHERE = "all scenes"


@dataclass(frozen=True)
class Difference:
    """A measure of a variant minus that of the reference: mean over seeds, standard deviation (None for a single one)
    and the values."""

    mean: float
    deviation: float | None
    each: tuple[float, ...]

    @staticmethod
    def of(values: Sequence[float]) -> Difference:
        deviation = round(statistics.stdev(values), 5) if len(values) > 1 else None
        return Difference(round(statistics.mean(values), 5), deviation, tuple(round(value, 5) for value in values))


@dataclass(frozen=True)
class Comparison:
    """A variant against another one in one scene, over the seeds in which both finished.

    ``octaves`` are mean differences of held-out ``band_psnr``; more dB is less error throughout. Of the ``views``, a
    held-out photo counted once per seed, ``views_better`` have a higher PSNR; ``with_distance`` is Spearman's rank
    correlation of their gain and the distance to the nearest training camera (None for fewer than four, where all are
    alike, or where a row does not say it). ``time`` is that of ``times_of``.
    """

    scene: str
    hold_out: str
    variant: str
    against: str
    seeds: tuple[int, ...]
    psnr: Difference
    ssim: Difference
    psnr_edge: Difference | None
    train_psnr: Difference
    train_ssim: Difference
    train_psnr_edge: Difference | None
    octaves: tuple[float, ...]
    train_octaves: tuple[float, ...]
    views: int
    views_better: int
    with_distance: float | None
    time: float


def comparisons(rows: Sequence[Row]) -> list[Comparison]:
    """Every variant against the reference, and against the variant that it differs from in one respect."""
    finished = {_place(row): row for row in rows if "failed" not in row}
    seeds = sorted({row["seed"] for row in rows})
    found = []
    for scene, way, name in dict.fromkeys(place[:3] for place in finished):
        variant = VARIANTS[name]
        like = variant.like if isinstance(variant, Headed) else None
        for other in (REFERENCE, like) if like else (REFERENCE,):
            both = [
                (finished[scene, way, name, seed], finished[scene, way, other, seed])
                for seed in seeds
                if {(scene, way, name, seed), (scene, way, other, seed)} <= finished.keys()
            ]
            found += [_compared(both)] if both and other != name else []
    return found


def _place(row: Row) -> tuple[str, str, str, int]:
    return row["scene"], row["hold_out"], row["variant"], row["seed"]


def over_scenes(found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Means over scenes of the mean differences, each scene with the same weight, for variants measured in several."""
    means = []
    for way, name, other in dict.fromkeys((one.hold_out, one.variant, one.against) for one in found):
        same = [one for one in found if (one.hold_out, one.variant, one.against) == (way, name, other)]
        if len(same) < 2:
            continue
        edges = [one.psnr_edge.mean for one in same if one.psnr_edge is not None]
        means.append(
            {
                "scene": EVERYWHERE,
                "scenes": [one.scene for one in same],
                "hold_out": way,
                "variant": name,
                "against": other,
                "psnr": round(statistics.mean(one.psnr.mean for one in same), 5),
                "ssim": round(statistics.mean(one.ssim.mean for one in same), 5),
                "psnr_edge": round(statistics.mean(edges), 5) if edges else None,
                "train_psnr": round(statistics.mean(one.train_psnr.mean for one in same), 5),
                "views": sum(one.views for one in same),
                "views_better": sum(one.views_better for one in same),
                "time": round(statistics.mean(one.time for one in same), 3),
            }
        )
    return means


def _compared(pairs: Sequence[tuple[Row, Row]]) -> Comparison:
    """The first rows of ``pairs`` against the second ones."""
    first, second = pairs[0]
    gains = [
        scores["psnr"] - theirs["held_out_views"][view]["psnr"]
        for ours, theirs in pairs
        for view, scores in ours["held_out_views"].items()
    ]
    return Comparison(
        scene=first["scene"],
        hold_out=first["hold_out"],
        variant=first["variant"],
        against=second["variant"],
        seeds=tuple(ours["seed"] for ours, _ in pairs),
        psnr=_difference(pairs, "held_out", "psnr"),
        ssim=_difference(pairs, "held_out", "ssim"),
        psnr_edge=_difference_where_there_is_one(pairs, "held_out", "psnr_edge"),
        train_psnr=_difference(pairs, "train", "psnr"),
        train_ssim=_difference(pairs, "train", "ssim"),
        train_psnr_edge=_difference_where_there_is_one(pairs, "train", "psnr_edge"),
        octaves=_octaves(pairs, "held_out"),
        train_octaves=_octaves(pairs, "train"),
        views=len(gains),
        views_better=sum(gain > 0 for gain in gains),
        with_distance=_with_distance(pairs, gains),
        time=round(statistics.mean(times_of(ours, theirs) for ours, theirs in pairs), 3),
    )


def _with_distance(pairs: Sequence[tuple[Row, Row]], gains: Sequence[float]) -> float | None:
    """Rank correlation of the gains of held-out views, in the order of ``pairs`` and of their views, and their
    distances; None where there are too few of them, or nothing to rank by."""
    if not all("gaps" in ours for ours, _ in pairs):
        return None
    from gain_views import rank_correlation

    found = rank_correlation([ours["gaps"][view] for ours, _ in pairs for view in ours["held_out_views"]], gains)
    return None if found is None else round(found.rho, 3)


def times_of(ours: Row, theirs: Row) -> float:
    """The time of a run as a multiple of that of another one.

    Seconds of the same work differ from hour to hour, so that Gaussians of the same most number count by iterations,
    those of several sets once each, and a head by its seconds besides.
    """
    if "sets" in ours:
        return (
            ours["sets"] * ours["iterations"] / theirs["iterations"] + ours["head_cpu_seconds"] / theirs["cpu_seconds"]
        )
    alike = ours["max_gaussians"] == theirs["max_gaussians"] >= ours["splats"]
    if alike and ours["parameters"] is None:
        return ours["iterations"] / theirs["iterations"]
    return ours["cpu_seconds"] / theirs["cpu_seconds"]


def _difference(pairs: Sequence[tuple[Row, Row]], part: str, measure: str) -> Difference:
    return Difference.of([ours[part][measure] - theirs[part][measure] for ours, theirs in pairs])


def _difference_where_there_is_one(pairs: Sequence[tuple[Row, Row]], part: str, measure: str) -> Difference | None:
    """As ``_difference``; None for photos without edges."""
    has = all(row[part][measure] is not None for pair in pairs for row in pair)
    return _difference(pairs, part, measure) if has else None


def _octaves(pairs: Sequence[tuple[Row, Row]], part: str) -> tuple[float, ...]:
    """Mean change of each octave in dB."""
    of_pairs = (
        [first - second for first, second in zip(ours[part]["band_psnr"], theirs[part]["band_psnr"], strict=True)]
        for ours, theirs in pairs
    )
    return tuple(round(statistics.mean(changes), 5) for changes in zip(*of_pairs, strict=True))
