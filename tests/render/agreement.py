"""Drawing a scene with all its gradients, and comparing two drawings by relative L2 and cosine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.gaussians import Splats
from qsplat.render import RasterConfig, Rendering, rasterize

Rasterize = Callable[[Splats, Camera, RasterConfig], Rendering]


def backend(name: str) -> Rasterize:
    """The contract's entry point on the backend ``name``."""
    return lambda splats, camera, config: rasterize(splats, camera, config=config, backend=name)  # type: ignore[arg-type]


reference, cpu = backend("reference"), backend("cpu")


def drawing(
    rasterizer: Rasterize, splats: Splats, camera: Camera, config: RasterConfig, *, gradients: bool = True
) -> dict[str, Tensor]:
    """Images of ``splats`` and the gradients of a fixed random loss with respect to all that they depend on."""
    leaves = {
        name: value.detach().clone().requires_grad_(gradients)
        for name, value in vars(splats).items()
        if value is not None
    }
    pose = camera.cam_from_world.detach().clone().requires_grad_(gradients)
    rendering = rasterizer(Splats(**leaves), replace(camera, cam_from_world=pose), config)
    images = {"color": rendering.color, "alpha": rendering.alpha}
    if rendering.depth is not None:
        images["depth"] = rendering.depth
    result = {name: image.detach() for name, image in images.items()}
    if "depth" in result:  # a quotient that is ill-conditioned where coverage vanishes: weigh it by coverage
        result["depth"] = result["depth"] * result["alpha"]
    if not gradients:
        return result
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image)
        for name, image in images.items()
    }
    if "depth" in weights:
        weights["depth"] *= result["alpha"]
    torch.stack([(image * weights[name]).sum() for name, image in images.items()]).sum().backward()
    result |= {f"gradient of {name}": leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    result["gradient of pose"] = pose.grad if pose.grad is not None else torch.zeros(4, 4)
    result["gradient of means2d"] = rendering.trace.gradient()
    if config.absgrad:
        result["absolute gradient"] = rendering.trace.absolute_gradient()
    return result


def disagreement(actual: Tensor, expected: Tensor) -> tuple[float, float]:
    """Relative L2 distance and cosine of two tensors."""
    actual, expected = actual.double().flatten(), expected.double().flatten()
    length = expected.norm()
    if length == 0:
        return float(actual.norm()), 1.0
    return float((actual - expected).norm() / length), float(actual @ expected / (length * actual.norm()))


def assert_agree(actual: dict[str, Tensor], expected: dict[str, Tensor], *, tolerance: float = 1e-5) -> None:
    """Fail with a table of what is apart by more than ``tolerance`` (relative L2)."""
    assert actual.keys() == expected.keys()
    apart = {name: disagreement(actual[name], expected[name]) for name in expected}
    wrong = {name: pair for name, pair in apart.items() if not (pair[0] <= tolerance and pair[1] >= 1 - tolerance)}
    assert not wrong, "\n".join(
        f"{name}: relative L2 {far:.2e}, cosine {cos:.9f}" for name, (far, cos) in wrong.items()
    )
