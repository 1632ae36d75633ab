"""The contract on gsplat's CUDA kernels. No other module rasterizes through gsplat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.gaussians import Splats
from qsplat.kernels import BackendUnavailable
from qsplat.render.contract import RasterConfig, Rendering, Trace
from qsplat.render.projection import view_channels


def rasterize(splats: Splats, camera: Camera, config: RasterConfig) -> Rendering:
    """Rasterize with gsplat 1.4 or 1.5. The equation is in ``contract``.

    A window is cut out of the whole image, because gsplat bounds a splat's shape by the image that it renders.

    Raises:
        BackendUnavailable: there is no CUDA device, or gsplat cannot be imported or built.
        ValueError: a threshold that gsplat has compiled in was changed, or the splats are not on a CUDA device.
    """
    _refuse_compiled_in_thresholds(config)
    rasterization = _gsplat_rasterization()
    if not splats.means.is_cuda:
        raise ValueError(f"the splats are on {splats.means.device}: move them to a CUDA device or use backend='cpu'")
    return rasterize_with(rasterization, splats, camera, config)


def rasterize_with(
    rasterization: Callable[..., Any], splats: Splats, camera: Camera, config: RasterConfig
) -> Rendering:
    """Rasterize with ``rasterization``, a function that is called as gsplat 1.4's of that name."""
    pose = camera.cam_from_world.to(splats.means)
    whole = replace(camera, cam_from_world=pose, window=None)
    plain_sh = splats.sh is not None and splats.features is None
    everyone = torch.arange(splats.means.shape[0], device=splats.means.device)
    color, alpha, info = rasterization(
        means=splats.means,
        quats=splats.quats,
        scales=splats.scales,
        opacities=splats.opacities,
        colors=splats.sh if plain_sh else view_channels(splats, pose, everyone),
        viewmats=pose[None],
        Ks=whole.intrinsics[None],
        width=whole.width,
        height=whole.height,
        near_plane=config.near,
        far_plane=config.far,
        eps2d=config.blur,
        sh_degree=splats.sh_degree if plain_sh else None,
        packed=False,
        render_mode="RGB+ED" if config.depth else "RGB",
        absgrad=config.absgrad,
        rasterize_mode="antialiased" if config.antialiased else "classic",
    )
    node: Tensor = info["means2d"]
    if node.requires_grad:
        node.retain_grad()
    radii: Tensor = info["radii"][0]
    part = camera.view
    rows, columns = slice(part.y, part.y + part.height), slice(part.x, part.x + part.width)
    return Rendering(
        color=color[0, rows, columns, : splats.channels],
        alpha=alpha[0, rows, columns, 0],
        depth=color[0, rows, columns, -1] if config.depth else None,
        trace=Trace(node=node, radii=radii.amax(dim=-1) if radii.dim() == 2 else radii),
    )


def _refuse_compiled_in_thresholds(config: RasterConfig) -> None:
    usual = RasterConfig()
    for name in ("alpha_cut", "alpha_max", "transmittance_stop"):
        if getattr(config, name) != getattr(usual, name):
            raise ValueError(
                f"{name}={getattr(config, name)}: gsplat has {getattr(usual, name)} compiled in; "
                "use backend='cpu' or backend='reference' for another value"
            )


def _gsplat_rasterization() -> Callable[..., Any]:
    """gsplat's entry point, its kernels built and loaded."""
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "the cuda backend needs an NVIDIA GPU that this PyTorch can use, and there is none; use backend='cpu'"
        )
    try:
        from gsplat import rasterization
        from gsplat.cuda._backend import _C  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:
        raise BackendUnavailable(
            f"gsplat could not be loaded or built ({type(error).__name__}: {error}); check that the CUDA toolkit's "
            "nvcc and a C++ compiler match this PyTorch (python scripts/doctor.py shows both)"
        ) from error
    if _C is None:
        raise BackendUnavailable(
            "gsplat found no nvcc to build its kernels with; install the CUDA toolkit and put nvcc on the PATH"
        )
    return rasterization
