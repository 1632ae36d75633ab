"""Gaussians, which an optimiser moves, and Splats, which an image is made of.

``activate`` is the only door between them: log scales become scales, and logits opacities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

SH_DC = 0.28209479177387814
"""The constant basis function Y_00 = 1 / (2 sqrt(pi))."""


def sh_coefficients(degree: int) -> int:
    """Number of spherical harmonics up to ``degree``."""
    return (degree + 1) ** 2


@dataclass(frozen=True)
class Splats:
    """What a rasterizer draws: world positions, shapes, opacities and channels.

    ``quats`` (wxyz) stand for rotations, whatever their length, ``scales`` are standard deviations in world units,
    ``opacities`` lie in [0, 1].
    The channels of the image are the colour of ``sh`` (3 channels, evaluated along the view direction, offset by 0.5
    and clamped at zero), followed by ``features`` as they are. Either may be None, not both.
    """

    means: Float[Tensor, "n 3"]
    quats: Float[Tensor, "n 4"]
    scales: Float[Tensor, "n 3"]
    opacities: Float[Tensor, " n"]
    sh: Float[Tensor, "n k 3"] | None = None
    features: Float[Tensor, "n c"] | None = None

    def __post_init__(self) -> None:
        if self.sh is None and self.features is None:
            raise ValueError("splats need sh or features: without either the image has no channels")
        if self.sh is not None and self.sh.shape[1] not in (1, 4, 9, 16):
            raise ValueError(f"{self.sh.shape[1]} SH coefficients: degrees 0 to 3 have 1, 4, 9 or 16")

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return (3 if self.sh is not None else 0) + (self.features.shape[1] if self.features is not None else 0)

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 where there are none."""
        return math.isqrt(self.sh.shape[1]) - 1 if self.sh is not None else 0


@dataclass(frozen=True)
class Gaussians:
    """The free parameters of a scene.

    ``sh_dc`` is the constant SH coefficient, ``sh_rest`` the others of degree 1 up to the scene's degree.
    """

    means: Float[Tensor, "n 3"]
    log_scales: Float[Tensor, "n 3"]
    quats: Float[Tensor, "n 4"]
    opacity_logits: Float[Tensor, " n"]
    sh_dc: Float[Tensor, "n 3"]
    sh_rest: Float[Tensor, "n r 3"]

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def sh_degree(self) -> int:
        """Degree of the stored spherical harmonics."""
        return math.isqrt(self.sh_rest.shape[1] + 1) - 1

    def activate(self, *, sh_degree: int | None = None, features: Float[Tensor, "n c"] | None = None) -> Splats:
        """The splats these parameters stand for, with harmonics up to ``sh_degree`` (all of them when None)."""
        degree = self.sh_degree if sh_degree is None else min(sh_degree, self.sh_degree)
        rest = self.sh_rest[:, : sh_coefficients(degree) - 1]
        return Splats(
            means=self.means,
            quats=self.quats,
            scales=torch.exp(self.log_scales),
            opacities=torch.sigmoid(self.opacity_logits),
            sh=torch.cat([self.sh_dc[:, None], rest], dim=1),
            features=features,
        )

    def to(self, device: torch.device | str) -> Gaussians:
        """The same Gaussians on ``device``."""
        return Gaussians(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def seed_from_points(
    points: Float[Tensor, "n 3"],
    colors: Float[Tensor, "n 3"],
    *,
    sh_degree: int = 3,
    opacity: float = 0.1,
    generator: torch.Generator | None = None,
) -> Gaussians:
    """Gaussians at ``points``: isotropic, as wide as the mean distance to the three nearest neighbours.

    Args:
        points: world positions, at least one.
        colors: RGB in [0, 1].
        sh_degree: degree of the harmonics to store; those above 0 start at zero.
        opacity: initial opacity in (0, 1).
        generator: draws the initial rotations.

    Raises:
        ValueError: there are no points, or one is not finite.

    Source: Kerbl et al. 2023, section 5 (initialisation from structure from motion).
    """
    count = points.shape[0]
    if count == 0:
        raise ValueError("0 points: Gaussians are seeded from at least one")
    if not bool(torch.isfinite(points).all()):
        raise ValueError("a seed point is NaN or infinite: remove it from the point file")
    scales = _neighbour_distances(points).clamp_min(1e-6).log()
    return Gaussians(
        means=points.clone(),
        log_scales=scales[:, None].repeat(1, 3),
        quats=functional.normalize(torch.randn(count, 4, generator=generator).to(points), dim=-1),
        opacity_logits=torch.full((count,), math.log(opacity / (1 - opacity))).to(points),
        sh_dc=(colors - 0.5) / SH_DC,
        sh_rest=torch.zeros(count, sh_coefficients(sh_degree) - 1, 3).to(points),
    )


def _neighbour_distances(points: Float[Tensor, "n 3"], neighbours: int = 3) -> Float[Tensor, " n"]:
    """Mean distance of each point to its nearest others; 1 for a point that is alone."""
    if points.shape[0] == 1:
        return torch.ones_like(points[:, 0])
    from scipy.spatial import KDTree

    positions = points.detach().cpu().double().numpy()
    distances, _ = KDTree(positions).query(positions, k=min(neighbours + 1, len(positions)), workers=-1)
    return torch.from_numpy(distances[:, 1:].mean(axis=1)).to(points)
