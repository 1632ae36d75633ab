"""Splats in the world to 2D Gaussians on the image, in torch operations. The equation is in ``contract``."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from qsplat.cameras import Camera
from qsplat.gaussians import Splats
from qsplat.render.contract import RasterConfig
from qsplat.render.sh import sh_color

FOV_MARGIN = 0.15
"""Share of the image size beyond each border up to which the slope of a splat's shape follows its position."""


@dataclass(frozen=True)
class Projected:
    """2D Gaussians: means and radii in pixels of the whole image, conics (a, b, c) = entries 00, 01, 11 of the inverse
    covariance in 1/px^2, opacities after antialiasing, depths along z, and the channels seen from this camera.

    A culled splat has radius 0 and zeros elsewhere.
    """

    means2d: Float[Tensor, "n 2"]
    conics: Float[Tensor, "n 3"]
    opacities: Float[Tensor, " n"]
    depths: Float[Tensor, " n"]
    channels: Float[Tensor, "n c"]
    radii: Int[Tensor, " n"]


def rotation_matrices(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Rotation matrices of quaternions wxyz of any length."""
    w, x, y, z = functional.normalize(quats, dim=-1).unbind(-1)
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(entries, dim=-1).reshape(-1, 3, 3)


def project(splats: Splats, camera: Camera, config: RasterConfig) -> Projected:
    """Project ``splats`` through ``camera``; gradients reach every field of the splats and the pose."""
    pose = camera.cam_from_world.to(splats.means)
    with torch.no_grad():
        z = splats.means @ pose[2, :3] + pose[2, 3]
        front = ((z > config.near) & (z < config.far) & _finite(splats)).nonzero()[:, 0]
    means = splats.means[front] @ pose[:3, :3].T + pose[:3, 3]
    x, y, z = means.unbind(-1)

    axes = rotation_matrices(splats.quats[front]) * splats.scales[front][:, None, :]
    jacobian = _jacobian(x, y, z, camera)
    root = jacobian @ (pose[:3, :3] @ axes)
    sharp = root @ root.mT
    a, b, c = sharp[:, 0, 0] + config.blur, sharp[:, 0, 1], sharp[:, 1, 1] + config.blur
    det = (a * c - b * b).clamp_min(1e-10)
    opacities = splats.opacities[front]
    if config.antialiased:
        det_sharp = sharp[:, 0, 0] * sharp[:, 1, 1] - b * b
        opacities = opacities * (det_sharp / det).clamp_min(0).sqrt()
    means2d = torch.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], dim=-1)
    conics = torch.stack([c / det, -b / det, a / det], dim=-1)

    with torch.no_grad():
        middle = (a + c) / 2
        radii = torch.ceil(3 * (middle + (middle * middle - det).clamp_min(0.01).sqrt()).sqrt())
        size = means2d.new_tensor([camera.width, camera.height])
        seen = ((means2d + radii[:, None] > 0) & (means2d - radii[:, None] < size)).all(dim=-1)
        seen &= torch.isfinite(conics).all(dim=-1) & torch.isfinite(radii) & (opacities > 0)
        kept = seen.nonzero()[:, 0]
    index = front[kept]

    def scatter(values: Tensor) -> Tensor:
        full = values.new_zeros(splats.means.shape[0], *values.shape[1:])
        return full.index_copy(0, index, values)

    return Projected(
        means2d=scatter(means2d[kept]),
        conics=scatter(conics[kept]),
        opacities=scatter(opacities[kept]),
        depths=scatter(z[kept]),
        channels=scatter(view_channels(splats, pose, index)),
        radii=scatter(radii[kept].clamp_max(1e9).int()),
    )


def view_channels(splats: Splats, pose: Float[Tensor, "4 4"], index: Int[Tensor, " m"]) -> Float[Tensor, "m c"]:
    """The channels of the splats named by ``index`` as the camera with ``pose`` sees them."""
    parts = []
    if splats.sh is not None:
        center = -pose[:3, :3].T @ pose[:3, 3]
        parts.append(sh_color(splats.sh[index], splats.means[index], center))
    if splats.features is not None:
        parts.append(splats.features[index])
    return torch.cat(parts, dim=-1)


def _finite(splats: Splats) -> Bool[Tensor, " n"]:
    """Splats without NaN or infinity in any field; one with would spoil the gradients of the pose."""
    present = (value for field in fields(splats) if (value := getattr(splats, field.name)) is not None)
    finite = [torch.isfinite(value)[:, None].flatten(1).all(dim=1) for value in present]
    return torch.stack(finite).all(dim=0)


def _jacobian(x: Tensor, y: Tensor, z: Tensor, camera: Camera) -> Float[Tensor, "n 2 3"]:
    """Derivative of the pixel with respect to the camera-space mean, its slopes clamped to the widened image."""
    margin_x, margin_y = FOV_MARGIN * camera.width, FOV_MARGIN * camera.height
    slope_x = (x / z).clamp(-(camera.cx + margin_x) / camera.fx, (camera.width - camera.cx + margin_x) / camera.fx)
    slope_y = (y / z).clamp(-(camera.cy + margin_y) / camera.fy, (camera.height - camera.cy + margin_y) / camera.fy)
    zero = torch.zeros_like(z)
    entries = [camera.fx / z, zero, -camera.fx * slope_x / z, zero, camera.fy / z, -camera.fy * slope_y / z]
    return torch.stack(entries, dim=-1).reshape(-1, 2, 3)
