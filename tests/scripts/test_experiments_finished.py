"""Finished Gaussians in the ablation: plain splatting that goes on, and heads that learn from a part of the photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experiment_rows import module

from qsplat.training.training import Training

STILLLIFE = Path(__file__).parents[2] / "scenes" / "stilllife"

pytestmark = pytest.mark.usefixtures("experiments")


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    return module("ablation_learning").Laboratory(module("ablation_cache").Cache(tmp_path_factory.mktemp("cache")), "-")


@pytest.fixture(scope="module")
def cell(laboratory):
    """Of which the base is trained, and where a training of as many iterations and those of the head would densify."""
    capture = module("captures").read_capture(STILLLIFE, max_side=32, holdout_every=8)
    cell = module("ablation_plan").Cell(capture, "every8", 0, 60, 340, 2000)
    laboratory.finished(cell, averaged=False)
    return cell


def with_open_left_half(view, color):
    """``view`` with nothing but ``color`` in its left half, where its photo is open."""
    alpha = torch.ones_like(view.image[..., 0])
    alpha[:, : alpha.shape[1] // 2] = 0
    return replace(view, image=torch.where(alpha[..., None] > 0, view.image, color), alpha=alpha)


def test_splatting_goes_on_from_its_end_for_the_iterations_of_the_head(laboratory, cell, monkeypatch):
    plan, variants = module("ablation_plan"), module("ablation_variants").VARIANTS

    def runs(cell):
        return {run.variant.name: run for run in plan.runs_of(cell, [variants["alone"], variants["alone-on"]])}

    ours, longer = runs(cell), runs(replace(cell, head_iterations=341))
    assert ours["alone-on"].base == ours["alone"].base == plan.state_key(cell, 60)
    assert [ours[name].key == longer[name].key for name in ("alone", "alone-on")] == [True, False]
    begun, advance = [], Training.advance

    def watched(training, *arguments):
        begun.append((training.step, training.model().gaussians.means))
        advance(training, *arguments)

    monkeypatch.setattr(Training, "advance", watched)
    alone, on = (laboratory.row(ours[name]) for name in ("alone", "alone-on"))
    ((step, means),) = begun
    assert step == 60
    assert torch.equal(means, laboratory.finished(cell, averaged=False)[0].model().gaussians.means)
    assert (alone["iterations"], on["iterations"]) == (60, 400)
    assert on["splats"] == alone["splats"], "there is no densification any more"
    assert on["train"]["psnr"] > alone["train"]["psnr"]
    assert on["cpu_seconds"] > alone["cpu_seconds"]
    assert module("ablation_pairs").times_of(on, alone) == 400 / 60


def test_what_goes_on_is_no_other_training():
    for wrong in ({"averaged": True}, {"stretch": 2.0}, {"time_of": "joint"}):
        with pytest.raises(ValueError, match=r"averaged=.*, stretch=.*, time_of=.*: what goes on"):
            module("ablation_variants").Plain("one", "base", "not so", on=True, **wrong)


@pytest.mark.parametrize("name", ["posthoc", "posthoc-features"])
def test_a_covered_head_learns_and_does_not_see_what_alpha_leaves_open(laboratory, cell, name, monkeypatch):
    learning, variants = module("ablation_learning"), module("ablation_variants").VARIANTS
    cell, scene, heads = replace(cell, head_iterations=20), learning.scene_of(cell), []

    def described(laboratory, cell, model, spent):
        heads.append(model.head)
        return {}

    monkeypatch.setattr(learning.Laboratory, "described", described)
    for made in (name, f"{name}-covered"):
        variant = replace(variants[made], head={"channels": 8, "precision": "fp32"})
        for color in (0.0, 0.5):
            seen = replace(scene, train=tuple(with_open_left_half(view, color) for view in scene.train))
            monkeypatch.setattr(learning, "scene_of", lambda cell, seen=seen: seen)
            laboratory.headed(cell, variant)
    assert all(head.stages[-1].weight.abs().max() > 0 for head in heads)
    made = [torch.cat([value.flatten() for value in head.state_dict().values()]) for head in heads]
    assert [torch.equal(one, other) for one, other in zip(made[::2], made[1::2], strict=True)] == [False, True]


def test_a_covered_head_is_scored_on_whole_photos(laboratory, cell, monkeypatch):
    learning, variants = module("ablation_learning"), module("ablation_variants").VARIANTS
    cell, scene = replace(cell, head_iterations=2), learning.scene_of(cell)
    views = [tuple(with_open_left_half(view, 0.3) for view in part) for part in (scene.train, scene.test)]
    seen = replace(scene, train=views[0], test=views[1])
    monkeypatch.setattr(learning, "scene_of", lambda cell: seen)
    whole, covered = (laboratory.headed(cell, variants[name]) for name in ("posthoc", "posthoc-covered"))
    for part in ("train_base", "held_out_base"):
        assert covered[part] == whole[part]
    assert covered["held_out"] != whole["held_out"]


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
