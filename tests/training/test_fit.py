"""The light training loop learns, is reproducible, and keeps to its configuration."""

import itertools
import os
from dataclasses import replace

import pytest
import torch

from qsplat.gaussians import Gaussians
from qsplat.io.scene import PointCloud, Scene
from qsplat.qnn import QnnConfig
from qsplat.training.densification import DefaultDensification, McmcDensification
from qsplat.training.fit import FitConfig, Fitted, fit
from qsplat.training.model import SplatModel
from qsplat.training.schedule import Schedule
from qsplat.training.training import initial_gaussians

SHORT = FitConfig(schedule=Schedule(40), head=None, densification=None)


def held_out_psnr(model: SplatModel, scene: Scene) -> float:
    errors = []
    for view in scene.test:
        photo = view.image + (1 - view.alpha)[..., None] * model.background
        errors.append((model.render(view.camera).rgb.clamp(0, 1) - photo).square().mean())
    return float(-10 * torch.log10(torch.stack(errors).mean()))


def same(first: Gaussians, second: Gaussians) -> bool:
    return all(torch.equal(value, getattr(second, name)) for name, value in vars(first).items())


@pytest.mark.parametrize("head", [None, QnnConfig()])
def test_two_hundred_steps_learn_held_out_views(capture, head):
    config = FitConfig(schedule=Schedule(200, sh_degree=1), head=head, densification=None)
    start = fit(capture, replace(config, schedule=Schedule(1, sh_degree=1)))
    fitted = fit(capture, config)
    before, after = held_out_psnr(start.model, capture), held_out_psnr(fitted.model, capture)
    assert before < 16
    assert after > 19
    assert fitted.history[-1].phase == ("joint" if head else "splatting")


def test_seeds_in_view_learn_as_well_as_points(capture):
    config = FitConfig(schedule=Schedule(200, sh_degree=1), head=None, densification=None, seeds=150)
    assert held_out_psnr(fit(replace(capture, points=None), config).model, capture) > 20


@pytest.mark.parametrize("densification", [DefaultDensification, McmcDensification])
def test_densification_adds_gaussians_up_to_the_cap(capture, densification):
    config = FitConfig(schedule=Schedule(400), head=None, densification=densification(max_gaussians=62))
    counts = [record.num_gaussians for record in fit(capture, config).history]
    assert counts[0] == 31
    assert max(counts) > 31
    assert max(counts) <= 62


@pytest.mark.parametrize(("cap", "count"), [(None, 5), (100, 5), (4, 2), (1, 1)])
def test_a_run_starts_with_at_most_half_of_the_cap(cap, count):
    points = PointCloud(torch.rand(5, 3), torch.rand(5, 3))
    start = initial_gaussians(points, max_gaussians=cap, sh_degree=1, generator=torch.Generator().manual_seed(0))
    assert len(start.means) == count
    assert {tuple(mean) for mean in start.means.tolist()} <= {tuple(point) for point in points.positions.tolist()}


def test_nothing_depends_on_the_head_before_its_switch_on(capture):
    config = replace(SHORT, densification=DefaultDensification(max_gaussians=100))
    without, with_head = fit(capture, config), fit(capture, replace(config, head=QnnConfig()))
    assert [record.loss for record in without.history[:30]] == [record.loss for record in with_head.history[:30]]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_gaussians_that_no_camera_sees_do_no_harm(capture, backend):
    away = PointCloud(capture.points.positions + torch.tensor([0.0, 0.0, 50.0]), capture.points.colors)
    config = FitConfig(schedule=Schedule(4), backend=backend)
    assert len(fit(replace(capture, points=away), config).model.gaussians) == len(away.positions)


def test_the_head_learns_only_after_its_switch_on(capture):
    config = FitConfig(schedule=Schedule(20, head_share=1.0), densification=None)
    untouched = fit(capture, config).model.head
    assert torch.equal(untouched.stages[-1].weight, torch.zeros_like(untouched.stages[-1].weight))
    learning = fit(capture, replace(config, schedule=Schedule(20, head_share=0.5))).model.head
    assert learning.stages[-1].weight.abs().max() > 0


def test_gaussians_go_on_learning_in_the_joint_phase(capture):
    base = FitConfig(schedule=Schedule(1), densification=None)
    joint = replace(base, schedule=Schedule(2, head_share=0.5))
    before, after = fit(capture, base).model.gaussians, fit(capture, joint).model.gaussians
    assert not torch.equal(before.means, after.means)


@pytest.mark.parametrize("head", [None, QnnConfig()])
def test_the_same_seed_gives_the_same_bits(capture, head):
    config = replace(SHORT, head=head, densification=DefaultDensification(max_gaussians=100))
    first, second = fit(capture, config), fit(capture, config)
    assert same(first.model.gaussians, second.model.gaussians)
    assert [record.loss for record in first.history] == [record.loss for record in second.history]


def test_another_seed_gives_another_result(capture):
    first, second = fit(capture, SHORT), fit(capture, replace(SHORT, seed=1))
    assert not same(first.model.gaussians, second.model.gaussians)


