"""Photos and points as nerfstudio holds them, and as qsplat does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.io.scene import PointCloud, View

BackgroundChoice = Literal["auto", "random", "black", "white"]
COLORS = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0), "random": (0.149, 0.1647, 0.2157)}
"""Behind what is shown; in place of random ones, the colour of the viewer."""


def view_of(camera: Camera, batch: Mapping[str, Any], device: torch.device) -> View:
    """The photo of ``batch`` (bytes or floats, RGB or RGBA with straight colours) that ``camera`` took.

    The colours of the result are premultiplied, as everywhere in qsplat.
    """
    pixels = batch["image"].to(device)
    if pixels.dtype == torch.uint8:
        pixels = pixels.float() / 255
    alpha = pixels[..., 3] if pixels.shape[-1] == 4 else None
    mask = batch["mask"].to(device)[..., 0].bool() if "mask" in batch else None
    image = pixels if alpha is None else pixels[..., :3] * alpha[..., None]
    return View(name=str(batch.get("image_idx", "")), camera=camera, image=image, alpha=alpha, mask=mask)


def points_of(points: tuple[Tensor, Tensor] | None) -> PointCloud:
    """nerfstudio's seed points, [n, 3] and RGB as bytes [n, 3].

    Where it has none there is a single point: a checkpoint is to be loaded.
    """
    positions, colors = (torch.zeros(1, 3), torch.zeros(1, 3)) if points is None else points
    return PointCloud(positions.float(), colors.float() / 255)


def background_of(choice: BackgroundChoice, metadata: Mapping[str, Any]) -> Float[Tensor, "3"]:
    """The colour behind what is shown, and, unless ``choice`` is random, behind what is trained.

    ``metadata`` is what the datamanager says about the photos.
    """
    if choice != "auto":
        return torch.tensor(COLORS[choice])
    if metadata["alpha_color"] is not None:
        return metadata["alpha_color"]
    return torch.tensor(COLORS["white" if metadata["transparent"] else "black"])
