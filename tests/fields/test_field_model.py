"""Rendering fields whose image is known: a ball of even density."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

import qsplat.fields.model as model_module
from qsplat.cameras import Camera, Window
from qsplat.encodings import Positional
from qsplat.fields.frequencies import Sine
from qsplat.fields.model import FieldModel
from qsplat.fields.nerf import FieldConfig, Hierarchical, RadianceField
from qsplat.fields.occupancy import OccupancyConfig
from qsplat.fields.rays import camera_rays
from qsplat.fields.region import Box, Region

GREEN = torch.tensor([0.1, 0.9, 0.2])
SAMPLINGS = [Hierarchical(48, 96), OccupancyConfig(resolution=48, samples=24, refresh_share=1.0)]


class Ball(RadianceField):
    """Density ``thickness`` (1/radius) within half a unit of the middle, one colour."""

    def __init__(self, thickness: float) -> None:
        nn.Module.__init__(self)
        self.thickness = thickness

    def density(self, coordinates):
        return self.thickness * (coordinates.norm(dim=-1) < 0.5)

    def forward(self, coordinates, directions):
        return self.density(coordinates), GREEN.expand_as(coordinates)


def camera() -> Camera:
    pose = torch.eye(4)
    pose[2, 3] = 4.0
    return Camera(pose, 40.0, 40.0, 16.0, 12.0, 32, 24)


def ball_model(thickness: float, sampling, *, bounded: bool = True) -> FieldModel:
    """A ball around the origin, of radius 1 in the world either way, 4 in front of the camera."""
    torch.manual_seed(0)
    region = Region(torch.zeros(3), 2.0 if bounded else 1.0, 0.5, 100.0, bounded=bounded)
    model = FieldModel(FieldConfig(depth=1, width=8, skip=None, sampling=sampling), region, torch.ones(3))
    model.field = Ball(thickness if bounded else thickness / 2)
    if model.grid is not None:
        for _ in range(20):
            model.after_step(model.grid.config.refresh_every - 1)
    else:
        model.coarse = model.field
    return model


def chords() -> torch.Tensor:
    """How far the rays of the camera go through the ball, in world units."""
    rays = camera_rays(camera())
    nearest = (rays.origins - (rays.origins * rays.directions).sum(-1, keepdim=True) * rays.directions).norm(dim=-1)
    return 2 * (1 - nearest.square()).clamp_min(0).sqrt().reshape(24, 32)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("bounded", [True, False])
def test_a_ball_of_even_density_covers_as_the_integral_says(sampling, bounded):
    """thickness is per radius of the region, which is 2 in the world (1, and half as dense, where it is endless)."""
    view = ball_model(1.5, sampling, bounded=bounded).render(camera())
    expected = 1 - torch.exp(-1.5 / 2 * chords())
    assert (view.alpha - expected).abs().mean() < 0.02
    torch.testing.assert_close(view.rgb, 1 - view.alpha[..., None] * (1 - GREEN), atol=1e-5, rtol=0)
    assert view.rgb_base is view.rgb


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_depth_of_an_opaque_ball_is_that_of_its_front(sampling):
    view = ball_model(1e4, sampling).render(camera())
    chord = chords()
    rays = camera_rays(camera())
    along = (-(rays.origins * rays.directions).sum(-1)).reshape(24, 32)
    depth = (along - chord / 2) * rays.directions[:, 2].reshape(24, 32)
    middle = chord > 1.0
    assert int(middle.sum()) > 50
    torch.testing.assert_close(view.alpha[middle], torch.ones(int(middle.sum())))
    assert (view.depth - depth)[middle].abs().max() < 0.15


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_empty_fields_show_the_background(sampling):
    view = ball_model(0.0, sampling).render(camera())
    assert torch.equal(view.rgb, torch.ones(24, 32, 3))
    assert torch.equal(view.alpha, torch.zeros(24, 32))


@contextmanager
def evaluations(model):
    """How many positions the networks of ``model`` are evaluated at, one call after the other."""
    counted = []
    networks = {model.field, model.coarse} - {None}
    handles = [one.register_forward_pre_hook(lambda _, given: counted.append(len(given[0]))) for one in networks]
    yield counted
    for handle in handles:
        handle.remove()


def test_rays_that_meet_nothing_are_not_evaluated():
    model = ball_model(1e3, SAMPLINGS[1])
    with evaluations(model) as counted:
        model.march(camera_rays(camera()), jitter=True)
    touched = int((chords() > 0).sum())
    assert touched * 24 <= sum(counted) < 2 * touched * 24 < 32 * 24 * 24


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_rays_that_miss_the_box_cost_nothing_and_see_nothing(sampling):
    rays = camera_rays(camera())
    away = type(rays)(rays.origins, -rays.directions)
    model = ball_model(1e3, sampling)
    with evaluations(model) as counted:
        marched = model.march(away, jitter=True)
    assert sum(counted) == 0
    assert bool((marched.fine.alpha == 0).all())


@pytest.mark.parametrize("sampling", [Hierarchical(8, 8), OccupancyConfig(resolution=8, samples=4)])
@pytest.mark.parametrize("frequencies", [Positional(3), Sine()])
def test_pieces_of_an_image_are_those_of_the_whole(sampling, frequencies, monkeypatch):
    torch.manual_seed(0)
    config = FieldConfig(frequencies, depth=2, width=16, skip=None, view_width=8, sampling=sampling)
    model = FieldModel(config, Region(torch.zeros(3), 2.0, 0.5, 100.0, bounded=True), torch.zeros(3))
    whole = model.render(camera())
    window = model.render(camera().cropped(Window(5, 3, 11, 7)))
    torch.testing.assert_close(window.rgb, whole.rgb[3:10, 5:16], atol=1e-5, rtol=0)
    torch.testing.assert_close(window.depth, whole.depth[3:10, 5:16], atol=1e-4, rtol=0)
    monkeypatch.setattr(model_module, "CHUNK", 1500)
    torch.testing.assert_close(model.render(camera()).rgb, whole.rgb, atol=1e-5, rtol=0)
    assert not whole.rgb.requires_grad


def test_a_coarse_pass_tells_the_fine_one_where_to_look():
    model = ball_model(1e4, Hierarchical(16, 16), bounded=False)
    with evaluations(model) as counted:
        marched = model.march(camera_rays(camera()), jitter=False)
    assert counted == [32 * 24 * 16, 32 * 24 * (16 + 16)]
    rays = camera_rays(camera())
    front = -(rays.origins * rays.directions).sum(-1) - chords().flatten() / 2
    middle = chords().flatten() > 1.0
    fine, coarse = ((seen.distance - front)[middle].abs().mean() for seen in (marched.fine, marched.coarse))
    assert fine < 0.5 * coarse


@pytest.mark.parametrize("sampling", [Hierarchical(8, 8), OccupancyConfig(resolution=8, samples=4)])
def test_gradients_reach_every_network(sampling):
    torch.manual_seed(0)
    config = FieldConfig(Positional(3), depth=2, width=16, skip=None, density="softplus", sampling=sampling)
    model = FieldModel(config, Region(torch.zeros(3), 2.0, 0.5, 100.0, bounded=True), torch.zeros(3))
    marched = model.march(camera_rays(camera()), jitter=True)
    passes = [marched.fine, marched.coarse] if marched.coarse else [marched.fine]
    sum(seen.color.square().sum() for seen in passes).backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in model.parameters())


def test_a_slice_shows_the_colours_around_a_camera_whatever_the_density():
    torch.manual_seed(0)
    config = FieldConfig(Positional(3), depth=2, width=16, skip=None)
    model = FieldModel(config, Region(torch.zeros(3), 2.0, 0.5, 100.0, bounded=True), torch.zeros(3))
    colors = model.slice_colors(camera())
    assert colors.shape == (24, 32, 3)
    rays = camera_rays(camera())
    points = rays.origins + 4.0 * rays.directions
    torch.testing.assert_close(colors.reshape(-1, 3), model.field(points / 2, None)[1], atol=1e-5, rtol=0)


def test_state_holds_the_grid():
    model = ball_model(5.0, SAMPLINGS[1])
    torch.manual_seed(1)
    other = FieldModel(model.config, model.region, torch.zeros(3))
    other.field = Ball(5.0)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.render(camera()).rgb, model.render(camera()).rgb)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("bounded", [True, False])
def test_a_box_shows_the_part_of_the_field_inside_it(sampling, bounded):
    """The half of the ball that is nearer than its middle."""
    model = ball_model(1.5, sampling, bounded=bounded)
    near_half = Box(torch.eye(4), torch.tensor([5.0, 5.0, 1.5]))
    near_half.box_from_world[2, 3] = 1.5
    view = model.render(camera(), within=near_half)
    rays, half = camera_rays(camera()), chords().flatten() / 2
    along = -(rays.origins * rays.directions).sum(-1)
    inside = torch.minimum(along + half, 4 / rays.directions[:, 2]) - (along - half)
    covered = 1 - torch.exp(-1.5 / 2 * inside.clamp_min(0)).reshape(24, 32)
    assert (view.alpha - covered).abs().mean() < 0.01
    assert covered.max() > 0.4
    nowhere = Box(torch.eye(4), torch.full((3,), 1e-3))
    nowhere.box_from_world[0, 3] = 50.0
    assert not model.render(camera(), within=nowhere).alpha.any()