def test_gaussians_are_the_same_for_any_number_of_threads(capture):
    threads = torch.get_num_threads()
    try:
        results: list[Fitted] = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(fit(capture, replace(SHORT, densification=DefaultDensification(max_gaussians=100))))
    finally:
        torch.set_num_threads(threads)
    assert same(results[0].model.gaussians, results[1].model.gaussians)


def test_the_random_state_of_the_caller_is_left_alone(capture):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    fit(capture, SHORT)
    assert torch.equal(torch.rand(3), expected)


def test_masked_pixels_do_not_influence_the_result(capture):
    mask = torch.ones(36, 48, dtype=torch.bool)
    mask[10:20, 15:30] = False
    clean = replace(capture, train=tuple(replace(view, mask=mask) for view in capture.train))
    soiled = []
    for view in clean.train:
        image = view.image.clone()
        image[~mask] = 1.0
        soiled.append(replace(view, image=image))
    first, second = fit(clean, SHORT), fit(replace(clean, train=tuple(soiled)), SHORT)
    assert same(first.model.gaussians, second.model.gaussians)


def test_transparent_photos_get_a_white_background_unless_told_otherwise(capture):
    assert torch.equal(fit(capture, SHORT).model.background, torch.ones(3))
    blue = fit(capture, replace(SHORT, background=(0.0, 0.0, 1.0))).model.background
    assert torch.equal(blue, torch.tensor([0.0, 0.0, 1.0]))
    opaque = replace(capture, train=tuple(replace(view, alpha=None) for view in capture.train))
    assert torch.equal(fit(opaque, SHORT).model.background, torch.zeros(3))


def test_random_backgrounds_keep_the_surroundings_empty(capture):
    """Over white, a white Gaussian in empty space costs nothing; over random colours it does."""
    config = FitConfig(schedule=Schedule(150, sh_degree=0), head=None, densification=None, random_background=True)
    model = fit(capture, config).model
    view = capture.test[0]
    assert (model.render(view.camera).alpha - view.alpha).abs().mean() < 0.1


def test_low_resolution_comes_first_when_asked_for(capture):
    config = replace(SHORT, schedule=Schedule(40, downscales=1, downscale_share=0.5))
    assert not same(fit(capture, config).model.gaussians, fit(capture, SHORT).model.gaussians)


def test_every_step_is_reported(capture):
    records = []
    fitted = fit(capture, replace(SHORT, head=QnnConfig()), on_step=records.append)
    assert [record.step for record in records] == list(range(40))
    assert [record.phase for record in records] == ["splatting"] * 30 + ["joint"] * 10
    assert all(later.seconds > earlier.seconds for earlier, later in itertools.pairwise(records))
    assert fitted.history == tuple(records)


def test_the_model_has_no_gradients(capture):
    fitted = fit(capture, replace(SHORT, head=QnnConfig()))
    assert not fitted.model.gaussians.means.requires_grad
    assert not any(parameter.requires_grad for parameter in fitted.model.head.parameters())


def test_a_run_that_starts_from_nothing_is_refused():
    with pytest.raises(ValueError, match="seeds=0"):
        FitConfig(seeds=0)


def test_a_scene_without_training_views_is_refused(capture):
    with pytest.raises(ValueError, match="0 training views"):
        fit(replace(capture, train=()), SHORT)


@pytest.mark.skipif("QSPLAT_DATA" not in os.environ, reason="QSPLAT_DATA does not name a folder with real captures")
def test_a_real_capture_becomes_recognisable_in_150_steps():
    from qsplat.io.transforms import load_scene

    scene = load_scene(f"{os.environ['QSPLAT_DATA']}/scenes/plush", max_side=126)
    schedule = Schedule(150, crop_share=1.0)
    fitted = fit(scene, FitConfig(schedule=schedule, densification=DefaultDensification(max_gaussians=6000)))
    errors = [(fitted.model.render(v.camera).rgb.clamp(0, 1) - v.image).square().mean() for v in scene.test]
    assert float(-10 * torch.log10(torch.stack(errors)).mean()) > 17


def windows_seen(capture: Scene, monkeypatch: pytest.MonkeyPatch, schedule: Schedule) -> list[object]:
    """The part of the image that the head saw in each step."""
    seen, corrected = [], SplatModel.corrected

    def recorded(model, drawn, camera, *, head_window=None, **options):
        seen.append(head_window)
        return corrected(model, drawn, camera, head_window=head_window, **options)

    monkeypatch.setattr(SplatModel, "corrected", recorded)
    fit(capture, FitConfig(schedule=schedule, densification=None))
    return seen


def test_the_head_is_trained_on_crops(capture, monkeypatch):
    seen = windows_seen(capture, monkeypatch, Schedule(8, head_share=0.5))
    assert seen[:4] == [None] * 4
    assert all(window is not None for window in seen[4:])
    assert len(set(seen[4:])) > 1


def test_the_head_is_trained_on_whole_images_when_asked_for(capture, monkeypatch):
    assert windows_seen(capture, monkeypatch, Schedule(4, head_share=0.5, crop_share=1.0)) == [None] * 4


def test_memory_is_kept_from_step_to_step(capture, monkeypatch):
    calls = []
    monkeypatch.setattr("qsplat.training.training.keep_freed_memory", lambda: calls.append(1))
    fit(capture, replace(SHORT, schedule=Schedule(1)))
    assert calls == [1]
