"""What ns-export does not know of: the residual network, written beside the Gaussians."""

from __future__ import annotations

import sys
from pathlib import Path

from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from qsplat.io.checkpoints import Checkpoint, save_checkpoint
from qsplat.qnn import QNN
from qsplat.render import RasterConfig


def ply_being_written() -> Path | None:
    """The .ply file that ns-export is about to write, if it is ns-export that asks; None otherwise.

    nerfstudio tells a model nothing about an export, but asks it for its colours, so that the name of the file is to be
    found with the callers.
    """
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if caller is not None and type(caller).__name__ == "ExportGaussianSplat":
            return Path(caller.output_dir) / caller.output_filename
        frame = frame.f_back
    return None


def write_head_beside(ply: Path, head: QNN, background: Float[Tensor, "3"], raster: RasterConfig) -> None:
    """Write ``head``, and what it was trained over, to a safetensors file beside ``ply``, and say what is where."""
    path = ply.with_suffix(".qnn.safetensors")
    save_checkpoint(path, Checkpoint(gaussians=None, head=head, background=background, raster=raster))
    CONSOLE.print(
        f"{ply} holds the base Gaussians, which any viewer shows without the residual network; the network's weights "
        f"are in {path}"
    )
