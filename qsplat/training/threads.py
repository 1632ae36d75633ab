"""Which threads work in which phase on a CPU."""

from __future__ import annotations

import torch

from qsplat.training.schedule import Phase


def share_threads(phase: Phase, available: int) -> None:
    """Give PyTorch half of the ``available`` threads while Gaussians are trained alone, all of them with a head.

    The rasterizer, told of the number in ``RasterConfig.threads``, uses all of them in both. Between two of PyTorch's
    operations its idle workers keep their cores busy with waiting. A network is worth it; the small operations of the
    splatting phase are not, and the workers would take the rasterizer's cores.
    """
    torch.set_num_threads(max(1, available // 2) if phase == "splatting" else available)
