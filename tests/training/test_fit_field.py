"""The light training loop of fields learns, is reproducible, and keeps to its configuration."""

import itertools
from dataclasses import replace

import pytest
import torch
from conftest import blobs, ring

from qsplat.encodings import Fourier, Positional
from qsplat.fields.frequencies import Sine
from qsplat.fields.nerf import FieldConfig, Hierarchical
from qsplat.fields.occupancy import OccupancyConfig
from qsplat.frequency_tokens import Tokens
from qsplat.io.scene import PointCloud, Scene, View
from qsplat.metrics.psnr import psnr
from qsplat.render import rasterize
from qsplat.training.field_presets import field_preset
from qsplat.training.fit_field import FieldFitConfig, FieldTraining, fit_field, region_for
from qsplat.training.optimizers import Rate

TINY = FieldConfig(
    Positional(5),
    depth=2,
    width=32,
    skip=None,
    view_width=16,
    density="softplus",
    sampling=OccupancyConfig(resolution=24, samples=8, bins=32),
)
SHORT = FieldFitConfig(TINY, iterations=20, rays=64)


def held_out_psnr(model, scene: Scene) -> float:
    scores = []
    for view in scene.test:
        photo = view.image if view.alpha is None else view.image + (1 - view.alpha)[..., None] * model.background
        scores.append(psnr(model.render(view.camera).rgb, photo))
    return sum(scores) / len(scores)


def photographed(*, surroundings: bool) -> Scene:
    """28 views from around, 4 of them held out, of a few blobs: before nothing, or before something endlessly far."""
    drawn = blobs(8, radius=0.35).activate()
    views = []
    for index, camera in enumerate(ring(28)):
        with torch.no_grad():
            image = rasterize(drawn, camera, backend="reference")
        if surroundings:
            sky = 0.5 + 0.4 * torch.sin(3 * camera.ray_directions())
            views.append(View(f"{index}", camera, image.over(sky).clamp(0, 1)))
        else:
            views.append(View(f"{index}", camera, image.color.clamp(0, 1), image.alpha))
    train, test = (
        tuple(view for index, view in enumerate(views) if (index % 7 == 3) == held) for held in (False, True)
    )
    return Scene("blobs", train, test, None, torch.eye(4))


def constant_psnr(scene: Scene) -> float:
    """What the mean colour of the training photos over white reaches."""
    photos = [
        [view.image if view.alpha is None else view.image + (1 - view.alpha)[..., None] for view in views]
        for views in (scene.train, scene.test)
    ]
    mean = torch.stack(photos[0]).mean(dim=(0, 1, 2))
    return sum(psnr(mean.expand_as(photo), photo) for photo in photos[1]) / len(photos[1])


@pytest.mark.parametrize(
    ("frequencies", "sampling", "rate"),
    [
        (Positional(5), TINY.sampling, 5e-3),
        (Positional(5), Hierarchical(12, 12), 5e-3),
        (Fourier(32, 0.5), TINY.sampling, 5e-3),
        (Sine(omega=10.0), TINY.sampling, 2e-3),
    ],
)
def test_a_short_training_learns_held_out_views(frequencies, sampling, rate):
    scene = photographed(surroundings=False)
    field = replace(TINY, frequencies=frequencies, sampling=sampling)
    fitted = fit_field(
        scene, FieldFitConfig(field, iterations=150, rays=256, rate=Rate(rate, rate / 10, "exponential"))
    )
    assert held_out_psnr(fitted.model, scene) > max(21.0, constant_psnr(scene) + 4)


def test_surroundings_without_end_are_learnt_too():
    scene = photographed(surroundings=True)
    config = FieldFitConfig(TINY, iterations=150, rays=256, rate=Rate(5e-3, 5e-4, "exponential"))
    fitted = fit_field(scene, config)
    assert not fitted.model.region.bounded
    assert torch.equal(fitted.model.background, torch.zeros(3))
    assert held_out_psnr(fitted.model, scene) > max(21.0, constant_psnr(scene) + 4)


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(capture):
    field = replace(TINY, frequencies=Fourier(16, 1.0))
    runs = [fit_field(capture, replace(SHORT, field=field, seed=seed)) for seed in (0, 0, 1)]
    states = [run.model.state_dict() for run in runs]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["field.trunk.encoding.frequencies"], states[2]["field.trunk.encoding.frequencies"])
    assert [record.loss for record in runs[0].history] == [record.loss for record in runs[1].history]


