"""Gaussians as the .ply files of 3D Gaussian splatting, which viewers and editors read.

One vertex per Gaussian, all properties float: x y z, nx ny nz (zeros), f_dc_0..2 and f_rest_* (SH coefficients; those
of red, then green, then blue), opacity (logit), scale_0..2 (logarithms), rot_0..3 (quaternion wxyz). Layout of Kerbl et
al. 2023, as ns-export gaussian-splat and gsplat write it too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qsplat.gaussians import Gaussians, sh_coefficients
from qsplat.io.atomic import written_whole


def write_gaussians(path: Path | str, gaussians: Gaussians) -> None:
    """Write ``gaussians`` to a .ply file.

    Raises:
        ValueError: there are no Gaussians.
    """
    from plyfile import PlyData, PlyElement

    if len(gaussians) == 0:
        raise ValueError(f"{path}: there are 0 Gaussians to write: train or load a scene first")
    rest = gaussians.sh_rest.transpose(1, 2).flatten(1)
    groups = {
        ("x", "y", "z"): gaussians.means,
        ("nx", "ny", "nz"): torch.zeros_like(gaussians.means),
        _numbered("f_dc", 3): gaussians.sh_dc,
        _numbered("f_rest", rest.shape[1]): rest,
        ("opacity",): gaussians.opacity_logits[:, None],
        _numbered("scale", 3): gaussians.log_scales,
        _numbered("rot", 4): gaussians.quats,
    }
    names = [name for group in groups for name in group]
    values = torch.cat([value.detach().cpu().float() for value in groups.values()], dim=1).numpy()
    vertices = np.ascontiguousarray(values).view([(name, "<f4") for name in names])[:, 0]
    with written_whole(path) as temporary:
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(str(temporary))


def read_gaussians(path: Path | str) -> Gaussians:
    """Read Gaussians of SH degree 0 to 3 from a .ply file.

    Raises:
        ValueError: the file is missing, broken or truncated, or holds no Gaussians or other properties.
    """
    from plyfile import PlyData, PlyElementParseError, PlyHeaderParseError

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give the path of a .ply file with Gaussians")
    try:
        vertices = PlyData.read(str(path))["vertex"]
    except (PlyHeaderParseError, PlyElementParseError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not a readable .ply file ({error}): export it again") from None
    if vertices.count == 0:
        raise ValueError(f"{path} holds 0 Gaussians: export a trained scene")
    present = {entry.name for entry in vertices.properties}
    needed = ("x", "y", "z", *_numbered("f_dc", 3), "opacity", *_numbered("scale", 3), *_numbered("rot", 4))
    missing = [name for name in needed if name not in present]
    if missing:
        raise ValueError(
            f"{path} has no {missing[0]}, so it does not hold Gaussians with SH coefficients: export it as 3DGS .ply"
        )
    harmonics = sum(name.startswith("f_rest_") for name in present)
    if harmonics not in {3 * (sh_coefficients(degree) - 1) for degree in range(4)}:
        raise ValueError(f"{path} has {harmonics} f_rest properties: SH degrees 0 to 3 have 0, 9, 24 or 45")

    def columns(names: tuple[str, ...]) -> Tensor:
        arrays = [np.asarray(vertices[name], dtype=np.float32) for name in names]
        return torch.from_numpy(np.stack(arrays, axis=1)) if arrays else torch.zeros(vertices.count, 0)

    return Gaussians(
        means=columns(("x", "y", "z")),
        log_scales=columns(_numbered("scale", 3)),
        quats=columns(_numbered("rot", 4)),
        opacity_logits=columns(("opacity",))[:, 0],
        sh_dc=columns(_numbered("f_dc", 3)),
        sh_rest=columns(_numbered("f_rest", harmonics)).reshape(vertices.count, 3, -1).transpose(1, 2).contiguous()
        if harmonics
        else torch.zeros(vertices.count, 0, 3),
    )


def _numbered(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}_{index}" for index in range(count))
