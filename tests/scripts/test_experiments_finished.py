"""What goes on from finished Gaussians in the ablation: splatting, and heads that learn from a part of the photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experiment_rows import module

STILLLIFE = Path(__file__).parents[2] / "scenes" / "stilllife"

pytestmark = pytest.mark.usefixtures("experiments")


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    return module("ablation_learning").Laboratory(module("ablation_cache").Cache(tmp_path_factory.mktemp("cache")), "-")


@pytest.fixture(scope="module")
def cell(laboratory):
    """Of which the base is trained."""
    capture = module("captures").read_capture(STILLLIFE, max_side=48, holdout_every=8)
    cell = module("ablation_plan").Cell(capture, "every8", 0, 60, 20, 200)
    laboratory.finished(cell, averaged=False)
    return cell


def test_splatting_goes_on_for_as_many_iterations_as_the_head_learns(laboratory, cell):
    plan, variants = module("ablation_plan"), module("ablation_variants").VARIANTS

    def runs(cell):
        return {run.variant.name: run for run in plan.runs_of(cell, [variants["alone"], variants["alone-on"]])}

    ours, longer = runs(cell), runs(replace(cell, head_iterations=21))
    assert ours["alone-on"].base == ours["alone"].base == plan.state_key(cell, 60)
    assert [ours[name].key == longer[name].key for name in ("alone", "alone-on")] == [True, False]
    alone, on = (laboratory.row(ours[name]) for name in ("alone", "alone-on"))
    assert (alone["iterations"], on["iterations"]) == (60, 80)
    assert on["train"]["psnr"] > alone["train"]["psnr"]
    assert on["cpu_seconds"] > alone["cpu_seconds"]
    assert module("ablation_pairs").times_of(on, alone) == 80 / 60


def test_a_covered_head_does_not_see_what_alpha_leaves_open(laboratory, cell, monkeypatch):
    learning, variants = module("ablation_learning"), module("ablation_variants").VARIANTS
    scene, heads = learning.scene_of(cell), []

    def over(color, view):
        """``view`` with nothing but ``color`` in its left half, where its photo is open."""
        alpha = torch.ones_like(view.image[..., 0])
        alpha[:, : alpha.shape[1] // 2] = 0
        return replace(view, image=torch.where(alpha[..., None] > 0, view.image, color), alpha=alpha)

    def described(laboratory, cell, model, spent):
        heads.append(model.head)
        return {}

    monkeypatch.setattr(learning.Laboratory, "described", described)
    for name in ("posthoc", "posthoc-covered", "posthoc-features", "posthoc-features-covered"):
        variant = replace(variants[name], head={"channels": 8, "precision": "fp32"})
        for color in (0.0, 0.5):
            seen = replace(scene, train=tuple(over(color, view) for view in scene.train))
            monkeypatch.setattr(learning, "scene_of", lambda cell, seen=seen: seen)
            laboratory.headed(cell, variant)
    made = [torch.cat([value.flatten() for value in head.state_dict().values()]) for head in heads]
    same = [torch.equal(one, other) for one, other in zip(made[::2], made[1::2], strict=True)]
    assert same == [False, True, False, True]


def test_a_photo_without_alpha_and_a_mask_count_as_before(cell):
    where_covered = module("ablation_learning").where_covered
    view = module("ablation_learning").scene_of(cell).train[0]
    alpha, mask = torch.zeros_like(view.image[..., 0]), torch.ones_like(view.image[..., 0]).bool()
    alpha[:, 3:], mask[2:] = 0.5, False
    assert where_covered(view) is view
    assert torch.equal(where_covered(replace(view, alpha=alpha)).mask, alpha > 0)
    assert torch.equal(where_covered(replace(view, alpha=alpha, mask=mask)).mask, (alpha > 0) & mask)


def test_moving_gaussians_learn_from_whole_photos():
    with pytest.raises(ValueError, match="covered=True, mode='joint'"):
        module("ablation_variants").Headed("one", "covered", "too early", covered=True)