def test_the_random_state_of_the_caller_is_left_alone(capture):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit_field(capture, replace(SHORT, iterations=2))
    assert torch.equal(torch.rand(3), expected)


def test_every_step_is_reported(capture):
    records = []
    fitted = fit_field(capture, SHORT, on_step=records.append)
    assert [record.step for record in records] == list(range(20))
    assert fitted.history == tuple(records)
    assert all(later.seconds > earlier.seconds for earlier, later in itertools.pairwise(records))
    assert all(record.psnr > 0 and record.loss > 0 for record in records)


def test_a_training_in_parts_gives_the_bits_of_one_in_one_go(capture):
    field = replace(TINY, frequencies=Fourier(16, 1.0))
    whole = fit_field(capture, replace(SHORT, field=field))
    parts = FieldTraining(capture, replace(SHORT, field=field, iterations=7))
    parts.plan(20)
    for until in (3, 3, 11, None):
        parts.advance(until)
        parts.model().render(capture.train[0].camera)
    assert (parts.step, len(parts.history)) == (20, 20)
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in parts.model().state_dict().items())


def test_the_rate_follows_the_planned_length(capture):
    shorter, longer = (FieldTraining(capture, SHORT) for _ in range(2))
    longer.plan(40)
    for training in (shorter, longer):
        training.advance(10)
    assert not torch.equal(shorter.model().field.density_head.weight, longer.model().field.density_head.weight)


@pytest.mark.parametrize("until", [4, 21])
def test_a_training_goes_neither_back_nor_beyond_its_end(capture, until):
    training = FieldTraining(capture, SHORT)
    training.advance(5)
    with pytest.raises(ValueError, match=f"until={until}: the training stands at step 5 of 20"):
        training.advance(until)
    with pytest.raises(ValueError, match="iterations=4: the training stands at step 5"):
        training.plan(4)


def test_the_loss_adds_the_coarse_pass(capture):
    two = fit_field(capture, replace(SHORT, field=replace(TINY, sampling=Hierarchical(4, 4)), iterations=1))
    record = two.history[0]
    assert record.loss > 1.5 * 10 ** (-record.psnr / 10)


def test_the_model_has_no_gradients(capture):
    assert not any(parameter.requires_grad for parameter in fit_field(capture, SHORT).model.parameters())


def test_photos_with_alpha_are_bounded_and_white_and_others_begin_where_the_points_do(capture):
    assert region_for(capture).bounded
    assert torch.equal(fit_field(capture, replace(SHORT, iterations=1)).model.background, torch.ones(3))
    scene = replace(capture, train=tuple(replace(view, alpha=None) for view in capture.train))
    shifted = PointCloud(0.2 * capture.points.positions, capture.points.colors)
    assert region_for(replace(scene, points=shifted)).near > region_for(replace(scene, points=None)).near


def test_presets_are_the_published_field_and_a_small_one():
    original, small = (field_preset("nerf", size, iterations=7) for size in ("original", "small"))
    assert original.field == FieldConfig()
    assert original.rate == Rate(5e-4, 5e-5, "exponential")
    assert (original.rays, original.iterations) == (1024, 7)
    assert small.field.width < original.field.width
    for method, kind in (("nerf", Positional), ("siren", Sine), ("fourier", Fourier), ("rffca", Tokens)):
        for size in ("original", "small"):
            assert isinstance(field_preset(method, size, iterations=7).field.frequencies, kind)


def test_a_scene_without_training_views_is_refused(capture):
    with pytest.raises(ValueError, match="0 training views"):
        fit_field(replace(capture, train=()), SHORT)


@pytest.mark.parametrize("values", [{"iterations": 0}, {"rays": 0}])
def test_runs_without_steps_or_rays_are_refused(values):
    with pytest.raises(ValueError, match="at least 1"):
        FieldFitConfig(**values)
