"""Sparse points of structure from motion, as .ply files hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from qsplat.io.scene import PointCloud


def read_points(path: Path, world_from_original: Float[np.ndarray, "4 4"]) -> PointCloud:
    """Read x, y, z and, if present, red, green, blue of the vertices of a .ply file, and move the points.

    Points without colours become grey. Colours are whole numbers up to 255 or floats in [0, 1].

    Raises:
        ValueError: the file is missing or broken, holds no points, or one of them is not finite.
    """
    from plyfile import PlyData, PlyElementParseError, PlyHeaderParseError

    if not path.is_file():
        raise ValueError(f"{path} does not exist: restore the point file, or remove ply_file_path to start without it")
    try:
        vertices = PlyData.read(str(path))["vertex"]
        positions = np.stack([np.asarray(vertices[axis], dtype=np.float64) for axis in "xyz"], axis=-1)
    except (PlyHeaderParseError, PlyElementParseError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not a readable .ply of points ({error}): replace it") from None
    if len(positions) == 0:
        raise ValueError(f"{path} holds no points: remove ply_file_path to start without it")
    names = {entry.name for entry in vertices.properties}
    colors = np.full_like(positions, 0.5)
    if {"red", "green", "blue"} <= names:
        colors = np.stack([_unit(np.asarray(vertices[name])) for name in ("red", "green", "blue")], axis=-1)
    if not (np.isfinite(positions).all() and np.isfinite(colors).all()):
        raise ValueError(f"{path} holds points that are NaN or infinite: remove them")
    moved = positions @ world_from_original[:3, :3].T + world_from_original[:3, 3]
    return PointCloud(torch.from_numpy(moved).float(), torch.from_numpy(colors).float())


def _unit(channel: np.ndarray) -> Float[np.ndarray, " n"]:
    """A colour channel in [0, 1]."""
    values = channel.astype(np.float64)
    return np.clip(values if channel.dtype.kind == "f" else values / np.iinfo(channel.dtype).max, 0, 1)
