"""The adapter to gsplat: how it calls, on any machine, and what it computes, on a GPU."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch

from qsplat.cameras import Camera, Window
from qsplat.gaussians import Gaussians, Splats, seed_from_points
from qsplat.render import BackendUnavailable, RasterConfig, rasterize
from qsplat.render.cuda import rasterize_with


def scene(count: int = 60, features: int = 0) -> tuple[Splats, Camera]:
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(count, 3, generator=generator)
    gaussians = seed_from_points(points, torch.rand(count, 3, generator=generator), opacity=0.6, generator=generator)
    harmonics = Gaussians(
        **{
            **vars(gaussians),
            "sh_rest": 0.2 * torch.randn(gaussians.sh_rest.shape, generator=generator),
        }
    )
    pose = torch.eye(4)
    pose[2, 3] = 4.0
    extra = torch.rand(count, features, generator=generator) if features else None
    return harmonics.activate(features=extra), Camera(pose, 40.0, 42.0, 24.3, 15.2, 48, 32)


def gsplat_twin(**arguments):
    """gsplat's interface answered by the reference rasterizer."""
    camera = Camera(
        arguments["viewmats"][0],
        *(float(arguments["Ks"][0][at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2))),
        arguments["width"],
        arguments["height"],
    )
    colors, degree = arguments["colors"], arguments["sh_degree"]
    splats = Splats(
        means=arguments["means"],
        quats=arguments["quats"],
        scales=arguments["scales"],
        opacities=arguments["opacities"],
        sh=colors if degree is not None else None,
        features=None if degree is not None else colors,
    )
    depth = arguments["render_mode"] == "RGB+ED"
    config = RasterConfig(
        blur=arguments["eps2d"],
        near=arguments["near_plane"],
        far=arguments["far_plane"],
        antialiased=arguments["rasterize_mode"] == "antialiased",
        depth=depth,
        absgrad=arguments["absgrad"],
    )
    image = rasterize(splats, camera, config=config, backend="reference")
    color = torch.cat([image.color, image.depth[..., None]], dim=-1) if depth else image.color
    radii = image.trace.radii[None, :, None].expand(-1, -1, 2)
    return color[None], image.alpha[None, ..., None], {"means2d": image.trace.node, "radii": radii}


@pytest.mark.skipif(importlib.util.find_spec("gsplat") is None, reason="gsplat is not installed")
def test_adapter_uses_only_arguments_that_gsplat_has():
    source = importlib.util.find_spec("gsplat").submodule_search_locations[0]
    with open(f"{source}/rendering.py") as file:
        text = file.read()
    signature = text[text.index("def rasterization(") : text.index(") -> Tuple[Tensor, Tensor, Dict]")]
    splats, camera = scene()
    used: dict[str, object] = {}

    def record(**arguments):
        used.update(arguments)
        return gsplat_twin(**arguments)

    rasterize_with(record, splats, camera, RasterConfig())
    assert len(used) > 10
    for name in used:
        assert f"    {name}: " in signature, f"gsplat's rasterization has no argument {name}"


@pytest.mark.parametrize("config", [RasterConfig(), RasterConfig(antialiased=True, depth=False, near=3.5)])
@pytest.mark.parametrize("features", [0, 2])
@pytest.mark.parametrize("window", [None, Window(5, 7, 20, 11)])
def test_adapter_translates_both_ways(config, features, window):
    splats, camera = scene(features=features)
    camera = camera.cropped(window)
    found = rasterize_with(gsplat_twin, splats, camera, config)
    expected = rasterize(splats, camera, config=config, backend="reference")
    torch.testing.assert_close(found.color, expected.color)
    torch.testing.assert_close(found.alpha, expected.alpha)
    assert (found.depth is None) == (expected.depth is None)
    if found.depth is not None:
        torch.testing.assert_close(found.depth, expected.depth)
    assert torch.equal(found.trace.radii, expected.trace.radii)


def test_adapter_leaves_a_trace_for_densification():
    splats, camera = scene()
    splats = replace(splats, means=splats.means.requires_grad_())
    image = rasterize_with(gsplat_twin, splats, camera, RasterConfig(absgrad=True))
    image.color.sum().backward()
    assert image.trace.gradient().shape == (60, 2)
    assert bool((image.trace.absolute_gradient() >= image.trace.gradient().abs() - 1e-9).all())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_backend_says_so_and_never_falls_back():
    splats, camera = scene()
    with pytest.raises(BackendUnavailable, match=r"needs an NVIDIA GPU.*backend='cpu'"):
        rasterize(splats, camera, backend="cuda")


@pytest.mark.parametrize("name", ["alpha_cut", "alpha_max", "transmittance_stop"])
def test_thresholds_compiled_into_gsplat_are_refused(name):
    splats, camera = scene()
    with pytest.raises(ValueError, match=f"{name}=0.5"):
        rasterize(splats, camera, config=RasterConfig(**{name: 0.5}), backend="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("config", [RasterConfig(absgrad=True), RasterConfig(antialiased=True)])
@pytest.mark.parametrize("features", [0, 5])
@pytest.mark.parametrize("window", [None, Window(5, 7, 20, 11)])
def test_cuda_equals_cpu_in_values_and_gradients(config, features, window):
    results = {}
    for backend in ("cpu", "cuda"):
        splats, camera = scene(features=features)
        fields = {name: value for name, value in vars(splats).items() if value is not None}
        fields = {name: value.detach().to(backend).requires_grad_() for name, value in fields.items()}
        pose = camera.cam_from_world.to(backend).requires_grad_()
        view = replace(camera, cam_from_world=pose, window=window)
        image = rasterize(Splats(**fields), view, config=config, backend=backend)
        weights = torch.linspace(0.5, 1.5, image.color.numel()).reshape(image.color.shape).to(backend)
        loss = (image.color * weights).sum() + image.alpha.sum() + 0.1 * image.depth.sum()
        loss.backward()
        values = {"color": image.color, "alpha": image.alpha, "depth": image.depth, "pose": pose.grad}
        values |= {name: value.grad for name, value in fields.items()}
        values["means2d"] = image.trace.gradient()
        results[backend] = {name: value.detach().cpu() for name, value in values.items()}
    for name, expected in results["cpu"].items():
        error = (results["cuda"][name] - expected).norm() / expected.norm().clamp_min(1e-12)
        assert error < 1e-3, f"{name}: relative error {error:.2e}"
