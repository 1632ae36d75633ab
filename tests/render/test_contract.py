"""What every backend promises."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from agreement import cpu, drawing, reference
from jaxtyping import TypeCheckError
from named_scenes import camera, crowd, one_splat, random_splats, tall_image

from qsplat.cameras import Camera, Window
from qsplat.gaussians import Splats
from qsplat.render import RasterConfig, Rendering, rasterize
from qsplat.render.sh import sh_basis

BACKENDS = {"reference": reference, "cpu": cpu}


@pytest.fixture(params=sorted(BACKENDS))
def backend(request):
    return BACKENDS[request.param]


def flat_splat(opacity: float = 0.8, value: float = 0.25) -> tuple[Splats, Camera]:
    """A splat of one channel on the axis, and a camera whose middle pixel looks along it."""
    splats = Splats(
        means=torch.tensor([[0.0, 0.0, 2.0]]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        scales=torch.tensor([[0.2, 0.1, 0.1]]),
        opacities=torch.tensor([opacity]),
        features=torch.tensor([[value]]),
    )
    return splats, Camera(torch.eye(4), 20.0, 20.0, 4.5, 3.5, 9, 7)


def test_a_wrong_shape_raises():
    with pytest.raises(TypeCheckError):
        sh_basis(torch.zeros(4, 2), 1)


def test_no_splats_leave_the_background(backend):
    nothing = Splats(**{name: None if value is None else value[:0] for name, value in vars(one_splat()[0]).items()})
    image = backend(nothing, camera(), RasterConfig())
    assert image.alpha.count_nonzero() == 0
    assert image.depth.count_nonzero() == 0
    background = torch.tensor([0.1, 0.5, 0.9])
    assert torch.equal(image.over(background), background.expand(27, 34, 3))
    assert image.trace.radii.shape == (0,)


def test_a_black_background_adds_nothing(backend):
    image, black = backend(one_splat()[0], camera(), RasterConfig()), torch.zeros(3)
    assert image.alpha.max() > 0.3
    assert torch.equal(image.over(black), image.color + (1 - image.alpha)[..., None] * black)
    corner = torch.zeros(27, 34, 3).index_fill(1, torch.tensor([0]), 0.7)
    assert torch.equal(image.over(corner)[:, 0], (image.color + (1 - image.alpha)[..., None] * corner)[:, 0])
    learnt = black.clone().requires_grad_()
    image.over(learnt).sum().backward()
    torch.testing.assert_close(learnt.grad, (1 - image.alpha).sum().expand(3).to(learnt))


def test_no_splats_have_empty_gradients(backend):
    nothing = Splats(**{name: None if value is None else value[:0] for name, value in vars(one_splat()[0]).items()})
    result = drawing(backend, nothing, camera(), RasterConfig())
    assert result["gradient of means"].shape == (0, 3)
    assert result["gradient of pose"].count_nonzero() == 0


def test_a_splat_is_the_gaussian_of_the_image_equation(backend):
    splats, view = flat_splat()
    image = backend(splats, view, RasterConfig())
    x, y = torch.meshgrid(torch.arange(9.0) - 4, torch.arange(7.0) - 3, indexing="xy")
    alpha = 0.8 * torch.exp(-0.5 * (x**2 / (2.0**2 + 0.3) + y**2 / (1.0**2 + 0.3)))
    alpha = torch.where(alpha < 1 / 255, 0, alpha)
    assert torch.allclose(image.alpha, alpha, atol=1e-6)
    assert torch.allclose(image.color[..., 0], 0.25 * alpha, atol=1e-6)
    assert torch.allclose(image.depth, torch.where(alpha > 0, 2.0, 0.0), atol=1e-5)
    assert image.trace.radii.tolist() == [7]


def test_antialiasing_keeps_the_light_of_a_splat(backend):
    splats, view = flat_splat()
    sharp = backend(splats, view, RasterConfig(antialiased=True)).alpha.max()
    assert float(sharp) == pytest.approx(0.8 * (4.0 * 1.0 / (4.3 * 1.3)) ** 0.5, rel=1e-5)


def test_the_length_of_a_quaternion_changes_nothing_but_the_scale_of_its_gradient(backend):
    splats, view = one_splat()
    images, gradients = [], []
    for length in (1, 7):
        quats = (length * splats.quats).requires_grad_()
        images.append(backend(replace(splats, quats=quats), view, RasterConfig()).color)
        gradients.append(torch.autograd.grad(images[-1].square().sum(), quats)[0] * length)
    torch.testing.assert_close(*images, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    assert gradients[0].norm() > 1e-3


def test_the_nearer_splat_covers_the_farther(backend):
    splats, view = flat_splat(opacity=0.9)
    two = Splats(
        means=torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 2.0]]),
        quats=splats.quats.repeat(2, 1),
        scales=splats.scales.repeat(2, 1),
        opacities=torch.tensor([0.9, 0.9]),
        features=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    )
    middle = backend(two, view, RasterConfig()).color[3, 4]
    assert torch.allclose(middle, torch.tensor([0.09, 0.9]), atol=1e-5)


def test_blending_stops_before_the_light_is_used_up(backend):
    splats, view = flat_splat()
    stack = Splats(
        means=torch.tensor([0.0, 0.0, 1.0]) * torch.arange(2.0, 8.0)[:, None],
        quats=splats.quats.repeat(6, 1),
        scales=splats.scales.repeat(6, 1),
        opacities=torch.full((6,), 0.95),
        features=torch.eye(6),
    )
    middle = backend(stack, view, RasterConfig()).color[3, 4]
    assert (middle > 0).tolist() == [True, True, True, False, False, False]


def test_opacity_zero_is_invisible_and_one_is_clamped(backend):
    assert backend(*flat_splat(opacity=0.0), RasterConfig()).alpha.count_nonzero() == 0
    assert float(backend(*flat_splat(opacity=1.0), RasterConfig()).alpha.max()) == pytest.approx(0.999, abs=1e-6)


def test_a_clamped_alpha_passes_no_gradient(backend):
    splats, view = flat_splat(opacity=1.0)
    opacities = splats.opacities.clone().requires_grad_()
    backend(replace(splats, opacities=opacities), view, RasterConfig()).alpha[3, 4].backward()
    assert opacities.grad is not None
    assert float(opacities.grad) == 0


def test_one_pixel_is_an_image(backend):
    view = Camera(torch.eye(4), 5.0, 5.0, 0.5, 0.5, 1, 1)
    result = drawing(backend, random_splats(5, seed=2), view, RasterConfig())
    assert result["color"].shape == (1, 1, 3)
    assert all(torch.isfinite(value).all() for value in result.values())


@pytest.mark.parametrize(
    "window", [Window(0, 0, 34, 27), Window(9, 13, 17, 5), Window(33, 26, 1, 1), Window(0, 5, 3, 22)]
)
def test_a_window_of_the_image_is_the_image_of_the_window(backend, window):
    splats, view = crowd()
    whole = drawing(backend, splats, view, RasterConfig(), gradients=False)
    part = drawing(backend, splats, view.cropped(window), RasterConfig(), gradients=False)
    rows, columns = slice(window.y, window.y + window.height), slice(window.x, window.x + window.width)
    assert all(torch.equal(part[name], whole[name][rows, columns]) for name in whole)


def test_a_window_beyond_the_first_tile_is_part_of_the_image(backend):
    splats, view = tall_image()
    view = replace(view, width=150, cx=75.0)
    whole, part = (backend(splats, one, RasterConfig()).color for one in (view, view.cropped(Window(70, 40, 70, 31))))
    assert torch.equal(part, whole[40:71, 70:140])


@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities", "sh", "features"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_a_splat_that_is_not_finite_is_not_there(backend, field, poison):
    splats = random_splats(40, seed=3, features=2)
    value = getattr(splats, field).clone()
    value[::4] = poison
    bad = torch.arange(40) % 4 == 0
    clean = Splats(**{name: tensor[~bad] for name, tensor in vars(splats).items()})
    poisoned = drawing(backend, replace(splats, **{field: value}), camera(), RasterConfig())
    expected = drawing(backend, clean, camera(), RasterConfig())
    for name, tensor in poisoned.items():
        if tensor.shape[:1] == (40,):
            assert tensor[bad].count_nonzero() == 0, name
            tensor = tensor[~bad]
        assert torch.allclose(tensor, expected[name], rtol=1e-4, atol=1e-5), name


def test_depth_is_absent_unless_asked_for(backend):
    assert backend(*one_splat(), RasterConfig(depth=False)).depth is None


def test_the_trace_counts_gradients_only_after_backward(backend):
    splats, view = one_splat()
    rendering = backend(replace(splats, means=splats.means.requires_grad_()), view, RasterConfig())
    with pytest.raises(ValueError, match="call backward"):
        rendering.trace.gradient()
    rendering.color.sum().backward()
    assert rendering.trace.gradient().shape == (1, 2)
    with pytest.raises(ValueError, match="absgrad=True"):
        rendering.trace.absolute_gradient()


def test_the_type_of_the_means_is_the_type_of_the_image(backend):
    splats, view = one_splat()
    double = Splats(**{name: None if value is None else value.double() for name, value in vars(splats).items()})
    image = backend(double, view, RasterConfig())
    assert image.color.dtype == image.alpha.dtype == torch.float64


def test_without_gradients_the_image_is_the_same(backend):
    splats, view = crowd()
    with_graph = backend(replace(splats, means=splats.means.requires_grad_()), view, RasterConfig())
    with torch.no_grad():
        without: Rendering = backend(splats, view, RasterConfig())
    assert torch.equal(with_graph.color, without.color)
    assert not without.color.requires_grad


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match="'metal' does not exist: choose reference, cpu or cuda"):
        inspect.unwrap(rasterize)(*one_splat(), backend="metal")
