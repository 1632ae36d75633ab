"""What was learnt, as a function from a camera to an image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.cameras import Camera, Window
from qsplat.gaussians import Gaussians
from qsplat.qnn import QNN, Queries, image_residual, part_queries, window_residual
from qsplat.render import Backend, RasterConfig, Rendering, Trace, rasterize


@dataclass(frozen=True)
class ViewOutputs:
    """One view: the image, what it is the sum of, expected depth (world units along z) and coverage.

    ``rgb = rgb_base + residual`` may leave [0, 1] a little; whoever shows or measures it clamps it.
    """

    rgb: Float[Tensor, "h w 3"]
    rgb_base: Float[Tensor, "h w 3"]
    residual: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"] | None
    alpha: Float[Tensor, "h w"]
    trace: Trace


@dataclass(frozen=True)
class SplatModel:
    """Gaussians over a background, and the head that corrects their image, if there is one.

    ``queries`` take the place of the head's own.
    """

    gaussians: Gaussians
    head: QNN | None = None
    background: Float[Tensor, "3"] = field(default_factory=lambda: torch.zeros(3))
    config: RasterConfig = field(default_factory=RasterConfig)
    queries: Queries | None = None

    def render(
        self,
        camera: Camera,
        *,
        sh_degree: int | None = None,
        backend: Backend | None = None,
        head_window: Window | None = None,
        detached: bool = False,
    ) -> ViewOutputs:
        """The view of ``camera``, with gradients to the Gaussians and to the head.

        Args:
            camera: pose and window.
            sh_degree: highest degree of harmonics to use; all of them when None.
            backend: as for ``rasterize``.
            head_window: part of the rendered image that the head corrects; all of it when None.
            detached: ``rgb`` passes no gradient to the Gaussians; ``rgb_base`` does in any case.
        """
        drawn = self.draw(camera, sh_degree=sh_degree, backend=backend)
        return self.corrected(drawn, camera, head_window=head_window, detached=detached)

    def draw(self, camera: Camera, *, sh_degree: int | None = None, backend: Backend | None = None) -> Rendering:
        """The Gaussians alone, with depth where the head needs it."""
        told = self._told
        config = replace(self.config, depth=True) if told is not None and told.needs_depth else self.config
        return rasterize(self.gaussians.activate(sh_degree=sh_degree), camera, config=config, backend=backend)

    def corrected(
        self, drawn: Rendering, camera: Camera, *, head_window: Window | None = None, detached: bool = False
    ) -> ViewOutputs:
        """The rest of ``render``: ``drawn``, which ``camera`` sees, over the background and with the residual."""
        base, told = drawn.over(self.background), self._told
        seen = base.detach() if detached else base
        queries = None if told is None else part_queries(told, camera.to(base.device), drawn.depth)
        if self.head is None:
            residual = base.new_zeros(()).expand_as(base)
        elif head_window is None:
            residual = image_residual(self.head, seen, queries)
        else:
            residual = window_residual(self.head, seen, queries, head_window)
        return ViewOutputs(
            rgb=base if self.head is None else seen + residual,
            rgb_base=base,
            residual=residual,
            depth=drawn.depth,
            alpha=drawn.alpha,
            trace=drawn.trace,
        )

    @property
    def _told(self) -> Queries | None:
        """What the head reads besides the image."""
        if self.head is None or not self.head.reads_queries:
            return None
        return self.queries or self.head.queries


def without_trace(drawn: Rendering) -> Rendering:
    """``drawn`` without what densification needs, which has the size of the Gaussians: to be kept."""
    empty = torch.empty(0, 2, device=drawn.color.device)
    return replace(drawn, trace=Trace(node=empty, radii=empty[:, 0].int()))
