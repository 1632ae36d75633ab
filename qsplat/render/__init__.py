"""Splats to image: one contract, three implementations."""

from __future__ import annotations

from typing import Literal

from qsplat.cameras import Camera
from qsplat.gaussians import Splats
from qsplat.kernels import BackendUnavailable
from qsplat.render.contract import RasterConfig, Rendering, Trace

Backend = Literal["reference", "cpu", "cuda"]

__all__ = ["Backend", "BackendUnavailable", "RasterConfig", "Rendering", "Trace", "rasterize"]


def rasterize(
    splats: Splats, camera: Camera, *, config: RasterConfig | None = None, backend: Backend | None = None
) -> Rendering:
    """Draw ``splats`` as ``camera`` sees them.

    Args:
        splats: what to draw, on one device.
        camera: pose and window; the pose may require a gradient.
        config: thresholds, the defaults of ``RasterConfig`` when None.
        backend: None follows the device of ``splats.means``; a name asks for that backend and nothing else.

    Raises:
        BackendUnavailable: the backend cannot run here.
        ValueError: the name is not a backend.
    """
    config = config or RasterConfig()
    match backend or ("cuda" if splats.means.is_cuda else "cpu"):
        case "reference":
            from qsplat.render import reference as chosen
        case "cpu":
            from qsplat.render import cpu as chosen
        case "cuda":
            from qsplat.render import cuda as chosen
        case other:
            raise ValueError(f"backend {other!r} does not exist: choose reference, cpu or cuda")
    return chosen.rasterize(splats, camera, config)
