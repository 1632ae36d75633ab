"""The fast backend: compiled kernels on any number of threads, bitwise the same for each. The equation is in
``contract``, the slow twin in ``reference``."""

from __future__ import annotations

import ctypes
from dataclasses import fields, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from qsplat.cameras import Camera, Window
from qsplat.gaussians import Splats
from qsplat.render import kernels
from qsplat.render.contract import RasterConfig, Rendering, Trace
from qsplat.render.projection import project


def rasterize(splats: Splats, camera: Camera, config: RasterConfig) -> Rendering:
    """Rasterize in float32 and return the type of ``splats.means``.

    Raises:
        BackendUnavailable: there are no kernels for this machine.
    """
    library = kernels.load(kernels.best_binary())
    given = splats.means.dtype
    single = replace(
        splats, **{f.name: v.float() for f in fields(splats) if (v := getattr(splats, f.name)) is not None}
    )
    flat = project(single, camera, config)
    node = flat.means2d
    if node.requires_grad:
        node.retain_grad()
    records = torch.cat([flat.conics, flat.opacities[:, None], flat.depths[:, None], flat.channels], dim=1)
    color, alpha, depth = _Composite.apply(node, records, flat.radii, camera.view, config, library)
    return Rendering(
        color=color.to(given),
        alpha=alpha.to(given),
        depth=depth.to(given) if config.depth else None,
        trace=Trace(node=node, radii=flat.radii),
    )


class _Workspace:
    """Memory of one image inside the library, handed back for the next image when its last user is gone."""

    _idle: dict[str, list[int]] = {}
    _kept = 4

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._pool = self._idle.setdefault(library._name, [])
        try:
            self.handle = self._pool.pop()
        except IndexError:
            self.handle = library.qsplat_workspace_create()
        if not self.handle:
            raise MemoryError("no memory for a rasterizer workspace")

    def __del__(self) -> None:
        if len(self._pool) < self._kept:
            self._pool.append(self.handle)
        else:
            self._library.qsplat_workspace_destroy(self.handle)


class _Composite(torch.autograd.Function):
    """2D Gaussians to an image: (color, alpha, depth), depth empty unless asked for."""

    @staticmethod
    def forward(ctx, node: Tensor, records: Tensor, radii: Tensor, window: Window, config: RasterConfig, library):
        means2d, records, radii = node.contiguous(), records.contiguous(), radii.contiguous()
        shape = (window.height, window.width)
        color = records.new_empty(*shape, records.shape[1] - 5)
        alpha, depth = records.new_empty(shape), records.new_empty(shape if config.depth else 0)
        workspace = _Workspace(library)
        image = _image(means2d, records, radii, window, config)
        _point(image, color=color, alpha=alpha, depth=depth)
        _call(library.qsplat_raster_forward, workspace, image)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(means2d, records, radii, color, alpha, depth)
            ctx.extra = node, workspace, window, config, library
        ctx.mark_non_differentiable(*([] if config.depth else [depth]))
        return color, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_color: Tensor, grad_alpha: Tensor, grad_depth: Tensor):
        means2d, records, radii, color, alpha, depth = ctx.saved_tensors
        node, workspace, window, config, library = ctx.extra
        image = _image(means2d, records, radii, window, config)
        grads = [grad_color.contiguous(), grad_alpha.contiguous(), grad_depth.contiguous()]
        grad_means2d, grad_records = torch.empty_like(means2d), torch.empty_like(records)
        absgrad = torch.empty_like(means2d) if config.absgrad else means2d.new_empty(0)
        _point(image, color=color, alpha=alpha, depth=depth, absgrad=absgrad)
        _point(image, grad_color=grads[0], grad_alpha=grads[1], grad_depth=grads[2])
        _point(image, grad_means2d=grad_means2d, grad_records=grad_records)
        _call(library.qsplat_raster_backward, workspace, image)
        if config.absgrad:
            node.absgrad = absgrad + getattr(node, "absgrad", 0)
        return grad_means2d, grad_records, None, None, None, None


def _image(
    means2d: Float[Tensor, "n 2"], records: Float[Tensor, "n r"], radii: Tensor, window: Window, config: RasterConfig
) -> kernels.RasterImage:
    image = kernels.RasterImage(
        count=len(means2d),
        channels=records.shape[1] - 5,
        x=window.x,
        y=window.y,
        width=window.width,
        height=window.height,
        alpha_cut=config.alpha_cut,
        alpha_max=config.alpha_max,
        transmittance_stop=config.transmittance_stop,
        threads=torch.get_num_threads(),
    )
    _point(image, means2d=means2d, records=records, radii=radii)
    return image


def _point(image: kernels.RasterImage, **tensors: Tensor) -> None:
    """Let fields of ``image`` point to contiguous tensors; an empty one is not there."""
    for name, tensor in tensors.items():
        setattr(image, name, tensor.data_ptr() if tensor.numel() else None)


def _call(function, workspace: _Workspace, image: kernels.RasterImage) -> None:
    if function(workspace.handle, ctypes.byref(image)):
        raise MemoryError(f"no memory to rasterize {image.count} splats on {image.width}x{image.height} pixels")
