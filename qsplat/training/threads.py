"""Which threads work in which phase on a CPU."""

from __future__ import annotations

import torch

from qsplat.training.schedule import Schedule

SMALL = 0.02
"""Crops of at most this share of an image are little work for a network."""


def share_threads(schedule: Schedule, step: int, available: int) -> None:
    """Give PyTorch half of the ``available`` threads where Gaussians are trained, alone or with a head that sees small
    crops, and all of them where a head sees more of an image or Gaussians no longer move.

    The rasterizer, told of the number in ``RasterConfig.threads``, uses all of them everywhere. Between two of
    PyTorch's operations its idle workers keep their cores busy with waiting. A large network is worth it; small
    operations are not, and the workers would take the rasterizer's cores.
    """
    phase = schedule.phase_at(step)
    busy = phase == "frozen" or (phase != "splatting" and schedule.seen_share > SMALL)
    torch.set_num_threads(available if busy else max(1, available // 2))
