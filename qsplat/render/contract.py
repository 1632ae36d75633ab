"""What every rasterizer backend computes.

A splat with mean m, covariance S = R diag(s)^2 R^T, opacity o and channels c is seen by a camera with pose
``cam_from_world`` = (W, t) and focal lengths fx, fy as a 2D Gaussian (EWA splatting, Zwicker et al. 2001; Kerbl et al.
2023, section 4):

    (x, y, z) = W m + t                            culled unless near < z < far
    mean2d    = (fx x / z + cx, fy y / z + cy)
    J         = [[fx/z, 0, -fx x'/z^2], [0, fy/z, -fy y'/z^2]]
    cov2d     = J W S W^T J^T + blur * I

where x'/z and y'/z are clamped to the image widened by 0.15 of its size on each side, so that splats far outside the
image keep a bounded shape. The radius is ceil(3 sqrt(largest eigenvalue)); splats whose square of that radius misses
the whole image are culled. At the pixel centre p,

    alpha = min(alpha_max, o exp(-(p - mean2d)^T cov2d^-1 (p - mean2d) / 2))      skipped below alpha_cut

and in order of z, nearest first (ties by index), with T = 1 at the start:

    stop before the splat that would bring T (1 - alpha) to transmittance_stop or below
    color += T alpha c,   alpha_total += T alpha,   depth_sum += T alpha z,   T *= 1 - alpha

The expected depth is depth_sum / max(alpha_total, 1e-10). With ``antialiased`` the opacity is multiplied by
sqrt(max(0, det(cov2d - blur I) / det(cov2d))) (Yu et al. 2024, Mip-Splatting). A clamped alpha, a skipped splat and a
clamped colour pass no gradient. These are the semantics of gsplat.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class RasterConfig:
    """Every threshold of the image equation.

    ``blur`` is in square pixels, ``near`` and ``far`` in world units. ``depth`` and ``absgrad`` ask for the expected
    depth and for the absolute gradients of the 2D means, each of which costs a little. ``threads`` is the number that
    the cpu backend uses, ``torch.get_num_threads()`` when None; the image does not depend on it.
    """

    blur: float = 0.3
    alpha_cut: float = 1.0 / 255.0
    alpha_max: float = 0.999
    transmittance_stop: float = 1e-4
    near: float = 0.01
    far: float = 1e10
    antialiased: bool = False
    depth: bool = True
    absgrad: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads={self.threads}: rasterizing needs at least 1")


@dataclass(frozen=True)
class Trace:
    """What densification needs to know about one rendering.

    ``node`` holds the projected means in pixels of the whole image (``[n, 2]`` or ``[1, n, 2]``) as a node of the
    autograd graph that keeps its gradient, and its ``absgrad``, after the backward pass. ``radii`` are in pixels, 0
    for a splat that was culled.
    """

    node: Tensor
    radii: Int[Tensor, " n"]

    @property
    def means2d(self) -> Float[Tensor, "n 2"]:
        """Projected means in pixels, detached. Those of culled splats have no meaning."""
        return self.node.detach().reshape(-1, 2)

    def gradient(self) -> Float[Tensor, "n 2"]:
        """Gradient of the loss with respect to the projected means, in 1/pixel.

        Raises:
            ValueError: no backward pass has reached the rendering.
        """
        if self.node.grad is None:
            raise ValueError("the trace has no gradient: call backward() on a loss of this rendering first")
        return self.node.grad.reshape(-1, 2)

    def absolute_gradient(self) -> Float[Tensor, "n 2"]:
        """Sum over pixels of the absolute gradient with respect to the projected means (Ye et al. 2024, AbsGS).

        Raises:
            ValueError: ``RasterConfig.absgrad`` was off, or no backward pass has reached the rendering.
        """
        value = getattr(self.node, "absgrad", None)
        if value is None:
            raise ValueError("the trace has no absolute gradient: set RasterConfig(absgrad=True) and call backward()")
        return value.reshape(-1, 2)


@dataclass(frozen=True)
class Rendering:
    """One image: premultiplied channels without background, coverage, expected depth (None unless asked for)."""

    color: Float[Tensor, "h w c"]
    alpha: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"] | None
    trace: Trace

    def over(self, background: Float[Tensor, "#h #w c"] | Float[Tensor, " c"]) -> Float[Tensor, "h w c"]:
        """The channels composited over ``background``, one value per channel or an image.

        On a CPU, where it costs nothing to look, they are given as they are over black.
        """
        under = background.to(self.color)
        if under.device.type == "cpu" and not under.requires_grad and not bool(under.any()):
            return self.color
        return self.color + (1 - self.alpha)[..., None] * under
