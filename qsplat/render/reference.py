"""The executable specification: every pixel meets every splat, in float64."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from qsplat.cameras import Camera
from qsplat.gaussians import Splats
from qsplat.render.contract import RasterConfig, Rendering, Trace
from qsplat.render.projection import Projected, project

PAIRS_AT_ONCE = 4_000_000
"""Pixel-splat pairs held in memory at a time."""


def rasterize(splats: Splats, camera: Camera, config: RasterConfig) -> Rendering:
    """Rasterize in float64 and return the type of ``splats.means``. The equation is in ``contract``."""
    given = splats.means.dtype
    double = replace(
        splats, **{f.name: v.double() for f in fields(splats) if (v := getattr(splats, f.name)) is not None}
    )
    camera = replace(camera, cam_from_world=camera.cam_from_world.double())
    flat = project(double, camera, config)
    node = flat.means2d
    if node.requires_grad:
        node.retain_grad()
    seen = (flat.radii > 0).nonzero()[:, 0]
    order = seen[torch.argsort(flat.depths[seen], stable=True)]
    pixels = camera.pixel_centers().reshape(-1, 2)
    step = max(1, PAIRS_AT_ONCE // max(1, len(order)))
    parts = [_keep_little(_composite, flat, node, order, part, config) for part in pixels.split(step)]
    image = torch.cat(parts).reshape(camera.view.height, camera.view.width, -1).to(given)
    alpha, depth_sum = image[..., -1], image[..., -2]
    return Rendering(
        color=image[..., :-2],
        alpha=alpha,
        depth=depth_sum / alpha.clamp_min(1e-10) if config.depth else None,
        trace=Trace(node=node, radii=flat.radii),
    )


def _keep_little(function, *arguments) -> Tensor:
    """Call ``function``; in training, recompute its intermediate values in the backward pass."""
    if torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False)
    return function(*arguments)


def _composite(flat: Projected, node: Tensor, order: Tensor, pixels: Tensor, config: RasterConfig) -> Tensor:
    """Blend the splats ``order``, nearest first, at ``pixels``: channels, depth sum and alpha, [pixels, c + 2]."""
    means = node[None].expand(len(pixels), -1, -1)
    if config.absgrad and means.requires_grad:
        means.register_hook(lambda gradient: _add_absolute(node, gradient))
    x, y = (pixels[:, None] - means[:, order]).unbind(-1)
    a, b, c = flat.conics[order].unbind(-1)
    alpha = flat.opacities[order] * torch.exp(-0.5 * (a * x * x + c * y * y) - b * x * y)
    alpha = torch.where(alpha < config.alpha_cut, 0.0, alpha.clamp_max(config.alpha_max))
    behind = torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([torch.ones_like(behind[:, :1]), behind[:, :-1]], dim=1)
    weights = torch.where(behind > config.transmittance_stop, before * alpha, 0.0)
    values = [flat.channels[order], flat.depths[order][:, None], torch.ones_like(flat.depths[order])[:, None]]
    return weights @ torch.cat(values, dim=1)


def _add_absolute(node: Tensor, gradient: Tensor) -> None:
    """Add the absolute per-pixel gradients ``[pixels, n, 2]`` to ``node.absgrad``."""
    total = gradient.abs().sum(dim=0)
    node.absgrad = total + getattr(node, "absgrad", 0)  # pyright: ignore[reportAttributeAccessIssue]
