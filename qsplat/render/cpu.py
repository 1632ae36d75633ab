"""The fast backend: compiled kernels on any number of threads, bitwise the same for each. The equation is in
``contract``; the slow twins are ``projection``, ``sh`` and ``reference``."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from qsplat import kernels
from qsplat.cameras import Camera
from qsplat.gaussians import Splats
from qsplat.render.contract import RasterConfig, Rendering, Trace

RECORD = 5
"""Numbers of a record before the channels: conic a, b, c, opacity, depth."""


def rasterize(splats: Splats, camera: Camera, config: RasterConfig, *, library: ctypes.CDLL | None = None) -> Rendering:
    """Rasterize in float32 and return the type of ``splats.means``.

    Splats with NaN or infinite fields are culled.

    Args:
        splats: what to draw, on the CPU.
        camera: pose and window.
        config: thresholds.
        library: loaded kernels, those for this processor when None.

    Raises:
        BackendUnavailable: there are no kernels for this machine.
        ValueError: the splats are not on the CPU, or a field has the wrong shape.
    """
    fields = _checked(splats)
    call = Call(camera, config, library or kernels.load(kernels.best_binary()))
    node, records, radii = Project.apply(call, camera.cam_from_world.to("cpu", torch.float32), *fields)
    if node.requires_grad:
        node.retain_grad()
    color, alpha, depth = Composite.apply(call, node, records, radii)
    given = splats.means.dtype
    return Rendering(
        color=color.to(given),
        alpha=alpha.to(given),
        depth=depth.to(given) if config.depth else None,
        trace=Trace(node=node, radii=radii),
    )


def _checked(splats: Splats) -> list[Tensor | None]:
    """The fields in float32. The kernels trust their sizes, so a wrong one must not get there."""
    count = splats.means.shape[0]
    sizes = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh": (..., 3), "features": (...,)}
    checked = []
    for name, size in sizes.items():
        tensor = getattr(splats, name)
        if tensor is not None and tensor.device.type != "cpu":
            raise ValueError(f"{name} on {tensor.device}: the cpu backend draws splats on the CPU, move them with to()")
        if tensor is not None and not _fits(tensor.shape, (count, *size)):
            raise ValueError(f"{name} of shape {tuple(tensor.shape)}: {count} means need {(count, *size)}")
        checked.append(None if tensor is None else tensor.float())
    return checked


def _fits(shape: tuple[int, ...], wanted: tuple[Any, ...]) -> bool:
    return len(shape) == len(wanted) and all(want in (..., size) for size, want in zip(shape, wanted, strict=True))


@dataclass(frozen=True)
class Call:
    """What both stages of one rendering share."""

    camera: Camera
    config: RasterConfig
    library: ctypes.CDLL


class Project(torch.autograd.Function):
    """Splats to 2D means, records (conic, opacity, depth, channels) and radii."""

    @staticmethod
    def forward(ctx: Any, call: Call, pose: Tensor, *fields: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        tensors = [None if tensor is None else tensor.detach().contiguous() for tensor in (pose, *fields)]
        arguments = _projection(call, tensors)
        count = arguments.count
        means2d = pose.new_empty(count, 2)
        records = pose.new_empty(count, RECORD + (3 if arguments.harmonics else 0) + arguments.features_width)
        radii = torch.empty(count, dtype=torch.int32)
        arguments.point(means2d=means2d, records=records, radii=radii)
        _run(call.library.qsplat_project_forward, arguments)
        ctx.mark_non_differentiable(radii)
        ctx.save_for_backward(*tensors, records, radii)
        ctx.call = call
        return means2d, records, radii

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_means2d: Tensor, grad_records: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, records, radii = ctx.saved_tensors
        arguments = _projection(ctx.call, tensors)
        grads = [
            torch.empty_like(tensor) if wanted else None
            for tensor, wanted in zip(tensors, ctx.needs_input_grad[1:], strict=True)
        ]
        names = ("pose", "means", "quats", "scales", "opacities", "sh", "features")
        arguments.point(**{f"grad_{name}": grad for name, grad in zip(names, grads, strict=True)})
        given = grad_means2d.contiguous(), grad_records.contiguous()
        arguments.point(records=records, radii=radii, grad_means2d=given[0], grad_records=given[1])
        _run(ctx.call.library.qsplat_project_backward, arguments)
        return None, *grads


class Composite(torch.autograd.Function):
    """2D Gaussians to an image: color, alpha, expected depth (empty unless asked for)."""

    @staticmethod
    def forward(ctx: Any, call: Call, node: Tensor, records: Tensor, radii: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        view = call.camera.view
        color = records.new_empty(view.height, view.width, records.shape[1] - RECORD)
        alpha = records.new_empty(view.height, view.width)
        depth = records.new_empty((view.height, view.width) if call.config.depth else 0)
        workspace = kernels.Workspace(call.library)
        arguments = _image(call, node, records, radii)
        arguments.point(color=color, alpha=alpha, depth=depth)
        _run(call.library.qsplat_raster_forward, arguments, workspace)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(node, records, radii, color, alpha, depth)
            ctx.call, ctx.node, ctx.workspace = call, node, workspace
            ctx.set_materialize_grads(False)
        if not call.config.depth:
            ctx.mark_non_differentiable(depth)
        return color, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        means2d, records, radii, color, alpha, depth = ctx.saved_tensors
        grad_color, grad_alpha, grad_depth = (None if grad is None else grad.contiguous() for grad in grads)
        grad_means2d, grad_records = torch.empty_like(means2d), torch.empty_like(records)
        absgrad = torch.empty_like(means2d) if ctx.call.config.absgrad else None
        arguments = _image(ctx.call, means2d, records, radii)
        arguments.point(color=color, alpha=alpha, depth=depth, absgrad=absgrad)
        arguments.point(grad_color=grad_color, grad_alpha=grad_alpha, grad_depth=grad_depth)
        arguments.point(grad_means2d=grad_means2d, grad_records=grad_records)
        _run(ctx.call.library.qsplat_raster_backward, arguments, ctx.workspace)
        if absgrad is not None:
            ctx.node.absgrad = absgrad + getattr(ctx.node, "absgrad", 0)
        return None, grad_means2d, grad_records, None


def _projection(call: Call, tensors: list[Tensor | None]) -> kernels.Projection:
    pose, means, quats, scales, opacities, sh, features = tensors
    camera, config = call.camera, call.config
    arguments = kernels.Projection(
        count=0 if means is None else len(means),
        harmonics=0 if sh is None else sh.shape[1],
        features_width=0 if features is None else features.shape[1],
        width=camera.width,
        height=camera.height,
        antialiased=config.antialiased,
        threads=config.threads or torch.get_num_threads(),
        **{name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy")},
        **{name: getattr(config, name) for name in ("blur", "near", "far")},
    )
    arguments.point(pose=pose, means=means, quats=quats, scales=scales, opacities=opacities, sh=sh, features=features)
    return arguments


def _image(
    call: Call, means2d: Float[Tensor, "n 2"], records: Float[Tensor, "n r"], radii: Int[Tensor, " n"]
) -> kernels.RasterImage:
    view, config = call.camera.view, call.config
    arguments = kernels.RasterImage(
        count=len(means2d),
        channels=records.shape[1] - RECORD,
        **{name: getattr(view, name) for name in ("x", "y", "width", "height")},
        **{name: getattr(config, name) for name in ("alpha_cut", "alpha_max", "transmittance_stop")},
        threads=config.threads or torch.get_num_threads(),
    )
    arguments.point(means2d=means2d, records=records, radii=radii)
    return arguments


def _run(function: Any, arguments: ctypes.Structure, workspace: kernels.Workspace | None = None) -> None:
    """Call a kernel, which returns 0 or 1 when memory ran out."""
    given = () if workspace is None else (workspace.handle,)
    if function(*given, ctypes.byref(arguments)):
        raise MemoryError(
            f"no memory to rasterize {arguments.count} splats: use fewer, smaller ones, or a smaller image"
        )
