"""The fast backend against the reference: values, gradients, determinism."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from agreement import assert_agree, cpu, disagreement, drawing, reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from named_scenes import SCENES, camera, crowd, needles, one_splat, random_splats, tall_image, turned_pose

from qsplat import kernels
from qsplat.cameras import Camera, Window
from qsplat.gaussians import Splats, seed_from_points
from qsplat.render import BackendUnavailable, RasterConfig, rasterize
from qsplat.render import cpu as cpu_backend

WITHOUT_CUTOFFS = RasterConfig(alpha_cut=0.0, alpha_max=1 - 1e-6, transmittance_stop=0.0)


@pytest.fixture
def restore_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("antialiased", [False, True], ids=["classic", "antialiased"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_named_scenes_agree_with_the_reference(scene, antialiased):
    splats, view = scene()
    config = RasterConfig(antialiased=antialiased, absgrad=True)
    actual, expected = (drawing(one, splats, view, config) for one in (cpu, reference))
    assert expected["alpha"].max() > 0.01
    assert_agree(actual, expected)


@pytest.mark.parametrize("features", [1, 3, 4, 8, 16, 20])
@pytest.mark.parametrize("depth", [True, False], ids=["depth", "color"])
def test_any_number_of_channels_agrees(features, depth):
    splats = replace(random_splats(60, seed=20, features=features), sh=None)
    config = RasterConfig(depth=depth)
    assert_agree(*(drawing(one, splats, camera(), config) for one in (cpu, reference)))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_features_follow_the_color_of_any_degree(degree):
    splats = random_splats(60, seed=21, degree=degree, features=5)
    view = camera(pose=turned_pose())
    assert_agree(*(drawing(one, splats, view, RasterConfig(absgrad=True)) for one in (cpu, reference)))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    count=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    width=st.integers(1, 24),
    height=st.integers(1, 24),
    largest=st.floats(0.06, 1.5),
    degree=st.integers(0, 3),
    features=st.integers(0, 6),
    antialiased=st.booleans(),
)
def test_random_scenes_agree_when_cutoffs_are_off(count, seed, width, height, largest, degree, features, antialiased):
    splats = random_splats(
        count, seed=seed, size=(0.05, largest), opacity=(0.05, 0.8), degree=degree, features=features
    )
    config = replace(WITHOUT_CUTOFFS, antialiased=antialiased)
    view = camera(width, height, pose=turned_pose())
    actual, expected = (drawing(one, splats, view, config) for one in (cpu, reference))
    assume(expected["alpha"].max() > 0.1)
    # Gradients of tiny splats' scales cancel in images of few pixels: 3.02e-5 at 1x11.
    assert_agree(actual, expected, tolerance=5e-5)


@pytest.mark.parametrize("window", [Window(3, 5, 21, 9), Window(30, 20, 4, 7)])
def test_gradients_of_a_window_agree(window):
    splats, view = crowd()
    assert_agree(*(drawing(one, splats, view.cropped(window), RasterConfig(absgrad=True)) for one in (cpu, reference)))


def test_real_gaussians_agree():
    folder = os.environ.get("QSPLAT_DATA")
    if not folder:
        pytest.skip("QSPLAT_DATA does not name the folder with splats/garden.npz")
    data = np.load(Path(folder) / "splats" / "garden.npz")
    points = torch.from_numpy(data["means3d"][::8])
    colors = 0.1 + 0.8 * torch.from_numpy(data["colors"][::8]).float() / 255
    generator = torch.Generator().manual_seed(0)
    gaussians = seed_from_points(points, colors, opacity=0.6, generator=generator)
    stretched = gaussians.log_scales + 0.5 * torch.randn(gaussians.log_scales.shape, generator=generator)
    splats = replace(gaussians, log_scales=stretched).activate()
    k = data["Ks"][0]
    focal = (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))
    view = Camera(torch.from_numpy(data["viewmats"][0]), *focal, int(data["width"]), int(data["height"]))
    view = view.resized(162, 105).cropped(Window(70, 50, 26, 18))
    actual, expected = (drawing(one, splats, view, RasterConfig(depth=False)) for one in (cpu, reference))
    assert expected["alpha"].mean() > 0.3
    assert_agree(actual, expected, tolerance=1e-4)


@pytest.mark.parametrize("scene", [crowd, tall_image])
def test_the_number_of_threads_changes_no_bit(scene, restore_threads):
    splats, view = scene()
    splats = replace(splats, features=torch.randn(len(splats.means), 2))
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(drawing(cpu, splats, view, RasterConfig(absgrad=True)))
    for other in results[1:]:
        assert all(torch.equal(other[name], value) for name, value in results[0].items())


def test_many_splats_are_sorted_the_same_by_any_number_of_threads(restore_threads):
    splats, view = random_splats(20_000, seed=30, size=(0.002, 0.02)), camera(200, 150)
    view = replace(view, fx=180.0, fy=180.0)
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(drawing(cpu, splats, view, RasterConfig()))
    assert all(torch.equal(results[1][name], value) for name, value in results[0].items())


def test_every_binary_that_runs_here_draws_the_same():
    names = kernels.runnable_binaries()
    if len(names) < 2:
        pytest.skip(f"this processor runs one binary only: {names}")
    splats, view = crowd()
    best, *others = (
        drawing(
            lambda s, c, config, name=name: cpu_backend.rasterize(s, c, config, library=kernels.load(name)),
            splats,
            view,
            RasterConfig(absgrad=True),
        )
        for name in names
    )
    for other in others:
        assert_agree(other, best, tolerance=5e-6)


def test_views_of_other_tensors_are_read_correctly():
    splats, view = crowd()
    strided = Splats(
        means=torch.stack([splats.means, splats.means], dim=-1)[..., 0],
        quats=splats.quats.T.contiguous().T,
        scales=splats.scales[:, :1].expand(-1, 3),
        opacities=splats.opacities[:1].expand(len(splats.opacities)),
        sh=splats.sh.transpose(0, 1).contiguous().transpose(0, 1),
    )
    packed = Splats(**{name: None if value is None else value.contiguous() for name, value in vars(strided).items()})
    actual, expected = (drawing(cpu, one, view, RasterConfig()) for one in (strided, packed))
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


def test_backward_twice_gives_the_same_gradients():
    splats, view = crowd()
    means = splats.means.requires_grad_()
    image = rasterize(replace(splats, means=means), view, backend="cpu")
    first = torch.autograd.grad(image.color.sum(), means, retain_graph=True)[0]
    rasterize(*tall_image(), backend="cpu")
    assert torch.equal(first, torch.autograd.grad(image.color.sum(), means)[0])


def test_a_loss_of_one_image_ignores_the_others():
    splats, view = crowd()
    for name in ("color", "alpha", "depth"):
        gradients = []
        for backend in ("cpu", "reference"):
            means = splats.means.detach().clone().requires_grad_()
            image = rasterize(replace(splats, means=means), view, backend=backend)
            weight = torch.linspace(-1, 1, 34) * image.alpha.detach()
            value = getattr(image, name)
            (value * (weight[..., None] if name == "color" else weight)).sum().backward()
            gradients.append(means.grad)
        assert disagreement(*gradients)[0] < 1e-5


def test_two_threads_may_render_at_once():
    scenes = [crowd(), tall_image()]
    expected = [drawing(cpu, *scene, RasterConfig()) for scene in scenes]
    wrong = []

    def work(index: int) -> None:
        for _ in range(25):
            result = drawing(cpu, *scenes[index], RasterConfig())
            wrong.extend(name for name, value in result.items() if not torch.equal(value, expected[index][name]))

    workers = [threading.Thread(target=work, args=(index,)) for index in (0, 1, 0)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    exponent=st.integers(-38, 38),
    field=st.sampled_from(["means", "scales", "quats", "sh"]),
)
def test_extreme_numbers_never_spoil_the_image(seed, exponent, field):
    splats = random_splats(20, seed=seed)
    value = getattr(splats, field).clone()
    value[::2] *= float(np.float32(10.0**exponent))
    image = rasterize(replace(splats, **{field: value}), camera(), backend="cpu")
    assert torch.isfinite(image.alpha).all()
    assert (image.alpha >= 0).all()
    assert (image.alpha <= 1).all()
    if field != "sh":
        assert torch.isfinite(image.color).all()


def test_thin_splats_stay_where_they_are():
    """A c - b^2 of a covariance in float32 would lose these to cancellation."""
    splats, view = needles()
    thin = replace(splats, scales=torch.tensor([3.0, 1e-5, 1e-5]).repeat(len(splats.scales), 1))
    actual, expected = (drawing(one, thin, view, RasterConfig(), gradients=False) for one in (cpu, reference))
    assert disagreement(actual["alpha"], expected["alpha"])[0] < 1e-3


@pytest.mark.parametrize(
    ("field", "shape"),
    [("quats", (3, 4)), ("scales", (1, 4)), ("opacities", (1, 1)), ("sh", (1, 4)), ("features", (2, 3))],
)
def test_a_field_of_the_wrong_shape_is_named(field, shape):
    splats, view = one_splat()
    object.__setattr__(splats, field, torch.zeros(shape))
    with pytest.raises(ValueError, match=rf"{field} of shape \({shape[0]}, {shape[1]}\): 1 means need"):
        rasterize(splats, view, backend="cpu")


def test_a_machine_without_kernels_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(kernels, "runnable_binaries", tuple)
    with pytest.raises(BackendUnavailable, match=r"has no kernels for .*backend='reference' runs anywhere"):
        rasterize(*one_splat(), backend="cpu")
    rasterize(*one_splat(), backend="reference")


def test_a_package_that_was_not_built_says_so():
    with pytest.raises(BackendUnavailable, match=r"qsplat_z80\.so is missing: build the kernels"):
        kernels.load("z80")
