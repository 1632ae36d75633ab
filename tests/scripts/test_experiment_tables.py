"""What the tables of an ablation say of made-up rows."""

from __future__ import annotations

import pytest
from experiment_rows import module, named, row

pytestmark = pytest.mark.usefixtures("experiments")


def test_spread_and_worse_views_are_told():
    rows = [named("alone", seed, psnr=20.0 + seed) for seed in range(3)]
    rows += [
        named("joint", seed, psnr=20.0 + seed + gain, seconds=15.0, parameters=7)
        for seed, gain in ((0, 0.25), (1, -0.5), (2, 1))
    ]
    rows += [named("layers-2", 0, psnr=20.5)]
    joint, layers, changed = module("ablation_pairs").comparisons(rows)
    assert joint.psnr.each == (0.25, -0.5, 1)
    assert joint.psnr.mean == 0.25
    assert joint.psnr.deviation == 0.75
    assert (joint.views, joint.views_better, joint.time) == (6, 4, 1.5)
    assert layers.psnr.deviation is None
    assert (changed.variant, changed.against, changed.psnr.mean) == ("layers-2", "joint", 0.25)


def test_scenes_have_the_same_weight_in_the_mean_over_scenes():
    rows = [named(name, scene=scene, psnr=psnr) for scene, name, psnr in SCENES]
    rows += [named(name, 1, scene="a", psnr=psnr) for name, psnr in (("alone", 20.0), ("joint", 21.0))]
    pairs = module("ablation_pairs")
    (mean,) = pairs.over_scenes(pairs.comparisons(rows))
    assert (mean["scenes"], mean["psnr"], mean["views"]) == (["a", "b"], 0.75, 6)


SCENES = (("a", "alone", 20.0), ("a", "joint", 21.0), ("b", "alone", 30.0), ("b", "joint", 30.5))


def test_photos_without_edges_have_no_difference_on_edges():
    rows = [named("alone"), named("joint", edges=None)]
    (one,) = module("ablation_pairs").comparisons(rows)
    assert one.psnr_edge is None
    lines = module("ablation_tables").page(rows).splitlines()
    assert sum(line.startswith("| a | joint | +0.000 | +0.0000 |  |") for line in lines) == 2


def test_what_changes_on_training_views_has_a_table_of_its_own():
    plain, other = named("alone"), named("joint")
    scores = {**other["train"], "psnr": plain["train"]["psnr"] + 1, "ssim": plain["train"]["ssim"] + 0.25}
    tables = module("ablation_tables").page([plain, {**other, "train": scores}]).split("### ")
    held_out, training = (next(one for one in tables if one.startswith(f"{title}\n")) for title in TITLES)
    assert "| a | joint | +0.000 | +0.0000 |" in held_out
    assert "| a | joint | +1.000 | +0.2500 |" in training


TITLES = "Against plain splatting", "Against plain splatting, on the views of the training"


def test_the_processor_and_rows_of_different_code_are_remarked_on():
    remarks, same = module("ablation_tables").remarks, "Processor: abacus."
    assert remarks([named("alone"), named("joint")]) == [same]
    assert remarks([named("alone"), named("joint", code="other")]) == [
        "Note: the rows come from 2 versions of the code (code, other).",
        same,
    ]
    assert remarks([named("alone"), {**named("joint"), "processor": "other"}]) == [
        "Note: the rows come from 2 processors (abacus, other)."
    ]
    mixed = [{**named("joint", seed), "arithmetic": kind} for seed, kind in enumerate(("float32", "bfloat16"))]
    assert remarks([named("alone"), mixed[0]]) == [same, "Networks computed in float32."]
    assert remarks(mixed) == [same, "Networks computed in bfloat16 or float32."]


def film(flicker, *, detail=1.0, worst: float | None = 1.5, long: float | None = 30.0, own=0.01):
    base = {"short_psnr": 40.0, "long_psnr": 29.0}
    ratios = {"flicker_ratio": flicker, "ratio_at_equal_detail": flicker / detail, "worst_frame_ratio": worst}
    return {
        **ratios,
        "base": base,
        "head": {"short_psnr": 41.0, "long_psnr": long, "flicker": own},
        "triple_share": 0.5,
        "step_pixels": 2,
    }


