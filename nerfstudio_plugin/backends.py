"""Whether the rasterizer runs here, asked before a run begins."""

from __future__ import annotations

import torch

from nerfstudio_plugin.refusals import in_one_sentence
from qsplat.cameras import Camera
from qsplat.gaussians import Splats
from qsplat.render import Backend, rasterize


def check_backend(backend: Backend | None, device: torch.device | str) -> None:
    """Draw one splat on one pixel with ``backend`` (None: the device's own).

    Raises:
        SystemExit: it cannot run here, with the reason.
    """
    splats = Splats(
        means=torch.tensor([[0.0, 0.0, 1.0]], device=device),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]], device=device),
        scales=torch.ones(1, 3, device=device),
        opacities=torch.ones(1, device=device),
        features=torch.ones(1, 3, device=device),
    )
    camera = Camera(torch.eye(4, device=device), fx=1.0, fy=1.0, cx=0.5, cy=0.5, width=1, height=1)
    with in_one_sentence():
        rasterize(splats, camera, backend=backend)
