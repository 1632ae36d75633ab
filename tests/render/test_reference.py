"""The executable specification against finite differences."""

from __future__ import annotations

import torch
from named_scenes import random_splats, turned_pose

from qsplat.cameras import Camera
from qsplat.gaussians import Splats
from qsplat.render import RasterConfig, rasterize

WITHOUT_CUTOFFS = RasterConfig(alpha_cut=0.0, alpha_max=1 - 1e-6, transmittance_stop=0.0)


def draw(config: RasterConfig, pose, means, quats, scales, opacities, sh, features):
    """Images of the reference as a function of everything that has a gradient."""
    splats = Splats(means=means, quats=quats, scales=scales, opacities=opacities, sh=sh, features=features)
    image = rasterize(splats, Camera(pose, 5.0, 6.0, 2.2, 1.7, 4, 3), config=config, backend="reference")
    return image.color, image.alpha, image.depth


def leaves(count: int) -> list[torch.Tensor]:
    splats = random_splats(count, seed=12, size=(0.1, 0.5), opacity=(0.2, 0.7), degree=1, features=1)
    return [value.double().requires_grad_() for value in (turned_pose(), *vars(splats).values())]


def test_gradients_are_finite_differences_when_cutoffs_are_off():
    assert torch.autograd.gradcheck(lambda *inputs: draw(WITHOUT_CUTOFFS, *inputs), leaves(2), atol=1e-6, rtol=1e-4)


def test_antialiased_gradients_are_finite_differences():
    config = RasterConfig(alpha_cut=0.0, alpha_max=1 - 1e-6, transmittance_stop=0.0, antialiased=True)
    assert torch.autograd.gradcheck(lambda *inputs: draw(config, *inputs), leaves(2), atol=1e-6, rtol=1e-4)


def test_pixels_drawn_in_parts_are_the_same(monkeypatch):
    whole = draw(WITHOUT_CUTOFFS, *leaves(3))
    monkeypatch.setattr("qsplat.render.reference.PAIRS_AT_ONCE", 7)
    parts = draw(WITHOUT_CUTOFFS, *leaves(3))
    assert all(torch.allclose(one, other, atol=1e-14) for one, other in zip(whole, parts, strict=True))


def test_absolute_gradients_exceed_the_length_of_their_sum():
    splats = random_splats(5, seed=13, size=(0.1, 0.5))
    means = splats.means.requires_grad_()
    splats = Splats(**{**vars(splats), "means": means})
    view = Camera(torch.eye(4), 20.0, 20.0, 8.0, 8.0, 16, 16)
    rendering = rasterize(splats, view, config=RasterConfig(absgrad=True), backend="reference")
    (rendering.color**2).sum().backward()
    assert (rendering.trace.absolute_gradient() >= rendering.trace.gradient().abs() - 1e-12).all()
