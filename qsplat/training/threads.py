"""Which threads work in which phase on a CPU."""

from __future__ import annotations

import torch

from qsplat.training.schedule import Schedule


def share_threads(schedule: Schedule, step: int, available: int) -> None:
    """Give PyTorch half of the ``available`` threads where Gaussians are trained, alone or with a head that sees crops,
    and all of them where a head sees whole images or Gaussians no longer move.

    The rasterizer, told of the number in ``RasterConfig.threads``, uses all of them everywhere. Between two of
    PyTorch's operations its idle workers keep their cores busy with waiting. A network on whole images is worth it; the
    small operations of the other phases are not, and the workers would take the rasterizer's cores.
    """
    phase = schedule.phase_at(step)
    busy = phase == "frozen" or (phase != "splatting" and schedule.seen_share == 1)
    torch.set_num_threads(available if busy else max(1, available // 2))
