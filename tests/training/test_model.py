"""A model renders its Gaussians, its background and its head."""

from dataclasses import replace

import torch
from torch.nn import Parameter

from qsplat.cameras import Camera, Window
from qsplat.gaussians import Gaussians
from qsplat.qnn import QNN, QnnConfig, Queries
from qsplat.render import RasterConfig, rasterize
from qsplat.training.model import SplatModel
from qsplat.training.parameters import gaussians_of, parameters_of

FP32 = QnnConfig(precision="fp32")


def trained_head(config: QnnConfig = FP32, queries: Queries | None = None) -> QNN:
    """A head that is no longer the identity."""
    torch.manual_seed(0)
    head = QNN(config, queries=queries)
    for parameter in head.stages[-1].parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return head


def test_without_a_head_the_image_is_the_rendering_over_the_background(capture, truth):
    background = torch.tensor([0.2, 0.4, 0.6])
    camera = capture.train[0].camera
    view = SplatModel(truth, background=background).render(camera)
    assert torch.equal(view.rgb, rasterize(truth.activate(), camera).over(background))
    assert torch.equal(view.residual, torch.zeros_like(view.rgb))
    assert view.depth is not None


def test_a_new_head_changes_nothing(capture, truth):
    camera = capture.train[0].camera
    plain, headed = SplatModel(truth).render(camera), SplatModel(truth, QNN()).render(camera)
    assert torch.equal(plain.rgb, headed.rgb)


def test_the_image_is_the_base_plus_the_residual(capture, truth):
    view = SplatModel(truth, trained_head()).render(capture.train[0].camera)
    assert view.residual.abs().max() > 1e-3
    assert torch.equal(view.rgb, view.rgb_base + view.residual)


def test_gradients_of_the_residual_reach_the_gaussians(capture, truth):
    parameters = parameters_of(truth)
    view = SplatModel(gaussians_of(parameters), trained_head()).render(capture.train[0].camera)
    (view.residual * torch.linspace(-1, 1, 48)[:, None]).sum().backward()
    for name in ("means", "scales", "quats", "features_dc", "features_rest", "opacities"):
        assert parameters[name].grad.abs().max() > 0, name


def test_the_residual_has_the_gradient_that_finite_differences_see(capture, truth):
    """Along the gradient of a colour, in float64: the head is part of the derivative, not detached."""
    double = Gaussians(**{name: value.double() for name, value in vars(truth).items()})
    head, camera = trained_head().double(), capture.train[0].camera

    def loss(sh_dc: torch.Tensor) -> torch.Tensor:
        view = SplatModel(replace(double, sh_dc=sh_dc), head).render(camera, backend="reference")
        return view.residual.square().sum()

    colors = Parameter(double.sh_dc.clone())
    loss(colors).backward()
    direction = colors.grad / colors.grad.norm()
    with torch.no_grad():
        slope = (loss(colors + 1e-5 * direction) - loss(colors - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close(slope, colors.grad.norm(), rtol=1e-4, atol=0)


class Depths:
    """Queries that are the depth itself."""

    channels, needs_depth = 1, True

    def __call__(self, camera: Camera, depth: torch.Tensor | None) -> torch.Tensor:
        assert depth is not None
        return depth[..., None]


def test_depth_is_rendered_where_the_queries_need_it_and_passes_no_gradient(capture, truth):
    parameters, camera = parameters_of(truth), capture.train[0].camera
    head = trained_head(QnnConfig(precision="fp32", input="queries"), Depths())
    model = SplatModel(gaussians_of(parameters), head, config=RasterConfig(depth=False))
    view = model.render(camera)
    assert view.depth is not None
    view.residual.sum().backward()
    assert parameters["means"].grad is None
    part = model.render(camera, head_window=Window(5, 6, 20, 16)).residual[6:22, 5:25]
    torch.testing.assert_close(part, view.residual[6:22, 5:25], rtol=1e-5, atol=1e-5)
    window = Window(8, 4, 30, 20)
    moved = model.render(camera.cropped(window), head_window=Window(6, 7, 10, 9)).residual[7:16, 6:16]
    torch.testing.assert_close(moved, view.residual[11:20, 14:24], rtol=1e-4, atol=1e-4)


def test_depth_is_not_rendered_for_a_head_that_reads_no_queries(capture, truth):
    head = trained_head(QnnConfig(precision="fp32", input="render"))
    model = SplatModel(truth, head, config=RasterConfig(depth=False), queries=Depths())
    assert model.render(capture.train[0].camera).depth is None


def test_other_queries_take_the_place_of_the_heads_own(capture, truth):
    camera, head = capture.train[0].camera, trained_head(FP32, Depths())
    own = SplatModel(truth, head).render(camera)
    other = SplatModel(truth, head, queries=Shifted()).render(camera)
    assert not torch.equal(own.residual, other.residual)


class Shifted(Depths):
    """One unit farther away."""

    def __call__(self, camera: Camera, depth: torch.Tensor | None) -> torch.Tensor:
        return super().__call__(camera, depth) + 1


def test_degree_and_window_are_passed_on(capture, truth):
    model, camera = SplatModel(truth), capture.train[0].camera
    window = Window(10, 5, 20, 16)
    part = model.render(camera.cropped(window), sh_degree=0)
    whole = rasterize(truth.activate(sh_degree=0), camera).color
    torch.testing.assert_close(part.rgb, whole[5:21, 10:30])
