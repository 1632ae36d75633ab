"""Projection and harmonics against gsplat's own torch code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from agreement import disagreement
from named_scenes import around_the_camera, crowd, giants, needles, over_the_border, tall_image

from qsplat.cameras import Camera
from qsplat.gaussians import Splats
from qsplat.render import RasterConfig
from qsplat.render.projection import project, rotation_matrices
from qsplat.render.sh import sh_basis, sh_color

gsplat = pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat's torch code is the oracle here")


def in_double(splats: Splats, camera: Camera) -> tuple[Splats, Camera]:
    double = Splats(**{name: None if value is None else value.double() for name, value in vars(splats).items()})
    return double, replace(camera, cam_from_world=camera.cam_from_world.double())


def of_gsplat(splats: Splats, camera: Camera, antialiased: bool):
    """Radii, means, depths, conics and compensations of gsplat's projection."""
    covariances, _ = gsplat._quat_scale_to_covar_preci(splats.quats, splats.scales, compute_preci=False)
    parts = gsplat._fully_fused_projection(
        splats.means,
        covariances,
        camera.cam_from_world[None],
        camera.intrinsics[None],
        camera.width,
        camera.height,
        calc_compensations=antialiased,
    )
    return [None if part is None else part[0] for part in parts]


@pytest.mark.parametrize("scene", [crowd, needles, giants, around_the_camera, over_the_border, tall_image])
@pytest.mark.parametrize("antialiased", [False, True])
def test_projection_is_that_of_gsplat(scene, antialiased):
    splats, camera = in_double(*scene())
    flat = project(splats, camera, RasterConfig(antialiased=antialiased))
    radii, means2d, depths, conics, compensations = of_gsplat(splats, camera, antialiased)
    seen = flat.radii > 0
    assert seen.any()
    assert torch.equal(flat.radii, radii)
    for ours, theirs in ((flat.means2d, means2d), (flat.depths, depths), (flat.conics, conics)):
        assert torch.allclose(ours[seen], theirs[seen], rtol=1e-9)
    opacities = splats.opacities * (compensations if antialiased else 1)
    assert torch.allclose(flat.opacities[seen], opacities[seen], rtol=1e-9)


@pytest.mark.parametrize("scene", [crowd, around_the_camera])
def test_projection_gradients_are_those_of_gsplat(scene):
    splats, camera = in_double(*scene())
    seen = project(splats, camera, RasterConfig()).radii > 0
    gradients = []
    for ours in (True, False):
        leaves = [value.clone().requires_grad_() for value in (splats.means, splats.quats, splats.scales)]
        moved = replace(splats, means=leaves[0], quats=leaves[1], scales=leaves[2])
        pose = camera.cam_from_world.clone().requires_grad_()
        view = replace(camera, cam_from_world=pose)
        if ours:
            flat = project(moved, view, RasterConfig())
            parts = flat.means2d, flat.depths, flat.conics
        else:
            parts = of_gsplat(moved, view, antialiased=False)[1:4]
        generator = torch.Generator().manual_seed(0)
        weights = [torch.randn(part.shape, generator=generator).double() for part in parts]
        loss = torch.stack([(part[seen] * weight[seen]).sum() for part, weight in zip(parts, weights, strict=True)])
        gradients.append(torch.autograd.grad(loss.sum(), [*leaves, pose]))
    for one, other in zip(*gradients, strict=True):
        assert disagreement(one, other)[0] < 1e-9


def test_rotations_ignore_the_length_of_quaternions():
    quats = torch.randn(10, 4).double()
    assert torch.allclose(rotation_matrices(quats), rotation_matrices(3 * quats))
    assert torch.allclose(torch.linalg.det(rotation_matrices(quats)), torch.ones(10).double())


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_are_those_of_gsplat(degree):
    generator = torch.Generator().manual_seed(degree)
    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator).double(), dim=-1)
    sh = torch.randn(50, (degree + 1) ** 2, 3, generator=generator).double()
    ours = torch.einsum("nk,nkc->nc", sh_basis(directions, degree), sh)
    assert torch.allclose(ours, gsplat._spherical_harmonics(degree, directions, sh), atol=1e-6)


def test_harmonics_are_orthonormal():
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(400_000, 3, generator=generator).double(), dim=-1)
    basis = sh_basis(directions, 3)
    gram = 4 * torch.pi * basis.T @ basis / len(directions)
    assert torch.allclose(gram, torch.eye(16).double(), atol=0.02)


def test_color_is_offset_by_half_and_clamped_at_zero():
    sh = torch.zeros(2, 1, 3)
    sh[1] = -5.0
    color = sh_color(sh, torch.tensor([[0.0, 0.0, 1.0]]).repeat(2, 1), torch.zeros(3))
    assert torch.equal(color, torch.tensor([[0.5] * 3, [0.0] * 3]))