def test_a_film_is_a_line_over_its_seeds():
    def filmed(variant, film, seed=0, scene="a"):
        return {"scene": scene, "hold_out": "every8", "variant": variant, "seed": seed, "film": film}

    rows = [
        filmed("plus", film(0.8, detail=0.8)),
        filmed("plus", film(0.9, worst=None), seed=1),
        filmed("joint", film(1.25, long=None)),
        filmed("alone", film(1.0, own=0.02)),
        filmed("alone", film(1.0, own=0.0), seed=1),
        filmed("averaged", None),
        filmed("posthoc", {"failed": "no surface"}),
        {"scene": "a", "hold_out": "every8", "variant": "whole", "seed": 0, "failed": "no"},
    ]
    lines = module("ablation_film").film_lines(rows, "every8")
    assert [line["Variant"] for line in lines] == ["plus", "joint", "alone"]
    plus, joint, alone = lines
    assert (plus["Against plain"], joint["Against plain"]) == ("0.50", "0.50")
    assert (alone["Flicker"], alone["Against plain"]) == ("1.00 (1.00 1.00)", "1.00")
    assert (plus["Flicker"], plus["At equal detail"], plus["Worst frame"]) == ("0.85 (0.80 0.90)", "0.95", "1.50")
    assert (plus["Neighbours"], plus["8 frames apart"]) == ("40.00 to 41.00", "29.00 to 30.00")
    assert (joint["Flicker"], joint["8 frames apart"], joint["Seen"], joint["Step"]) == ("1.25", "", "50%", "2.0")
    assert module("ablation_film").film_lines(rows, "block") == []
    failures = module("ablation_film").film_failures
    assert failures(rows, "every8") == ["No film of posthoc on a, seed 0: no surface."]
    assert failures(rows, "block") == []


def test_gain_is_ranked_by_the_distance_to_the_nearest_training_camera():
    def ran(variant, gains, seed=0, **more):
        views = {f"{index}": {"psnr": 20.0 + gain} for index, gain in enumerate(gains)}
        named = {"scene": "a", "hold_out": "every8", "variant": variant, "seed": seed}
        return {**row(), **named, "held_out_views": views, **more}

    gaps = {"0": 0.1, "1": 0.2, "2": 0.3, "3": 0.4}
    nothing, rising = [0.0] * 4, [0.1, 0.2, 0.4, 0.8]

    def found(*rows):
        return next(one for one in module("ablation_pairs").comparisons(rows)).with_distance

    assert found(ran("alone", nothing, gaps=gaps), ran("joint", rising, gaps=gaps)) == 1
    assert found(ran("alone", nothing, gaps=gaps), ran("joint", rising[::-1], gaps=gaps)) == -1
    assert found(ran("alone", nothing), ran("joint", rising)) is None, "rows of an older cache"
    assert found(ran("alone", nothing[:3], gaps=gaps), ran("joint", rising[:3], gaps=gaps)) is None
    both = [
        ran(name, gains, seed, gaps=gaps) for seed in (0, 1) for name, gains in (("alone", nothing), ("joint", rising))
    ]
    assert found(*both) == 1


def test_time_is_counted_by_iterations_where_they_are_alike_and_in_seconds_elsewhere():
    times_of = module("ablation_pairs").times_of
    alone = {"parameters": None, "max_gaussians": 9, "splats": 9, "iterations": 100, "cpu_seconds": 50.0}
    assert times_of({**alone, "iterations": 220, "cpu_seconds": 90.0}, alone) == 2.2
    assert times_of({**alone, "sets": 2, "parameters": 7, "head_cpu_seconds": 5.0, "cpu_seconds": 80.0}, alone) == 2.1
    assert times_of({**alone, "max_gaussians": 20, "cpu_seconds": 80.0}, alone) == 1.6
    assert times_of({**alone, "splats": 18, "cpu_seconds": 95.0}, alone) == 1.9
    assert times_of({**alone, "parameters": 7, "cpu_seconds": 65.0}, alone) == 1.3


def test_a_network_that_is_not_watched_is_counted_and_the_rest_is_left_empty():
    rows = [named("alone"), {**named("plus-mean-features", parameters=1234), "sets": 2, "head_cpu_seconds": 5.0}]
    row = next(line for line in module("ablation_tables").page(rows).splitlines() if "| a | plus-mean-features" in line)
    assert [cell.strip() for cell in row.split("|")][-4:] == ["1,234", "", "", ""]
